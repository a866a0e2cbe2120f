"""The limiter over a Redis: many processes, one round trip, and a server that dies, hangs or answers errors."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from batchkit import BatchEndpoint, LimiterUnavailable, TooManyRequests
from batchkit.limiter import Concurrency, Limiter, LimitMiddleware, Rate, asana_limits, by_address
from batchkit.limiter.stores.redis import RedisStore
from batchkit.limiter.stores.store import Claim
from tests.asgi import lifespan, request
from tests.batches import action, envelope, post
from tests.benchmarks.limiter import a_batch, contend, crowd, trips
from tests.redises import RedisServer, serving_redis

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("apart", [0.0, 5.0])
def test_many_processes_admit_just_what_there_is(redis: RedisServer, apart: float) -> None:
    """“all or nothing …, and **no limiter is left charged**”: five processes of ten clients; their clocks have no say."""
    assert contend(redis, "two", 2, apart) == (30, {"user": 70, "team": 0})


def test_four_limits_of_different_cost(redis: RedisServer) -> None:
    assert contend(redis, "four", 2, 5.0) == (30, {"user": 70, "team": 2, "searches": 54, "writes": 54})


def test_many_processes_never_take_more_slots_than_there_are(redis: RedisServer) -> None:
    admitted, most, after = crowd(redis, 2)
    assert admitted >= 1
    assert (most <= 20, after) == (True, 0)


async def test_a_batch_is_one_round_trip_whatever_its_size_and_limits(redis: RedisServer) -> None:
    redis.ask("CONFIG RESETSTAT")
    redis.ask("SCRIPT FLUSH")
    await trips(redis.url, 20)
    # Of its own, the first learns the server's clock, and is the one whose script the server has not seen.
    assert redis.calls("evalsha") == 22
    assert redis.calls("eval") == 1


async def test_all_keys_have_one_hash_tag(redis: RedisServer) -> None:
    limits = [Rate(9, 60, name="a", key=lambda request: "}{x"), Concurrency(9, name="b")]
    async with Limiter(limits, redis.url, prefix="mine") as limiter, limiter(a_batch()):
        names = redis.keys()
        assert [name.startswith("{mine}:") for name in names] == [True, True]
    assert redis.taken() == 0


async def test_without_a_life_around_it_it_works_and_says_so(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter([Rate(10, 60, name="a"), Concurrency(10, name="b")], redis.url)
    for _ in range(2):
        async with limiter(a_batch()):
            assert redis.taken() == 5
    assert redis.taken() == 0
    with pytest.raises(TooManyRequests):
        await limiter(a_batch()).__aenter__()
    assert caplog.text.count("connects anew") == 1


@asynccontextmanager
async def limited(url: str, timeout: float, **middleware: Any) -> AsyncIterator[tuple[Starlette, list[int]]]:
    ran: list[int] = []

    async def task(request: Request) -> Response:
        ran.append(1)
        return Response()

    limiter = Limiter([Rate(100, 3600, name="all", key=lambda request: "k"), Concurrency(100, name="slots")], url)
    around = [Middleware(LimitMiddleware, limiter=limiter, limiter_timeout=timeout, **middleware)]
    app = Starlette(routes=[Route("/tasks", task)], middleware=around)
    BatchEndpoint(policy="all", cost_hook=limiter, limiter_timeout=timeout).mount_to(app)
    async with lifespan(app):
        yield app, ran


BODY = envelope(*[action("/tasks")] * 5)


async def both(app: Starlette) -> tuple[int, int]:
    return (await post(app, BODY)).status, (await request(app, "GET", "/tasks")).status


async def again(app: Starlette) -> None:
    """Wait until the limiter answers again: that many refused attempts more have charged nothing."""
    with anyio.fail_after(30):
        while (await request(app, "GET", "/tasks")).status == 503:
            pass


def left(redis: RedisServer) -> int:
    """What is left of the hundred."""
    until = int(redis.ask("GET {batchkit}:rate:all:k")[1])
    seconds, microseconds = redis.ask("TIME")[2::2]
    return int((100 * 36_000_000 - (until - int(seconds) * 1_000_000 - int(microseconds))) // 36_000_000)


async def test_a_server_that_is_stopped_and_started_again(own_redis: RedisServer) -> None:
    """“A limiter that cannot be reached …: 503 by default …”, nothing runs, and it counts again as soon as it is back."""
    async with limited(own_redis.url, 20) as (app, ran):
        assert await both(app) == (200, 200)
        own_redis.stop()
        assert [await both(app) for _ in range(3)] == [(503, 503)] * 3
        assert len(ran) == 6
        own_redis.start()
        await again(app)
        assert len(ran) == 7
        assert (await post(app, BODY)).status == 200
        # It came back empty: what it had counted before is lost, what it counts now is right.
        assert left(own_redis) == 94
        assert own_redis.taken() == 0


async def test_a_server_that_hangs_has_charged_nothing_when_it_wakes_up(own_redis: RedisServer) -> None:
    """“…or hangs: 503 by default (fail closed, within `limiter_timeout`)”: what it was sent meanwhile it does not carry out."""
    async with limited(own_redis.url, 0.3) as (app, ran):
        await again(app)
        ran.clear()
        before = left(own_redis)
        own_redis.hang()
        try:
            # More often than a pool has connections, and from several sides at once.
            for _ in range(2):
                assert await both(app) == (503, 503)
            statuses: list[int] = []

            async def client() -> None:
                statuses.append((await post(app, BODY)).status)

            for _ in range(2):
                async with anyio.create_task_group() as group:
                    for _ in range(40):
                        group.start_soon(client)
            assert statuses == [503] * 80
        finally:
            own_redis.resume()
        assert ran == []
        # Asked by an app that has the time: an answer that comes too late, on a busy machine, has charged.
        async with limited(own_redis.url, 20) as (patient, _):
            assert (await request(patient, "GET", "/tasks")).status == 200
        assert left(own_redis) == before - 1
        assert own_redis.taken() == 0
        await again(app)


async def test_a_server_that_answers_errors(own_redis: RedisServer) -> None:
    async with limited(own_redis.url, 20) as (app, ran):
        assert await both(app) == (200, 200)
        own_redis.ask("DEL {batchkit}:rate:all:k")
        own_redis.ask("LPUSH {batchkit}:rate:all:k x")
        assert await both(app) == (503, 503)
        assert len(ran) == 6
        assert own_redis.taken() == 0
        own_redis.ask("DEL {batchkit}:rate:all:k")
        assert await both(app) == (200, 200)
        # As after a failover: it has become a replica, and does not write.
        own_redis.ask("REPLICAOF 127.0.0.1 1")
        assert await both(app) == (503, 503)
        own_redis.ask("REPLICAOF NO ONE")
        assert await both(app) == (200, 200)
        assert left(own_redis) == 88


async def test_let_through_and_logged_where_that_is_wanted(own_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """“or let through and logged (`limiter_errors="allow"`)”."""
    async with limited(own_redis.url, 20, limiter_errors="allow") as (app, _):
        own_redis.stop()
        assert await both(app) == (503, 200)
    assert "a GET request was let through without a charge" in caplog.text


async def test_the_clock_of_the_server_may_be_set(redis: RedisServer) -> None:
    """Then our idea of it is wrong, every call seems late, and the second try is right."""
    ahead = 0
    store = RedisStore(redis.url, clock=lambda: ahead)
    async with Limiter([Rate(100, 3600, name="all")], store) as limiter:
        with anyio.fail_after(20):
            for ahead in (0, -(10**12), 10**12):  # noqa: B007
                async with limiter(a_batch()):
                    pass
    assert len(redis.keys("rate")) == 1


async def test_leases_are_renewed_while_the_work_runs(redis: RedisServer) -> None:
    # Renewed after a third of it: what is left is for a busy machine to do so.
    limiter = Limiter([Concurrency(5, name="slots", lease=1)], redis.url)
    async with limiter, limiter(a_batch()):
        await anyio.sleep(1.5)
        assert redis.taken() == 5
        with pytest.raises(TooManyRequests):
            await limiter(a_batch()).__aenter__()
        # Even such as the server has lost.
        redis.ask("FLUSHALL")
        with anyio.fail_after(20):
            while redis.taken() < 5:  # noqa: ASYNC110
                await anyio.sleep(0.01)
    assert redis.taken() == 0


HOLDER = """
import anyio
from batchkit.limiter import Concurrency, Limiter
from tests.benchmarks.limiter import a_batch

async def main():
    limiter = Limiter([Concurrency(8, name="slots", lease=1)], {url!r})
    async with limiter, limiter(a_batch()):
        print("held", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


async def test_a_process_that_is_killed_gives_back_by_lease_time(redis: RedisServer) -> None:
    """“a process that dies gives back by lease time”."""
    command = [sys.executable, "-c", HOLDER.format(url=redis.url)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        async with Limiter([Concurrency(8, name="slots", lease=1)], redis.url) as limiter:
            with pytest.raises(TooManyRequests, match="asked for 5 at once, 3 left"):
                await limiter(a_batch()).__aenter__()
            process.send_signal(signal.SIGKILL)
            with anyio.fail_after(30):
                while True:
                    try:
                        async with limiter(a_batch()):
                            break
                    except TooManyRequests:
                        await anyio.sleep(0.01)


async def test_slots_that_cannot_be_given_back_are_logged_and_run_out(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    limiter = Limiter([Concurrency(5, name="slots", lease=0.1)], own_redis.url)
    async with limiter:
        async with limiter(a_batch()):
            own_redis.stop()
        assert "free when their lease runs out" in caplog.text
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await limiter(a_batch()).__aenter__()
        assert not isinstance(caught.value, TooManyRequests)


async def test_a_server_slower_than_the_time_that_there_is_refuses(redis: RedisServer) -> None:
    """Every answer tells of a later time than was allowed: after some tries that is a limiter out of reach."""
    steps = iter(range(0, 10**15, 10**13))
    store = RedisStore(redis.url, clock=lambda: next(steps))
    claim = Claim(Concurrency(5, name="slots"), "k", 1, [7])
    async with store.open():
        with pytest.raises(LimiterUnavailable), anyio.fail_after(20):
            await store.admit([], [claim])
    assert redis.taken() == 0


async def test_a_cluster_takes_all_limits_of_a_batch_in_one_call(tmp_path: Path) -> None:
    """One hash tag: a node of a cluster refuses a script whose keys lie in several slots."""

    async def hello(request: Request) -> Response:
        return Response()

    with serving_redis("--cluster-enabled", "yes", "--dir", str(tmp_path)) as server:
        assert server.ask("CLUSTER ADDSLOTSRANGE 0 16383") == ["+OK"]
        while "cluster_state:ok" not in server.ask("CLUSTER INFO"):
            await anyio.lowlevel.checkpoint()
        limits = [*asana_limits(per_minute=10), Rate(10, 60, name="network", key=by_address)]
        async with Limiter(limits, server.url) as limiter:
            app = BatchEndpoint(policy="all", cost_hook=limiter).mount_to(Starlette(routes=[Route("/x", hello)]))
            assert (await post(app, envelope(*[action("/x")] * 7))).status == 200
            assert (await post(app, envelope(*[action("/x")] * 7))).status == 429
            assert (await post(app, envelope(*[action("/x")] * 3))).status == 200
