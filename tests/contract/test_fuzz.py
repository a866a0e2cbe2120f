"""Generated and mutated batches, on every shape of host: none brings down more than itself. Seeded, so always the same ones."""

from __future__ import annotations

import json
import random
import re
from functools import partial
from typing import Any

import anyio
import pytest

from tests.asgi import Answer, request
from tests.batches import JSON, LINES, action, envelope, lines
from tests.hosts import CLOSED, PLACES, Hosting, Make

EXAMPLES = 70  # Of each kind, on each host and event loop.
CANARY = "Kw3nQz"  # The values of the good batches that are mutated.

TRACES = re.compile(rb'Traceback|File \\"|\.py\b|Error:|site-packages|0x[0-9a-f]{6}')

VALUES = [
    *["null", "true", "0", "-0", "1e400", "1E-5", "9" * 5000, "[]", "{}", '""', "[[]]", '{"a":{}}', "[" * 600 + "]" * 600],
    *["NaN", "-Infinity", "01", "'x'", '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"' + "x" * 3000 + '"', '"ü"', '"\u2028"'],
    *[
        '{"a":' * 300 + "1" + "}" * 300,
        "[" * 5000,
        '"//evil.example"',
        '"/echo?x"',
        '"/%2e%2e/closed"',
        '"/%00"',
        '"get\\n"',
        '"post"',
    ],
    *[
        '"/cookie"',
        '"/moved"',
        '"/closed"',
        '"/batch"',
        '"delete"',
        '{"limit":1e3}',
        '{"fields":[1]}',
        '{"opt_x":1}',
        '["a","b",1.50]',
    ],
]
KEYS = [
    "data",
    "actions",
    "relative_path",
    "method",
    "options",
    "limit",
    "offset",
    "fields",
    "expand",
    "",
    "x" * 100,
    "ü\\n",
    "opt_a",
]
HEADERS = [
    *[
        (b"content-type", value)
        for value in (b"", b"text/plain", b"application/json;charset=x", b"\xff", b"a/b+json", b";", b'"')
    ],
    *[(b"content-type", b"application/json; charset=utf-8"), (b"content-encoding", b"gzip"), (b"content-encoding", b"identity")],
    *[(b"content-length", value) for value in (b"-1", b"1_0", b"\xb2", b"9" * 5000, b"0", b"x")],
    *[(b"range", b"bytes=0-0"), (b"if-none-match", b"*"), (b"x-http-method-override", b"DELETE"), (b"host", b"\xff"), (b"", b"")],
    *[
        (b"cookie", b"\x00=\xff;;"),
        (b"authorization", b"Bearer " + b"x" * 9000),
        (b"expect", b"100-continue"),
        (b"connection", b"host"),
    ],
]
SEGMENTS = [
    "echo",
    "closed",
    "batch",
    "",
    ".",
    "..",
    "%2e",
    "%2F",
    "%",
    "%0a",
    "ü",
    "ａ",
    ";",
    "a" * 700,
    "@",
    ":",
    "?",
    "#",
    "\\",
    "\t",
]

actions = [
    action("/echo", data={"q": CANARY, "n": [1, 2.50, True, None]}),
    action("/echo", "post", data={"name": CANARY, "deep": {"a": [{}]}}, options={"limit": 5, "fields": ["a", "b"]}),
    action("/echo", "put", data={}, options={"offset": CANARY, "expand": "x"}),
    action("/cookie"),
    action("/moved"),
    action(CLOSED),
    action("/nowhere/" + CANARY),
    action("/echo", "head"),
]


def good(rnd: random.Random) -> bytes:
    return envelope(*rnd.choices(actions, k=rnd.randint(1, 10)))


def bytes_changed(rnd: random.Random) -> bytes:
    """A good batch with some bytes changed, inserted, doubled or cut out."""
    content = bytearray(good(rnd))
    for _ in range(rnd.choice([1, 1, 2, 8])):
        start = rnd.randrange(len(content) + 1)
        end = min(len(content), start + rnd.choice([0, 1, 1, 2, 20]))
        piece = rnd.choice([bytes([rnd.randrange(256)]), content[start:end] * 2, b"", rnd.choice(b'{}[]",:\\ 09eE-+').to_bytes()])
        content[start:end] = piece
    return bytes(content) if rnd.random() < 0.9 else bytes(content[: rnd.randrange(len(content) + 1)])


def structure_changed(rnd: random.Random) -> bytes:
    """A good batch in which some values are of another type, keys stand twice or are others."""

    def changed(value: Any) -> str:
        if rnd.random() < 0.06:
            return rnd.choice(VALUES)
        if isinstance(value, dict):
            members = [(json.dumps(name), changed(item)) for name, item in value.items()]
            if rnd.random() < 0.1:
                members.insert(rnd.randrange(len(members) + 1), (f'"{rnd.choice(KEYS)}"', rnd.choice(VALUES)))
            if members and rnd.random() < 0.05:
                members.append((rnd.choice(members)[0], rnd.choice(VALUES)))
            if members and rnd.random() < 0.05:
                members.pop(rnd.randrange(len(members)))
            return "{" + ",".join(f"{name}:{text}" for name, text in members) + "}"
        if isinstance(value, list):
            items = [changed(item) for item in value]
            return "[" + ",".join(items * 12 if rnd.random() < 0.02 else items) + "]"
        return json.dumps(value, ensure_ascii=rnd.random() < 0.5)

    return changed(json.loads(good(rnd))).encode("utf-8", "surrogatepass")


def made_up(rnd: random.Random) -> bytes:
    """A batch of actions that nobody would send, most of them not malformed as JSON."""

    def value(*usual: str) -> str:
        return (
            rnd.choice(usual) if rnd.random() < 0.8 else rnd.choice([text for text in VALUES if len(text) < 100 and valid(text)])
        )

    def path() -> str:
        segments = (
            rnd.choices(SEGMENTS, k=rnd.randint(1, 3)) if rnd.random() < 0.4 else [rnd.choice(["echo", "closed", "cookie"])]
        )
        return json.dumps(rnd.choice(["/", "/", "/", "", "//"]) + "/".join(segments))

    entries = []
    for _ in range(rnd.randint(1, 10)):
        members = {
            "relative_path": path(),
            "method": value('"get"', '"GET"', '"post"', '"patch"', '"head"', '"delete"'),
            "data": value("{}", "null", '{"a":[1.50,true,null,"\\ud83d\\ude00"]}', '{"a":{"b":1e400}}'),
            "options": value("{}", "null", '{"limit":-5,"x":{}}', '{"offset":"&=#","fields":["a",""]}'),
        }
        kept = [f'"{name}":{text}' for name, text in members.items() if rnd.random() < 0.95]
        entries.append("{" + ",".join(kept) + "}")
    return ('{"data":{"actions":[%s]}}' % ",".join(entries)).encode()


def valid(text: str) -> bool:
    return text not in ("NaN", "-Infinity", "01", "'x'", '"\\ud800"')


def asked(body: bytes) -> tuple[int, bool]:
    """How many actions a valid batch holds, and whether a value of ours became a key of it."""
    keys: list[str] = []

    def last_of_each(members: list[tuple[str, Any]]) -> dict[str, Any]:
        keys.extend(name for name, _ in members)
        return dict(members)

    document = json.loads(body, object_pairs_hook=last_of_each, parse_int=str)
    return len(document["data"]["actions"]), any(CANARY in key for key in keys)


def check(status: int, content: bytes, body: bytes) -> None:
    """That an answer is one of a batch, and says nothing that it should not."""
    assert status < 500, (status, content)
    document = json.loads(content)
    if status != 200:
        check_errors(document)
        # An envelope has no values that could be named, but actions that are no array.
        assert not TRACES.search(content)
        return
    number, named = asked(body)
    assert list(document) == ["data"]
    assert len(document["data"]) == number
    for result in document["data"]:
        assert list(result) == ["status_code", "headers", "body", "body_encoding"][: len(result)]
        assert len(result) >= 3
        assert 200 <= result["status_code"] < 500, result
        assert all(isinstance(value, str) for value in result["headers"].values())
        if isinstance(result["body"], dict) and "errors" in result["body"]:
            check_errors(result["body"])
            own = json.dumps(result)
            assert named or CANARY not in own
            assert not TRACES.search(own.encode())


def check_lines(plain: Answer, answer: Answer) -> None:
    """That the lines are the results of the plain answer; what is no batch gets the same error."""
    if plain.status != 200:
        assert (answer.status, answer.body) == (plain.status, plain.body)
        return
    results = sorted(lines(answer.body), key=lambda line: int(line["index"]))
    assert [result.pop("index") for result in results] == list(range(len(results)))
    assert results == json.loads(plain.body)["data"]


def check_errors(document: Any) -> None:
    assert list(document) == ["errors"]
    assert 1 <= len(document["errors"]) <= 10
    for error in document["errors"]:
        assert list(error) == ["message", "code"]
        assert len(error["message"]) < 500


async def fuzz(make: Make, seed: str) -> None:
    rnd = random.Random(seed)
    hosting = make(max_body_size=20_000)
    for number in range(EXAMPLES):
        for generate in (bytes_changed, structure_changed, made_up):
            body = generate(rnd)
            headers = [JSON] if rnd.random() < 0.8 else rnd.sample(HEADERS, rnd.randint(0, 3)) + rnd.choice([[], [JSON]])
            # Generous: nothing here waits for anything.
            with anyio.fail_after(20):
                answer = await hosting.post(body, headers=headers)
            check(answer.status, answer.body, body)
            if number % 5 == 0:
                with anyio.fail_after(20):
                    check_lines(answer, await hosting.post(body, headers=[*headers, LINES]))
        if number % 10 == 0:
            await elsewhere(hosting, rnd)
    [result] = await hosting.batch(action("/echo"))
    assert result["status_code"] == 200


async def elsewhere(hosting: Hosting, rnd: random.Random) -> None:
    """A batch to an odd URL, by an odd method: who answers is the host's affair, so long as it is answered."""
    segments = rnd.choices(["batch", "Batch", "", "%62atch", "bat%00ch", "%2F", ";", "ü"], k=rnd.randint(1, 3))
    path = rnd.choice([hosting.path + "/", hosting.path + "%0a", hosting.base + "/" + "/".join(segments)])
    method = rnd.choice(["POST", "PUT", "GET", "OPTIONS", "TRACE", "X" * 100])
    fields = [(b"host", hosting.host), JSON]
    with anyio.fail_after(20):
        answer = await request(hosting.app, method, path, body=good(rnd), headers=fields, root_path=hosting.root_path)
    assert answer.status < 500


@pytest.mark.parametrize(("make", "backend"), PLACES, ids=[f"{make.__name__}-{backend}" for make, backend in PLACES])
def test_no_batch_brings_down_more_than_itself(make: Make, backend: str) -> None:
    """“generated and mutated envelopes … never give a 5xx for the batch, never hang …, always answer valid JSON”"""
    anyio.run(partial(fuzz, make, f"{make.__name__} {backend}"), backend=backend)
