"""``python -m tests.benchmarks.limiter``: what the limiter must hold, over a real Redis and many processes, with the figures.

``--runs 20 --seconds 60`` are the whole of it; the tests run less.
"""

from __future__ import annotations

import argparse
import gc
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import anyio
import anyio.lowlevel

from batchkit import Batch, TooManyRequests
from batchkit.limiter import Concurrency, Limiter, Rate, by_address
from batchkit.limiter.limits import Limit
from batchkit.limiter.stores.memory import monotonic
from batchkit.limiter.stores.redis import RedisStore
from batchkit.limiter.stores.store import Charge
from batchkit.model import Action
from tests.redises import RedisServer, serving_redis

PROCESSES, CLIENTS = 5, 10
SCOPE = {"type": "http", "method": "POST", "path": "/batch", "headers": [(b"authorization", b"Bearer ann")], "client": ("::1", 1)}
LIMITS: dict[str, list[Limit]] = {
    "two": [Rate(100, 3600, name="user"), Rate(30, 3600, name="team", key=by_address)],
    "four": [
        Rate(100, 3600, name="user"),
        Rate(32, 3600, name="team", key=by_address),
        Rate(60, 3600, name="searches", limit="search"),
        Rate(60, 3600, name="writes", methods=["POST"]),
    ],
    "slots": [Concurrency(20, name="slots")],
}


def a_batch(size: int = 5) -> Batch:
    """Reads, a search and a write."""
    actions = [Action(index, "GET", "/tasks/1", "/tasks/{gid}") for index in range(size)]
    actions[-1].method = "POST"
    actions[-2].limit = "search"
    return Batch(SCOPE, actions)


async def rates(limiter: Limiter, batches: int) -> int:
    """What so many batches of each client of this process are admitted, in actions."""
    admitted = 0

    async def client() -> None:
        nonlocal admitted
        for _ in range(batches):
            batch = a_batch()
            try:
                async with limiter(batch):
                    admitted += batch.cost
            except TooManyRequests:
                pass

    async with anyio.create_task_group() as tasks:
        for _ in range(CLIENTS):
            tasks.start_soon(client)
    return admitted


async def slots(limiter: Limiter, seconds: float) -> int:
    """How often the clients of this process got six slots within these seconds."""
    admitted = 0
    end = anyio.current_time() + seconds

    async def client() -> None:
        nonlocal admitted
        while anyio.current_time() < end:
            batch = a_batch(6)
            try:
                async with limiter(batch):
                    await anyio.sleep(0.003)
                    for action in batch.actions:
                        if action.on_end is not None:
                            action.on_end(action)
                    admitted += 1
            except TooManyRequests:
                await anyio.sleep(0.001)

    async with anyio.create_task_group() as tasks:
        for _ in range(CLIENTS):
            tasks.start_soon(client)
    return admitted


async def worker(url: str, kind: str, amount: float, ahead: float, backend: str) -> None:
    """One process of several; its clock is ``ahead`` seconds ahead."""
    store = RedisStore(url, clock=lambda: monotonic() + int(ahead * 1e6))
    async with Limiter(LIMITS[kind], store) as limiter:
        # All begin together.
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        print(await slots(limiter, amount) if kind == "slots" else await rates(limiter, int(amount)), flush=True)


@contextmanager
def workers(url: str, kind: str, amount: float, apart: float = 0.0) -> Iterator[list[subprocess.Popen[str]]]:
    """The processes, started and ready; their clocks are ``apart`` seconds apart."""
    command = [sys.executable, "-m", "tests.benchmarks.limiter", "--worker", url, kind, str(amount)]
    started = [
        subprocess.Popen(
            [*command, str(index * apart), ("asyncio", "trio")[index % 2]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(PROCESSES)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def total(processes: list[subprocess.Popen[str]]) -> int:
    return sum(int(process.stdout.readline()) for process in processes if process.stdout is not None)


class Contention(NamedTuple):
    """What was admitted, in actions, and what is left of each limit."""

    admitted: int
    left: dict[str, int]


def contend(redis: RedisServer, kind: str, batches: int = 4, apart: float = 0.0) -> Contention:
    """Five processes of ten clients each: batches of five against the limits of one kind."""
    redis.ask("FLUSHALL")
    with workers(redis.url, kind, batches, apart) as processes:
        admitted = total(processes)

    async def left() -> dict[str, int]:
        limits = [limit for limit in LIMITS[kind] if isinstance(limit, Rate)]
        async with Limiter(limits, redis.url) as limiter:
            found = {}
            for limit in limits:
                key = next(key.split(":", 3)[3] for key in redis.keys(f"rate:{limit.name}:"))
                refusal = await limiter.store.admit([Charge(limit, key, limit.amount)], [])
                assert refusal is not None
                found[limit.name] = refusal.left
            return found

    return Contention(admitted, anyio.run(left))


def crowd(redis: RedisServer, seconds: float) -> tuple[int, int, int]:
    """Fifty clients on twenty slots, six at a time: how often admitted, the most slots taken at once, and taken afterwards."""
    redis.ask("FLUSHALL")
    with workers(redis.url, "slots", seconds) as processes:
        most = 0
        while not redis.keys("slots") and all(process.poll() is None for process in processes):
            pass
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            most = max(most, redis.taken())
        admitted = total(processes)
    return admitted, most, redis.taken()


async def in_memory(limits: list[Limit]) -> tuple[float, float]:
    """Microseconds of CPU per batch of ten, best of nine, and those of a loop that does nothing else but make 1,000 ints."""
    limiter = Limiter(limits)
    best = yardstick = float("inf")
    gc.disable()
    for _ in range(9):
        batches = [a_batch(10) for _ in range(300)]
        before = time.process_time()
        for batch in batches:
            async with limiter(batch):
                pass
        best = min(best, (time.process_time() - before) / 300 * 1e6)
        before = time.process_time()
        for _ in range(300):
            for number in range(1000):
                _ = number
        yardstick = min(yardstick, (time.process_time() - before) / 300 * 1e6)
        await anyio.lowlevel.checkpoint()
    gc.enable()
    return best, yardstick


async def trips(url: str, batches: int = 50) -> None:
    """So many batches of twenty against four limits, after one that learns the server's clock and script."""
    limits = [Rate(10**6, 3600, name=limit.name, key=limit.key, limit=limit.limit) for limit in LIMITS["four"]]
    async with Limiter(limits, url) as limiter:
        for _ in range(batches + 1):
            async with limiter(a_batch(20)):
                pass


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.limiter")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # Not every kind of limits has one for the search.
    logging.getLogger("batchkit").setLevel(logging.ERROR)
    if arguments.worker:
        url, kind, amount, ahead, backend = arguments.worker
        anyio.run(worker, url, kind, float(amount), float(ahead), backend, backend=backend)
        return
    big: list[Limit] = [Rate(10**9, 3600, name="user"), Rate(10**9, 3600, name="team", key=by_address)]
    for label, limits in (("two rates", big), ("two rates and slots", [*big, *LIMITS["slots"]])):
        spent, yardstick = anyio.run(in_memory, limits)
        print(f"In memory, a batch of 10 against {label}: {spent:.1f} us of CPU; a loop of 1,000 steps: {yardstick:.1f} us")
    with serving_redis() as redis:
        print(f"{PROCESSES} processes of {CLIENTS} clients, on asyncio and trio; batches of 5; {arguments.runs} runs each")
        for kind, apart in (("two", 0.0), ("two", 5.0), ("four", 5.0)):
            seen = [contend(redis, kind, apart=apart) for _ in range(arguments.runs)]
            print(f"  {kind} limits, clocks {apart:g} s apart: admitted and left {sorted({str(tuple(one)) for one in seen})}")
        admitted, most, after = crowd(redis, arguments.seconds)
        print(f"50 clients on 20 slots, {arguments.seconds:g} s: {admitted} times six, at most {most} taken, {after} afterwards")
        redis.ask("CONFIG RESETSTAT")
        anyio.run(trips, redis.url)
        print(f"Script calls for 51 batches of 20 against four limits: {redis.calls('evalsha', 'eval')}")


if __name__ == "__main__":
    main()
