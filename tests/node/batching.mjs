// The client on a real server, in the dialect that the command line names.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createServer } from "node:http";
import test from "node:test";

import { createBatch, createBatchFetch } from "../../batchkit/client_js/batchkit.js";

const [server, dialect] = process.argv.slice(2);
const api = `${server}/api`;
const url = `${api}/batch`;
const batching = (options) => createBatchFetch({ url, dialect, ...options });
const json = { "Content-Type": "application/json" };
const dataOf = (value) => JSON.stringify(dialect === "asana" ? { data: value } : value);
const posted = (value, init) => ({ method: "POST", headers: json, body: dataOf(value), ...init });

/** What reached the server over the wire meanwhile; what is in a batch does not. */
async function seen() {
  return (await fetch(`${server}/seen`)).json();
}

const BATCH = "POST /api/batch";

/** What stays of a Response for comparison. A batch does not tell the type of what is not there, after a HEAD say. */
async function told(response) {
  const { url, status, ok, redirected } = response;
  const text = await response.text();
  return { url, status, ok, redirected, text, type: text && response.headers.get("Content-Type") };
}

/** The answers of these calls through the module and alone, which must be the same; and what the first took on the wire. */
async function sameAsAlone(calls, options) {
  await seen();
  const batched = batching(options);
  const through = await Promise.all(calls.map(async ([path, init]) => told(await batched(api + path, init))));
  const requests = await seen();
  const alone = await Promise.all(calls.map(async ([path, init]) => told(await fetch(api + path, init))));
  assert.deepEqual(through, alone);
  return requests;
}

test("thirty calls of one moment are three requests, with the same thirty answers", async () => {
  const calls = Array.from({ length: 30 }, (_, index) => [`/echo/${index}`]);
  assert.deepEqual(await sameAsAlone(calls), [BATCH, BATCH, BATCH]);
});

test("answers of every kind are what they are alone", async () => {
  // The second is never a stream.
  for (const headers of [{}, { Accept: "application/json" }]) {
    const calls = [
      ["/echo/a%20b;c=d%C3%BC"], ["/spelled"], ["/text"], ["/binary"], ["/nothing"], ["/fails"], ["/nowhere"],
      ["/text", { method: "HEAD" }], ["/echo/1", { method: "DELETE" }], ["/string"],
    ];
    assert.deepEqual(await sameAsAlone(calls.map(([path, init]) => [path, { headers, ...init }])), [BATCH]);
  }
});

test("a body is as the handler wrote it", async () => {
  const batched = batching();
  const [spelled, binary] = await Promise.all([batched(`${api}/spelled`), batched(`${api}/binary`)]);
  assert.equal(await spelled.text(), '{"big":12345678901234567890,"one":1.00,"text":"\\u00e9 \\\\"}');
  assert.deepEqual(new Uint8Array(await binary.arrayBuffer()), Uint8Array.from({ length: 256 }, (_, index) => index));
});

test("queries and JSON bodies reach the handler as they do alone", async () => {
  const options = dialect === "asana" ? "&limit=5&offset=eyJ&opt_fields=name,due&opt_expand=a" : "&limit=-05&tag=1&tag=2";
  const requests = await sameAsAlone([
    [`/echo/1?text=%C3%BC+%26%20%2B&flag&n=01&__proto__=x${options}`],
    ["/echo/2", posted({ name: "ü", big: 1 })],
    ["/echo/3", { method: "PUT", headers: { "content-type": "application/json; charset=UTF-8" }, body: dataOf({}) }],
    ["/echo/4", { method: "PATCH", headers: json, body: dataOf({ __proto__: null, list: [1, { a: "}" }] }) }],
  ]);
  assert.deepEqual(requests, [BATCH]);
});

test("a Request is taken as fetch takes it", async () => {
  await seen();
  const batched = batching();
  const request = new Request(`${api}/echo/1`, posted({ name: "once" }));
  const [first, second] = await Promise.all([batched(request), batched(new URL(`${api}/echo/2#here`), { body: null })]);
  assert.equal((await first.json()).body, dataOf({ name: "once" }));
  assert.equal(second.url, `${api}/echo/2`);
  assert.ok(request.bodyUsed);
  assert.deepEqual(await seen(), [BATCH]);
});

test("a Response has what fetch's has", async () => {
  const batched = batching();
  const [response] = await Promise.all([batched(`${api}/echo/1`), batched(`${api}/echo/2`)]);
  assert.ok(response instanceof Response);
  const copy = response.clone();
  assert.deepEqual([copy.url, await copy.text()], [response.url, await response.text()]);
  await assert.rejects(response.text(), TypeError);
});

const withheld = {
  Range: "bytes=0-1", "If-Match": '"1"', "If-None-Match": "*", "Idempotency-Key": "7", "Content-Language": "en",
  "X-Idempotency-Key": "7", Idempotency_Key: "7", Content_Type: "text/plain", X_HTTP_Method_Override: "DELETE",
  "X-HTTP-Method-Override": "DELETE", Accept: "application/x-ndjson",
};

test("what cannot travel goes out as it is", async () => {
  const form = new FormData();
  form.set("name", "value");
  // Made anew for each call: a stream can be sent but once.
  const calls = [
    ...Object.entries(withheld).map(([name, value]) => () => ["/echo/1", { headers: { [name]: value } }]),
    () => ["/echo/1", { method: "POST", body: form }],
    () => ["/echo/1", { method: "POST", body: new Blob(["{}"], { type: "application/json" }) }],
    () => ["/echo/1", { method: "POST", body: new TextEncoder().encode(dataOf({})), headers: json }],
    () => ["/echo/1", { method: "POST", body: new Blob([dataOf({})]).stream(), headers: json, duplex: "half" }],
    () => ["/echo/1", { method: "POST", body: dataOf({}) }],
    () => ["/echo/1", { method: "POST", body: "[1]", headers: json }],
    () => ["/echo/1", { method: "POST", body: dataOf({}).slice(0, -1), headers: json }],
    () => ["/echo/1", { method: "POST", body: dataOf({}).replace("{}", '{"a":"\\ud800"}'), headers: json }],
    () => ["/echo/1", { method: "POST" }],
    () => [new Request(`${api}/echo/1`, { method: "POST", body: new Uint8Array([0x22, 0xff, 0x22]), headers: json })],
    () => [new Request(`${api}/echo/1`, { method: "POST", body: form })],
    () => ["/echo/1", { method: "DELETE", body: dataOf({}), headers: json }],
    () => ["/echo/1", { method: "OPTIONS" }],
    () => ["/echo/1", { cache: "reload" }],
    () => ["/echo/1", { cache: "force-cache" }],
    () => ["/echo/1", { keepalive: true }],
    () => ["/echo/1", { redirect: "manual" }],
    () => ["/echo/1", { redirect: "error" }],
    () => ["/echo/1", { mode: "no-cors" }],
    () => ["/echo/1", { priority: "high" }],
    () => ["/echo/%2e%2e%2fx"], () => ["/echo/a%5Cb"], () => ["/echo/%00"], () => ["/echo/%ff"], () => ["//echo/1"],
    () => [`/echo/${"x".repeat(2000)}`], () => ["/../outside"], () => ["/batch?x", { method: "DELETE" }],
    ...(dialect === "plain" ? [() => ["/echo/1?a=\\"]] : [
      () => ["/echo/1?a=1&a=2"], () => ["/echo/1?limit=x"], () => ["/echo/1?opt_pretty=true"], () => ["/echo/1?a=1", posted({})],
      () => ["/echo/1", { method: "POST", body: '{"data":{},"options":{}}', headers: json }],
    ]),
  ];
  for (const call of calls) {
    await seen();
    const batched = batching();
    const answers = await Promise.all([call(), call()].map(([input, init]) =>
      batched(input instanceof Request ? input : api + input, init)));
    await Promise.all(answers.map((answer) => answer.text()));
    const requests = await seen();
    assert.ok(requests.length === 2 && !requests.includes(BATCH), `${JSON.stringify(call())}: ${requests}`);
  }
});

test("another origin is no business of the batch's", async () => {
  const requests = [];
  await seen();
  await onServer((request, response) => response.end(`${requests.push(request.url)}`), async (place) => {
    const batched = batching();
    await Promise.all([1, 2].map((number) => batched(`${place}/api/echo/${number}`)));
  });
  assert.deepEqual([requests.sort(), await seen()], [["/api/echo/1", "/api/echo/2"], []]);
});

test("a lone call is not wrapped", async () => {
  assert.deepEqual(await sameAsAlone([["/echo/1"]]), ["GET /api/echo/1"]);
  assert.deepEqual((await sameAsAlone(Array.from({ length: 11 }, () => ["/echo/1"]))).sort(), ["GET /api/echo/1", BATCH]);
});

test("header fields and credentials decide who shares a batch", async () => {
  await seen();
  const batched = batching();
  const as = (token, init) => ({ headers: { Authorization: `Bearer ${token}`, "X-Team": "7" }, ...init });
  const answers = await Promise.all([as("ada"), as("bob"), as("ada"), as("bob"), as("ada", { credentials: "omit" }),
    as("ada", { credentials: "omit" })].map((init, index) => batched(`${api}/echo/${index}`, init)));
  const fields = await Promise.all(answers.map(async (answer) => (await answer.json()).headers));
  assert.deepEqual(fields.map(({ authorization }) => authorization.slice(7)), ["ada", "bob", "ada", "bob", "ada", "ada"]);
  assert.ok(fields.every((each) => each["x-team"] === "7"));
  assert.deepEqual(await seen(), [BATCH, BATCH, BATCH]);
});

test("an Accept of its own reaches the handler", async () => {
  const calls = ["application/json", "application/json"].map((Accept) => ["/accept", { headers: { Accept } }]);
  assert.deepEqual(await sameAsAlone(calls), [BATCH]);
});

test("what the server keeps out of batches is sent normally, and remembered", async () => {
  await seen();
  const batched = batching();
  const both = (number) => Promise.all([batched(`${api}/closed/${number}`), batched(`${api}/echo/1`), batched(`${api}/echo/2`)]);
  for (const number of [1, 2]) assert.equal(await (await both(number))[0].text(), `"closed ${number}"`);
  assert.deepEqual(await seen(), [BATCH, "GET /api/closed/1", "GET /api/closed/2", BATCH]);
});

test("what has run is not sent again", async () => {
  const batched = batching();
  const twice = (path, init) => Promise.all([batched(api + path, init), batched(`${api}/echo/1`)]);
  for (const [method, status] of [["GET", 301], ["GET", 302], ["GET", 303], ["GET", 307], ["PUT", 302], ["PUT", 307], ["POST", 308]]) {
    const init = method === "GET" ? {} : posted({ name: "kept" }, { method });
    const [answer] = await twice(`/once/${method}/${status}`, init);
    assert.deepEqual([answer.status, answer.url, answer.redirected], [200, `${api}/echo/went`, true]);
    const went = await answer.json();
    assert.equal(went.method, method);
    if (method !== "GET") assert.equal(went.body, dataOf({ name: "kept" }));
  }
  const [refused] = await twice("/once/POST/400", posted({}));
  assert.deepEqual([refused.status, await refused.json()], [400, { errors: [] }]);
});

test("only reads are asked for as a stream, and no field is added for the cache", async () => {
  const asked = [];
  const listening = (...[url, init]) => {
    asked.push(new Headers(init.headers).get("Accept"));
    return fetch(url, init);
  };
  const batched = batching({ fetch: listening });
  const [{ headers }] = await Promise.all([1, 2].map(async (number) => (await batched(`${api}/echo/${number}`)).json()));
  await Promise.all([batched(`${api}/echo/1`), batched(`${api}/echo/2`, posted({}))]);
  assert.equal(asked.length, 2);
  assert.match(asked[0], /ndjson/);
  assert.equal(asked[1], null);
  assert.deepEqual([headers["cache-control"], headers.pragma], [undefined, undefined]);
});

test("redirects are followed as fetch follows them", async () => {
  const calls = [["/moved"], ["/echo/1"], ["/moved", posted({ name: "kept" })], ["/elsewhere", { redirect: "follow" }]];
  await sameAsAlone(calls);
  const batched = batching();
  const before = await (await fetch(`${api}/created`)).json();
  const [made] = await Promise.all([batched(`${api}/create`, posted({})), batched(`${api}/echo/1`)]);
  assert.deepEqual([made.url, made.redirected, await made.json()], [`${api}/created`, true, before + 1]);
  const went = [];
  await onServer((request, response) => {
    went.push([request.method, request.headers.authorization, request.headers["x-team"], request.headers["content-type"]]);
    response.end();
  }, async (place) => {
    const headers = { ...json, Authorization: "Bearer ada", "X-Team": "7" };
    await Promise.all([1, 2].map((number) => batched(`${api}/leave`, posted({ to: place, number }, { headers }))));
  });
  assert.deepEqual(went, Array(2).fill(["GET", undefined, "7", undefined]));
});

// Aborted

const held = (fetching, name, init) => fetching(`${api}/gate/${name}`, init);
const open = (name) => fetch(`${api}/gate/${name}`, { method: "POST" });
const arrived = (name) => fetch(`${api}/gate/${name}/arrived`);

test("an aborted call rejects as fetch's does and does not disturb the others", async () => {
  const batched = batching();
  const reason = new Error("enough");
  const early = AbortSignal.abort();
  const [soon, later] = [new AbortController(), new AbortController()];
  const calls = [
    batched(`${api}/echo/1`),
    batched(`${api}/echo/2`, { signal: early }),
    batched(`${api}/echo/3`, { signal: soon.signal }),
    held(batched, "a", { signal: later.signal }),
    held(batched, "a"),
  ];
  const settled = Promise.allSettled(calls);
  soon.abort();
  await arrived("a");
  later.abort(reason);
  await assert.rejects(calls[3], (error) => error === reason);
  await open("a");
  const [one, two, three, , five] = await settled;
  assert.equal((await one.value.json()).path, "/api/echo/1");
  assert.equal(two.reason.name, "AbortError");
  assert.equal(three.reason.name, "AbortError");
  assert.equal(await five.value.text(), '"open"');
});

test("where nobody waits any more the request itself is aborted", async () => {
  const signals = [];
  const batched = batching({ fetch: (input, init) => { signals.push(init.signal); return fetch(input, init); } });
  const controller = new AbortController();
  const calls = ["b", "b"].map((name) => held(batched, name, { signal: controller.signal }));
  await arrived("b");
  controller.abort();
  for (const { reason } of await Promise.allSettled(calls)) assert.equal(reason.name, "AbortError");
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true]);
  await open("b");
});

test("results resolve as soon as the server has them", async () => {
  await seen();
  const batched = batching();
  const slow = held(batched, "e");
  const [quick, refused, accept] = await Promise.all(["/echo/1", "/closed/3", "/accept"].map((path) => batched(api + path)));
  assert.deepEqual([quick.status, await refused.text(), await accept.json()], [200, '"closed 3"', "*/*"]);
  await open("e");
  assert.equal(await (await slow).text(), '"open"');
  assert.deepEqual((await seen()).sort(), ["GET /api/closed/3", BATCH, "POST /api/gate/e"]);
});

test("what becomes of an aborted call is nobody's business any more", async () => {
  await seen();
  const batched = batching();
  const controller = new AbortController();
  // Not a stream: all results come together, when the gate is open.
  const headers = { Accept: "application/json" };
  const calls = [held(batched, "d", { headers }),
    ...["/closed/1", "/moved"].map((path) => batched(api + path, { headers, signal: controller.signal }))];
  const settled = Promise.allSettled(calls);
  await arrived("d");
  controller.abort();
  await open("d");
  assert.deepEqual((await settled).map(({ status }) => status), ["fulfilled", "rejected", "rejected"]);
  assert.deepEqual((await seen()).sort(), ["GET /api/gate/d/arrived", BATCH, "POST /api/gate/d"]);
});

test("AbortSignal.timeout rejects with a TimeoutError", async () => {
  const batched = batching();
  const calls = [held(batched, "c", { signal: AbortSignal.timeout(50) }), batched(`${api}/echo/1`)];
  await assert.rejects(calls[0], { name: "TimeoutError" });
  await open("c");
  assert.equal((await calls[1]).status, 200);
});

// The batch as a whole

test("a 429 is waited for and repeated: nothing had run", async () => {
  await seen();
  const batched = batching();
  const headers = { "X-Refuse": `${dialect} 1 1` };
  const answers = await Promise.all([1, 2, 3].map((number) => batched(`${api}/echo/${number}`, { headers })));
  assert.deepEqual(answers.map(({ status }) => status), [200, 200, 200]);
  assert.deepEqual(await seen(), [BATCH, BATCH]);
});

test("a 429 that lasts is each call's own answer", async () => {
  for (const options of [{ retries: 0 }, { maxWait: 500 }]) {
    await seen();
    const batched = batching(options);
    const headers = { "X-Refuse": `${dialect} 9 1` };
    const answers = await Promise.all([1, 2].map((number) => batched(`${api}/echo/${number}`, { headers })));
    for (const [index, answer] of answers.entries()) {
      assert.deepEqual([answer.status, answer.headers.get("Retry-After"), answer.url], [429, "1", `${api}/echo/${index + 1}`]);
      assert.match((await answer.json()).errors[0].message, /rate limit/);
    }
    assert.deepEqual(await seen(), [BATCH]);
  }
});

test("a batch that can never pass is sent as the calls that it was", async () => {
  await seen();
  const batched = batching();
  const headers = { "X-Refuse": `${dialect} 9 never` };
  const answers = await Promise.all([1, 2].map((number) => batched(`${api}/echo/${number}`, { headers })));
  assert.deepEqual(answers.map(({ status }) => status), [200, 200]);
  assert.deepEqual((await seen()).sort(), ["GET /api/echo/1", "GET /api/echo/2", BATCH]);
});

test("aborted while it waits, a batch is not sent again", async () => {
  await seen();
  const batched = batching();
  const controller = new AbortController();
  const init = { headers: { "X-Refuse": `${dialect} 9 50` }, signal: controller.signal };
  const calls = Promise.allSettled([1, 2].map((number) => batched(`${api}/echo/${number}`, init)));
  while (!(await seen()).includes(BATCH));
  controller.abort();
  for (const { reason } of await calls) assert.equal(reason.name, "AbortError");
  assert.deepEqual(await seen(), []);
});

test("a server without a batch endpoint is noticed once and then left alone", async (context) => {
  const warn = context.mock.method(console, "warn", () => {});
  for (const path of ["nowhere", "accept", "no-json"]) {
    await seen();
    const batched = createBatchFetch({ url: `${api}/${path}`, base: api, dialect });
    const both = () => Promise.all([1, 2].map(async (number) => (await batched(`${api}/echo/${number}`)).status));
    assert.deepEqual([await both(), await both()], [[200, 200], [200, 200]]);
    const requests = await seen();
    assert.deepEqual([requests.length, requests.filter((request) => request.startsWith("POST")).length], [5, 1]);
  }
  assert.deepEqual(saidIn(warn), [["nowhere", 404, "Not Found"], ["accept", 405, "Method Not Allowed"],
    ["no-json", 415, "Unsupported Media Type"]].map(([path, status, reason]) => refused(`${api}/${path}`, status, reason)));
});

const saidIn = (warn) => warn.mock.calls.map(({ arguments: words }) => words.join(" "));

/** What stands in the console, once, of a status that the set-up is the reason for. */
const refused = (place, status, reason) => `POST ${place} was answered ${status} (${reason}): its calls go out one by one`;

test("an endpoint of another dialect makes no other requests of the calls", async (context) => {
  const warn = context.mock.method(console, "warn", () => {});
  const other = dialect === "asana" ? "plain" : "asana";
  assert.deepEqual((await sameAsAlone([["/echo/1?limit=5&opt_fields=a"], ["/echo/2?limit=5"]], { dialect: other })).sort(),
    ["GET /api/echo/1", "GET /api/echo/2", BATCH]);
  const made = async () => (await fetch(`${api}/created`)).json();
  const before = await made();
  const batched = batching({ dialect: other });
  const post = () => batched(`${api}/create`, { method: "POST", headers: json, body: '{"data":{}}' });
  await Promise.all([post(), post()]);
  await Promise.all([post(), post()]);
  assert.equal(await made() - before, 4);
  const told = refused(url, 415, `The dialect of this endpoint is '${dialect}': tell your client so`);
  assert.deepEqual(saidIn(warn), [told, told]);
});

test("more than the server takes in one batch goes out as it is", async (context) => {
  const warn = context.mock.method(console, "warn", () => {});
  const calls = Array.from({ length: 11 }, (_, index) => [`/echo/${index}`]);
  assert.equal((await sameAsAlone(calls, { maxActions: 20 })).length, 12);
  const batched = batching({ maxActions: 20 });
  for (let again = 0; again < 2; again++) await Promise.all(calls.map(([path]) => batched(api + path)));
  const told = refused(url, 400, "Batch requests must contain no more than 10 actions");
  assert.deepEqual(saidIn(warn), [told, told]);
});

test("a redirect of the batch, an answer without words and one of other words are told as well", async (context) => {
  const warn = context.mock.method(console, "warn", () => {});
  const places = [];
  for (const [status, text] of [[307, ""], [413, "{}"], [400, '{"errors":[]}'], [400, '{"errors":[{"message":"no"}]}']]) {
    await onServer((request, response) => {
      if (request.method === "POST") response.writeHead(status, { Location: "/elsewhere" });
      response.end(text);
    }, async (place, batched) => {
      for (let again = 0; again < 2; again++) await Promise.all([1, 2].map((number) => batched(`${place}/${number}`)));
      places.push(`${place}/batch`);
    });
  }
  const reasons = [[307, "Temporary Redirect"], [413, "Payload Too Large"], [400, "Bad Request"], [400, "no"]];
  assert.deepEqual(saidIn(warn), reasons.map((reason, index) => refused(places[index], ...reason)));
});

test("a batch that works, or is refused for now, is no news", async (context) => {
  const warn = context.mock.method(console, "warn", () => {});
  await sameAsAlone([["/echo/1"], ["/nowhere"], ["/closed/1"]]);
  await Promise.all([1, 2].map((number) => batching()(`${api}/echo/${number}`, { headers: { "X-Refuse": `${dialect} 9 never` } })));
  assert.equal(warn.mock.callCount(), 0);
});

test("large bodies are split before they are too large for one batch", async () => {
  const text = "x".repeat(200_000);
  assert.deepEqual(await sameAsAlone([1, 2, 3, 4].map((number) => [`/length`, posted({ text, number })])),
    Array(4).fill("POST /api/length"));
  const half = "x".repeat(120_000);
  assert.deepEqual(await sameAsAlone([1, 2, 3, 4].map((number) => [`/length`, posted({ half, number })])), [BATCH, BATCH]);
});

test("a batch by hand is sent when it is told to", async () => {
  await seen();
  const batch = createBatch({ url, dialect });
  const first = batch.fetch(`${api}/echo/1`);
  for (let number = 2; number <= 12; number++) batch.fetch(`${api}/echo/${number}`);
  assert.deepEqual(await seen(), []);
  const answers = await batch.send();
  assert.equal(answers[0], await first);
  assert.deepEqual(answers.map((answer) => new URL(answer.url).pathname),
    Array.from({ length: 12 }, (_, index) => `/api/echo/${index + 1}`));
  assert.deepEqual(await seen(), [BATCH, BATCH]);
  assert.deepEqual(await batch.send(), []);
  for (const number of [1, 2]) batch.fetch(new Request(`${api}/echo/${number}`, posted({ number })));
  assert.deepEqual((await batch.send()).map(({ status }) => status), [200, 200]);
  assert.deepEqual(await seen(), [BATCH]);
  batch.fetch(`${api}/echo/1`, { signal: AbortSignal.abort() });
  await seen();
  await assert.rejects(batch.send(), { name: "AbortError" });
});

test("a batch that is not sent is told of, once until it is", async (context) => {
  const warn = context.mock.method(console, "warn", () => {});
  const { timers } = context.mock;
  timers.enable({ apis: ["setTimeout"] });
  const batch = createBatch({ url, dialect });
  for (let times = 1; times <= 2; times++) {
    batch.fetch(`${api}/echo/1`);
    timers.tick(4000);
    batch.fetch(`${api}/echo/2`);
    timers.tick(999);
    assert.equal(warn.mock.callCount(), times - 1);
    timers.tick(1);
    batch.fetch(`${api}/echo/3`);
    timers.tick(60_000);
    assert.equal(warn.mock.callCount(), times);
    const answers = batch.send();
    // The network has its timers too.
    timers.reset();
    assert.equal((await answers).length, 3);
    timers.enable({ apis: ["setTimeout"] });
  }
  assert.equal(saidIn(warn)[0], "A batch still waits for its send(), and so do its calls");
});

test("a batch that is sent in time is no news, and one without calls waits for nothing", async (context) => {
  const warn = context.mock.method(console, "warn", () => {});
  const { timers } = context.mock;
  timers.enable({ apis: ["setTimeout"] });
  createBatch({ url, dialect });
  const batch = createBatch({ url, dialect });
  // It is on its way.
  const alone = batch.fetch(`${api}/echo/1`, { headers: { Range: "bytes=0-1" } });
  timers.tick(60_000);
  timers.reset();
  await alone;
  timers.enable({ apis: ["setTimeout"] });
  const controller = new AbortController();
  const left = assert.rejects(batch.fetch(`${api}/echo/1`, { signal: controller.signal }), { name: "AbortError" });
  controller.abort();
  await left;
  timers.tick(60_000);
  await assert.rejects(batch.send(), { name: "AbortError" });
  batch.fetch(`${api}/echo/1`);
  timers.tick(4999);
  const answers = batch.send();
  timers.tick(60_000);
  timers.reset();
  await answers;
  assert.equal(warn.mock.callCount(), 0);
});

test("a process does not stay for a batch that is not sent", async () => {
  const module = new URL("../../batchkit/client_js/batchkit.js", import.meta.url).href;
  const script = `import { createBatch } from "${module}"; createBatch({ url: "${url}" }).fetch("${api}/echo/1")`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  // If it stayed, it would hear the warning.
  assert.doesNotMatch(stdout + stderr, /still waits/);
  assert.equal(status, 0);
});

test("options and arguments that cannot be are TypeErrors", async () => {
  assert.throws(() => createBatchFetch({ url: "/batch" }), TypeError);
  assert.throws(() => createBatchFetch({ url, dialect: "jsonapi" }), /give "asana" or "plain"/);
  assert.throws(() => createBatchFetch({ url, maxActions: 0 }), /whole number above 0/);
  assert.throws(() => createBatchFetch({ url, maxActions: 2.5 }), /whole number above 0/);
  assert.throws(() => createBatchFetch(), /url: undefined: give that of the batch endpoint/);
  assert.throws(() => createBatchFetch({ url, maxAction: 5 }), /maxAction: there is no such option; give url, base,/);
  assert.throws(() => createBatch({ url, retries: "2" }), /retries: 2: give a number, at least 0/);
  assert.throws(() => createBatchFetch({ url, window: -1 }), /window: -1: give a number/);
  assert.throws(() => createBatchFetch({ url, fetch: "fetch" }), /fetch: fetch: give a function/);
  for (const options of ["/batch", null, new URL(url), [url], 5]) {
    for (const create of [createBatchFetch, createBatch]) assert.throws(() => create(options), /: give an object with url$/);
  }
  const wrongUrls = ["", 5, {}, [url], "/batch", "http://", "file:///batch", `${url}?x`, new URL("?", url), new URL("#x", url)];
  for (const wrong of wrongUrls) assert.throws(() => createBatchFetch({ url: wrong }), /^TypeError: url: .*: give that of the b/);
  for (const base of ["", 5, null, "/api?x"]) {
    assert.throws(() => createBatchFetch({ url, base }), /^TypeError: base: .*: give a path, or a URL without a query/);
  }
  for (const base of ["https://other.example/api", "//other.example"]) {
    assert.throws(() => createBatchFetch({ url, base }), /^TypeError: base: .*: give one of the origin of url, http:/);
  }
  for (const retries of [1.5, Infinity]) assert.throws(() => createBatchFetch({ url, retries }), /: give a whole number, at/);
  assert.throws(() => createBatchFetch({ url, window: Infinity }), /^TypeError: window: Infinity: give milliseconds/);
  assert.throws(() => createBatch({ url, window: 5 }), /^TypeError: window: 5: leave it out: a batch waits for send\(\)/);
  createBatchFetch({ url: new URL(url), base: new URL(api), maxWait: Infinity });
  const batched = batching();
  for (const [input, init] of [["/relative"], [`${api}/x`, { method: "GET", body: "{}" }], [`${api}/x`, { headers: "x" }]]) {
    const [through, alone] = await Promise.allSettled([batched(input, init), fetch(input, init)]);
    assert.deepEqual([through.reason.name, alone.reason.name], ["TypeError", "TypeError"]);
  }
});

// A network that fails: a server of this test's own, which does what no batchkit does

async function onServer(answer, use) {
  const listening = createServer(answer);
  await new Promise((resolve) => listening.listen(0, "127.0.0.1", resolve));
  const place = `http://127.0.0.1:${listening.address().port}`;
  try {
    await use(place, createBatchFetch({ url: `${place}/batch`, dialect }));
  } finally {
    listening.closeAllConnections();
    await new Promise((resolve) => listening.close(resolve));
  }
}

const line = (index) => `{"index":${index},"status_code":200,"headers":{},"body":{"data":"ü${index}"}}\n`;

test("results resolve as their lines arrive, and a stream that breaks off rejects only what had not", async () => {
  let rest, broken;
  await onServer((request, response) => {
    response.writeHead(200, { "Content-Type": "application/x-ndjson" });
    const bytes = Buffer.from(line(2) + line(0));
    // The first line, and the second up to the middle of a character.
    const middle = bytes.lastIndexOf(0xc3) + 1;
    response.write(bytes.subarray(0, middle));
    rest = () => response.write(bytes.subarray(middle));
    broken = response;
  }, async (place, batched) => {
    const calls = [0, 1, 2, 3].map((number) => batched(`${place}/${number}`));
    assert.equal(await (await calls[2]).text(), '{"data":"ü2"}');
    rest();
    assert.equal(await (await calls[0]).text(), '{"data":"ü0"}');
    broken.destroy();
    for (const index of [1, 3]) await assert.rejects(calls[index], TypeError);
  });
});

/** A fetch that is answered with these bytes in pieces of the same size. */
const inPieces = (content, size) => async () => {
  const bytes = new TextEncoder().encode(content);
  let at = 0;
  const pull = (controller) => (at < bytes.length ? controller.enqueue(bytes.subarray(at, at += size)) : controller.close());
  return new Response(new ReadableStream({ pull }), { headers: { "Content-Type": "application/x-ndjson" } });
};

test("a line that comes in many pieces is put together once", async () => {
  const long = (index) => `{"index":${index},"status_code":200,"headers":{},"body":"${"ü".repeat(5000)}"}\n`;
  const content = long(1) + long(0);
  const { split } = String.prototype;
  let read = 0;
  String.prototype.split = function (...separator) {
    read += this.length;
    return split.apply(this, separator);
  };
  try {
    const batched = batching({ fetch: inPieces(content, 3) });
    const answers = await Promise.all([1, 2].map((number) => batched(`${api}/echo/${number}`)));
    for (const answer of answers) assert.equal(await answer.json(), "ü".repeat(5000));
  } finally {
    String.prototype.split = split;
  }
  assert.ok(read < 2 * content.length, `${read} characters of ${content.length} were read`);
});

test("a query of many names is looked through once", async () => {
  const { getAll } = URLSearchParams.prototype;
  let looked = 0;
  URLSearchParams.prototype.getAll = function (name) {
    looked++;
    return getAll.call(this, name);
  };
  try {
    const query = Array.from({ length: 1200 }, (_, index) => `a${index}=`).join("&");
    // In the plain dialect it stands in the path, which is too long then.
    const requests = await sameAsAlone([[`/text?${query}`], ["/spelled"], ["/echo/1?a=1&b=2&a=3"], ["/nothing"]]);
    assert.deepEqual(requests.sort(), [dialect === "asana" ? "GET /api/echo/1" : "GET /api/text", BATCH]);
  } finally {
    URLSearchParams.prototype.getAll = getAll;
  }
  assert.ok(looked < 10, `${looked} looks for a name`);
});

test("a stream that ends too soon, and answers that are no batch's", async () => {
  const stream = { "Content-Type": "application/jsonl" };
  for (const [headers, content, arrives] of [
    [stream, line(1), [1]], [stream, line(1) + line(1), [1]], [stream, `${line(0)}{"index":9,"status_code":200}\n`, [0]],
    [stream, "<h1>\n", []], [{}, "<h1>Sign in</h1>", []], [{}, '{"data":[', []], [{}, '{"data":[]}', []], [{}, "{}", []],
    [{}, '{"data":[{"status_code":200,"headers":{},"body":1}]}', [0]],
  ]) {
    await onServer((request, response) => response.writeHead(200, headers).end(content), async (place, batched) => {
      const settled = await Promise.allSettled([0, 1].map((number) => batched(`${place}/${number}`)));
      assert.deepEqual(settled.flatMap(({ status }, index) => (status === "fulfilled" ? [index] : [])), arrives, content);
      for (const { reason } of settled) assert.ok(reason === undefined || reason instanceof TypeError);
    });
  }
});

test("a 504 is never repeated, nor is what the network lost", async () => {
  for (const [status, content] of [[504, "why"], [502, "why"], [500, "why"], [401, "why"], [503, ""], [204, ""]]) {
    let requests = 0;
    await onServer((request, response) => { requests++; response.writeHead(status).end(content); }, async (place, batched) => {
      const answers = await Promise.all([0, 1].map((number) => batched(`${place}/${number}`, { method: "DELETE" })));
      for (const answer of answers) assert.deepEqual([answer.status, await answer.text()], [status, content]);
    });
    assert.equal(requests, 1);
  }
  let requests = 0;
  await onServer((request) => { requests++; request.socket.destroy(); }, async (place, batched) => {
    const settled = await Promise.allSettled([0, 1].map((number) => batched(`${place}/${number}`, { method: "DELETE" })));
    for (const { reason } of settled) assert.ok(reason instanceof TypeError);
  });
  assert.equal(requests, 1);
});

test("a batch that is redirected, to a login say, is sent as the calls that it was", async () => {
  const requests = [];
  await onServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    response.writeHead(request.url === "/batch" ? 302 : 200, { Location: "/login" }).end();
  }, async (place, batched) => {
    await Promise.all([0, 1].map((number) => batched(`${place}/${number}`)));
  });
  assert.deepEqual(requests.sort(), ["GET /0", "GET /1", "POST /batch"]);
});
