// Changes a threshold of a source, asks again, and takes the change back.
//
//   npm run threshold -- http://127.0.0.1:7700

import { createClient } from "@connectrpc/connect";

import { EnrichmentService } from "./gen/concord/v1/enrichment_service_pb.js";
import { SourceService } from "./gen/concord/v1/source_service_pb.js";
import { transport } from "./transport.js";

const SOURCE = "sources/virustotal";
const OPTION = "malicious_threshold_ip";
const INDICATOR = "203.0.113.5";

const [server] = process.argv.slice(2);
if (server === undefined) {
  console.error("usage: npm run threshold -- http://SERVER:PORT");
  process.exit(2);
}
const enrichment = createClient(EnrichmentService, transport(server));
const sources = createClient(SourceService, transport(server));
const timeoutMs = 5000;

// Prints the verdict, and by which rule the source came to its claim.
async function show(when: string): Promise<void> {
  const { verdict } = await enrichment.enrich({ indicator: { value: INDICATOR } }, { timeoutMs });
  const outcome = verdict?.outcomes.find(({ source }) => source === SOURCE);
  const reason = outcome?.result.case === "finding" ? outcome.result.value.reasons[0] : "no finding";
  console.log(`${when}: ${reason}\n    ${verdict?.summary}`);
}

const path = { paths: [`options.${OPTION}`] };
await show("as configured");
await sources.configureSource({ source: { name: SOURCE, options: { [OPTION]: 20 } }, updateMask: path }, { timeoutMs });
await show(`${OPTION} = 20`);
await sources.configureSource({ source: { name: SOURCE }, resetMask: path }, { timeoutMs });
await show("taken back");
