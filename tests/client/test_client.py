"""``AsyncBatchTransport``: what travels together, and what happens when something does not go as it should."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from threading import Thread
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from msgspec import Raw
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Scope

from batchkit import Batch, TooManyRequests
from batchkit._protocol.dialects import DIALECTS, ReadResult
from batchkit.client import AsyncBatchTransport
from batchkit.client.responses import is_refusal
from tests.recorded import Recorded

pytestmark = pytest.mark.anyio

# In seconds: long enough for all to share it, however busy the machine is.
WINDOW = 0.05


@pytest.fixture
def server() -> Iterator[Recorded]:
    with Recorded().serving(max_result_size=4000) as recorded:
        yield recorded


@asynccontextmanager
async def client_of(server: Recorded, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    transport = AsyncBatchTransport(url=server.url + "/batch", **{"window": WINDOW, **options})
    async with httpx2.AsyncClient(transport=transport, base_url=server.url, timeout=60) as client:
        yield client


Outcome = httpx2.Response | httpx2.RequestError


async def at_once(client: httpx2.AsyncClient, *paths: str, **keywords: Any) -> list[Any]:
    """What GETs of these paths, made at the same moment, come to."""
    return await all_of(client, *(client.build_request("GET", path, **keywords) for path in paths))


async def all_of(client: httpx2.AsyncClient, *requests: httpx2.Request) -> list[Any]:
    outcomes: dict[int, Outcome] = {}

    async def send(index: int, request: httpx2.Request) -> None:
        try:
            outcomes[index] = await client.send(request)
        except httpx2.RequestError as error:
            outcomes[index] = error

    async with anyio.create_task_group() as tasks:
        for index, request in enumerate(requests):
            tasks.start_soon(send, index, request)
    return [outcomes[index] for index in range(len(requests))]


def tasks(*numbers: int) -> list[str]:
    return [f"/tasks/{number}" for number in numbers]


# What shares a batch


async def test_requests_of_the_same_moment_travel_as_one_batch(server: Recorded) -> None:
    """ "ordinary requests made in the same moment travel as one batch and come back as ordinary Response objects" """
    async with client_of(server) as client:
        responses = await at_once(client, *tasks(*range(10)))
    assert server.seen == [("POST", "/batch")]
    assert [response.json()["data"]["gid"] for response in responses] == [str(number) for number in range(10)]
    assert all(response.request.url.path == f"/tasks/{number}" for number, response in enumerate(responses))


async def test_more_than_max_actions_are_split(server: Recorded) -> None:
    """ "at most max_actions; … more are split and sent side by side" """
    async with client_of(server) as client:
        responses = await at_once(client, *tasks(*range(25)))
    assert [response.json()["data"]["gid"] for response in responses] == [str(number) for number in range(25)]
    assert server.seen == [("POST", "/batch")] * 3


async def test_a_batch_is_no_larger_than_the_server_takes(server: Recorded) -> None:
    async with client_of(server, max_body_size=500) as client:
        requests = [client.build_request("POST", "/tasks/1", json={"data": {"name": "x" * 150}}) for _ in range(4)]
        large = client.build_request("POST", "/tasks/1", json={"data": {"name": "x" * 600}})
        responses = await all_of(client, *requests, large)
    assert {response.status_code for response in responses} == {201}
    assert sorted(server.seen) == [("POST", "/batch")] * 2 + [("POST", "/tasks/1")]


async def test_a_lone_request_is_not_wrapped(server: Recorded) -> None:
    """ "a lone request is not wrapped" """
    async with client_of(server) as client:
        assert (await client.get("/tasks/1")).json() == {"data": {"gid": "1"}}
    assert server.seen == [("GET", "/tasks/1")]


async def test_one_batch_per_set_of_header_fields_and_timeout(server: Recorded) -> None:
    """ "one batch per set of forwarded headers" """
    async with client_of(server) as client:
        groups: list[dict[str, Any]] = [{}, {"headers": {"authorization": "Bearer a"}}, {"timeout": 30}]
        requests = [client.build_request("GET", "/tasks/1", **keywords) for keywords in groups for _ in range(2)]
        responses = await all_of(client, *requests)
    assert [response.status_code for response in responses] == [200] * 6
    assert server.seen == [("POST", "/batch")] * 3


async def test_redirects_are_followed_as_ever(server: Recorded) -> None:
    """A redirect is the client's to follow, with a request of its own, which may share a batch again."""
    async with client_of(server) as client:
        client.follow_redirects = True
        post = client.build_request("POST", "/tasks/2/", json={"data": {"name": "x"}})
        responses = await all_of(client, client.build_request("GET", "/tasks/1/"), post)
    assert [response.json() for response in responses] == [{"data": {"gid": "1"}}, {"data": {"name": "x"}}]
    assert [[first.status_code for first in response.history] for response in responses] == [[307]] * 2
    assert server.seen == [("POST", "/batch")] * 2


async def test_what_says_so_stays_out(server: Recorded) -> None:
    async with client_of(server) as client:
        await at_once(client, *tasks(1, 2), extensions={"batch": False})
    assert sorted(server.seen) == [("GET", "/tasks/1"), ("GET", "/tasks/2")]


def test_a_transport_serves_one_event_loop_after_another(server: Recorded, anyio_backend: str) -> None:
    transport = AsyncBatchTransport(url=server.url + "/batch", window=WINDOW)

    async def ask() -> None:
        # Not closed: another loop goes on with it.
        client = httpx2.AsyncClient(transport=transport, base_url=server.url, headers={"connection": "close"}, timeout=60)
        requests = [client.build_request("POST", "/tasks/1", json={"data": {}}, headers={"connection": "keep-alive"})] * 2
        assert [response.status_code for response in await all_of(client, *requests)] == [201, 201]
        await transport.aclose()

    for _ in range(2):
        anyio.run(ask, backend=anyio_backend)
    assert server.seen == [("POST", "/batch")] * 2


# What the server does not let into a batch


async def test_a_route_that_is_refused_is_remembered(server: Recorded) -> None:
    """ "routes the server refused to batch: remembered" """
    async with client_of(server) as client:
        for _ in range(2):
            responses = await at_once(client, "/closed/1", "/closed/2", *tasks(1, 2))
            assert [response.json() for response in responses[:2]] == [False, False]
    assert server.batches == 2
    assert sorted(server.seen) == sorted([("POST", "/batch"), ("GET", "/closed/1"), ("GET", "/closed/2")] * 2)


REFUSED = "data.actions[1]: This action cannot be used in a batch request"


@pytest.mark.parametrize(
    ("said", "refused"),
    [(REFUSED, True), (f"{REFUSED}: its routes changed", True), (f"name {REFUSED!r} is taken", False), (REFUSED[16:], False)],
)
@pytest.mark.parametrize("index", [0, 1])
def test_a_handler_that_says_nearly_the_same_has_run(said: str, refused: bool, index: int) -> None:
    """Its request is not sent a second time: it may have taken effect."""
    result = ReadResult(400, {}, Raw(json.dumps({"errors": [{"message": said}]}).encode()))
    assert is_refusal(result, index, "POST", DIALECTS["asana"]) == (refused and index == 1)


async def test_an_answer_too_large_for_a_result_is_asked_for_alone(server: Recorded) -> None:
    async with client_of(server) as client:
        response, _ = await at_once(client, "/big", "/tasks/1")
    assert response.json() == "x" * 5000
    assert server.seen == [("POST", "/batch"), ("GET", "/big")]


async def test_so_is_one_that_is_too_large_only_as_it_stands_in_a_batch(server: Recorded) -> None:
    async with client_of(server) as client:
        fits, response, _ = await at_once(client, "/big?binary=3000", "/big?binary=3001", "/tasks/1")
    assert (fits.content, response.content) == (b"\xff" * 3000, b"\xff" * 3001)
    assert server.seen == [("POST", "/batch"), ("GET", "/big")]


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "Not Found"), (405, "Method Not Allowed"), (415, "Unsupported Media Type"), (307, "it redirects to /x")],
)
async def test_a_server_without_a_batch_endpoint_is_left_alone(
    status: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """ "server without a batch endpoint (404/405/415) noticed once and left alone" """
    with Recorded(answer=at_batch(lambda: PlainTextResponse("?", status, {"location": "/x"}))).serving() as server:
        async with client_of(server) as client:
            for _ in range(2):
                assert [response.status_code for response in await at_once(client, *tasks(1, 2))] == [200, 200]
    assert server.batches == 1
    assert sorted(server.ran) == ["1", "1", "2", "2"]
    assert warnings(caplog) == [refused(server, status, reason)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "batchkit"]


def refused(server: Recorded, status: int, reason: str) -> str:
    """What is logged, once, of a status that the client's own set-up is the reason for."""
    return f"POST {server.url}/batch was answered {status} ({reason}): its requests go out one by one"


@pytest.mark.parametrize(("dialect", "other"), [("asana", "plain"), ("plain", "asana")])
async def test_an_endpoint_of_another_dialect_makes_no_other_requests_of_them(
    dialect: str, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Recorded().serving(dialect=dialect) as server:
        async with client_of(server, dialect=other) as client:
            for number in range(2):
                get = client.build_request("GET", "/query/1?limit=5&offset=a&opt_fields=name")
                post = client.build_request("POST", "/tasks/2", json={"data": {"name": number}})
                read, written = await all_of(client, get, post)
                assert read.json() == "limit=5&offset=a&opt_fields=name"
                assert (written.status_code, written.json()) == (201, {"data": {"name": number}})
    assert sorted(server.seen) == sorted([("POST", "/batch"), *[("GET", "/query/1"), ("POST", "/tasks/2")] * 2])
    assert server.ran == ["2", "2"]
    told = f"The dialect of this endpoint is '{dialect}': tell your client so"
    assert warnings(caplog) == [refused(server, 415, told)]


@pytest.mark.parametrize("dialect", ["asana", "plain"])
async def test_an_endpoint_of_its_own_dialect_makes_just_these_requests(dialect: str, caplog: pytest.LogCaptureFixture) -> None:
    with Recorded().serving(dialect=dialect) as server:
        async with client_of(server, dialect=dialect) as client:
            get = client.build_request("GET", "/query/1?limit=5&offset=a&opt_fields=name")
            post = client.build_request("POST", "/tasks/2", json={"data": {"name": 1}})
            read, written = await all_of(client, get, post)
    assert (read.json(), written.json()) == ("limit=5&offset=a&opt_fields=name", {"data": {"name": 1}})
    assert server.seen == [("POST", "/batch")]
    assert warnings(caplog) == []


def at_batch(respond: Callable[[], Response]) -> Callable[[Scope], Response | None]:
    return lambda scope: respond() if scope["path"] == "/batch" else None


# What is refused as a whole


async def test_a_batch_that_is_refused_for_itself_goes_out_as_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Section 1: "then no action ran and nothing was charged"."""
    with Recorded(answer=at_batch(lambda: PlainTextResponse("who?", 401))).serving() as server:
        async with client_of(server) as client:
            assert [response.status_code for response in await at_once(client, *tasks(1, 2))] == [200, 200]
            await at_once(client, *tasks(1, 2))
    assert server.batches == 2
    # It is no news to who is not known here.
    assert warnings(caplog) == []


async def test_more_actions_than_the_server_takes_go_out_as_requests(caplog: pytest.LogCaptureFixture) -> None:
    with Recorded().serving(max_actions=2) as server:
        async with client_of(server) as client:
            for _ in range(2):
                assert [response.status_code for response in await at_once(client, *tasks(1, 2, 3))] == [200] * 3
    assert (server.batches, sorted(server.ran)) == (2, ["1", "1", "2", "2", "3", "3"])
    assert warnings(caplog) == [refused(server, 400, "Batch requests must contain no more than 2 actions")]


async def test_more_than_the_server_reads_goes_out_as_requests(caplog: pytest.LogCaptureFixture) -> None:
    with Recorded().serving(max_body_size=100) as server:
        async with client_of(server) as client:
            assert [response.status_code for response in await at_once(client, *tasks(1, 2, 3))] == [200] * 3
    assert (server.batches, sorted(server.ran)) == (1, ["1", "2", "3"])
    assert warnings(caplog) == [refused(server, 413, "The request body is larger than 100 bytes")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"errors":[{"message":"no\\n\\tbatch"}]}', "no batch"),
        *((content, "Bad Request") for content in (b"", b"<p>", b"[]", b'{"errors":[]}', b'{"errors":[{"message":5}]}')),
        (b"[" * 100_000, "Bad Request"),
    ],
)
async def test_whatever_a_server_says_is_a_line_of_the_log(content: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    with Recorded(answer=at_batch(lambda: Response(content, 400))).serving() as server:
        async with client_of(server) as client:
            assert [response.status_code for response in await at_once(client, *tasks(1, 2))] == [200, 200]
    assert warnings(caplog) == [refused(server, 400, reason)]


async def test_a_password_in_the_url_stays_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with Recorded(answer=at_batch(lambda: Response(status_code=404))).serving() as server:
        url = httpx2.URL(server.url).copy_with(username="me", password="secret")
        async with httpx2.AsyncClient(transport=AsyncBatchTransport(url=f"{url}/batch", window=WINDOW)) as client:
            await at_once(client, f"{server.url}/tasks/1", f"{server.url}/tasks/2")
    assert warnings(caplog) == [refused(server, 404, "Not Found")]


class Charge:
    """A cost hook that refuses so many times."""

    def __init__(self, times: int, retry_after: float | None = 1) -> None:
        self.times, self.retry_after = times, retry_after

    async def __call__(self, batch: Batch) -> None:
        if self.times:
            self.times -= 1
            raise TooManyRequests("not now", retry_after=self.retry_after)


async def test_a_batch_that_is_refused_for_now_is_sent_again() -> None:
    """ "A whole-batch 429 with Retry-After waits and sends again, bounded (nothing ran)" """
    with Recorded().serving(cost_hook=Charge(1)) as server:
        async with client_of(server) as client:
            assert [response.status_code for response in await at_once(client, *tasks(1, 2))] == [200, 200]
    assert server.seen == [("POST", "/batch")] * 2


async def test_who_has_waited_enough_gets_the_429() -> None:
    """ "bounded (max wait …), then each caller gets the 429 as its response" """
    with Recorded().serving(cost_hook=Charge(100)) as server:
        async with client_of(server, max_wait=0.5) as client:
            responses = await at_once(client, *tasks(1, 2))
    assert [(response.status_code, response.headers["retry-after"]) for response in responses] == [(429, "1")] * 2
    assert responses[0].json()["errors"][0]["message"] == "not now"
    assert (server.seen, server.ran) == ([("POST", "/batch")], [])


async def test_who_waits_for_nothing_still_shares_what_runs_now() -> None:
    with Recorded().serving(cost_hook=Charge(100)) as server:
        async with client_of(server, window=0, max_wait=0) as client:
            assert [response.status_code for response in await at_once(client, *tasks(1, 2))] == [429, 429]
    assert server.seen == [("POST", "/batch")]


async def test_a_batch_that_nobody_says_when_to_repeat_goes_out_as_requests(caplog: pytest.LogCaptureFixture) -> None:
    """A batch larger than the limit never passes, and where slots are taken nobody knows: alone, some may."""
    with Recorded().serving(cost_hook=Charge(1, None)) as server:
        async with client_of(server) as client:
            assert [response.status_code for response in await at_once(client, *tasks(1, 2))] == [200, 200]
    assert server.batches == 1
    assert warnings(caplog) == []


async def test_an_error_of_the_server_is_the_answer_to_each() -> None:
    async def unreachable(batch: Batch) -> None:
        raise OSError

    with Recorded().serving(cost_hook=unreachable) as server:
        async with client_of(server) as client:
            responses = await at_once(client, *tasks(1, 2))
    assert [(response.status_code, len(response.json()["errors"])) for response in responses] == [(503, 1)] * 2
    assert (server.seen, server.ran) == ([("POST", "/batch")], [])


async def test_an_error_has_no_content_for_a_head() -> None:
    with Recorded(answer=at_batch(lambda: PlainTextResponse("sorry", 503))).serving() as server:
        async with client_of(server) as client:
            head, get = await all_of(client, client.build_request("HEAD", "/tasks/1"), client.build_request("GET", "/tasks/1"))
    assert (head.status_code, head.content, get.text) == (503, b"", "sorry")


async def test_an_action_whose_outcome_is_unknown_is_not_repeated(server: Recorded) -> None:
    """ "a 504 'outcome unknown' is never repeated" """
    async with client_of(server) as client:
        late, task = await at_once(client, "/overdue", "/tasks/1")
    assert (late.status_code, task.status_code) == (504, 200)
    assert sorted(server.ran) == ["1", "overdue"]


@pytest.mark.parametrize("content", [b"[]", b"<html>", b'{"data":[]}', b'{"data":[{}]}', b'{"data":[{"status_code":200}'])
async def test_who_answers_something_else_is_not_believed(content: bytes) -> None:
    answer = at_batch(lambda: Response(content, media_type="application/json"))
    with Recorded(answer=answer).serving() as server:
        async with client_of(server) as client:
            errors = await at_once(client, *tasks(1, 2))
    assert [type(error) for error in errors] == [httpx2.RemoteProtocolError] * 2
    assert [error.request.url.path for error in errors] == tasks(1, 2)
    assert server.ran == []


async def test_a_result_that_cannot_be_read_fails_only_its_own_request() -> None:
    results = [
        {"status_code": 200, "headers": {"content-type": "text/plain; charset=nonsense"}, "body": "a"},
        {"status_code": 200, "headers": {}, "body": "*", "body_encoding": "base64"},
        {"status_code": 200, "headers": {}, "body": 3},
    ]
    with Recorded(answer=at_batch(lambda: JSONResponse({"data": results}))).serving() as server:
        async with client_of(server) as client:
            outcomes = await at_once(client, *tasks(1, 2, 3))
    # On trio tasks start in any order, and so each action may be any request.
    [response] = [outcome for outcome in outcomes if type(outcome) is not httpx2.RemoteProtocolError]
    assert response.json() == 3


@pytest.mark.parametrize("charset", ["punycode", "idna", "utf-7", "unicode_escape", "rot13", "x" * 5000])
async def test_text_is_only_in_charsets_that_a_batch_endpoint_decodes(charset: str) -> None:
    """Python has others: some take quadratic time, and an unknown name is remembered for ever."""
    result = {"status_code": 200, "headers": {"content-type": f"text/plain; charset={charset}"}, "body": "text"}
    with Recorded(answer=at_batch(lambda: JSONResponse({"data": [result, result]}))).serving() as server:
        async with client_of(server) as client:
            errors = await at_once(client, *tasks(1, 2))
    expected = "A result of a batch cannot be read: it is text in a charset that no batch endpoint decodes"
    assert [str(error) for error in errors] == [expected] * 2


async def test_each_caller_has_an_error_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with client_of(Recorded(url)) as client:
        errors = await at_once(client, *tasks(1, 2))
    assert [type(error) for error in errors] == [httpx2.ConnectError] * 2
    assert [error.request.url.path for error in errors] == tasks(1, 2)


async def test_the_timeout_of_the_client_holds_for_the_batch(server: Recorded) -> None:
    async with client_of(server) as client:
        errors = await at_once(client, "/slow", "/slow", timeout=httpx2.Timeout(60, read=0.05))
    assert [type(error) for error in errors] == [httpx2.ReadTimeout] * 2


async def test_cookies_of_actions_come_to_the_clients_jar(server: Recorded) -> None:
    async with client_of(server, stream=False) as client:
        await at_once(client, "/tasks/1", "/login")
        assert client.cookies["session"] == "1"


async def test_a_batch_that_writes_is_no_stream_and_keeps_its_cookies(server: Recorded) -> None:
    """A stream's header goes out with its first line, before the cookies of an action that ends later."""
    asked: list[bytes] = []
    server.answer = lambda scope: asked.append(dict(scope["headers"])[b"accept"])
    async with client_of(server) as client, anyio.create_task_group() as group:
        group.start_soon(partial(client.post, "/login", json={"data": {}}))
        group.start_soon(client.get, "/tasks/1")
    assert (asked, server.seen) == ([b"*/*"], [("POST", "/batch")])
    assert client.cookies["session"] == "1"


# Who is cancelled


async def test_a_cancelled_caller_does_not_cancel_the_others(server: Recorded) -> None:
    """ "a cancelled caller does not cancel the others" """
    responses = []

    async def ask(client: httpx2.AsyncClient) -> None:
        responses.append(await client.get("/slow"))

    async with client_of(server) as client, anyio.create_task_group() as group:
        scope = anyio.CancelScope()
        group.start_soon(ask, client)
        with scope:
            group.start_soon(cancel_when_sent, server, scope)
            await client.get("/slow")
        assert scope.cancelled_caught
        server.open.set()
    assert [response.json() for response in responses] == ["slow"]
    assert server.seen == [("POST", "/batch")]


async def cancel_when_sent(server: Recorded, scope: anyio.CancelScope) -> None:
    await anyio.to_thread.run_sync(server.batched.wait)
    scope.cancel()


class Watched(httpx2.AsyncHTTPTransport):
    """Tells when a request of its is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = anyio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return await super().handle_async_request(request)
        except anyio.get_cancelled_exc_class():
            self.cancelled.set()
            raise


async def test_a_batch_whose_callers_are_all_cancelled_is_cancelled(server: Recorded) -> None:
    """ "and if all are cancelled, the batch is" """
    watched = Watched()
    async with client_of(server, transport=watched, stream=False) as client:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(client.get, "/slow")
            group.start_soon(cancel_when_sent, server, group.cancel_scope)
        # It has a task of its own, which ends soon.
        await watched.cancelled.wait()


async def test_a_caller_who_leaves_in_the_window_is_not_sent(server: Recorded) -> None:
    async with client_of(server) as client, anyio.create_task_group() as group:
        with anyio.move_on_after(0):
            await client.get("/tasks/1")
        for number in (2, 3):
            group.start_soon(client.get, f"/tasks/{number}")
    assert (server.batches, sorted(server.ran)) == (1, ["2", "3"])


# Results as they come


async def test_fast_results_do_not_wait_for_a_slow_one(server: Recorded) -> None:
    """ "nine fast actions are in the client's hands while the tenth still sleeps (ordered by events, not timed)" """
    arrived: list[httpx2.Response] = []

    async def ask(path: str) -> None:
        arrived.append(await client.get(path))
        if len(arrived) == 9:
            server.open.set()

    async with client_of(server) as client, anyio.create_task_group() as group:
        for path in ["/slow", *tasks(*range(9))]:
            group.start_soon(ask, path)
    assert [response.json() for response in arrived][-1] == "slow"
    assert server.seen == [("POST", "/batch")]


LINE = b'{"index":%d,"status_code":200,"headers":{},"body":%d}\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


@contextmanager
def answering(answer: bytes) -> Iterator[Recorded]:
    """A server that sends these bytes for the first request that it gets, and hangs up."""

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            received = b""
            while not received.endswith(b"]}}"):
                received += connection.recv(2**16)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=run)
        thread.start()
        yield Recorded(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


NINE = b"".join(chunk(LINE % (index, index)) for index in range(9))
ENDS = {
    "hangs up": b"",
    "hangs up in a line": chunk((LINE % (9, 9))[:20]),
    "ends": b"0\r\n\r\n",
    "says it twice": chunk(LINE % (3, 3)) + b"0\r\n\r\n",
    "says something else": chunk(b"?\n") + b"0\r\n\r\n",
    "has one too many": chunk(LINE % (10, 10)) + b"0\r\n\r\n",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_a_broken_off_stream_fails_only_what_had_not_arrived(end: bytes) -> None:
    """ "a broken-off stream fails only what had not arrived" """
    with answering(HEAD + NINE + end) as server:
        async with client_of(server) as client:
            outcomes = await at_once(client, *tasks(*range(10)))
    # On trio the tenth action may be any request, as above.
    [failed] = [index for index, outcome in enumerate(outcomes) if type(outcome) is httpx2.RemoteProtocolError]
    assert outcomes.pop(failed).request.url.path == f"/tasks/{failed}"
    assert sorted(response.json() for response in outcomes) == list(range(9))


async def test_a_line_may_come_in_pieces() -> None:
    lines = b"".join(LINE % (index, index) for index in (2, 0, 1))
    pieces = b"".join(chunk(lines[start : start + 7]) for start in range(0, len(lines), 7))
    with answering(HEAD + pieces + b"0\r\n\r\n") as server:
        async with client_of(server) as client:
            assert sorted(response.json() for response in await at_once(client, *tasks(0, 1, 2))) == [0, 1, 2]


async def test_closing_ends_what_is_under_way(server: Recorded) -> None:
    transport = AsyncBatchTransport(url=server.url + "/batch", window=WINDOW)
    client = httpx2.AsyncClient(transport=transport, base_url=server.url, timeout=60)
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            with pytest.raises(httpx2.ReadError, match="closed"):
                await client.get("/slow")

        for _ in range(2):
            group.start_soon(ask)
        await anyio.to_thread.run_sync(server.batched.wait)
        await client.aclose()


async def test_asyncio_needs_no_more_than_its_own_tasks(server: Recorded, anyio_backend: str) -> None:
    if anyio_backend != "asyncio":
        pytest.skip("trio has no other kind of task")
    async with client_of(server) as client:
        responses = await asyncio.gather(*(client.get(path) for path in tasks(1, 2, 3)))
    assert [response.status_code for response in responses] == [200] * 3
    assert server.seen == [("POST", "/batch")]
