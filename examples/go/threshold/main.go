// Changes a threshold of a source, asks again, and takes the change back.
//
//	go run ./threshold 127.0.0.1:7700
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	concordv1 "example.com/concord-client/gen/concord/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	source    = "sources/virustotal"
	option    = "malicious_threshold_ip"
	indicator = "203.0.113.5"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go run ./threshold SERVER:PORT")
	}
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if token := os.Getenv("CONCORD_TOKEN"); token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}

	show(ctx, connection, "as configured")
	path := &fieldmaskpb.FieldMask{Paths: []string{"options." + option}}
	options, err := structpb.NewStruct(map[string]any{option: 20})
	if err != nil {
		log.Fatal(err)
	}
	configure(ctx, connection, &concordv1.ConfigureSourceRequest{
		Source:     &concordv1.Source{Name: source, Options: options},
		UpdateMask: path,
	})
	show(ctx, connection, option+" = 20")
	configure(ctx, connection, &concordv1.ConfigureSourceRequest{
		Source:    &concordv1.Source{Name: source},
		ResetMask: path,
	})
	show(ctx, connection, "taken back")
}

// configure sends one change; what it names alone is written.
func configure(ctx context.Context, connection *grpc.ClientConn, change *concordv1.ConfigureSourceRequest) {
	if _, err := concordv1.NewSourceServiceClient(connection).ConfigureSource(ctx, change); err != nil {
		log.Fatal(err)
	}
}

// show prints the verdict, and by which rule the source came to its claim.
func show(ctx context.Context, connection *grpc.ClientConn, when string) {
	request := &concordv1.EnrichRequest{Indicator: &concordv1.Indicator{Value: indicator}}
	answer, err := concordv1.NewEnrichmentServiceClient(connection).Enrich(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	for _, outcome := range answer.GetVerdict().GetOutcomes() {
		if outcome.GetSource() == source {
			fmt.Printf("%s: %s\n    %s\n", when, outcome.GetFinding().GetReasons()[0], answer.GetVerdict().GetSummary())
		}
	}
}
