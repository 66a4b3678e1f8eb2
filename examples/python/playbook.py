"""A small playbook: enriches the indicators of an alert and decides by the verdicts.

    python3 playbook.py 127.0.0.1:7700 203.0.113.9 'hxxp://bad[.]example.com/a' 10.0.0.1

It shows what a playbook must not mix up: a verdict, a verdict that is partial (a source that was meant to speak did
not), an indicator that could not be read, and nothing known, which is not the same as benign.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "gen"))

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from concord.v1 import enrichment_service_pb2 as enrichment
from concord.v1 import enrichment_service_pb2_grpc as services
from concord.v1 import indicator_pb2 as words
from concord.v1 import verdict_pb2 as verdicts

DEADLINE_SECONDS = 8.0


def metadata():
    """The bearer token, if the server wants one."""
    token = os.environ.get("CONCORD_TOKEN")
    return [("authorization", f"Bearer {token}")] if token else []


def decide(verdict):
    """What the playbook does about one verdict."""
    if verdict.disposition == words.DISPOSITION_MALICIOUS:
        return "block"
    if verdict.disposition == words.DISPOSITION_SUSPICIOUS or verdict.partial:
        return "ask an analyst"
    if verdict.disposition == words.DISPOSITION_BENIGN:
        return "close"
    return "keep watching: nothing is known, which is not the same as benign"


def waits(verdict):
    """The sources whose quota is spent, with the time at which asking again makes sense."""
    for outcome in verdict.outcomes:
        if outcome.WhichOneof("result") != "not_asked":
            continue
        if outcome.not_asked.reason == verdicts.NOT_ASKED_REASON_QUOTA_SPENT:
            yield outcome.source, outcome.not_asked.until.ToDatetime()


def enrich(stub, values):
    """Prints what to do about each indicator."""
    request = enrichment.BatchEnrichRequest(
        indicators=[words.Indicator(value=value) for value in values],
        options=enrichment.EnrichOptions(tlp=words.TLP_GREEN),
    )
    # Answers come as they are ready; here they are wanted in the order of the alert.
    answers = stub.BatchEnrich(request, timeout=DEADLINE_SECONDS, metadata=metadata())
    for answer in sorted(answers, key=lambda answer: answer.index):
        value = values[answer.index]
        if answer.WhichOneof("result") == "error":
            print(f"{value}: cannot be read: {answer.error.message}")
            continue
        verdict = answer.answer.verdict
        print(f"{value}: {decide(verdict)}")
        print(f"    {verdict.summary}")
        for source, until in waits(verdict):
            print(f"    quota of {source} is spent until {until:%H:%M:%S} UTC: ask again then")


def show_error_details(stub):
    """What a wrong request is answered with: every mistake at once, each with its field."""
    request = enrichment.EnrichRequest(
        indicator=words.Indicator(value="10.0.0.0/8"),
        options=enrichment.EnrichOptions(policy="weighted"),
    )
    try:
        stub.Enrich(request, timeout=DEADLINE_SECONDS, metadata=metadata())
    except grpc.RpcError as error:
        print(f"refused with {error.code().name}:")
        for detail in rpc_status.from_call(error).details:
            bad_request = error_details_pb2.BadRequest()
            if detail.Unpack(bad_request):
                for violation in bad_request.field_violations:
                    print(f"    {violation.field}: {violation.description}")
        return
    raise SystemExit("a network was taken for an indicator")


def main():
    if len(sys.argv) < 3:
        raise SystemExit("usage: playbook.py SERVER:PORT INDICATOR...")
    server, values = sys.argv[1], sys.argv[2:]
    with grpc.insecure_channel(server) as channel:
        stub = services.EnrichmentServiceStub(channel)
        try:
            enrich(stub, values)
        except grpc.RpcError as error:
            raise SystemExit(f"{server}: {error.code().name}: {error.details()}") from None
        show_error_details(stub)


if __name__ == "__main__":
    main()
