"""What a client can make long costs little and is kept by nobody: held by counting steps and bytes, never by the clock.

The requests are those of the benchmark, which has their seconds; “at most 0.1 s of CPU each at the defaults, and linear in
`max_actions`”.
"""

from __future__ import annotations

import gc
import importlib
import json
import re
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchkit import BatchEndpoint, batchable
from batchkit._protocol import request as protocol
from batchkit.client.conversation import Call, conversation
from batchkit.client.drafts import Draft, draft_of
from batchkit.client.server import Server
from batchkit.client_js import client_version
from tests.asgi import request
from tests.batches import JSON, action, batch, envelope, messages, post
from tests.benchmarks import hostile
from tests.steps import Steps, counted
from tests.test_structure import MODULES, PACKAGE

pytestmark = pytest.mark.anyio

KIB, MIB = 2**10, 2**20


@pytest.fixture
def anyio_backend() -> str:
    """What it costs to read a request is no affair of the event loop."""
    return "asyncio"


@batchable
async def public(request: Request) -> Response:
    return JSONResponse({"fields": len(request.headers.raw)})


def hosting(**settings: Any) -> Starlette:
    return BatchEndpoint(**settings).mount_to(Starlette(routes=[Route("/x", public)]))


async def steps_of(requests: dict[str, hostile.Hostile], actions: int) -> dict[str, Steps]:
    """What each of these takes on a host with batches of up to so many actions, which has met a batch before."""
    app, steps = hostile.host(actions), {}
    await hostile.Hostile(hostile.many("", actions, MIB)).to(app)
    for name, hostile_request in requests.items():
        with counted() as steps[name]:
            await hostile_request.to(app)
    return steps


async def test_no_hostile_request_takes_many_steps() -> None:
    """A tenth of a second is a million calls or more, and a megabyte is read in a few of them.

    Security: “Whatever a client can make long has a bound.”
    """
    steps = await steps_of(hostile.requests(), 10)
    assert {name: each for name, each in steps.items() if each.calls > 300_000 or each.read > 3 * MIB} == {}


async def test_steps_are_linear_in_max_actions() -> None:
    few, many = [await steps_of(hostile.requests(count, 256 * KIB), count) for count in (20, 40)]
    steeper = {
        name: (few[name], many[name])
        for name in few
        if many[name].calls > 2.1 * few[name].calls or many[name].read > 2.1 * few[name].read
    }
    assert steeper == {}


LONG = {
    "accept": lambda text: [(b"accept", b"application/x-ndjson,text/html,a;" + text), JSON],
    "content-type": lambda text: [(b"content-type", b"application/json;" + text)],
    "content-encoding": lambda text: [(b"content-encoding", text), JSON],
    "content-length": lambda text: [(b"content-length", b"1" * len(text)), JSON],
    "cookie": lambda text: [(b"cookie", b"a=" + text), JSON],
    "authorization": lambda text: [(b"authorization", b"Bearer " + text), JSON],
    "host": lambda text: [(b"host", text), JSON],
    "traceparent": lambda text: [(b"traceparent", text), JSON],
    "its own": lambda text: [(b"x-" + text, text), JSON],
}


@pytest.mark.parametrize("fields", LONG.values(), ids=LONG)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_long_field_takes_no_more_steps_than_a_short_one(method: str, fields: Callable[[bytes], Any]) -> None:
    app = hosting(console=True, client_js=True, require_json=False)

    async def steps(length: int, sign: bytes) -> int:
        with counted() as steps:
            await request(app, method, "/batch", headers=fields(sign * length), body=envelope(action("/x")))
        return steps.calls

    for sign in (b",", b";", b'"', b"a"):
        await steps(8 * KIB, sign)
        assert await steps(8 * KIB, sign) == await steps(MIB, sign)


async def kept(send: Callable[[bytes], Awaitable[object]]) -> int:
    """The bytes that stay of 64 requests which each send a text of their own, as long as ``send`` makes it."""
    for index in range(8):
        await send(b"%03d" % index)
    gc.collect()
    tracemalloc.start()
    try:
        for index in range(100, 164):
            await send(b"%03d" % index)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("fields", LONG.values(), ids=LONG)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_nothing_keeps_a_long_field(method: str, fields: Callable[[bytes], Any]) -> None:
    app = hosting(console=True, client_js=True)
    body = envelope(action("/x"))
    assert await kept(lambda text: request(app, method, "/batch", headers=fields(text * 20 * KIB), body=body)) < 64 * KIB


@pytest.mark.parametrize(
    "entry",
    [
        lambda text: action("/x/" + text * 600),
        lambda text: action("/x", text * 20 * KIB),
        lambda text: {text * 20 * KIB: 1},
        lambda text: action("/x", data={text * 4 * KIB: 1}),
        lambda text: action("/x", options={"fields": text * 4 * KIB}),
        lambda text: text * 20 * KIB,
    ],
)
async def test_nothing_keeps_what_stands_in_an_action(entry: Callable[[str], Any]) -> None:
    app = hosting()
    assert await kept(lambda text: post(app, envelope(entry(text.decode())))) < 64 * KIB


@pytest.mark.parametrize("query", [b"client.js=%b", b"client.js&%b", b"%b"])
async def test_nothing_keeps_a_query(query: bytes) -> None:
    app = hosting(client_js=True)
    assert await kept(lambda text: request(app, "GET", "/batch", query=query % (text * 20 * KIB))) < 64 * KIB


async def test_nothing_keeps_the_content_type_that_a_file_was_sent_with() -> None:
    """A handler may say of a file what a client said of it. What it is in the answer does not hang on how long that is."""

    @batchable
    async def file(request: Request) -> Response:
        return Response(b"text", headers={"content-type": "text/plain;" + request.query_params["said"] * 4 * KIB})

    app = BatchEndpoint().mount_to(Starlette(routes=[Route("/file", file)]))
    [result] = await batch(app, action("/file", data={"said": " "}))
    assert result["body"] == "text"
    assert await kept(lambda text: batch(app, action("/file", data={"said": text.decode()}))) < 64 * KIB


class Joined(bytes):
    """Bytes that count what they are added to."""

    copied = 0

    def __radd__(self, other: bytes) -> bytes:
        Joined.copied += len(other)
        return other + bytes(self)


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        (b"accept", b"application/x-ndjson", 200),
        (b"content-type", b"application/json", 415),
        (b"content-encoding", b"identity", 415),
        (b"content-length", b"1", 200),
        (b"cookie", b"a=b", 200),
    ],
)
async def test_many_fields_of_one_name_are_joined_once(name: bytes, value: bytes, status: int) -> None:
    """A field that comes twice is no media type, coding or length any more; many of them are not copied again and again."""
    described = [] if name == b"content-type" else [JSON]
    Joined.copied = 0
    answer = await request(
        hosting(), "POST", "/batch", headers=[*described, *[(name, Joined(value))] * 1000], body=envelope(action("/x"))
    )
    assert answer.status == status
    assert answer.all(b"content-type") == [b"application/json; charset=utf-8"]
    assert Joined.copied < 100 * KIB


async def test_an_action_has_the_host_first() -> None:
    """Whoever looks for it with every action, as a guard does, meets it at once, however many fields a client sends before it."""

    @batchable
    async def names(request: Request) -> Response:
        return JSONResponse([name.decode() for name, _ in request.headers.raw])

    app = BatchEndpoint().mount_to(Starlette(routes=[Route("/names", names)]))
    headers = [(b"b", b"1"), (b"host", b"first"), (b"a", b"2"), (b"host", b"second")]
    answer = await request(app, "POST", "/batch", headers=[*headers, JSON], body=envelope(action("/names")))
    assert answer.json()["data"][0]["body"] == ["host", "b", "a", "host"]


@pytest.mark.parametrize(("length", "status"), [(4096, 200), (4097, 405)])
async def test_the_page_is_for_accepts_of_up_to_4_kib(length: int, status: int) -> None:
    accept = b"text/html,".ljust(length, b",")
    assert (await request(hosting(console=True), "GET", "/batch", headers=[(b"accept", accept)])).status == status


@pytest.mark.parametrize(("length", "status"), [(4096, 304), (4097, 200)])
async def test_the_module_is_known_by_tags_of_up_to_4_kib(length: int, status: int) -> None:
    tags = b'"%b",' % client_version().encode()
    headers = [(b"if-none-match", tags.rjust(length, b","))]
    answer = await request(hosting(client_js=True), "GET", "/batch", query=b"client.js", headers=headers)
    assert answer.status == status


@pytest.mark.parametrize(("length", "status"), [(4096, 200), (4097, 415)])
async def test_a_media_type_is_one_of_up_to_4_kib(length: int, status: int) -> None:
    headers = [(b"content-type", b"application/json".ljust(length, b";"))]
    answer = await request(hosting(), "POST", "/batch", headers=headers, body=envelope(action("/x")))
    assert answer.status == status


class Parser:
    """msgspec's, and how many bytes it was given in all."""

    def __init__(self) -> None:
        self.read = 0
        self.decoder, self.decode_at_once = msgspec.json.Decoder, msgspec.json.decode

    def Decoder(self, *arguments: Any) -> Any:
        decode = self.decoder(*arguments).decode

        class Counting:
            def decode(_, content: Any) -> Any:
                return self._told(content, decode(content))

        return Counting()

    def decode(self, content: Any, **keywords: Any) -> Any:
        return self._told(content, self.decode_at_once(content, **keywords))

    def _told(self, content: Any, value: Any) -> Any:
        self.read += len(memoryview(content))
        return value


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Parser]:
    """The module that decodes as it is, on a parser that counts."""
    parser = Parser()
    monkeypatch.setattr(msgspec.json, "Decoder", parser.Decoder)
    monkeypatch.setattr(msgspec.json, "decode", parser.decode)
    spec = spec_from_file_location("counted_request", str(Path(protocol.__file__)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module, parser


@pytest.mark.parametrize(
    "malformed",
    [
        action("/x", "unknown"),
        action("/x", data=[]),
        action("/x", data="text"),
        action("/x", options={"limit": "many"}),
        action("/x", more=1),
        {"method": "get"},
        {},
        [],
        None,
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("count", [1, 10, 1000])
def test_each_malformed_action_is_explained_by_its_own_bytes(parsed: tuple[Any, Parser], malformed: Any, count: int) -> None:
    """The whole body is read twice at most: as well-formed actions, and where it has others, to part them."""
    module, parser = parsed
    document = {"options": "x" * 100 * KIB, "data": {"actions": [malformed] * count}}
    body = json.dumps(document).encode()
    actions = module.decode(body, BatchEndpoint(max_actions=count).settings)
    assert [each.result.status_code for each in actions] == [400] * count
    assert parser.read < 2 * len(body) + 6 * count * len(json.dumps(malformed))


async def test_what_is_wrong_with_an_action_is_said_the_same_beside_one_that_has_wrong_types() -> None:
    """A batch whose actions all have the right types is read in one go, any other action by action; the messages are the same."""
    entries = [
        action("/x", "unknown"),
        action("/x", "gET\n"),
        action("/x", data=[1]),
        action("/x", data=3),
        action("", "unknown", data="", options={"limit": None, "unknown": "x" * 1000}),
        action("/" + "x" * 2000, "unknown"),
        action("/x", "unknown", options={"fields": ["ü"], "expand": "a", "offset": 2**70}),
    ]
    app = hosting()
    alike = await batch(app, *entries)
    beside = await batch(app, *entries, {})
    assert [messages(result) for result in alike] == [messages(result) for result in beside[:-1]]
    assert [len(messages(result)) for result in alike] == [1, 1, 1, 1, 3, 2, 1]


# What a server, or the caller of a client, can make long


def test_a_line_that_comes_in_many_pieces_is_put_together_once() -> None:
    at = Server("https://example.com/batch")

    def call(path: str) -> Call:
        action = draft_of(httpx2.Request("GET", f"https://example.com{path}", headers={"accept": "*/*"}), at)
        assert isinstance(action, Draft)
        return Call(action)

    def line(index: int) -> bytes:
        return b'{"index":%d,"status_code":200,"headers":{},"body":"%b"}\n' % (index, b"x" * 10 * KIB)

    calls, content = [call("/1"), call("/2")], line(1) + line(0)
    talk = conversation(calls, at)
    next(talk)
    talk.send(httpx2.Response(200, headers={"content-type": "application/x-ndjson"}))
    with counted() as steps:
        for start in range(0, len(content), 2):
            talk.send(content[start : start + 2])
    assert steps.read < 2 * len(content)
    assert [call.outcome.status_code for call in calls if isinstance(call.outcome, httpx2.Response)] == [200, 200]


def test_what_a_server_says_is_cut_before_it_is_laid_out() -> None:
    at = Server("https://example.com/batch")
    action = draft_of(httpx2.Request("GET", "https://example.com/1"), at)
    assert action is not None
    talk = conversation([Call(action), Call(action)], at)
    next(talk)
    talk.send(httpx2.Response(400))
    talk.send(json.dumps({"errors": [{"message": "a - b " * 100 * KIB}]}).encode())
    with counted() as steps, pytest.raises(StopIteration):
        talk.send(None)
    assert steps.read < 20 * KIB


# A sign or a set of signs, any number of times, and then something else; not at the start of a line.
LEADING = r"(?:\[\^?\]?(?:[^\]\\]|\\.)*\]|\\.|[^\\\[(^])[*+](?![+/])."


@pytest.mark.parametrize("name", sorted({*MODULES} - {"_checks.toml"}))
def test_no_pattern_that_is_searched_for_begins_with_a_repeat(name: str) -> None:
    """From each place in a text it would run as far as the repeat does, which is quadratic. What a host configures is short."""
    for item in vars(importlib.import_module(f"batchkit.{name}".removesuffix(".__init__"))).values():
        pattern = item if isinstance(item, re.Pattern) else getattr(item, "__self__", None)
        if isinstance(pattern, re.Pattern) and getattr(item, "__name__", "search") not in ("match", "fullmatch"):
            text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
            assert not re.match(LEADING, text), text


@pytest.mark.parametrize("script", sorted(PACKAGE.rglob("*.js")), ids=lambda path: path.name)
def test_no_pattern_of_a_script_begins_with_a_repeat(script: Path) -> None:
    assert re.findall(r"[(=,|&?:] ?/" + LEADING, script.read_text()) == []
