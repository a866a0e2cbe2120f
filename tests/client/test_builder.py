"""``BatchClient``: batches made by hand, asynchronous and synchronous."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx2
import pytest

from batchkit.client import Batch, BatchClient
from tests.client.test_client import HEAD, NINE, answering, tasks
from tests.recorded import Recorded

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[Recorded]:
    with Recorded().serving() as recorded:
        yield recorded


def fill(batch: Batch) -> None:
    """One of each, and what cannot be in a batch."""
    batch.get("/tasks/1")
    batch.post("/tasks/2", json={"data": {"name": "Water the beans"}})
    batch.put("/tasks/3", json={"data": {}})
    batch.patch("/tasks/4", json={"data": {"name": 1}})
    batch.delete("/tasks/5")
    batch.head("/tasks/6")
    batch.get("/closed/7")
    batch.post("/tasks/8", json=[1])
    batch.get("/tasks/9", headers={"range": "bytes=0-1"})


def check(responses: list[httpx2.Response], server: Recorded) -> None:
    assert [response.status_code for response in responses] == [200, 201, 201, 201, 201, 201, 200, 201, 200]
    assert responses[1].json() == {"data": {"name": "Water the beans"}}
    assert responses[1].headers["location"] == "/tasks/7"
    assert (responses[5].content, responses[6].json(), responses[7].json()) == (b"", False, [1])
    assert [response.request.method for response in responses[:3]] == ["GET", "POST", "PUT"]
    alone = [("GET", "/closed/7"), ("GET", "/tasks/9"), ("POST", "/batch"), ("POST", "/tasks/8")]
    assert sorted(server.seen) == alone


async def test_requests_are_sent_as_one_batch(server: Recorded) -> None:
    """ "b.get(...), b.post(...), results = await b.send(), … results in order" """
    async with BatchClient(server.url) as client:
        batch = client.batch()
        fill(batch)
        check(await batch.send(), server)


def test_without_an_event_loop_too(server: Recorded) -> None:
    before = threading.active_count()
    with BatchClient(server.url) as client:
        batch = client.batch()
        fill(batch)
        check(batch.send_sync(), server)
    assert threading.active_count() <= before


async def test_more_than_max_actions_are_split(server: Recorded) -> None:
    """ "split beyond the limit, results in order" """
    async with BatchClient(server.url) as client:
        batch = client.batch()
        for path in tasks(*range(25)):
            batch.get(path)
        assert [response.json()["data"]["gid"] for response in await batch.send()] == [str(number) for number in range(25)]
    assert server.seen == [("POST", "/batch")] * 3


def test_more_than_max_actions_are_split_without_an_event_loop(server: Recorded) -> None:
    with BatchClient(server.url, max_actions=2) as client:
        batch = client.batch()
        for path in tasks(*range(5)):
            batch.get(path)
        assert [response.json()["data"]["gid"] for response in batch.send_sync()] == [str(number) for number in range(5)]
    assert sorted(server.seen) == [("GET", "/tasks/4"), *[("POST", "/batch")] * 2]


async def test_the_client_that_it_is_given_sends_and_stays_open(server: Recorded) -> None:
    async with httpx2.AsyncClient(auth=("me", "secret"), headers={"x-tenant": "a"}) as own:
        async with BatchClient(server.url, own) as client:
            batch = client.batch()
            for path in tasks(1, 2):
                batch.get(path)
            assert [response.status_code for response in await batch.send()] == [200, 200]
            with pytest.raises(TypeError, match="await send"):
                batch.send_sync()
        assert not own.is_closed
    with httpx2.Client() as blocking, pytest.raises(TypeError, match=r"send_sync\(\)"):
        await BatchClient(server.url, blocking).batch().send()


@pytest.mark.parametrize("base_url", ["", "/"])
async def test_paths_are_joined_as_a_client_joins_them_to_its_base_url(server: Recorded, base_url: str) -> None:
    """With or without a slash, whatever client sends; and a whole URL is what it says."""
    for path in ("tasks/1?limit=2", "/tasks/1?limit=2", httpx2.URL("/tasks/1?limit=2"), server.url + "/tasks/1?limit=2"):
        async with (
            httpx2.AsyncClient(base_url="http://another.example") as own,
            BatchClient(server.url + base_url, own) as client,
        ):
            batch = client.batch()
            batch.get(path)
            batch.get("tasks/2")
            first, second = await batch.send()
        async with httpx2.AsyncClient(base_url=server.url) as alone:
            assert first.request.url == (await alone.get(path)).request.url
        assert [response.json()["data"]["gid"] for response in (first, second)] == ["1", "2"]
    assert server.seen == [("POST", "/batch"), ("GET", "/tasks/1")] * 4


async def test_an_api_below_its_batch_endpoints_host_is_batched(server: Recorded) -> None:
    async with BatchClient(server.url + "/tasks", url=server.url + "/batch") as client:
        batch = client.batch()
        for path in ("1", "/2"):
            batch.get(path)
        assert [response.json()["data"]["gid"] for response in await batch.send()] == ["1", "2"]
    assert server.seen == [("POST", "/batch")]


async def test_an_empty_batch_has_no_results(server: Recorded) -> None:
    async with BatchClient(server.url) as client:
        assert await client.batch().send() == []
    assert server.seen == []


async def test_what_did_not_arrive_is_raised() -> None:
    with answering(HEAD + NINE) as server:
        async with BatchClient(server.url) as client:
            batch = client.batch()
            for path in tasks(*range(10)):
                batch.get(path)
            with pytest.raises(httpx2.RemoteProtocolError) as raised:
                await batch.send()
            # What failed is still there to be sent.
            with pytest.raises(httpx2.RequestError):
                await batch.send()
    assert raised.value.request.url.path == "/tasks/9"


def test_what_did_not_arrive_is_raised_without_an_event_loop() -> None:
    with answering(HEAD + NINE) as server, BatchClient(server.url) as client:
        batch = client.batch()
        for path in tasks(*range(10)):
            batch.get(path)
        with pytest.raises(httpx2.RemoteProtocolError) as raised:
            batch.send_sync()
    assert raised.value.request.url.path == "/tasks/9"


async def test_sent_again_a_batch_holds_what_was_added_since(server: Recorded) -> None:
    async with BatchClient(server.url) as client:
        batch = client.batch()
        for path in tasks(1, 2):
            batch.get(path)
        assert len(await batch.send()) == 2
        assert await batch.send() == []
        batch.get("/tasks/3")
        [third] = await batch.send()
    assert third.json()["data"]["gid"] == "3"
    assert server.seen == [("POST", "/batch"), ("GET", "/tasks/3")]


def test_sent_again_without_an_event_loop_too(server: Recorded) -> None:
    with BatchClient(server.url) as client:
        batch = client.batch()
        for path in tasks(1, 2):
            batch.get(path)
        assert [len(batch.send_sync()), len(batch.send_sync())] == [2, 0]
    assert server.seen == [("POST", "/batch")]
