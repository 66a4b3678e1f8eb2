// The way to the server, with the bearer token in CONCORD_TOKEN if there is one.

import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

const withToken: Interceptor = (next) => (request) => {
  const token = process.env["CONCORD_TOKEN"];
  if (token !== undefined) {
    request.header.set("authorization", `Bearer ${token}`);
  }
  return next(request);
};

export function transport(server: string): Transport {
  return createGrpcTransport({ baseUrl: server, interceptors: [withToken] });
}
