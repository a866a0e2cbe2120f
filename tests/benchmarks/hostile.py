"""What it costs to answer hostile requests: a mebibyte of body or of header, each made to be dear in its own way."""

from __future__ import annotations

import time
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchkit import BatchEndpoint, batchable
from tests.asgi import Answer, request
from tests.batches import JSON, Headers

MIB = 2**20

# In milliseconds of CPU, at the defaults.
MOST = 100
# What ten times as many actions may cost more: ten times, and what a measurement is off. Below so much it is mostly off.
MOST_GROWTH = 12
WORTH_MEASURING = 5


class Hostile(NamedTuple):
    """A request to the batch endpoint."""

    body: bytes = b""
    fields: Headers = (JSON,)
    method: str = "POST"
    query: bytes = b""

    async def to(self, app: Starlette) -> Answer:
        """Send it to ``app``. Its own fields come before the usual one, so that whoever looks for that meets them first."""
        fields = [*self.fields, (b"host", b"localhost")]
        return await request(app, self.method, "/batch", query=self.query, headers=fields, body=self.body)


@batchable
async def get_task(request: Request) -> Response:
    return JSONResponse({"data": {"gid": request.path_params["gid"]}})


@batchable(schema={"properties": {"tags": {"type": "array", "items": {"type": "string"}}}})
async def checked(request: Request) -> Response:
    return Response()


def host(actions: int) -> Starlette:
    """A host with all that a batch endpoint can answer, and batches of up to so many actions."""
    app = Starlette(routes=[Route("/tasks/{gid}", get_task), Route("/checked", checked, methods=["POST"])])
    return BatchEndpoint(max_actions=actions, console=True, client_js=True).mount_to(app)


def requests(actions: int = 10, size: int = MIB) -> dict[str, Hostile]:
    """Requests with just under ``size`` bytes of body or of header, and up to ``actions`` actions, by what is dear about each."""
    of_body = {name: Hostile(body) for name, body in bodies(actions, size).items()}
    batch = many("", actions, size)
    of_fields = {
        name: Hostile(batch, fields if "Content-Type" in name else [*fields, JSON]) for name, fields in headers(size).items()
    }
    page = b"text/html, application/json;q=0.1," + b"," * size
    of_gets = {
        "an Accept for the page, of a mebibyte": Hostile(fields=[(b"accept", page)], method="GET"),
        "an If-None-Match of a mebibyte": Hostile(
            fields=[(b"if-none-match", b'"",' * (size // 3))], method="GET", query=b"client.js"
        ),
        "a query of a mebibyte": Hostile(method="GET", query=b"client.js=" + b"=" * size),
        "a method of a mebibyte": Hostile(batch, method="X" * size),
    }
    return of_body | of_fields | of_gets


def headers(size: int) -> dict[str, Headers]:
    """Header fields of just under ``size`` bytes for a batch that is well-formed."""

    def fill(name: bytes, start: bytes, item: bytes) -> Headers:
        return [(name, start + item * ((size - len(start)) // len(item)))]

    def repeat(name: bytes, value: bytes) -> Headers:
        # On the wire each takes a colon and a line break besides.
        return [(name, value)] * (size // (len(name) + len(value) + 3))

    lines = b"application/x-ndjson,"
    return {
        "an Accept of commas": fill(b"accept", lines, b","),
        "an Accept of semicolons": fill(b"accept", lines[:-1], b";"),
        "an Accept of weights": fill(b"accept", lines, b"application/jsonl;q=2,"),
        "an Accept of quotes": fill(b"accept", lines + b'a/b;c="', b'\\"'),
        "an Accept in many fields": repeat(b"accept", lines),
        "a Content-Type of parameters": fill(b"content-type", b"application/json", b";"),
        "a Content-Type of charsets": fill(b"content-type", b"application/json", b";charset=utf-8"),
        "a Content-Type of pluses": fill(b"content-type", b"application/a", b"+"),
        "a Content-Type in many fields": repeat(b"content-type", b"application/json"),
        "a Content-Encoding in many fields": repeat(b"content-encoding", b"identity"),
        "a Content-Length of digits": fill(b"content-length", b"", b"9"),
        "a Content-Length in many fields": repeat(b"content-length", b"1"),
        "a cookie": fill(b"cookie", b"a=", b"; a="),
        "a token": fill(b"authorization", b"Bearer ", b" "),
        "a host": fill(b"host", b"", b"a."),
        "many fields before the host": repeat(b"a", b"b"),
        "a trace": fill(b"traceparent", b"00-", b"-"),
    }


def many(more: str, actions: int, size: int, method: str = "get", path: str = "/tasks/1") -> bytes:
    """A batch of as many actions as may be, and fit, with these members each."""
    one = f'{{"relative_path":"{path}","method":"{method}"{more and ","}{more}}}'
    count = min(actions, (size - 24) // (len(one) + 1))
    return ('{"data":{"actions":[' + ",".join([one] * count) + "]}}").encode()


def bodies(actions: int, size: int) -> dict[str, bytes]:
    """Bodies of just under ``size`` bytes."""
    # What each of the actions has for itself.
    share = size // actions - 100

    def fill(start: str, item: str, end: str, length: int = size) -> str:
        return start + item * ((length - len(start) - len(end)) // len(item)) + end

    def each(start: str, item: str, end: str, most: int = size, method: str = "get", path: str = "/tasks/1") -> bytes:
        return many(fill(start, item, end, min(share, most)), actions, size, method, path)

    def beside(filler: str, action: str) -> bytes:
        """Actions that each need a reason, in a batch that has much besides."""
        listed = ",".join([action] * actions)
        start, end = '{"options":', f',"data":{{"actions":[{listed}]}}}}'
        return (start + fill(filler, '"",', '""]', size - len(start) - len(end)) + end).encode()

    keys = ",".join(f'"k{index:06}":1' for index in range(size // 13))
    action = '{"data":{"actions":[{"relative_path":"/tasks/1","method":"get",'
    texts = {
        "empty actions": fill('{"data":{"actions":[0', ",0", "]}}"),
        "empty objects as actions": fill('{"data":{"actions":[{}', ",{}", "]}}"),
        "deep arrays": fill("", "[", ""),
        "deep arrays in data": fill(action + '"data":{"a":', "[", ""),
        "deep arrays, closed": action + '"data":{"a":' + "[" * 900 + "]" * 900 + "}}]}}",
        "unknown keys at the top": "{" + keys + "}",
        "unknown keys in an action": action + keys + "}]}}",
        "wrong fields": fill(action + '"options":{"fields":[0', ",0", "]}}]}}"),
        "wrong fields, nested": fill(action + '"options":{"fields":[{}', ",[]", "]}}]}}"),
        "a method of a mebibyte": fill('{"data":{"actions":[{"relative_path":"/","method":"', "x", '"}]}}'),
        "a path of a mebibyte": fill('{"data":{"actions":[{"method":"get","relative_path":"', "/..", '"}]}}'),
        "an ordinary path of a mebibyte": fill('{"data":{"actions":[{"method":"get","relative_path":"', "/a", '?"}]}}'),
        "a path that is an array": fill('{"data":{"actions":[{"method":"get","relative_path":[0', ",0", "]}]}}"),
        "a query of a mebibyte": action + '"data":{' + keys + "}}]}}",
        "a query array": fill(action + '"data":{"a":[0', ",0", "]}}]}}"),
        "escapes": fill(action + '"data":{"a":"', "\\u00e9", '"}}]}}'),
        "digits": fill(action + '"data":{"a":', "9", "}}]}}"),
        "digits in options": fill(action + '"options":{"limit":', "9", "}}]}}"),
        "an exponent": fill(action + '"data":{"a":1e', "9", "}}]}}"),
        "white space": fill("", " ", ""),
    }
    return {name: text.encode() for name, text in texts.items()} | {
        "not UTF-8": b"\xff" * (size - 1),
        "actions, each wrong at its end": each('"options":{"fields":[', '"",', "1]}"),
        "actions, each just short enough to explain": each('"options":{"fields":[', '"",', "1]}", 1800),
        "actions with unknown keys": many(
            ",".join(f'"{index}":0' for index in range(max(1, min(share, 1800) // 8))), actions, size
        ),
        "actions of an unknown method, beside small tokens": beside("[", '{"relative_path":"/","method":"x"}'),
        "actions with data of the wrong type, beside small tokens": beside("[", '{"relative_path":"/","method":"get","data":[]}'),
        "actions with keys twice, beside small tokens": beside("[", '{"relative_path":0,"relative_path":"/","method":"get"}'),
        "actions with long queries": each('"data":{"a":[', '"/",', '"/"]}', 16_000),
        "actions with long lists of options": each('"options":{"fields":[', '"/////////////",', '""]}', 15_000),
        "actions with bodies for a schema": each('"data":{"tags":[', "{},", "{}]}", 3000, "post", "/checked"),
        "actions with large bodies for a schema": each('"data":{"tags":[', "{},", "{}]}", size, "post", "/checked"),
        "ordinary actions": many("", actions, size),
    }


async def dearest(actions: int = 10) -> list[tuple[float, int, str]]:
    """The CPU time of each in milliseconds, the best of three, with the batch's status; the dearest first."""
    app, rows = host(actions), []
    await Hostile(many("", actions, MIB)).to(app)
    for name, hostile in requests(actions).items():
        assert len(hostile.body) <= MIB, name
        times = []
        for _ in range(3):
            before = time.process_time()
            answer = await hostile.to(app)
            times.append(time.process_time() - before)
        rows.append((min(times) * 1000, answer.status, name))
    return sorted(rows, reverse=True)


async def growth(rows: list[tuple[float, int, str]]) -> list[tuple[float, str]]:
    """How many times as much as in ``rows`` each costs where batches are ten times as large; the steepest first."""
    before = {name: milliseconds for milliseconds, _, name in rows}
    after = [(milliseconds, name) for milliseconds, _, name in await dearest(100) if milliseconds > WORTH_MEASURING]
    return sorted(((milliseconds / before[name], name) for milliseconds, name in after), reverse=True)
