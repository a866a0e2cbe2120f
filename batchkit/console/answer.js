// The answer: results in their places, or what the server said of the whole batch.

const REASONS = {
  200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 301: "Moved Permanently", 302: "Found", 303: "See Other",
  304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized",
  402: "Payment Required", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 409: "Conflict",
  410: "Gone", 412: "Precondition Failed", 413: "Content Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Content",
  423: "Locked", 428: "Precondition Required", 429: "Too Many Requests", 451: "Unavailable For Legal Reasons",
  500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
};

/** What to do about a whole batch that was refused; what a proxy in between says is not batchkit's to explain. */
const ADVICE = {
  400: "Nothing ran. The server cannot read this as a batch: put right what it names, and run again.",
  401: "Nothing ran. Fill in Authorization below the actions, and run again.",
  403: "Nothing ran. This authorization may not use the batch endpoint; try another one.",
  404: "Nothing ran. There is no batch endpoint at this URL any more; reload the page.",
  405: "Nothing ran. The batch endpoint does not answer POST here; see what stands in front of it.",
  413: "Nothing ran. The batch is too large: take out actions, or send less data.",
  415: "Nothing ran. Something on the way changes the media type or coding of the request.",
  429: "Nothing ran, and nothing was charged.",
  503: "Nothing ran. The server, or its limiter, is out of reach for the moment; run again later.",
};

function family(status) {
  return status < 300 ? "ok" : status < 400 ? "moved" : status < 500 ? "refused" : "failed";
}

function statusOf(status) {
  return h("span", { class: `status ${family(status)}` }, h("b", {}, status), REASONS[status] ? ` ${REASONS[status]}` : "");
}

/** The results that a batch's answer holds. Reads for some milliseconds at a time. Throws where it is no batch's answer. */
async function readResults(text) {
  const results = [];
  let since = performance.now();
  for (const result of resultsIn(text)) {
    results.push(result);
    if (performance.now() - since > 12) {
      await pause();
      since = performance.now();
    }
  }
  return results;
}

// In characters, of which a new line counts for some: a first step fills a third of a screen.
const FIRST_STEP = 1500;
const STEP = 40000;
const NEW_LINE = 40;

/** A body as text, whatever it holds; of a long one the beginning, and more on demand. */
function bodyView(pieces, size, what) {
  const pre = h("pre", { class: "body mono" });
  const more = h("button", { type: "button", class: "more", click: () => showMore(STEP) });
  function showMore(budget) {
    const shown = document.createDocumentFragment();
    while (budget > 0) {
      const { value, done } = pieces.next();
      if (done) {
        more.remove();
        break;
      }
      const [kind, text] = value;
      shown.append(kind === "sign" || kind === "text" ? text : h("span", { class: kind }, text));
      budget -= text.includes("\n") ? text.length + NEW_LINE : text.length;
    }
    pre.append(shown);
  }
  more.textContent = `Show more of ${what}, ${bytes(size)} in all`;
  const view = h("div", {}, pre, more);
  showMore(FIRST_STEP);
  return view;
}

function bodyOf(result) {
  if (result.body[0] !== '"') return bodyView(laidOut(result.body), result.body.length, "this body");
  const text = JSON.parse(result.body);
  if (!result.binary) return bodyView(inPieces(text), text.length, "this text");
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const size = Math.floor(((text.length - padding) * 3) / 4);
  const view = bodyView(inPieces(text), text.length, "this base64");
  view.prepend(h("p", { class: "note" }, `Binary, ${bytes(size)}; in base64:`));
  return view;
}

function resultView(action, result, span, index) {
  const headers = Object.entries(result.headers);
  return h("li", {}, h("article", { class: "result" },
    h("div", { class: "line" },
      h("h3", { tabindex: "-1", id: `result-${index}` }, hiddenText("Result "), h("span", { class: "number" }, index + 1), " ",
        statusOf(result.status), " ", h("span", { class: `method ${action.method}` }, action.method), " ",
        h("span", { class: "mono path" }, relativePath(action))),
      h("span", { class: "took mono" }, span ? milliseconds(span.end - span.start) : "")),
    headers.length > 0 && h("dl", { class: "headers mono" },
      ...headers.map(([name, value]) => h("div", {}, h("dt", {}, `${name}:`), " ", h("dd", {}, value)))) || "",
    bodyOf(result)));
}

/** Show an answer, and bring it into sight where it is below what can be seen. */
function present(...children) {
  $("answer").replaceChildren(...children);
  if ($("answer").getBoundingClientRect().top > innerHeight * 0.8) $("answer").scrollIntoView();
}

/** Show the results, the first at once, and all of many by and by. A newer answer ends that. */
async function showResults(actions, results, timing, roundTrip) {
  const ok = results.filter((result) => result.status < 400).length;
  const list = h("ol", { class: "results" });
  const go = (index) => {
    const heading = $(`result-${index}`);
    heading?.scrollIntoView({ block: "start" });
    heading?.focus({ preventScroll: true });
  };
  const counts = h("p", { class: "outcome" }, statusOf(200), ` ${ok} of ${results.length} actions succeeded `,
    h("span", { class: "note" }, `${milliseconds(roundTrip)} round trip`));
  const timeline = timing.size > 0 ? timelineOf(actions, results, timing, go)
    : h("p", { class: "note" },
      "No timeline: the answer has no Server-Timing field (server_timing=False, or something on the way removed it).");
  present(counts, timeline, list);
  announce(`${ok} of ${results.length} actions succeeded, in ${milliseconds(roundTrip)}`);
  for (let index = 0; index < results.length; index++) {
    list.append(resultView(actions[index], results[index], timing.get(index), index));
    if (index % 10 === 9) await pause();
    if (!list.isConnected) return;
  }
}

function countDown(element, seconds) {
  const until = performance.now() + seconds * 1000;
  const tick = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    element.textContent = left > 0 ? `Run it again in ${left} s.` : "You can run it again now.";
    if (left > 0 && (element.isConnected || left === seconds)) setTimeout(tick, 250);
    else if (element.isConnected) announce(element.textContent);
  };
  tick();
}

/** Show what was said of the batch as a whole. */
function showWhole({ status, retryAfter, text }) {
  const advice = h("p", { class: "advice" }, ADVICE[status] ?? (status >= 500
    ? "Whether anything ran is not known. Look before you run it again."
    : "The batch did not come back with results."));
  const heading = h("h3", {}, "The whole batch was answered this, not its actions");
  const children = [h("p", { class: "outcome" }, statusOf(status)), heading];
  let messages = [];
  try {
    messages = JSON.parse(text).errors.flatMap(({ message, help }) => [message, help]).filter((each) => typeof each === "string");
  } catch { /* Not batchkit's words: shown as they are. */ }
  const wait = secondsToWait(retryAfter);
  children.push(messages.length > 0 ? h("ul", { class: "messages" }, ...messages.map((message) => h("li", {}, message)))
    : bodyView(inPieces(text), text.length, "this answer"), advice);
  if (wait !== null) {
    const clock = h("p", { class: "wait" });
    countDown(clock, wait);
    children.push(clock);
  } else if (status === 429) {
    children.push(h("p", { class: "wait" },
      "The server did not say when it would pass: take out actions, or run it again later."));
  }
  present(h("section", { class: `whole ${family(status)}`, "aria-label": "The whole batch" }, ...children));
  announce(`${status} ${REASONS[status] ?? ""}. ${messages.join(" ")} ${advice.textContent}`);
}

/** Show why there is no answer that could be shown. */
function showProblem(title, text) {
  present(h("section", { class: "whole failed", "aria-label": "The whole batch" },
    h("h3", {}, title), h("p", { class: "advice" }, text)));
  announce(`${title}. ${text}`);
}
