"""What ``max_concurrency`` buys: a host whose reads each hold a connection of a pool as large as SQLAlchemy's."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchkit import BatchEndpoint, batchable
from tests.benchmarks.hosts import HEADERS, call, envelope, paths, posting, task
from tests.benchmarks.pairs import Cost, Figure, ratio

POOL, CLIENTS, BESIDE = 15, 40, 6
# In seconds: for so long a read holds its connection, and waits for it (SQLAlchemy: 30).
HELD, PATIENCE = 0.02, 0.3


class Pooled:
    """A host, and how many of its reads got a connection, and how many none in time."""

    def __init__(self, max_concurrency: int | None = None) -> None:
        self.free = anyio.Semaphore(POOL)
        self.served = self.refused = 0
        self.app = Starlette(routes=[Route("/tasks/{gid}", batchable(self.read))])
        BatchEndpoint(max_concurrency=max_concurrency).mount_to(self.app, "/batch")
        self.post = posting(self.app, "/batch", envelope(paths()))

    async def read(self, request: Request) -> Response:
        with anyio.move_on_after(PATIENCE) as waiting:
            await self.free.acquire()
        if waiting.cancelled_caught:
            self.refused += 1
            return Response(status_code=500)
        try:
            await anyio.sleep(HELD)
        finally:
            self.free.release()
        self.served += 1
        return JSONResponse(task(request.path_params["gid"]))

    async def client(self, batches: int) -> None:
        for _ in range(batches):
            await self.post()


async def without(max_concurrency: int | None) -> float:
    """Of the actions of all clients, two batches each, the share that got no connection in time, in percent."""
    host = Pooled(max_concurrency)
    async with anyio.create_task_group() as tasks:
        for _ in range(CLIENTS):
            tasks.start_soon(host.client, 2)
    return 100 * host.refused / (host.refused + host.served)


def read_beside(max_concurrency: int | None) -> Cost:
    """The time that a read of its own takes beside some clients."""

    async def cost() -> float:
        host = Pooled(max_concurrency)
        async with anyio.create_task_group() as tasks:
            for _ in range(BESIDE):
                tasks.start_soon(host.client, 10**6)
            await anyio.sleep(5 * HELD)
            before = time.perf_counter()
            for _ in range(5):
                await call(host.app, "GET", "/tasks/1", HEADERS.copy())
            duration = time.perf_counter() - before
            tasks.cancel_scope.cancel()
        return duration / 5

    return cost


async def figures(rounds: int) -> AsyncIterator[Figure]:
    """What clients see of a pool of 15 connections."""
    for most in (None, 3):
        low, median, high = statistics.quantiles([await without(most) for _ in range(rounds)], n=4)
        yield Figure(f"{CLIENTS} clients: % of actions without a connection, max_concurrency={most}", low, median, high)
    name = f"a read of its own beside {BESIDE} clients: time without / with max_concurrency=3"
    yield await ratio(name, read_beside(None), read_beside(3), rounds)
