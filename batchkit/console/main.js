// The page at work: run, copy, share.

let running = null;

async function run() {
  if (running !== null) {
    running.abort();
    return;
  }
  if (!checkAll()) return;
  if (!authorizationFits()) {
    $("authorization").focus();
    return;
  }
  const actions = composed().map(newAction);
  const body = batchJson(actions);
  running = new AbortController();
  $("run").classList.add("running");
  $("run-label").textContent = "Stop waiting";
  $("answer").setAttribute("aria-busy", "true");
  announce(`Running ${actions.length} actions`);
  try {
    await ask(actions, body, running.signal);
  } catch (error) {
    if (error.name === "AbortError") {
      showProblem("Stopped", "Nobody waits for the answer any more. Actions that had begun run to their end on the server.");
    } else {
      showProblem("No answer", "The server could not be reached, or the connection broke. Whether anything ran is not known.");
    }
  } finally {
    running = null;
    $("run").classList.remove("running");
    $("run-label").textContent = "Run";
    $("answer").removeAttribute("aria-busy");
  }
}

async function ask(actions, body, signal) {
  const headers = { Accept: "application/json" };
  if (authorization() !== "") headers.Authorization = authorization();
  const since = performance.now();
  const answer = await post(fetch, location.pathname, body, headers, { signal });
  if (answer.type === "opaqueredirect") {
    showProblem("Redirected",
      "The server sends the batch elsewhere, to a login perhaps. Sign in, or fill in Authorization, and run again.");
    return;
  }
  const text = await answer.text();
  const roundTrip = performance.now() - since;
  if (answer.status !== 200) {
    showWhole({ status: answer.status, retryAfter: answer.headers.get("Retry-After"), text });
    return;
  }
  let results;
  try {
    results = await readResults(text);
    if (results.length !== actions.length) throw new SyntaxError("Not one result per action");
  } catch {
    showWhole({ status: 200, retryAfter: null, text });
    return;
  }
  await showResults(actions, results, readTiming(answer.headers.get("Server-Timing")), roundTrip);
}

/** Put a text onto the clipboard, where the browser allows that. */
async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    announce(`${what} copied`);
    return true;
  } catch {
    announce(`${what}: this browser copies only over HTTPS or on localhost; select it by hand`);
    return false;
  }
}

async function showSnippet(name, button) {
  const wasShown = button.getAttribute("aria-expanded") === "true";
  for (const each of $("snippets").children) each.setAttribute("aria-expanded", "false");
  $("snippet").hidden = wasShown;
  if (wasShown || !checkAll()) {
    $("snippet").hidden = true;
    return;
  }
  const text = name === "link" ? shareLink() : SNIPPETS[name](composed());
  button.setAttribute("aria-expanded", "true");
  $("snippet-text").textContent = text;
  const done = await copy(text, name === "link" ? "The link" : name);
  const said = done ? "Copied." : "Select and copy by hand:";
  $("snippet-note").textContent = name === "link" ? `${said} It holds the batch, never the authorization.` : said;
}

/** The URL of this page with this batch. It stands in the address bar as well. */
function shareLink() {
  history.replaceState(null, "", `#${toFragment(composed())}`);
  return location.href;
}

/** Take over the batch of the fragment; it runs only when a person says so. */
function loadFragment() {
  if (location.hash.length < 2) return false;
  const notice = $("notice");
  notice.hidden = false;
  try {
    const actions = fromFragment(location.hash.slice(1));
    compose(actions);
    notice.textContent = "This batch came with the link. Look at it before you run it.";
    return true;
  } catch {
    notice.textContent = "The link holds no batch that this server could take.";
    return false;
  }
}

function dark() {
  const { theme } = document.documentElement.dataset;
  return theme === undefined ? matchMedia("(prefers-color-scheme: dark)").matches : theme === "dark";
}

function showTheme() {
  $("theme").textContent = dark() ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", `Switch to the ${dark() ? "light" : "dark"} theme`);
}

document.title = `${location.pathname} · batchkit`;
$("url").textContent = location.pathname;
$("limit").textContent = known.limit === 1 ? "One request" : `Up to ${known.limit} requests`;
$("base").textContent = known.base || "/";
if (!loadFragment()) compose(firstActions());
showTheme();

$("add").addEventListener("click", () => insert(cards.length));
$("run").addEventListener("click", run);
$("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  showTheme();
});
$("reveal").addEventListener("click", () => {
  const shown = $("authorization").classList.toggle("shown");
  $("reveal").textContent = shown ? "Hide" : "Show";
});
$("authorization").addEventListener("input", () => {
  $("authorization-fault").hidden = authorizationFits();
  $("authorization").setAttribute("aria-invalid", String(!authorizationFits()));
});
for (const button of $("snippets").children) button.addEventListener("click", () => showSnippet(button.dataset.name, button));
addEventListener("hashchange", loadFragment);
addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (running === null) run();
  }
});
