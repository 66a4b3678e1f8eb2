// Asks Concord about one indicator and prints the sources side by side.
//
//	go run . 127.0.0.1:7700 203.0.113.9
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	concordv1 "example.com/concord-client/gen/concord/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: go run . SERVER:PORT INDICATOR")
	}
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	client := concordv1.NewEnrichmentServiceClient(connection)

	// The server answers before the deadline, with what is there by then.
	ctx, cancel := context.WithTimeout(withToken(context.Background()), 5*time.Second)
	defer cancel()
	answer, err := client.Enrich(ctx, &concordv1.EnrichRequest{Indicator: &concordv1.Indicator{Value: os.Args[2]}})
	if err != nil {
		log.Fatal(describe(err))
	}
	show(answer.GetVerdict())

	// A wrong request names every field at once.
	_, err = client.Enrich(ctx, &concordv1.EnrichRequest{
		Indicator: &concordv1.Indicator{Value: "198.51.100.007"},
		Options:   &concordv1.EnrichOptions{Sources: []string{"virustotal"}},
	})
	if err == nil {
		log.Fatal("an address with leading zeros was accepted")
	}
	fmt.Println(describe(err))
}

func withToken(ctx context.Context) context.Context {
	if token := os.Getenv("CONCORD_TOKEN"); token != "" {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return ctx
}

func show(verdict *concordv1.Verdict) {
	fmt.Printf("%s: %s\n", verdict.GetIndicator().GetValue(), verdict.GetSummary())
	table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, outcome := range verdict.GetOutcomes() {
		fmt.Fprintf(table, "  %s\t%s\n", outcome.GetSource(), says(outcome))
	}
	table.Flush()
}

// says keeps the four outcomes apart: a finding, no record, an error, not asked.
func says(outcome *concordv1.Outcome) string {
	switch result := outcome.GetResult().(type) {
	case *concordv1.Outcome_Finding:
		claim := strings.ToLower(strings.TrimPrefix(result.Finding.GetClaim().String(), "DISPOSITION_"))
		return claim + "\t" + strings.Join(result.Finding.GetReasons(), "; ")
	case *concordv1.Outcome_NoRecord:
		return "no record\t"
	case *concordv1.Outcome_Error:
		return "error\t" + result.Error.GetDetail()
	case *concordv1.Outcome_NotAsked:
		return "not asked\t" + result.NotAsked.GetDetail()
	default:
		return "unknown to this client\t"
	}
}

// describe reads the details of an error: which field is wrong and what to do instead.
func describe(err error) string {
	failure := status.Convert(err)
	text := failure.Code().String() + ": " + failure.Message()
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				text += fmt.Sprintf("\n  %s: %s", violation.GetField(), violation.GetDescription())
			}
		case *errdetails.ErrorInfo:
			text += "\n  reason: " + detail.GetReason()
		}
	}
	return text
}
