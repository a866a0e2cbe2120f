// JSON as text. What a handler wrote is shown as it wrote it, big integers and spelling of numbers included, so nothing here
// goes through JSON.parse and back.

// A string without its end is one all the same: to look for the end again from within it would take quadratic time.
const TOKEN = /"[^"\\]*(?:\\[^][^"\\]*)*"?|[{}[\],:]|[^\s{}[\],:"]+/g;
const LONGEST_PIECE = 1000;

/** The tokens of a JSON text, each with its kind. */
function* tokensOf(text) {
  let token = null;
  for (const [next] of text.matchAll(TOKEN)) {
    if (token !== null) yield [kindOf(token, next), token];
    token = next;
  }
  if (token !== null) yield [kindOf(token, ""), token];
}

function kindOf(token, next) {
  if (token[0] === '"') return next === ":" ? "name" : "string";
  return "{}[],:".includes(token) ? "sign" : "literal";
}

/** A JSON text laid out in lines: pieces of [kind, text], made as they are asked for. */
function* laidOut(text) {
  let depth = 0;
  let opened = false;
  for (const [kind, token] of tokensOf(text)) {
    const closes = token === "}" || token === "]";
    if (closes) depth--;
    if ((opened && !closes) || (!opened && closes)) yield ["sign", "\n" + "  ".repeat(depth)];
    opened = token === "{" || token === "[";
    if (opened) depth++;
    if (kind === "sign") yield [kind, token === "," ? ",\n" + "  ".repeat(depth) : token === ":" ? ": " : token];
    else for (const [, piece] of inPieces(token)) yield [kind, piece];
  }
}

/** Plain text in pieces of a length that can be shown at once. */
function* inPieces(text) {
  for (let at = 0; at < text.length; at += LONGEST_PIECE) yield ["text", text.slice(at, at + LONGEST_PIECE)];
}

/** A JSON text on one line, without space between its tokens. */
function compact(text) {
  return Array.from(tokensOf(text), ([, token]) => token).join("");
}
