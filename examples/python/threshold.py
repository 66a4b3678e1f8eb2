"""Changes a threshold of a source, asks again, and takes the change back.

    python3 threshold.py 127.0.0.1:7700
"""

import sys

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

# Also finds the stubs in gen/.
from playbook import DEADLINE_SECONDS, enrichment, metadata, services, words

from concord.v1 import source_pb2 as sources
from concord.v1 import source_service_pb2 as configuration
from concord.v1 import source_service_pb2_grpc as source_services

SOURCE = "sources/virustotal"
OPTION = "malicious_threshold_ip"
INDICATOR = "203.0.113.5"


def show(stub, when):
    """Prints the verdict, and by which rule the source came to its claim."""
    request = enrichment.EnrichRequest(indicator=words.Indicator(value=INDICATOR))
    verdict = stub.Enrich(request, timeout=DEADLINE_SECONDS, metadata=metadata()).verdict
    claim = next(outcome.finding for outcome in verdict.outcomes if outcome.source == SOURCE)
    print(f"{when}: {claim.reasons[0]}\n    {verdict.summary}")


def configure(stub, **change):
    """Sends one change; what it names alone is written."""
    request = configuration.ConfigureSourceRequest(**change)
    stub.ConfigureSource(request, timeout=DEADLINE_SECONDS, metadata=metadata())


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: threshold.py SERVER:PORT")
    with grpc.insecure_channel(sys.argv[1]) as channel:
        enrich, configure_source = services.EnrichmentServiceStub(channel), source_services.SourceServiceStub(channel)
        path = FieldMask(paths=[f"options.{OPTION}"])
        show(enrich, "as configured")

        changed = sources.Source(name=SOURCE)
        changed.options.update({OPTION: 20})
        configure(configure_source, source=changed, update_mask=path)
        show(enrich, f"{OPTION} = 20")

        configure(configure_source, source=sources.Source(name=SOURCE), reset_mask=path)
        show(enrich, "taken back")


if __name__ == "__main__":
    main()
