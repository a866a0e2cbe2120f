// The batch as a command or a program. The token that was typed in never stands in one.

/** The Authorization of a snippet, `Bearer $TOKEN`; empty where none is given. */
function placeholder(name) {
  const value = authorization();
  if (value === "") return "";
  const [scheme] = value.match(/^(Bearer|Basic|Token|Negotiate)(?= )/i) ?? ["Bearer"];
  return `${scheme} ${name}`;
}

function shellWord(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function asCurl(actions) {
  const lines = [`curl -g ${shellWord(batchUrl)}`, "-H 'Content-Type: application/json'"];
  if (placeholder("$TOKEN")) lines.push(`-H "Authorization: ${placeholder("$TOKEN")}"`);
  lines.push(`--data-raw ${shellWord(batchJson(actions))}`);
  return lines.join(" \\\n  ");
}

/** A JSON text as a Python expression. */
function asPython(text) {
  const words = { true: "True", false: "False", null: "None" };
  return Array.from(tokensOf(text), ([kind, token]) => {
    // Pairs of surrogates and \/ are escapes of JSON alone.
    if (kind === "name" || kind === "string") return JSON.stringify(JSON.parse(token));
    return kind === "sign" ? { ",": ", ", ":": ": " }[token] ?? token : words[token] ?? token;
  }).join("");
}

function pythonBatch(actions) {
  const entries = actions.map((action) => `    ${asPython(actionJson(action))},\n`);
  return `actions = [\n${entries.join("")}]\n`;
}

/** With Asana's official client, which posts to /batch below its host; for another API with what Python has. */
function asPythonProgram(actions) {
  const token = placeholder("");
  if (known.dialect === "asana" && batchUrl.endsWith("/batch") && (token === "" || token === "Bearer ")) {
    const login = token && '\nconfiguration.access_token = os.environ["TOKEN"]';
    return `${token && "import os\n\n"}import asana  # pip install asana

${pythonBatch(actions)}
configuration = asana.Configuration()
configuration.host = ${JSON.stringify(batchUrl.slice(0, -"/batch".length))}${login}
batch_api = asana.BatchAPIApi(asana.ApiClient(configuration))
for result in batch_api.create_batch_request({"data": {"actions": actions}}, {}):
    print(result["status_code"], result["body"])
`;
  }
  const field = token && `, "Authorization": ${JSON.stringify(token)} + os.environ["TOKEN"]`;
  return `import json
${token && "import os\n"}from urllib.request import Request, urlopen

${pythonBatch(actions)}
body = json.dumps({"data": {"actions": actions}}).encode()
request = Request(${JSON.stringify(batchUrl)}, body, {"Content-Type": "application/json"${field}})
with urlopen(request) as answer:
    for result in json.load(answer)["data"]:
        print(result["status_code"], result["body"])
`;
}

function asFetch(actions) {
  const body = batchJson(actions);
  // JavaScript has no integers beyond 2 ** 53 and takes __proto__ for more than a name: then the text itself is sent.
  const same = JSON.stringify(JSON.parse(body)) === compact(body) && !body.includes("__proto__");
  const token = placeholder("");
  const field = token && `, Authorization: ${JSON.stringify(token)} + TOKEN`;
  return `${token && 'const TOKEN = "";  // yours\n'}const answer = await fetch(${JSON.stringify(batchUrl)}, {
  method: "POST",
  headers: { "Content-Type": "application/json"${field} },
  body: ${same ? `JSON.stringify(${body.replaceAll("\n", "\n  ")})` : JSON.stringify(body)},
});
const results = (await answer.json()).data;
`;
}

const SNIPPETS = { curl: asCurl, Python: asPythonProgram, fetch: asFetch };
