"""The wire, the same on every shape of host."""

from __future__ import annotations

import gc
import itertools
import json
import random
from typing import Any

import pytest
from starlette.types import Message

from batchkit import Batch, LimiterUnavailable, TooManyRequests
from tests.batches import JSON, action, envelope, messages
from tests.hosts import (
    BODYLESS,
    CLOSED,
    METHODS,
    Hosting,
    Make,
    as_a_mount,
    bare,
    by_host,
    everywhere,
    fastapi_in_starlette,
    in_a_host_route,
    in_a_parameterised_mount,
    litestar,
    mount_to,
    wrapped,
)

pytestmark = pytest.mark.anyio


def of_itself(hosting: Hosting) -> str:
    """The ``relative_path`` of the batch endpoint itself."""
    return hosting.path.removeprefix(hosting.base)


@everywhere
async def test_a_batch_that_fails_as_a_whole_runs_nothing(make: Make) -> None:
    """Section 1: “the first that fails answers for the whole batch, and then **no action ran and nothing was charged**”."""
    charged = 0

    async def charge(batch: Batch) -> None:
        nonlocal charged
        charged += 1

    hosting = make(cost_hook=charge, max_body_size=2000)
    # It would never end, if it ran.
    good = envelope(action("/never"))
    cases: list[tuple[bytes, dict[str, Any], int]] = [
        (good, {"method": "GET"}, 405),
        (good, {"method": "BREW"}, 405),
        (good, {"headers": []}, 415),
        (good, {"headers": [(b"content-type", b"text/plain")]}, 415),
        (good, {"headers": [JSON, (b"content-encoding", b"gzip")]}, 415),
        (good, {"headers": [JSON, (b"content-length", b"2001")]}, 413),
        (good + b" " * 2000, {}, 413),
        (b"{", {}, 400),
        (good + b"x", {}, 400),
        (b"[" * 1999, {}, 400),
        (b"[]", {}, 400),
        (b'{"data":[]}', {}, 400),
        (b'{"data":{}}', {}, 400),
        (b'{"data":{"actions":{}}}', {}, 400),
        (b'{"data":{"actions":[1]},"x":1}', {}, 400),
        (envelope(), {}, 400),
        (envelope(*[action("/never")] * 11), {}, 400),
    ]
    for content, more, expected in cases:
        answer = await hosting.post(content, **more)
        assert answer.status == expected, (content[:50], more)
        assert list(answer.json()) == ["errors"]
        assert answer.all(b"allow") == ([b"POST"] if expected == 405 else [])
    assert not charged


@everywhere
async def test_a_limiter_that_refuses_or_fails_answers_for_the_whole_batch(make: Make) -> None:
    """“any action would exceed any limit | 429 (section 3); limiter out of reach: 503”"""
    for error, status in [(TooManyRequests(retry_after=1.2), 429), (LimiterUnavailable(), 503), (OSError("secret"), 503)]:

        async def refuse(batch: Batch, error: Exception = error) -> None:
            raise error

        answer = await make(cost_hook=refuse).post(envelope(action("/never"), 5))
        assert (answer.status, answer.all(b"retry-after")) == (status, [b"2"] if status == 429 else [])
        assert b"secret" not in answer.body


@pytest.mark.parametrize(
    "make", [mount_to, as_a_mount, by_host, in_a_host_route, in_a_parameterised_mount, wrapped, litestar, bare]
)
async def test_a_client_that_goes_before_its_body_is_complete_is_sent_nothing(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """“client gone before the body is complete | nothing is sent, nothing logged as an error”"""
    hosting = make()
    sent: list[Message] = []
    received: list[Message] = [{"type": "http.request", "body": b'{"data":', "more_body": True}]

    async def receive() -> Message:
        return received.pop() if received else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "POST",
        "root_path": "",
        "path": hosting.path.replace("%20", " "),
        "raw_path": hosting.path.encode(),
        "query_string": b"",
        "headers": [(b"host", hosting.host), JSON],
        "state": {},
    }
    await hosting.app(scope, receive, send)
    assert not sent
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


MIXED = [
    action("/echo", data={"a": "ü &=+"}),
    action("/echo", "post", data={"a": [1, None, "ü"]}),
    action("/cookie"),
    action("/moved"),
    action("/nowhere"),
    action("/moved", "put"),
    action(CLOSED),
    action("/../echo"),
    {"method": "get"},
    5,
]


@everywhere
async def test_each_action_has_the_result_that_it_has_alone_whatever_its_neighbours(make: Make) -> None:
    """“any permutation of good, malformed, refused, 404 and 405 actions gives each action the result it has alone”"""
    hosting = make()
    mixed = [*MIXED[:-1], action(of_itself(hosting), "post", data={"actions": [action("/never")]})]
    alone = [(await hosting.batch(entry))[0] for entry in mixed]
    # By an allow-list, what has no route and what may not run is the same, and methods are the host's affair.
    expected = [200, 200, 200, 307, 404, 405, 400, 400, 400, 400]
    if not hosting.readable:
        expected[4:6] = [400, 405]
    assert [result["status_code"] for result in alone] == expected
    shuffle = random.Random(make.__name__).sample
    for order in [shuffle(range(10), 10) for _ in range(10)]:
        results = await hosting.batch(*[mixed[place] for place in order])
        for index, (place, result) in enumerate(zip(order, results, strict=True)):
            own = json.dumps(alone[place]).replace("data.actions[0]", f"data.actions[{index}]")
            assert json.dumps(result) == own


@pytest.mark.parametrize("make", [mount_to, fastapi_in_starlette, bare])
async def test_every_permutation_of_good_malformed_refused_404_and_405(make: Make) -> None:
    """The same, exhaustively, of one each; by their statuses."""
    hosting = make()
    five = [MIXED[place] for place in (0, 4, 5, 6, 8)]
    alone = [(await hosting.batch(entry))[0]["status_code"] for entry in five]
    orders = list(itertools.permutations(range(5)))
    for first, second in zip(orders[::2], orders[1::2], strict=True):
        results = await hosting.batch(*[five[place] for place in first + second])
        assert [result["status_code"] for result in results] == [alone[place] for place in first + second]


@everywhere
async def test_an_action_is_answered_as_the_same_request_alone(make: Make) -> None:
    """“an action behaves exactly as the same request sent alone”: bodies, queries, redirects and errors."""
    hosting = make()
    entries = [
        *[action("/echo", method.lower(), data={"q": f"ü {method}"}) for method in METHODS],
        action("/cookie"),
        action("/moved"),
    ]
    alone = [
        *[
            await hosting.alone(method, "/echo", query=f"q=%C3%BC+{method}".encode())
            if method in BODYLESS
            else await hosting.alone(method, "/echo", body=hosting.body_of(json.dumps({"q": f"ü {method}"})).encode())
            for method in METHODS
        ],
        await hosting.alone("GET", "/cookie"),
        await hosting.alone("GET", "/moved"),
    ]
    if hosting.readable:
        entries += [action("/nowhere"), action("/moved", "put")]
        alone += [await hosting.alone("GET", "/nowhere"), await hosting.alone("PUT", "/moved")]
    for result, answer in zip(await hosting.batch(*entries), alone, strict=True):
        assert result["status_code"] == answer.status
        body = answer.body.decode() or "{}"
        assert result["body"] == (body if isinstance(result["body"], str) else json.loads(body))
        for name in (b"location", b"allow"):
            assert result["headers"].get(name.decode()) == (b"".join(answer.all(name)).decode() or None)


@everywhere
async def test_every_handler_receives_its_own_body_and_query(make: Make) -> None:
    """“the handler receives the body `{"data": <data>}`, `<data>` byte for byte as it came”; options are a query."""
    hosting = make()
    data = ['{ "n" : 1.10, "b":"\\u00fc"}', "{}", '{"big":123456789012345678901234567890,"a":1,"a":2}']
    entry = '{"relative_path":"/echo","method":"put","data":DATA,"options":{"limit":LIMIT}}'
    actions = [entry.replace("DATA", text).replace("LIMIT", str(limit)) for limit, text in enumerate(data)]
    answer = await hosting.post(b'{"data":{"actions":[%s]}}' % ",".join([*actions, "5"]).encode())
    results = answer.json()["data"]
    assert [result["body"]["body"] for result in results[:3]] == [hosting.body_of(text) for text in data]
    assert [result["body"]["query"] for result in results[:3]] == ["limit=0", "limit=1", "limit=2"]
    options = action("/echo", data={"q": ["a", 1.5, True]}, options={"offset": "x=", "fields": ["a", "b"]})
    [result] = await hosting.batch(options)
    joined, repeated = "q=a%2C1.5%2Ctrue&offset=x%3D&opt_fields=a%2Cb", "q=a&q=1.5&q=true&offset=x%3D&fields=a&fields=b"
    assert result["body"]["query"] == (joined if hosting.dialect == "asana" else repeated)


@everywhere
async def test_cookies_go_to_the_batchs_own_answer(make: Make) -> None:
    """“`Set-Cookie` of an action goes to the batch's own answer, in action order, and never into the JSON”, the last of several,
    and without a `Path` with “the one that a browser would have given it for the action's own path”"""
    hosting = make(result_headers="*")
    answer = await hosting.post(envelope(action("/cookie"), action("/echo"), action("/cookie")))
    assert answer.all(b"set-cookie") == [b"a=1; HttpOnly; Path=%b" % ((hosting.root_path + hosting.base).encode() or b"/")]
    assert b"HttpOnly" not in answer.body
    assert answer.all(b"content-type") == [b"application/json; charset=utf-8"]
    assert (answer.all(b"cache-control"), answer.all(b"x-content-type-options")) == ([b"no-store"], [b"nosniff"])


# The README's limit: a generator that is cut off, as that of Starlette's middleware, is closed by the loop; of which trio warns.
@pytest.mark.filterwarnings("ignore:Async generator .*body_stream:ResourceWarning")
@everywhere
async def test_an_action_that_fails_hangs_or_overflows_is_its_own_error(make: Make) -> None:
    """“One action never touches another's result: not by an exception …, a timeout, an endless stream or an oversized answer”"""
    hosting = make(max_result_size=2000)
    results = await hosting.batch(*[action(path) for path in ("/echo", "/fails", "/big")], action("/echo", "head"))
    assert [result["status_code"] for result in results] == [200, 500, 502, 200]
    assert results[3] == {"status_code": 200, "headers": {}, "body": {}}
    assert "secret" not in json.dumps(results)
    # And the next is answered.
    assert [result["status_code"] for result in await hosting.batch(action("/echo"))] == [200]
    results = await make(action_timeout=0.05).batch(action("/never"), 5, action("/never"))
    assert [result["status_code"] for result in results] == [504, 400, 504]
    assert "outcome is unknown" in messages(results[0])[0]
    gc.collect()
