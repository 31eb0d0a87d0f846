// got, as its documentation shows it, with an agent that keeps connections.

import { Agent } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { askAll, url } from "./load.mjs";

const { default: got } = await import(pathToFileURL(createRequire(`${process.cwd()}/`).resolve("got")));
const agent = { http: new Agent({ keepAlive: true }) };

await askAll(async () => {
  const { statusCode } = await got(url, { agent, throwHttpErrors: false, retry: { limit: 0 } });
  return statusCode < 400;
});
