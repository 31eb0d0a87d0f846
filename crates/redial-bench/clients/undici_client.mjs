// undici, as its documentation shows it: one agent, which keeps connections.

import { createRequire } from "node:module";
import { askAll, url } from "./load.mjs";

const { Agent, request } = createRequire(`${process.cwd()}/`)("undici");
const dispatcher = new Agent();

await askAll(async () => {
  const { statusCode, body } = await request(url, { dispatcher });
  await body.dump();
  return statusCode < 400;
});
