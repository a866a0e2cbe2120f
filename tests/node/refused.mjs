// One batch of six, where five are allowed.
import assert from "node:assert/strict";
import test from "node:test";

import { action, batch, clientFor, refusal } from "./client.mjs";

const workspace = process.argv[3];

test("an exhausted limit", async () => {
  const six = Array(6).fill(action("post", `/workspaces/${workspace}/projects`, { data: { name: "Never" } }));
  const { status, message } = await refusal(batch(clientFor(), ...six));
  assert.equal(status, 429);
  assert.match(message, /^requests: /);
});
