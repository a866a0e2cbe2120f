// A fetch that batches: calls made in one moment travel as one POST, and each has the Response that it would have had alone.
// It is part of batchkit, and stands by itself in browsers and on Node 20: it imports nothing, and nothing needs to be built.

// # The wire: how a batch is sent, and what its answer holds. The console stands on this part as well.

// As the server has them. The data of those without a body is their query; the length is in characters.
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];
const BODYLESS = ["GET", "HEAD", "DELETE"];
const LONGEST_PATH = 2000;

/** Send the JSON of a batch. A redirect is not followed: it says that nothing ran. */
function post(fetch, url, body, headers, init) {
  const fields = new Headers(headers);
  if (!fields.has("Content-Type")) fields.set("Content-Type", "application/json");
  return fetch(url, { ...init, method: "POST", headers: fields, body, redirect: "manual" });
}

/** The results in the text of a batch's answer, in order. Throws SyntaxError where it is none. */
function* resultsIn(text) {
  const [, start] = Array.from(membersOf(text, 0)).find(([name]) => name === "data") ?? [];
  if (start === undefined) throw new SyntaxError("data is missing");
  let at = enter(text, start, "[");
  while (text[at] !== "]") {
    const [result, end] = resultAt(text, at);
    yield result;
    at = skipSpace(text, end);
    if (text[at] !== "]") at = enter(text, at, ",");
  }
}

/** The result that starts at `at`, its body still the text that the handler wrote, and where it ends. */
function resultAt(text, at) {
  const result = { index: null, status: 0, headers: {}, body: "", binary: false };
  let end = at + 1;
  for (const [name, from, to] of membersOf(text, at)) {
    const value = text.slice(from, to);
    if (name === "index") result.index = JSON.parse(value);
    else if (name === "status_code") result.status = JSON.parse(value);
    else if (name === "headers") result.headers = JSON.parse(value);
    else if (name === "body") result.body = value;
    else if (name === "body_encoding") result.binary = true;
    end = to;
  }
  if (result.body === "") throw new SyntaxError("body is missing");
  return [result, enter(text, end, "}")];
}

/** The seconds that a Retry-After asks to wait, a number or a date; null where there is none. */
function secondsToWait(field) {
  const seconds = /^\d+$/.test(field ?? "") ? Number(field) : (Date.parse(field) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : null;
}

// JSON as text: parsed and written again, 12345678901234567890 and 1.0 would be other numbers.

/** The end of the string that starts at `start`. Throws where it has none. */
function endOfString(text, start) {
  for (let quote = start; ; ) {
    quote = text.indexOf('"', quote + 1);
    if (quote < 0) throw new SyntaxError("A string without its end");
    let before = quote;
    while (text[before - 1] === "\\") before--;
    if ((quote - before) % 2 === 0) return quote + 1;
  }
}

/** The end of the value that starts at `start`. Throws where it has none. */
function endOfValue(text, start) {
  if (text[start] === '"') return endOfString(text, start);
  if (text[start] !== "{" && text[start] !== "[") {
    let end = start;
    while (end < text.length && !",]} \n\r\t".includes(text[end])) end++;
    if (end === start) throw new SyntaxError("A value is missing");
    return end;
  }
  for (let at = start, depth = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x22: at = endOfString(text, at) - 1; break;
      case 0x5b: case 0x7b: depth++; break;
      case 0x5d: case 0x7d: if (--depth === 0) return at + 1;
    }
  }
  throw new SyntaxError("A bracket without its end");
}

function skipSpace(text, at) {
  while (at < text.length && " \n\r\t".includes(text[at])) at++;
  return at;
}

/** What comes after `sign`, which must be next. */
function enter(text, at, sign) {
  at = skipSpace(text, at);
  if (text[at] !== sign) throw new SyntaxError(`${sign} is missing`);
  return skipSpace(text, at + 1);
}

/** The members of the object at `at`: [name, start, end] of each. */
function* membersOf(text, at) {
  at = enter(text, at, "{");
  while (text[at] !== "}") {
    const end = endOfString(text, at);
    const start = enter(text, end, ":");
    const after = endOfValue(text, start);
    yield [JSON.parse(text.slice(at, end)), start, after];
    at = skipSpace(text, after);
    if (text[at] !== "}") at = enter(text, at, ",");
  }
}

// # The fetch

/** A fetch that batches; what it takes is told in batchkit.d.ts. */
export function createBatchFetch(options) {
  return new Batcher(options).fetch;
}

/** Collects calls until they are sent by `send()`. */
export function createBatch(options) {
  if (options?.window !== undefined) throw new TypeError(`window: ${options.window}: leave it out: a batch waits for send()`);
  const batcher = new Batcher(options, true);
  const calls = [];
  const remind = () => batcher.waits && console.warn("A batch still waits for its send(), and so do its calls");
  let reminder;
  return {
    fetch(input, init) {
      const call = batcher.fetch(input, init);
      // Who awaits a call before send() waits for ever.
      if (batcher.waits) reminder ??= setTimeout(remind, REMINDER);
      reminder?.unref?.();
      // Whoever waits for send() alone hears of a failure there.
      call.catch(() => {});
      calls.push(call);
      return call;
    },
    send() {
      clearTimeout(reminder);
      reminder = undefined;
      batcher.flush();
      return Promise.all(calls.splice(0));
    },
  };
}

const REMINDER = 5000;
const SAFE = ["GET", "HEAD"];
const NULL_BODY = [204, 205, 304];
const REDIRECTS = [301, 302, 303, 307, 308];
// The server has no batch endpoint: there is nothing at the URL, or nothing that takes a POST of JSON.
const ABSENT = [404, 405, 415, 501];
// No action ran: the calls of the batch may be sent as they are.
const UNRUN = [...ABSENT, ...REDIRECTS, 400, 413, 429];

// What a call may be told besides. Anything else, a dispatcher or a priority, only a call of its own can heed.
const CARRIED = ["method", "headers", "signal", "credentials", "mode", "cache", "redirect", "referrer",
  "referrerPolicy", "integrity", "keepalive", "duplex", "window"];
// Header fields that the server withholds from actions, as they could change what one is. It reads "_" as "-".
const WITHHELD = new RegExp("^(?:content-|proxy-|if-|access-control-request-|(?:transfer-encoding|accept-encoding" +
  "|connection|keep-alive|te|trailer|upgrade|expect|range|(?:x-)?idempotency-key|x-http-method|x-http-method-override" +
  "|x-method-override|x-original-url|x-rewrite-url)$)");
const isWithheld = (name) => name !== "content-type" && WITHHELD.test(name.replaceAll("_", "-"));
const STREAMED = /^application\/(?:x-ndjson|jsonl)\b/;
// Actions see this less the type of lines: what fetch says itself.
const STREAM = "application/x-ndjson, */*";

// As the server has it, in characters; a batch much below its 1 MiB even where each takes three bytes.
const LONGEST_QUERY = 16 * 1024;
const LONGEST_BATCH = 300_000;
const MOST_REFUSED = 100;

class Batcher {
  #url; #base; #asana; #contentType; #maxActions; #window; #retries; #maxWait; #fetch;
  #groups = new Map();
  #refused = new Set();
  #warned = new Set();
  #absent = false;

  constructor(options = {}, byHand = false) {
    if (Object.prototype.toString.call(options) !== "[object Object]") throw new TypeError(`${options}: give an object with url`);
    const { url, base = ".", dialect = "asana", maxActions = 10, window = 2, retries = 3, maxWait = 60_000,
      fetch = globalThis.fetch, ...unknown } = options;
    for (const name of Object.keys(unknown)) {
      throw new TypeError(`${name}: there is no such option; give url, base, dialect, maxActions, window, retries, maxWait or fetch`);
    }
    const page = globalThis.document?.baseURI ?? globalThis.location?.href;
    this.#url = placeOf("url", url, page, "that of the batch endpoint: http(s), without a query, and whole outside of pages");
    const within = placeOf("base", base, new URL(bare(this.#url), this.#url), "a path, or a URL without a query");
    if (within.origin !== this.#url.origin) refuse("base", base, `one of the origin of url, ${this.#url.origin}`);
    this.#base = bare(within);
    if (dialect !== "asana" && dialect !== "plain") refuse("dialect", dialect, '"asana" or "plain"');
    if (!Number.isInteger(maxActions) || maxActions < 1) refuse("maxActions", maxActions, "a whole number above 0");
    for (const [name, value] of Object.entries({ window, retries, maxWait })) {
      if (!(typeof value === "number" && value >= 0)) refuse(name, value, "a number, at least 0");
    }
    if (window === Infinity) refuse("window", window, "milliseconds; calls that wait for send() are createBatch's");
    if (!Number.isInteger(retries)) refuse("retries", retries, "a whole number, at least 0");
    if (typeof fetch !== "function") refuse("fetch", fetch, "a function");
    this.#asana = dialect === "asana";
    // An endpoint of the other dialect would make other requests of these actions: so it refuses them.
    this.#contentType = `application/json; dialect=${dialect}`;
    this.#maxActions = maxActions;
    this.#window = byHand ? Infinity : window;
    this.#retries = retries;
    this.#maxWait = maxWait;
    // Taken now: whoever puts a batching fetch in the place of the global one does not send it round in circles.
    this.#fetch = fetch.bind(globalThis);
  }

  fetch = async (input, init) => {
    const { body, ...rest } = init ?? {};
    const carried = Object.keys(rest).every((key) => rest[key] === undefined || CARRIED.includes(key));
    if (this.#absent || !carried || (body != null && typeof body !== "string")) return this.#fetch(input, init);
    const request = new Request(input, init);
    const path = this.#travels(request);
    if (path === null) return this.#fetch(request);
    const within = body == null && input instanceof Request && !SAFE.includes(request.method);
    const action = within ? textOf(request.clone()).then((text) => this.#actionOf(request, path, text))
      : this.#actionOf(request, path, body ?? "");
    if (action === null) return this.#fetch(request);
    return new Promise((resolve, reject) => this.#join(new Call(request, action, resolve, reject)));
  };

  /** The path of an action, with its query, that is this request; null where only the request itself will do. */
  #travels({ url, method, headers, redirect, keepalive, integrity, cache, mode }) {
    const { origin, pathname, search } = new URL(url);
    const path = pathname.slice(this.#base.length);
    const fits = origin === this.#url.origin && pathname.startsWith(`${this.#base}/`) && pathname !== this.#url.pathname
      && path.length <= LONGEST_PATH && search.length <= LONGEST_QUERY && isOrdinary(path)
      && METHODS.includes(method) && redirect === "follow" && !keepalive && !integrity
      && ["default", "no-store"].includes(cache) && ["cors", "same-origin"].includes(mode)
      && ![...headers.keys()].some(isWithheld) && !/ndjson|jsonl/.test(headers.get("Accept"))
      && /^(?:application\/json(?:; *charset=utf-8)?)?$/i.test(headers.get("Content-Type") ?? "")
      && !this.#refused.has(kindOf(method, path));
    return fits ? path : null;
  }

  /** The JSON of an action that is just this request; null where there is none. */
  #actionOf({ url, method, headers }, path, text) {
    const { search, searchParams } = new URL(url);
    const action = { method: method.toLowerCase(), relative_path: path };
    const bodyless = BODYLESS.includes(method);
    if (this.#asana) {
      const told = parametersOf(searchParams, bodyless);
      if (told === null) return null;
      Object.assign(action, told);
    } else {
      action.relative_path += search;
      if (action.relative_path.length > LONGEST_PATH || search.includes("\\")) return null;
    }
    const json = JSON.stringify(action);
    if (bodyless) return text === "" ? json : null;
    const data = headers.has("Content-Type") ? dataOf(text, this.#asana) : null;
    return data === null || data.length > LONGEST_BATCH ? null : `${json.slice(0, -1)},"data":${data}}`;
  }

  /** Let a call wait for others of its moment that may share a batch with it. */
  #join(call) {
    const key = JSON.stringify(call.init);
    let group = this.#groups.get(key);
    if (group === undefined) {
      group = [];
      this.#groups.set(key, group);
      // In a hidden page timers are put off, by up to a minute.
      if (this.#window === 0 || globalThis.document?.hidden) queueMicrotask(() => this.#close(key, group));
      else if (this.#window < Infinity) setTimeout(() => this.#close(key, group), this.#window);
    }
    group.push(call);
    if (group.length === this.#maxActions && this.#window < Infinity) this.#close(key, group);
  }

  /** Whether a call waits to be sent; one that was aborted waits no more. */
  get waits() {
    return [...this.#groups.values()].some((group) => group.some((call) => call.waits));
  }

  /** Send all that wait. */
  flush() {
    for (const [key, group] of this.#groups) this.#close(key, group);
  }

  async #close(key, group) {
    if (this.#groups.get(key) !== group) return;
    this.#groups.delete(key);
    for (const call of group) call.action = await call.action;
    group.filter(({ action }) => action === null).forEach(this.#alone);
    let batch = [];
    let length = 0;
    for (const call of group.filter(({ action, waits }) => action !== null && waits)) {
      if (batch.length === this.#maxActions || length + call.action.length > LONGEST_BATCH) {
        this.#send(batch);
        [batch, length] = [[], 0];
      }
      batch.push(call);
      length += call.action.length;
    }
    this.#send(batch);
  }

  /** Send these calls, and see that each comes to an end. */
  async #send(calls) {
    const controller = new AbortController();
    // Those whose result has not come.
    const missing = new Set(calls);
    for (const call of calls) call.left = () => missing.delete(call) && missing.size === 0 && controller.abort();
    try {
      for (let again = 0; ; again++) {
        const batch = [...missing];
        if (batch.length < 2 || this.#absent) return batch.forEach(this.#alone);
        const { headers, ...init } = batch[0].init;
        const body = `{"data":{"actions":[${batch.map(({ action }) => action).join(",")}]}}`;
        const fields = new Headers(headers);
        fields.set("Content-Type", this.#contentType);
        // A stream has no place for the cookies of an action that ends after its header has gone out.
        const reads = batch.every(({ request }) => SAFE.includes(request.method));
        if (reads && (fields.get("Accept") ?? "*/*") === "*/*") fields.set("Accept", STREAM);
        const answer = await post(this.#fetch, this.#url.href, body, fields, { ...init, signal: controller.signal });
        if (answer.status === 200) return await this.#deliver(answer, batch, missing);
        const wait = answer.status === 429 ? secondsToWait(answer.headers.get("Retry-After")) : null;
        const repeats = wait !== null && again < this.#retries && wait * 1000 <= this.#maxWait;
        const unrun = wait === null && (answer.type === "opaqueredirect" || UNRUN.includes(answer.status));
        if (!repeats && !unrun) return await share(answer, batch);
        this.#absent ||= ABSENT.includes(answer.status);
        // What no wait lets pass as a batch is sent as the calls that it was.
        if (unrun) batch.forEach(this.#alone);
        if (unrun && answer.status !== 429) await this.#warn(answer);
        answer.body?.cancel().catch(() => {});
        if (unrun) return;
        await pause(wait * 1000, controller.signal);
      }
    } catch (error) {
      for (const call of missing) call.fail(error);
    }
  }

  /** Say, once for each status, what keeps calls out of batches: all works without them, and nobody would notice. */
  async #warn(answer) {
    const { status, statusText } = answer;
    if (this.#warned.has(status)) return;
    this.#warned.add(status);
    const reason = messagesIn(await answer.text().catch(() => "")).join() || statusText;
    const answered = `${status || "with a redirect"}${reason && ` (${reason})`}`;
    console.warn(`POST ${this.#url.href} was answered ${answered}: its calls go out one by one`);
  }

  #alone = (call) => {
    this.#fetch(call.request).then(call.answer, call.fail);
  };

  /** Give each call its result as it comes. Throws TypeError, as fetch does, where one does not come. */
  async #deliver(answer, batch, missing) {
    try {
      for await (const result of resultsOf(answer)) {
        const call = batch[result.index];
        if (call === undefined) throw new SyntaxError("A result of no call");
        missing.delete(call);
        this.#settle(call, result);
      }
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      throw new TypeError(`POST ${this.#url.href} was not answered as a batch is: ${error.message}`, { cause: error });
    }
    if (missing.size > 0) throw new TypeError("The batch's answer broke off: what became of this call is not known");
  }

  #settle(call, result) {
    const { method, url } = call.request;
    const refusal = result.status === 400 ? refusalIn(result) : null;
    if (refusal !== null) {
      // It is no action, and did not run.
      if (refusal.includes("cannot be used in a batch request")) this.#remember(method, url);
      this.#alone(call);
    } else if (REDIRECTS.includes(result.status) && result.headers.location !== undefined) {
      this.#follow(call, result.status, result.headers.location);
    } else {
      call.tryTo(() => call.answer(responseOf(result, call.request)));
    }
  }

  #remember(method, url) {
    this.#refused.add(kindOf(method, new URL(url).pathname.slice(this.#base.length)));
    if (this.#refused.size > MOST_REFUSED) this.#refused.delete(this.#refused.values().next().value);
  }

  /** Follow a redirect, as fetch does: some go on with a GET, the others with what was sent. */
  async #follow(call, status, location) {
    const { request, init } = call;
    const { method } = request;
    try {
      const url = new URL(location, request.url);
      const headers = new Headers(init.headers);
      if (url.origin !== this.#url.origin) headers.delete("Authorization");
      const next = { ...init, headers, signal: request.signal };
      const read = status === 303 ? !SAFE.includes(method) : status < 303 && method === "POST";
      if (!read) {
        const type = request.headers.get("Content-Type");
        if (type !== null) headers.set("Content-Type", type);
        Object.assign(next, { method, body: SAFE.includes(method) ? undefined : (await request.text()) || undefined });
      }
      const response = await this.#fetch(url.href, next);
      call.answer(Object.defineProperty(response, "redirected", { value: true }));
    } catch (error) {
      call.fail(error);
    }
  }
}

/** A call from when it joins a group until it has its Response, or fails. */
class Call {
  waits = true;
  left = () => {};

  constructor(request, action, resolve, reject) {
    const { signal, credentials, mode, referrer, referrerPolicy } = request;
    this.request = request;
    this.action = action;
    // What calls must have in common to share a batch.
    const headers = [...request.headers].filter(([name]) => name !== "content-type");
    this.init = { credentials, mode, referrer, referrerPolicy, headers };
    const end = (settle) => (value) => {
      if (!this.waits) return;
      this.waits = false;
      signal.removeEventListener("abort", aborted);
      settle(value);
    };
    this.answer = end(resolve);
    this.fail = end(reject);
    const aborted = () => {
      this.fail(signal.reason);
      this.left();
    };
    if (signal.aborted) aborted();
    else signal.addEventListener("abort", aborted);
  }

  tryTo(act) {
    try {
      act();
    } catch (error) {
      this.fail(error);
    }
  }
}

function refuse(name, value, meant) {
  throw new TypeError(`${name}: ${value}: give ${meant}`);
}

/** The URL that an option gives. Throws TypeError where it is none of a server, or more than a place there. */
function placeOf(name, value, relativeTo, meant) {
  try {
    const text = value.href ?? value;
    const place = new URL(text, relativeTo);
    if (typeof text === "string" && text && /^https?:[^?#]*$/.test(place.href)) return place;
  } catch {}
  refuse(name, value, meant);
}

/** The path of a URL, without a slash at its end. */
function bare({ pathname }) {
  let end = pathname.length;
  while (pathname[end - 1] === "/") end--;
  return pathname.slice(0, end);
}

/** Whether a path can be an action's as it is: nothing in it could be read as another path. */
function isOrdinary(path) {
  try {
    const plain = decodeURIComponent(path);
    return !path.startsWith("//") && !/[\x00-\x1f\x7f-\x9f\\]|(?:^|\/)\.\.?(?:;[^/]*)?(?:\/|$)/.test(plain);
  } catch {
    return false;
  }
}

/** What is remembered of a refused call: its method and path, less what looks like an id. */
function kindOf(method, path) {
  return `${method} ${path.split("/").map((segment) => (/\d/.test(segment) ? "*" : segment)).join("/")}`;
}

/** A request's body as text; null where it is none. */
async function textOf(request) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await request.arrayBuffer());
  } catch {
    return null;
  }
}

/** A query as the data and options of an action in Asana's dialect; null where they cannot say it. */
function parametersOf(query, bodyless) {
  const data = Object.create(null);
  const options = {};
  const entries = [...query];
  // What came as a list would reach the handler as one value, joined by commas.
  if (new Set(entries.map(([name]) => name)).size < entries.length) return null;
  for (const [name, value] of entries) {
    if (name === "limit" && /^(?:0|[1-9]\d{0,14})$/.test(value)) options.limit = Number(value);
    else if (name === "offset") options.offset = value;
    else if (name === "opt_fields") options.fields = value;
    else if (name === "opt_expand") options.expand = value;
    else if (!bodyless || name === "limit" || name.startsWith("opt_")) return null;
    else data[name] = value;
  }
  return { ...(Object.keys(data).length > 0 && { data }), ...(Object.keys(options).length > 0 && { options }) };
}

/** The data of a JSON body, as it is written; null where the body is no object, or in Asana's dialect no {"data": {…}}. */
function dataOf(text, asana) {
  try {
    // A lone surrogate would make the whole batch invalid.
    if (/\\u[Dd][89A-Fa-f]/.test(text)) return null;
    JSON.parse(text);
    const [[name, from, to], ...others] = asana ? [...membersOf(text, 0)] : [["data", 0, text.length]];
    const data = text.slice(from, to).trim();
    return name === "data" && others.length === 0 && data[0] === "{" ? data : null;
  } catch {
    return null;
  }
}

/** The results of a batch's answer, each as soon as it is there. */
async function* resultsOf(answer) {
  if (!STREAMED.test(answer.headers.get("Content-Type"))) {
    let index = 0;
    for (const result of resultsIn(await answer.text())) yield { ...result, index: index++ };
    return;
  }
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  // Joined once: a line may come in any number of chunks.
  let line = [];
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    const [more, ...others] = decoder.decode(chunk.value, { stream: true }).split("\n");
    line.push(more);
    for (const start of others) {
      const whole = line.join("");
      line = [start];
      yield resultAt(whole, 0)[0];
    }
  }
}

/** What a batch endpoint says of an action that it did not run; null where the answer is the handler's own. */
function refusalIn({ index, body }) {
  const messages = messagesIn(body);
  const itsOwn = messages.length > 0 && messages.every((message) => message.startsWith(`data.actions[${index}]`));
  return itsOwn ? messages.join() : null;
}

/** The messages of an error as batchkit words it; none where the text is something else. */
function messagesIn(text) {
  try {
    return JSON.parse(text).errors.map(({ message }) => `${message}`);
  } catch {
    return [];
  }
}

/** The Response that a result stands for. */
function responseOf({ status, headers, body, binary }, { method, url }) {
  const fields = new Headers(headers);
  let content = null;
  if (hasBody(method, status)) {
    if (binary) {
      content = Uint8Array.from(atob(JSON.parse(body)), (sign) => sign.charCodeAt(0));
    } else if (fields.has("Content-Type")) {
      // Text, which is UTF-8 from here on.
      content = JSON.parse(body);
      fields.set("Content-Type", fields.get("Content-Type").replace(/(charset=)("[^"]*"|[^\s;]+)/i, "$1utf-8"));
    } else {
      content = body;
      fields.set("Content-Type", "application/json");
    }
  }
  return placed(new Response(content, { status, headers: fields }), url);
}

/** Answer each of these calls with what the batch was answered as a whole. */
async function share(answer, batch) {
  const content = await answer.arrayBuffer();
  for (const call of batch) {
    const { method, url } = call.request;
    call.tryTo(() => call.answer(placed(new Response(hasBody(method, answer.status) ? content : null, answer), url)));
  }
}

function hasBody(method, status) {
  return method !== "HEAD" && !NULL_BODY.includes(status);
}

/** A response that knows its URL, as do its clones. */
function placed(response, url) {
  return Object.defineProperties(response, {
    url: { value: url.split("#")[0] },
    clone: { value: () => placed(Response.prototype.clone.call(response), url) },
  });
}

/** Wait, or until nobody does any more. */
function pause(time, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, time);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); });
  });
}
