// Asks Concord about one indicator and follows the sources as they answer.
//
//   npm run build && npm run enrich -- http://127.0.0.1:7700 203.0.113.9

import { Code, ConnectError, createClient } from "@connectrpc/connect";

import { EnrichmentService } from "./gen/concord/v1/enrichment_service_pb.js";
import { Disposition, type Tlp } from "./gen/concord/v1/indicator_pb.js";
import { BadRequestSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Outcome } from "./gen/concord/v1/verdict_pb.js";
import { transport } from "./transport.js";

const [server, value] = process.argv.slice(2);
if (server === undefined || value === undefined) {
  console.error("usage: npm run enrich -- http://SERVER:PORT INDICATOR");
  process.exit(2);
}

const client = createClient(EnrichmentService, transport(server));

// The four outcomes are four different things.
function says(outcome: Outcome | undefined): string {
  switch (outcome?.result.case) {
    case "finding":
      return `${Disposition[outcome.result.value.claim].toLowerCase()}: ${outcome.result.value.reasons.join("; ")}`;
    case "noRecord":
      return "no record";
    case "error":
      return `error: ${outcome.result.value.detail}`;
    case "notAsked":
      return `not asked: ${outcome.result.value.detail}`;
    default:
      return "unknown to this client";
  }
}

for await (const message of client.streamEnrich({ indicator: { value } }, { timeoutMs: 5000 })) {
  if (message.event.case === "progress") {
    const { outcome, waiting } = message.event.value;
    console.log(`${outcome?.source} says ${says(outcome)} (${waiting} still to answer)`);
  } else if (message.event.case === "final") {
    console.log(message.event.value.verdict?.summary);
  }
}

// A wrong request is refused with every field at once; the details travel beside the message.
try {
  const request = { indicator: { value: "not an indicator" }, options: { tlp: 99 as Tlp } };
  await client.enrich(request, { timeoutMs: 5000 });
  throw new Error("nonsense was accepted");
} catch (failure) {
  const error = ConnectError.from(failure);
  if (error.code !== Code.InvalidArgument) {
    throw failure;
  }
  console.log(`refused with ${Code[error.code]}: ${error.rawMessage}`);
  for (const { fieldViolations } of error.findDetails(BadRequestSchema)) {
    for (const { field, description } of fieldViolations) {
      console.log(`  ${field}: ${description}`);
    }
  }
}
