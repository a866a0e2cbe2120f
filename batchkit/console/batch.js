// The batch: its actions as a person writes them, and the JSON, the fragment and the faults that follow from them.

/** What the server told of itself. */
const known = JSON.parse($("known").textContent);

/** The URL of the batch, as this browser knows it. */
const batchUrl = location.origin + location.pathname;

/** An action: `path` may hold parameters, {gid}, whose `values` are filled in; `data` and `options` are JSON texts. */
function newAction({ method = "GET", path = "", values = {}, data = "", options = "" } = {}) {
  return { method, path, values: { ...values }, data, options };
}

const PARAMETER = /\{([A-Za-z_]\w*)(?::(\w+))?\}/g;

/** The names of a path's parameters. */
function parametersOf(path) {
  return [...new Set(Array.from(path.matchAll(PARAMETER), (match) => match[1]))];
}

/** The path with its parameters filled in, encoded so that each stays what it is. */
function relativePath(action) {
  return action.path.replace(PARAMETER, (template, name, convertor) => {
    const value = action.values[name] ?? "";
    if (value === "") return template;
    return convertor === "path" ? value.split("/").map(encodeURIComponent).join("/") : encodeURIComponent(value);
  });
}

/** What is wrong with an action, by the name of the field; only what no server could make sense of. */
function faultsOf(action) {
  const faults = {};
  if (action.path.trim() === "") faults.path = "Give a path, such as /tasks";
  for (const name of parametersOf(action.path)) {
    if (!action.values[name]) faults[`{${name}}`] = `Fill in ${name}`;
  }
  for (const name of ["data", "options"]) {
    const fault = faultOfObject(action[name]);
    if (fault) faults[name] = fault;
  }
  return faults;
}

function faultOfObject(text) {
  if (text.trim() === "") return null;
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && !Array.isArray(value) ? null : 'Give an object, such as {"name": "…"}';
  } catch (error) {
    return error.message;
  }
}

/** The JSON of an action; its data and options stand in it as they were written. */
function actionJson(action) {
  const fields = [
    `"method":${JSON.stringify(action.method.toLowerCase())}`,
    `"relative_path":${JSON.stringify(relativePath(action))}`,
  ];
  for (const name of ["data", "options"]) {
    if (action[name].trim() !== "") fields.push(`"${name}":${compact(action[name])}`);
  }
  return `{${fields.join(",")}}`;
}

/** The JSON of a batch, a line for each action. */
function batchJson(actions) {
  return `{"data":{"actions":[\n  ${actions.map(actionJson).join(",\n  ")}\n]}}`;
}

/** The value of the Authorization field: a bare token is a bearer token. */
function authorization() {
  const value = $("authorization").value.trim();
  return value === "" || value.includes(" ") ? value : `Bearer ${value}`;
}

/** Whether a header field can hold what was typed. */
function authorizationFits() {
  return /^[\x20-\x7e]*$/.test($("authorization").value);
}

/** The batch as the fragment of a URL. The authorization is no part of it. */
function toFragment(actions) {
  const utf8 = new TextEncoder().encode(JSON.stringify({ actions }));
  const binary = Array.from(utf8, (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The actions of a fragment. Throws for anything else: a link may come from anyone. */
function fromFragment(fragment) {
  const binary = atob(fragment.replaceAll("-", "+").replaceAll("_", "/"));
  const utf8 = Uint8Array.from(binary, (sign) => sign.charCodeAt(0));
  const { actions } = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(utf8));
  if (actions.length > known.limit) throw new RangeError("Too many actions");
  return actions.map(({ method, path, values = {}, data = "", options = "" }) => {
    const texts = [path, data, options, ...Object.values(values)];
    if (!METHODS.includes(method) || texts.some((text) => typeof text !== "string")) throw new TypeError("No action");
    // Each of its parameters would be a field to fill in.
    if (path.length > LONGEST_PATH) throw new RangeError("Too long a path");
    return newAction({ method, path, values, data, options });
  });
}

/** What the page starts with: up to three reads that need no filling in, so that there is a batch to run and to look at. */
function firstActions() {
  const templates = Object.entries(known.routes).filter(([, methods]) => methods.includes("GET"));
  const ready = templates.filter(([template]) => parametersOf(template).length === 0);
  const [first] = Object.entries(known.routes);
  if (ready.length > 0) return ready.slice(0, Math.min(3, known.limit)).map(([path]) => newAction({ path }));
  return [newAction(first && { path: first[0], method: first[1][0] })];
}
