"""``BatchTransport``: threads share batches, and none is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from starlette.responses import Response

from batchkit.client import BatchTransport
from tests.client.test_client import ENDS, HEAD, NINE, WINDOW, Charge, answering, at_batch, refused, tasks, warnings
from tests.recorded import Recorded


@pytest.fixture
def server() -> Iterator[Recorded]:
    with Recorded().serving() as recorded:
        yield recorded


@contextmanager
def client_of(server: Recorded, max_actions: int, **options: Any) -> Iterator[httpx2.Client]:
    """A client whose batches are sent as soon as they are full, and no sooner, however busy the machine is."""
    transport = BatchTransport(url=server.url + "/batch", max_actions=max_actions, **{"window": 60.0, **options})
    with httpx2.Client(transport=transport, base_url=server.url, timeout=60) as client:
        yield client


def at_once(client: httpx2.Client, *paths: str) -> list[Any]:
    """What GETs of these paths, each made in a thread of its own at the same moment, come to."""
    together = threading.Barrier(len(paths))

    def get(path: str) -> httpx2.Response | Exception:
        together.wait()
        try:
            return client.get(path)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(paths)) as threads:
        return list(threads.map(get, paths))


def test_threads_share_a_batch(server: Recorded) -> None:
    """ "callers in several threads within the window share a batch" """
    with client_of(server, 10) as client:
        responses = at_once(client, *tasks(*range(10)))
    assert [response.json()["data"]["gid"] for response in responses] == [str(number) for number in range(10)]
    assert server.seen == [("POST", "/batch")]


def test_more_than_max_actions_are_split(server: Recorded) -> None:
    with client_of(server, 5) as client:
        responses = at_once(client, *tasks(*range(25)))
    assert [response.json()["data"]["gid"] for response in responses] == [str(number) for number in range(25)]
    assert server.seen == [("POST", "/batch")] * 5


def test_a_lone_request_is_not_wrapped(server: Recorded) -> None:
    with client_of(server, 10, window=WINDOW) as client:
        assert client.get("/tasks/1").json() == {"data": {"gid": "1"}}
    assert server.seen == [("GET", "/tasks/1")]


def test_a_batch_needs_no_thread_of_its_own(server: Recorded) -> None:
    """ "one leader thread sends (no background thread left behind)" """
    with client_of(server, 3) as client:
        before = threading.active_count()
        at_once(client, *tasks(1, 2, 3))
        assert threading.active_count() <= before


def test_a_connection_is_used_again(server: Recorded) -> None:
    """What is left of an answer after its last result is read by who had that result."""
    ports = set()

    class Watched(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            response = super().handle_request(request)
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
            return response

    with client_of(server, 3, transport=Watched()) as client:
        for _ in range(3):
            at_once(client, *tasks(1, 2, 3))
    assert (server.batches, len(ports)) == (3, 1)


def test_fast_results_do_not_wait_for_a_slow_one(server: Recorded) -> None:
    """Whoever sends the batch has its own answer at once too: another thread reads on."""
    arrived: list[httpx2.Response] = []

    def get(path: str) -> None:
        arrived.append(client.get(path))
        if len(arrived) == 9:
            server.open.set()

    with client_of(server, 10) as client, ThreadPoolExecutor(10) as threads:
        list(threads.map(get, [*tasks(*range(9)), "/slow"]))
    assert arrived[-1].json() == "slow"
    assert server.seen == [("POST", "/batch")]


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_broken_off_stream_fails_only_what_had_not_arrived(end: bytes) -> None:
    with answering(HEAD + NINE + end) as server, client_of(server, 10) as client:
        outcomes = at_once(client, *tasks(*range(10)))
    [failed] = [index for index, outcome in enumerate(outcomes) if type(outcome) is httpx2.RemoteProtocolError]
    assert outcomes.pop(failed).request.url.path == f"/tasks/{failed}"
    assert sorted(response.json() for response in outcomes) == list(range(9))


def test_a_batch_that_is_refused_for_now_is_sent_again() -> None:
    with Recorded().serving(cost_hook=Charge(1)) as server, client_of(server, 2) as client:
        assert [response.status_code for response in at_once(client, *tasks(1, 2))] == [200, 200]
    assert server.seen == [("POST", "/batch")] * 2


def test_a_server_without_a_batch_endpoint_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with Recorded(answer=at_batch(lambda: Response(status_code=404))).serving() as server, client_of(server, 2) as client:
        # So long a window is told of.
        caplog.clear()
        for _ in range(2):
            assert [response.status_code for response in at_once(client, *tasks(1, 2))] == [200, 200]
    assert server.batches == 1
    assert warnings(caplog) == [refused(server, 404, "Not Found")]


def test_an_endpoint_of_another_dialect_makes_no_other_requests_of_them(caplog: pytest.LogCaptureFixture) -> None:
    with Recorded().serving(dialect="plain") as server, client_of(server, 2) as client:
        caplog.clear()
        answers = at_once(client, *["/query/1?limit=5&opt_fields=a"] * 2)
        assert [response.json() for response in answers] == ["limit=5&opt_fields=a"] * 2
    assert sorted(server.seen) == [("GET", "/query/1")] * 2 + [("POST", "/batch")]
    [said] = warnings(caplog)
    assert "The dialect of this endpoint is 'plain': tell your client so" in said


def test_an_interrupted_thread_leaves_the_others_an_error(server: Recorded) -> None:
    """Control-C in the thread that sends: nobody else waits for ever."""

    class Interrupted(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            raise KeyboardInterrupt

    outcomes: list[BaseException] = []

    def get() -> None:
        try:
            client.get("/tasks/1")
        except BaseException as error:
            outcomes.append(error)

    with client_of(server, 3, transport=Interrupted()) as client:
        threads = [threading.Thread(target=get) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["KeyboardInterrupt", "ReadError", "ReadError"]
