"""Requests made through the transport are answered as without it: generated ones, by a real server, in both dialects.

"Parity: a generated set of requests gives equal responses with and without the transport (hypothesis, real uvicorn), both
dialects." The app tells all that it saw of a request, so that equal responses mean equal requests as well.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from batchkit import BatchEndpoint, batchable, current_action
from batchkit.client import AsyncBatchTransport, BatchTransport
from tests.servers import TLS, serving

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
BASE = "/api/1.0"
# An action has none of these, alone or not.
WITHHELD = {b"accept-encoding", b"connection"}


@batchable
async def tell(request: Request) -> Response:
    """Answers in the way that the path says."""
    scope = request.scope
    seen = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "body": (await request.body()).decode("latin-1"),
        "headers": sorted([name.decode(), value.decode("latin-1")] for name, value in scope["headers"] if name not in WITHHELD),
    }
    text = json.dumps(seen, ensure_ascii=False)
    headers = {"x-seen": json.dumps(seen), "x-action": str(current_action(scope) is not None)}
    match request.path_params["kind"]:
        case "text":
            return Response(text, headers=headers, media_type="text/plain")
        case "latin":
            return Response(text.encode("latin-1", "replace"), 203, headers, "text/html; charset=iso-8859-1")
        case "binary":
            return Response(b"\xff\x00" + text.encode(), headers=headers, media_type="image/png")
        case "not-json":
            return Response(text[1:], headers=headers, media_type="application/json")
        case "string":
            return Response(json.dumps(text), 404, headers, "application/json")
        case "spaced":
            return Response(b'{ "a" : [1.10, 1E5, 12345678901234567890123 ],\n "\\u00e9": {} }', 409, headers, "application/json")
        case "braces":
            return Response(b"{}", headers=headers, media_type="application/json")
        case "nothing":
            return Response(status_code=204, headers=headers)
        case "empty":
            return Response(status_code=202, headers=headers)
        case "moved":
            return Response(status_code=307, headers=headers | {"location": "/elsewhere"})
    return Response(text, 201, headers | {"location": "/here", "link": "<a>, <b>"}, "application/json")


async def closed(request: Request) -> Response:
    return Response(b"closed", headers={"x-action": str(current_action(request.scope) is not None)})


def served(dialect: Literal["asana", "plain"]) -> Starlette:
    routes = [
        Route(f"{BASE}/closed/{{rest}}", closed),
        Route(f"{BASE}/tasks/{{gid}}/{{kind}}", tell, methods=METHODS),
        Route(f"{BASE}/{{kind}}/{{rest:path}}", tell, methods=METHODS),
        Route(f"{BASE}/{{kind}}/", tell),
    ]
    return BatchEndpoint(dialect=dialect, result_headers="*").mount_to(Starlette(routes=routes), f"{BASE}/batch")


@dataclass(frozen=True)
class Served:
    dialect: Literal["asana", "plain"]
    url: str

    def batch(self) -> str:
        return f"{self.url}{BASE}/batch"


@pytest.fixture(scope="module", params=["asana", "plain"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    dialect: Literal["asana", "plain"] = request.param
    with serving(served(dialect)) as url:
        yield Served(dialect, url)


KINDS = ["json", "text", "latin", "binary", "not-json", "string", "spaced", "braces", "nothing", "empty", "moved"]
RESTS = ["1", "a%20b", "é", "a%2Fb", "x;y=1", "%2e%2e/z", "..;/z", "a//b", "", "%ff", "a:b@c", "%5c", "%00", "~a!b", "x" * 2000]
paths = st.builds("{}/{}/{}".format, st.just(BASE), st.sampled_from(KINDS), st.sampled_from(RESTS)) | st.sampled_from(
    [f"{BASE}/closed/1", f"{BASE}/tasks/1/json", f"{BASE}/json", "/nowhere", f"{BASE}x/1", f"{BASE}/", f"{BASE}/batch", "/"]
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(["true", "1", "01", "a,b", "a b+c", "10"])
names = (
    st.sampled_from(["limit", "offset", "opt_fields", "opt_expand", "opt_pretty", "fields", "expand", "data", "", "é"]) | texts
)
queries = st.lists(st.tuples(names, texts), max_size=4)
raw_queries = st.sampled_from(
    ["", "?", "?a", "?a=b c", "?a=%20&b=+", "?limit=3&a=1", "?a=1&limit=3", "?a=%ff", "?a=1&&b=2", "?%61=1"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
BODIES: list[dict[str, Any]] = [
    {},
    {"content": b'{"data":{}}'},
    {"content": b'{"data":{}}', "headers": {"content-type": "application/json"}},
    {"content": b'{"data": {"a": 1.10}}', "headers": {"content-type": "application/json"}},
    {"content": b'{"data":{"a" : 1.10, "a":2 }}', "headers": {"content-type": "application/json"}},
    {"content": b'{"data":{"a":1},"data":{"b":1}}', "headers": {"content-type": "application/json"}},
    {"content": b'{"data":{"a":NaN}}', "headers": {"content-type": "application/json"}},
    {"content": b'{"data":{}} ', "headers": {"content-type": "application/json"}},
    {"content": b'{"data":{}}', "headers": {"content-type": "application/json; charset=utf-8"}},
    {"content": b'{"data":{"a":"\xff"}}', "headers": {"content-type": "application/json"}},
    {"data": {"a": "1"}},
    # Without a boundary in its content-type httpx2 makes a random one.
    {"files": {"a": ("a.txt", b"1")}},
    {"files": {"a": ("a.txt", b"1")}, "headers": {"content-type": "multipart/form-data; boundary=x"}},
]
FIELDS: list[dict[str, str]] = [
    {"range": "bytes=0-1"},
    {"if-none-match": '"1"'},
    {"Idempotency-Key": "1"},
    {"x-idempotency-key": "1"},
    {"X_Http_Method_Override": "DELETE"},
    {"x-http-method-override": "DELETE"},
    {"content-language": "de"},
    {"content-type": "application/json"},
    {"accept": "application/json"},
    {"accept": "text/event-stream"},
    {"expect": "200-ok"},
    {"te": "trailers"},
    {"connection": "close"},
    {"X-Tenant": "a, b"},
    {"authorization": "Bearer x"},
]
bodies = st.sampled_from(BODIES) | st.fixed_dictionaries({"json": st.fixed_dictionaries({"data": values}) | values})
Drawn = tuple[str, str, dict[str, Any]]


def with_field(keywords: dict[str, Any], field: dict[str, str]) -> dict[str, Any]:
    return keywords | {"headers": keywords.get("headers", {}) | field}


@st.composite
def requests(draw: st.DrawFn) -> Drawn:
    method = draw(st.sampled_from([*METHODS, "OPTIONS"]))
    keywords = draw(bodies if method in ("POST", "PUT", "PATCH") else st.just({}) | bodies)
    if draw(st.sampled_from([False] * 4 + [True])):
        # A server that is to hang up, and answers without reading the body, may do so before the client has read the answer.
        fields = [field for field in FIELDS if not keywords or "connection" not in field]
        keywords = with_field(keywords, draw(st.sampled_from(fields)))
    path = draw(paths)
    if draw(st.booleans()):
        return method, path + draw(raw_queries), keywords
    return method, path, keywords | {"params": draw(queries)}


ordinary: st.SearchStrategy[Drawn] = st.builds(
    lambda method, kind, query, data: (
        method,
        f"{BASE}/{kind}/1",
        {"json": {"data": data}} if method in ("POST", "PUT", "PATCH") else {"params": query},
    ),
    st.sampled_from(METHODS),
    st.sampled_from(KINDS),
    st.dictionaries(
        st.sampled_from(["a", "é", "limit", "opt_fields"]), st.sampled_from(["1", "a b,c", "é", "true", ""]), max_size=2
    ),
    st.dictionaries(texts, values, max_size=3),
)
many = given(st.builds(list.__add__, st.lists(ordinary, min_size=6, max_size=10), st.lists(requests(), max_size=6)))
# Seldom drawn: uploads with each field, also one that takes the place of their own content-type, and the boundary with it.
uploads = example([("POST", f"{BASE}/json/1", with_field(body, field)) for body in BODIES[-2:] for field in [{}, *FIELDS]])
# Not shrunk: that takes minutes with a server. Seeded below, so that each way has examples of its own, and always the same ones.
thorough = settings(max_examples=10, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
# In seconds: all of them share the window, however busy the machine is.
WINDOW = 0.1
travelled: Counter[str] = Counter()


def build(client: httpx2.Client | httpx2.AsyncClient, drawn: list[Drawn], url: str) -> list[httpx2.Request]:
    """Once for both ways, as a boundary may be random; sent alone first, so that the transport cannot change what is."""
    return [client.build_request(method, url + path, **keywords) for method, path, keywords in drawn]


def check(request: httpx2.Request, through: httpx2.Response, alone: httpx2.Response, *, lines: bool) -> None:
    """``through`` the transport is what it was ``alone``, but for what the transport's documentation says."""
    in_batch = through.headers.get("x-action") == "True"
    travelled["in a batch" if in_batch else "alone"] += 1
    ours, theirs = kept(through), kept(alone)
    content, expected = through.content, alone.content
    if in_batch and not expected and alone.status_code == 202 and request.method != "HEAD":
        # "an empty answer is {}, but for HEAD, 204, 304 and redirects"
        expected, theirs["content-type"] = b"{}", "application/json"
    elif lines and content != expected:
        # "in a streamed answer it has no spaces between its tokens"
        expected = msgspec.json.format(expected, indent=-1)
    if request.method == "HEAD" and "content-type" not in ours:
        # "that of a HEAD says neither type nor length"
        theirs.pop("content-type", None)
    assert (through.status_code, content, ours) == (alone.status_code, expected, theirs), request


def kept(response: httpx2.Response) -> dict[str, str]:
    mine = ("date", "connection", "transfer-encoding", "content-length", "x-action")
    return {name: value for name, value in response.headers.items() if name not in mine}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_are_answered_as_without_the_transport(server: Served, backend: str, stream: bool) -> None:
    async def compare(drawn: list[Drawn]) -> None:
        transport = AsyncBatchTransport(
            httpx2.AsyncHTTPTransport(verify=TLS), url=server.batch(), dialect=server.dialect, window=WINDOW, stream=stream
        )
        async with (
            httpx2.AsyncClient(transport=transport, timeout=60) as client,
            httpx2.AsyncClient(timeout=60, verify=TLS) as plain,
        ):
            sent = build(plain, drawn, server.url)
            alone = [await plain.send(request) for request in sent]
            answers: dict[int, httpx2.Response] = {}

            async def send(index: int, request: httpx2.Request) -> None:
                answers[index] = await client.send(request)

            async with anyio.create_task_group() as tasks:
                for index, request in enumerate(sent):
                    tasks.start_soon(send, index, request)
            for index, request in enumerate(sent):
                check(request, answers[index], alone[index], lines=stream)

    @thorough
    @seed(f"{server.dialect} {backend} {stream}")
    @uploads
    @many
    def run(drawn: list[Drawn]) -> None:
        anyio.run(compare, drawn, backend=backend)

    travelled.clear()
    run()
    assert travelled["in a batch"] > 30, travelled


@pytest.mark.parametrize("stream", [True, False])
def test_threads_are_answered_as_without_the_transport(server: Served, stream: bool) -> None:
    @thorough
    @seed(f"{server.dialect} {stream}")
    @uploads
    @many
    def run(drawn: list[Drawn]) -> None:
        transport = BatchTransport(
            httpx2.HTTPTransport(verify=TLS), url=server.batch(), dialect=server.dialect, window=WINDOW, stream=stream
        )
        with httpx2.Client(transport=transport, timeout=60) as client, httpx2.Client(timeout=60, verify=TLS) as plain:
            sent = build(plain, drawn, server.url)
            alone = [plain.send(request) for request in sent]
            with ThreadPoolExecutor(len(drawn)) as threads:
                answers = threads.map(client.send, sent)
                for request, through, expected in zip(sent, answers, alone, strict=True):
                    check(request, through, expected, lines=stream)

    travelled.clear()
    run()
    assert travelled["in a batch"] > 30, travelled
