// JSON as text. What a handler wrote is shown as it wrote it, big integers and spelling of numbers included, so nothing here
// goes through JSON.parse and back.

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

function expect(text, at, sign) {
  at = skipSpace(text, at);
  if (text[at] !== sign) throw new SyntaxError(`${sign} is missing`);
  return skipSpace(text, at + 1);
}

/** The members of the object at `at`: [name, start, end] of each. */
function* membersOf(text, at) {
  at = expect(text, at, "{");
  while (text[at] !== "}") {
    const end = endOfString(text, at);
    const start = expect(text, end, ":");
    const after = endOfValue(text, start);
    yield [JSON.parse(text.slice(at, end)), start, after];
    at = skipSpace(text, after);
    if (text[at] !== "}") at = expect(text, at, ",");
  }
}

/** The starts of the items of the array at `at`. Each is to be answered with its end, by whoever has read it. */
function* itemsOf(text, at) {
  at = expect(text, at, "[");
  while (text[at] !== "]") {
    at = skipSpace(text, yield at);
    if (text[at] !== "]") at = expect(text, at, ",");
  }
}

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
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
