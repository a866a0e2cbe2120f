"""Contract section 6, results as they come."""

from __future__ import annotations

import base64
import json
import logging
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import permutations
from typing import Any
from urllib.parse import unquote

import anyio
import httpx2
import pytest
import starlette
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchkit import Batch, BatchEndpoint, LimiterUnavailable, TooManyRequests, batchable
from batchkit.limiter import Concurrency, Limiter
from tests.asgi import Answer, request
from tests.batches import JSON, LINES, Headers, action, batch, envelope, lines, messages, post
from tests.hosts import Make, everywhere
from tests.servers import TLS, asking_for_lines, read_until, serving

pytestmark = pytest.mark.anyio


def hosting(*routes: BaseRoute, middleware: Any = (), **settings: Any) -> Starlette:
    app = Starlette(routes=list(routes), middleware=list(middleware))
    return BatchEndpoint(policy="all", **settings).mount_to(app)


class Client:
    """A client that takes what comes as it comes; ``reads`` is unset while it does not."""

    def __init__(self, *actions: Any, accept: bytes = b"application/x-ndjson", headers: Headers = ()) -> None:
        self.body = envelope(*actions)
        fields = [(b"host", b"testserver"), JSON, (b"accept", accept), *headers]
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "http",
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "state": {},
            "method": "POST",
            "path": "/batch",
            "raw_path": b"/batch",
            "root_path": "",
            "query_string": b"",
            "headers": fields,
        }
        self.sent: list[Message] = []
        self.reads = anyio.Event()
        self.reads.set()
        self.ended = False
        self.fails: Exception | None = None
        self._changed = anyio.Event()

    async def call(self, app: ASGIApp) -> None:
        await app(self.scope, self._receive, self._send)
        self.ended = True
        self._change()

    async def _receive(self) -> Message:
        if self.body:
            body, self.body = self.body, b""
            return {"type": "http.request", "body": body}
        await anyio.sleep_forever()
        raise AssertionError

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        self.sent.append(message)
        self._change()
        if self.fails is not None:
            raise self.fails

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, come: Callable[[], bool]) -> None:
        """Wait until ``come`` holds of what has come. Generous: nothing here takes long."""
        with anyio.fail_after(20):
            while not come():
                await self._changed.wait()

    @property
    def content(self) -> bytes:
        content = b"".join(message["body"] for message in self.sent[1:])
        coded = any((b"content-encoding", b"gzip") in message.get("headers", ()) for message in self.sent)
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(content) if coded else content

    @property
    def indices(self) -> list[int]:
        return [line["index"] for line in lines(self.content)]

    @property
    def complete(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body", True) is False


@asynccontextmanager
async def calling(app: ASGIApp, client: Client) -> AsyncIterator[Client]:
    """The call of one client, which must end by itself."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.call, app)
        yield client


async def stream(app: ASGIApp, *actions: Any, headers: Headers = ()) -> Answer:
    return await post(app, envelope(*actions), headers=[LINES, *headers])


class Gates:
    """A route ``/<index>`` for each action, which answers when it is let go, and knows who has begun and ended."""

    def __init__(self, number: int = 10) -> None:
        self.gates = [anyio.Event() for _ in range(number)]
        self.begun: list[int] = []
        self.ended: list[int] = []

    async def _answer(self, request: Request) -> Response:
        index = int(request.path_params["index"])
        self.begun.append(index)
        try:
            await self.gates[index].wait()
        finally:
            self.ended.append(index)
        return JSONResponse(index, headers={"set-cookie": f"c{index}=s3cret"})

    @property
    def route(self) -> Route:
        return Route("/{index:int}", self._answer)

    @property
    def actions(self) -> list[Any]:
        return [action(f"/{index}") for index in range(len(self.gates))]

    def open(self, *indices: int) -> None:
        for index in indices:
            self.gates[index].set()


async def hello(request: Request) -> Response:
    return JSONResponse({"accept": request.headers.getlist("accept")})


async def never(request: Request) -> Response:
    await anyio.sleep_forever()
    raise AssertionError


HELLO, NEVER = Route("/hello", hello), Route("/never", batchable(timeout=0.01)(never))


class Pass(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


# Who gets lines

NDJSON, JSONL, PLAIN = b"application/x-ndjson", b"application/jsonl", b"application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ([NDJSON], NDJSON),
        ([JSONL], JSONL),
        ([b"Application/X-NDJSON ; charset=utf-8"], NDJSON),
        ([b"application/jsonl;q=0.001"], JSONL),
        ([b"application/json, application/jsonl"], JSONL),
        ([b"application/json;q=0.5, application/x-ndjson;q=0.5"], NDJSON),
        ([b"application/x-ndjson;q=0.4, application/jsonl;q=0.5"], JSONL),
        ([b"application/x-ndjson;q=0.5,application/jsonl;q=0.4"], NDJSON),
        ([b"text/html, */*;q=0.1", b"application/x-ndjson"], NDJSON),
        ([b"application/json;q=0", b"application/jsonl;q=0.1"], JSONL),
        ([b"*/*, application/x-ndjson;q=0.1"], NDJSON),
        ([b",;,application/x-ndjson;;q=x,\xff"], NDJSON),
        ([], PLAIN),
        ([b""], PLAIN),
        ([b"*/*"], PLAIN),
        ([b"application/*"], PLAIN),
        ([b"application/json"], PLAIN),
        ([b"application/x-ndjson;q=0"], PLAIN),
        ([b"application/x-ndjson;q=0.000"], PLAIN),
        ([b"application/json, application/x-ndjson;q=0.9"], PLAIN),
        ([b"application/jsonl;q=0.2", b"application/json;q=0.3"], PLAIN),
        ([b"text/html"], PLAIN),
        ([b"application/x-ndjsonp", b"x-ndjson", b"application/jsonlines"], PLAIN),
        ([b"text/plain;x=application/x-ndjson"], PLAIN),
        ([b"\xff\x00;q=;q,q=1;;,,"], PLAIN),
    ],
)
async def test_who_prefers_lines_gets_them(accept: list[bytes], media_type: bytes) -> None:
    """“A client that prefers `application/x-ndjson` or `application/jsonl` in its `Accept` gets one line per result”, “”Prefers“: one
    of the two is named with a q above 0 and not below that of `application/json`; wildcards (`*/*`, `application/*`) never choose it.
    Everybody else gets the plain answer of section 5, unchanged.”, “`Content-Type` the one of the two that was asked for”"""
    answer = await post(hosting(HELLO), envelope(action("/hello")), headers=[(b"accept", value) for value in accept])
    assert answer.status == 200
    assert answer.all(b"content-type") == [media_type]
    if media_type == PLAIN:
        [result] = json.loads(answer.body)["data"]
        assert answer.all(b"content-length") == [b"%d" % len(answer.body)]
        assert result.pop("body") == {"accept": [value.decode("latin-1") for value in accept]}
    else:
        [result] = lines(answer.body)
        assert result.pop("index") == 0
        del result["body"]
    assert result == {"status_code": 200, "headers": {}}


@pytest.mark.parametrize(
    ("accept", "seen"),
    [
        ([NDJSON], ["*/*"]),
        ([b"application/x-ndjson, application/jsonl;q=0.5", b"Application/JSONL ; q=0"], ["*/*"]),
        ([b" , application/x-ndjson,\t", b""], ["*/*"]),
        ([b"application/x-ndjson, */*"], ["*/*"]),
        ([b"application/x-ndjson, application/json;q=0.9"], ["application/json;q=0.9"]),
        ([b"text/html , application/x-ndjson;q=0.8,  Image/PNG;Q=1,*/* ;q=0.1"], ["text/html ,  Image/PNG;Q=1,*/* ;q=0.1"]),
        ([b"text/html, */*;q=0.1", b"application/jsonl", b"text/csv "], ["text/html, */*;q=0.1", "text/csv "]),
        ([b'a/b;c="x, application/x-ndjson;y\\", z", application/jsonl'], ['a/b;c="x, application/x-ndjson;y\\", z"']),
        ([b"application/x-ndjson, application/jsonlines, x-ndjson, \xff"], ["application/jsonlines, x-ndjson, \xff"]),
    ],
)
async def test_actions_see_what_is_accepted_of_them(accept: list[bytes], seen: list[str]) -> None:
    """“Actions see the client's `Accept` less the line types, `*/*` if nothing is left: so a client can ask for lines and tell its
    actions `application/json`.”"""
    answer = await post(hosting(HELLO), envelope(action("/hello")), headers=[(b"accept", value) for value in accept])
    assert answer.all(b"content-type")[0] in (NDJSON, JSONL)
    assert lines(answer.body)[0]["body"] == {"accept": seen}


async def test_a_plain_answers_actions_see_the_whole_accept() -> None:
    """“Request headers of an action are the batch's own”: it is only where the answer goes in lines that a type of lines was not
    meant for the actions.
    """
    accept = b"application/json, application/x-ndjson;q=0.5"
    [result] = await batch(hosting(HELLO), action("/hello"), headers=[(b"accept", accept)])
    assert result["body"] == {"accept": [accept.decode()]}


@pytest.mark.parametrize("values", [lambda rest: [NDJSON + b"," * rest], lambda rest: [b"," * (rest - 2), NDJSON]])
async def test_an_accept_of_over_4_kib_prefers_nothing(values: Callable[[int], list[bytes]]) -> None:
    """What a client can make long chooses lines up to a bound, all fields of the name taken together; an action has it all the same."""
    for rest, media_type in ((4096 - len(NDJSON), NDJSON), (4097 - len(NDJSON), PLAIN)):
        accept = values(rest)
        answer = await post(hosting(HELLO), envelope(action("/hello")), headers=[(b"accept", value) for value in accept])
        assert answer.all(b"content-type") == [media_type]
        if media_type == PLAIN:
            assert answer.json()["data"][0]["body"] == {"accept": [value.decode() for value in accept]}


async def test_whatever_refuses_the_batch_as_a_whole_is_plain_json() -> None:
    """“Whatever refuses the batch as a whole (400, 401, 405, 413, 415, 429, 503 …) is answered as in section 1, as plain JSON: no
    line was sent and nothing ran.”"""

    async def charge(batch: Batch) -> None:
        raise refusal

    async def login(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return PlainTextResponse("Who are you?", 401) if "x-nobody" in request.headers else await call_next(request)

    gates = Gates()
    app = hosting(gates.route, cost_hook=charge, max_body_size=1000, middleware=[Middleware(BaseHTTPMiddleware, dispatch=login)])
    good = envelope(action("/0"), action("/nowhere"), 5)
    refusal: Exception = TooManyRequests(retry_after=2)
    cases: list[tuple[int, str, bytes, Headers]] = [
        (400, "POST", b"{", [JSON]),
        (400, "POST", envelope(), [JSON]),
        (405, "PUT", good, [JSON]),
        (413, "POST", good + b" " * 1000, [JSON]),
        (415, "POST", good, []),
        (429, "POST", good, [JSON]),
        (503, "POST", good, [JSON]),
        (503, "POST", good, [JSON]),
    ]
    failures = [TooManyRequests(retry_after=2), LimiterUnavailable(), ValueError("secret")]
    for status, method, body, headers in cases:
        if status in (429, 503):
            refusal = failures.pop(0)
        answer = await request(app, method, "/batch", headers=[(b"host", b"testserver"), LINES, *headers], body=body)
        assert answer.status == status
        assert answer.all(b"content-type") == [PLAIN]
        assert answer.all(b"content-length") == [b"%d" % len(answer.body)]
        assert messages(answer.json())
        assert answer.all(b"retry-after") == ([b"2"] if status == 429 else [])
    answer = await post(app, good, headers=[LINES, (b"x-nobody", b"1")])
    assert (answer.status, answer.body) == (401, b"Who are you?")
    assert gates.begun == []


# The header


async def test_the_header_goes_out_with_the_first_line() -> None:
    """“`200`, `Content-Type` the one of the two that was asked for, `Cache-Control: no-store`, `X-Content-Type-Options: nosniff`,
    `X-Accel-Buffering: no`, no Content-Length. Its header goes out with the first line.”, “No `Server-Timing`.”"""
    gates = Gates(2)
    app = hosting(gates.route, console=True, server_timing=True)
    async with calling(app, Client(*gates.actions, accept=b"application/jsonl")) as client:
        await anyio.wait_all_tasks_blocked()
        assert gates.begun == [0, 1] or gates.begun == [1, 0]
        assert client.sent == []
        gates.open(1)
        await client.until(lambda: len(client.sent) == 2)
        gates.open(0)
    assert client.sent[0] == {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"application/jsonl"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-accel-buffering", b"no"),
            (b"set-cookie", b"c1=s3cret; Path=/"),
        ],
    }
    assert [(lines(message["body"])[0]["index"], message["more_body"]) for message in client.sent[1:]] == [(1, True), (0, False)]


async def test_cookies_go_to_the_header_or_are_dropped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """“`Set-Cookie` of an action goes to the batch's header if the action ended before that went out, else it is dropped and logged.”
    In the order of the actions, never into a line, and without their value in the log."""
    gates = Gates(4)
    app = hosting(gates.route, result_headers="*")
    client = Client(*gates.actions)
    client.reads = anyio.Event()
    async with calling(app, client):
        await anyio.wait_all_tasks_blocked()
        # Both have ended when the next turn sends the header.
        gates.open(2, 0)
        await anyio.wait_all_tasks_blocked()
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
        # The header is on its way out, though nobody takes it.
        gates.open(3, 1)
        await anyio.wait_all_tasks_blocked()
        client.reads.set()
    assert [field for field in client.sent[0]["headers"] if field[0] == b"set-cookie"] == [
        (b"set-cookie", b"c0=s3cret; Path=/"),
        (b"set-cookie", b"c2=s3cret; Path=/"),
    ]
    logged = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert sorted(f"data.actions[{index}] (GET /{{index:int}})" in record.getMessage() for record in logged for index in (1, 3))
    assert len(logged) == 2
    assert b"s3cret" not in client.content
    assert "s3cret" not in caplog.text


# The lines


async def test_one_line_per_action_in_the_order_in_which_they_finish() -> None:
    """“gets one line per result, as soon as the action has it”, “Exactly one line per action, in the order in which they finish”,
    “`index`, the place of the action in the batch, from 0”, “After the last line the stream ends.”"""
    for order in permutations(range(3)):
        gates = Gates(3)
        async with calling(hosting(gates.route), Client(*gates.actions)) as client:
            for number, index in enumerate(order):
                gates.open(index)
                await client.until(lambda number=number: len(client.sent) > number + 1)  # type: ignore[misc]
                assert client.indices == list(order[: number + 1])
                assert client.complete == (number == 2)
        assert client.content == b"".join(b'{"index":%d,"status_code":200,"headers":{},"body":%d}\n' % (i, i) for i in order)


async def test_what_was_refused_before_anything_ran_comes_first() -> None:
    """“refused ones first”, the malformed: also while nothing else has ended. “Actions refused at the router are results like
    others: in lines they come when they are there”.
    """
    gates = Gates(1)
    app = hosting(gates.route, exclude=("/closed",))
    app.router.routes.append(Route("/closed", never))
    async with calling(app, Client(action("/0"), 5, action("/closed"), 7, action("/batch", "post"))) as client:
        await client.until(lambda: len(client.indices) == 4)
        assert client.indices[:2] == [1, 3]
        assert {line["status_code"] for line in lines(client.content)} == {400}
        gates.open(0)
    assert client.indices[4:] == [0]


@everywhere
async def test_nine_are_in_the_clients_hands_while_the_tenth_still_sleeps(make: Make) -> None:
    """“With streaming, nine fast actions are in the client's hands while the tenth still sleeps”, wherever the batch is hosted."""
    hosting = make()
    client = Client(*[action("/never" if index == 4 else "/echo") for index in range(10)])
    path = hosting.root_path + unquote(hosting.path)
    client.scope |= {"path": path, "raw_path": (hosting.root_path + hosting.path).encode(), "root_path": hosting.root_path}
    client.scope["headers"][0] = (b"host", hosting.host)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.call, hosting.app)
        await client.until(lambda: len(client.sent) > 1 and len(client.indices) == 9)
        tasks.cancel_scope.cancel()
    assert sorted(client.indices) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert not client.complete


BASE, GZIP = Middleware(Pass), Middleware(GZipMiddleware, minimum_size=1)
STACKS = {"none": [], "base": [BASE], "gzip": [GZIP], "all": [BASE, GZIP, BASE]}


@pytest.mark.parametrize("stack", STACKS)
async def test_lines_are_held_back_by_no_middleware(stack: str) -> None:
    """“nine fast actions are in the client's hands while the tenth still sleeps”, ordered by events."""
    if stack in ("gzip", "all") and [int(part) for part in starlette.__version__.split(".")[:2]] < [1, 5]:
        pytest.skip("before, it holds them back, as the README has it")
    gates = Gates()
    client = Client(*gates.actions, headers=[(b"accept-encoding", b"gzip")])
    async with calling(hosting(gates.route, middleware=STACKS[stack]), client):
        gates.open(*range(1, 10))
        await client.until(lambda: len(client.sent) > 1 and len(client.indices) == 9)
        assert gates.ended.count(0) == 0
        gates.open(0)
    assert ((b"content-encoding", b"gzip") in client.sent[0]["headers"]) == (stack in ("gzip", "all"))
    assert sorted(client.indices) == list(range(10))
    assert client.indices[9] == 0


def answering(status: int, headers: Headers, body: bytes) -> BaseRoute:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return Mount("/x", batchable(answer))


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"1", b"1"),
        (b' { "b" : 1.10 ,\r\n\t"a":1E400, "a" : -0 , "" : [ ] }\n', b'{"b":1.10,"a":1E400,"a":-0,"":[]}'),
        (b"\n123456789012345678901234567890\n", b"123456789012345678901234567890"),
        (b'["\\u00fc\\ud83d\\ude00\\/", "a\\n b  c"]', b'["\\u00fc\\ud83d\\ude00\\/","a\\n b  c"]'),
        ('"\u2028 \u2029 \u0085 \x7f ü😀"'.encode(), '"\u2028 \u2029 \u0085 \x7f ü😀"'.encode()),
        (b"[" * 500 + b" null\n" + b"]" * 500, b"[" * 500 + b"null" + b"]" * 500),
        (b"", b"{}"),
    ],
)
async def test_a_json_body_stands_on_one_line_with_its_tokens_as_they_are(body: bytes, line: bytes) -> None:
    """“A JSON body has its line breaks and spaces between tokens taken out, its tokens are kept as they are.”"""
    answer = await stream(hosting(answering(200, [(b"content-type", b"application/json")], body)), action("/x/"))
    assert answer.body == b'{"index":0,"status_code":200,"headers":{},"body":' + line + b"}\n"


async def test_json_of_any_depth_is_on_a_line_or_a_string() -> None:
    """The depth at which parsers give up is another in each Python, and nearly the same for what judges JSON and what rewrites it."""
    for depth in (*range(800, 1010), *range(9900, 10010), 100_000):
        body = b"[" * depth + b"]" * depth
        answer = await stream(hosting(answering(200, [(b"content-type", b"application/json")], body)), action("/x/"))
        content = answer.body.partition(b'"body":')[2]
        assert content in (body + b"}\n", b'"' + body + b'"}\n')


async def test_text_and_binary_bodies_are_as_in_the_plain_answer() -> None:
    """“the result of section 5 with a first key `index`”"""
    for content_type, body, stands in [
        (b"text/plain", 'a\r\nb"\u2028'.encode(), {"body": 'a\r\nb"\u2028'}),
        (b"application/json", b'{"a":\n', {"body": '{"a":\n'}),
        (b"image/png", b"\x00\n\xff", {"body": base64.b64encode(b"\x00\n\xff").decode(), "body_encoding": "base64"}),
    ]:
        fields = [(b"content-type", content_type), (b"etag", b'"1"')]
        answer = await stream(hosting(answering(201, fields, body)), action("/x/"))
        [result] = lines(answer.body)
        headers = {"content-type": content_type.decode(), "etag": '"1"'}
        assert result == {"index": 0, "status_code": 201, "headers": headers, **stands}
        assert list(result) == ["index", "status_code", "headers", "body", "body_encoding"][: len(result)]


async def test_a_result_that_is_too_large_is_a_line_of_its_own() -> None:
    """Section 4: “`max_result_size` (default 1 MiB per action) → 502 for that action”."""
    app = hosting(answering(200, [], b"x" * 11), HELLO, max_result_size=10)
    answer = await stream(app, action("/x/"), action("/nowhere"))
    assert {line["index"]: line["status_code"] for line in lines(answer.body)} == {0: 502, 1: 404}


# Deadlines


async def test_at_its_deadline_an_action_without_a_result_is_a_line_with_504() -> None:
    """“At its deadline an action without a result is a line with 504. After the last line the stream ends.”"""
    gates = Gates(1)

    @batchable(timeout=0.3)
    async def later(request: Request) -> Response:
        return await never(request)

    app = hosting(gates.route, NEVER, Route("/later", later))
    async with calling(app, Client(action("/later"), action("/0"), action("/never"))) as client:
        await client.until(lambda: len(client.sent) > 1 and len(client.indices) == 2)
        assert [(line["index"], line["status_code"]) for line in lines(client.content)] == [(2, 504), (0, 504)]
        assert not client.complete
        gates.open(0)
    assert client.indices == [2, 0, 1]
    assert client.complete


async def test_the_stream_ends_although_a_thread_runs_on() -> None:
    """Section 4: “goes out at the deadline even where a thread … cannot be stopped; what is left is awaited after the answer”."""
    let_go = threading.Event()

    def blocks(request: Request) -> Response:
        let_go.wait()
        return Response()

    app = hosting(Route("/blocks", batchable(timeout=0.25)(blocks)), HELLO)
    async with calling(app, Client(action("/blocks"), action("/hello"))) as client:
        try:
            await client.until(lambda: client.complete)
            assert not client.ended
        finally:
            let_go.set()
    assert {line["index"]: line["status_code"] for line in lines(client.content)} == {0: 504, 1: 200}


# Clients that go away or stop reading


class Watched:
    """A cost hook and plugin that tells when it is left."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @asynccontextmanager
    async def charge(self, batch: Batch) -> AsyncIterator[None]:
        yield
        self.events.append("hook left")

    @asynccontextmanager
    async def batch(self, batch: Batch) -> AsyncIterator[None]:
        yield
        self.events.append("plugin left")


@pytest.mark.parametrize("at_header", [True, False])
async def test_a_client_that_goes_away_stops_nothing_but_its_own_stream(
    at_header: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """“A client that goes away or stops reading stops nothing but its own stream; actions run to their end.”"""
    gates, watched = Gates(3), Watched()
    app = hosting(gates.route, HELLO, NEVER, cost_hook=watched.charge, plugins=[watched])
    client = Client(*gates.actions, action("/never"))
    gates.open(0)
    if at_header:
        client.fails = ConnectionResetError()
    async with calling(app, client):
        await client.until(lambda: len(client.sent) == 1 + (not at_header))
        client.fails = ConnectionResetError()
        gates.open(1)
        # Its deadline is kept although nobody is told.
        await anyio.wait_all_tasks_blocked()
        assert await batch(app, action("/hello"))
        assert watched.events == ["plugin left", "hook left"]
        assert not client.ended
        gates.open(2)
    assert client.ended
    assert sorted(gates.ended) == [0, 1, 2]
    assert watched.events == ["plugin left", "hook left"] * 2
    assert not [record for record in caplog.records if record.name != "batchkit" or record.levelno > logging.WARNING]


async def test_any_other_failure_to_send_is_raised_when_all_work_has_ended() -> None:
    gates, client = Gates(2), Client(action("/0"), action("/1"))
    client.fails = ZeroDivisionError()
    gates.open(0)

    async def call() -> None:
        with pytest.raises(ZeroDivisionError):
            await client.call(hosting(gates.route))
        assert sorted(gates.ended) == [0, 1]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await client.until(lambda: len(client.sent) == 1)
        gates.open(1)


async def test_a_client_that_stops_reading_stops_nothing_but_its_own_stream() -> None:
    """“actions run to their end. What waits to be sent is at most the results themselves, as in the plain answer.” Contexts are left
    and slots given back while it does not read, and deadlines are kept."""
    gates, watched = Gates(3), Watched()
    limiter = Limiter([Concurrency(4, name="slots", key=lambda request: "all")])

    @asynccontextmanager
    async def charge(batch: Batch) -> AsyncIterator[None]:
        async with limiter(batch), watched.charge(batch):
            yield

    app = hosting(gates.route, HELLO, NEVER, cost_hook=charge, plugins=[watched])
    client = Client(*gates.actions, action("/never"))
    client.reads = anyio.Event()
    async with limiter, calling(app, client):
        await anyio.wait_all_tasks_blocked()
        gates.open(0, 1, 2)
        with anyio.fail_after(20):
            while len(watched.events) < 2:
                await anyio.lowlevel.checkpoint()
        assert watched.events == ["plugin left", "hook left"]
        assert not client.sent
        assert not client.ended
        assert [result["status_code"] for result in await batch(app, *[action("/hello")] * 4)] == [200] * 4
        client.reads.set()
    assert client.complete
    assert {line["index"]: line["status_code"] for line in lines(client.content)} == {0: 200, 1: 200, 2: 200, 3: 504}


async def test_a_client_that_reads_on_gets_what_has_come_and_what_comes() -> None:
    gates, client = Gates(4), Client(*[action(f"/{index}") for index in range(4)])
    async with calling(hosting(gates.route), client):
        for index in range(4):
            # One comes while another is on its way; the next only after both have been taken.
            client.reads = anyio.Event() if index % 2 == 0 else client.reads
            gates.open(index)
            await anyio.wait_all_tasks_blocked()
            if index % 2:
                client.reads.set()
                await client.until(lambda index=index: len(client.sent) > 1 and len(client.indices) == index + 1)  # type: ignore[misc]
                await anyio.wait_all_tasks_blocked()
    assert client.indices == [0, 1, 2, 3]
    assert client.complete


def test_a_socket_that_is_not_read_holds_the_results_and_nothing_else() -> None:
    """“What waits to be sent is at most the results themselves, as in the plain answer”, over a real server, and all else is over."""
    number, size = 40, 2**20
    left, over = threading.Event(), threading.Event()

    async def large(request: Request) -> Response:
        return Response(b'"' + b"x" * (size - 2) + b'"', media_type="application/json")

    @asynccontextmanager
    async def charge(batch: Batch) -> AsyncIterator[None]:
        yield
        left.set()

    batches = hosting(Route("/large", large), max_actions=number, cost_hook=charge)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await batches(scope, receive, send)
        over.set()

    with serving(app) as url, asking_for_lines(url, envelope(*[action("/large")] * number), buffer=4096) as connection:
        tracemalloc.start()
        try:
            assert left.wait(20)
            assert httpx2.get(f"{url}/nowhere", trust_env=False, verify=TLS, timeout=20).status_code == 404
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        over.clear()
        assert number * size < peak < 1.3 * number * size
        read_until(connection, b"200")
        assert not over.is_set()
        connection.close()
        assert over.wait(20)


def test_nothing_is_logged_of_a_client_that_leaves(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Not by a real server either: the actions learn of it, if they ask, and go on."""
    over = threading.Event()

    async def waits(request: Request) -> Response:
        while not await request.is_disconnected():
            await anyio.lowlevel.checkpoint()
        return Response(b"x" * 100_000)

    batches = hosting(HELLO, Route("/waits", waits))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await batches(scope, receive, send)
        if scope["type"] == "http":
            over.set()

    caplog.set_level(logging.INFO, "batchkit")
    with serving(app) as url:
        with asking_for_lines(url, envelope(action("/hello"), action("/waits"), action("/waits"))) as connection:
            read_until(connection, b'{"index":0,')
        assert over.wait(20)
    assert capfd.readouterr().err == ""
    assert [vars(record)["statuses"] for record in caplog.records if "statuses" in vars(record)] == [[200, 200, 200]]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


# What breaks off


async def test_a_real_cancellation_goes_through_and_breaks_the_stream_off() -> None:
    """“A stream that ends before every index has come was broken off: what is missing has an unknown outcome.”"""
    gates = Gates(2)
    client = Client(*gates.actions)
    gates.open(0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.call, hosting(gates.route))
        await client.until(lambda: len(client.sent) == 2)
        tasks.cancel_scope.cancel()
    assert sorted(gates.ended) == [0, 1]
    assert client.indices == [0]
    assert not client.complete


async def test_the_results_are_those_of_the_plain_answer() -> None:
    """The lines sorted by ``index``, without it, are the results of the plain answer."""

    async def fields(request: Request) -> Response:
        return JSONResponse([*request.scope["headers"][0][0].decode()], headers={"etag": "1", "x-a": "b"}, status_code=203)

    app = hosting(
        HELLO, NEVER, Route("/fields", fields), answering(200, [(b"x-a", b"1"), (b"x-a", b"2")], b"\xff"), max_actions=20
    )
    actions = [5, *map(action, ("/fields", "/never", "/x/", "/nowhere", "/batch", "/fields/")), action("/fields", "post")]
    answer = await stream(app, *actions)
    results = sorted(lines(answer.body), key=lambda line: int(line["index"]))
    assert [result.pop("index") for result in results] == list(range(len(actions)))
    assert results == await batch(app, *actions)
