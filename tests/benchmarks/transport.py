"""What a program with httpx2 sees that does not know of batches, with a round trip of 30 ms between it and the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2

from batchkit.client import AsyncBatchTransport
from tests.benchmarks.clients import far_away
from tests.benchmarks.hosts import paths
from tests.benchmarks.over_http import CONNECTIONS, uvicorn
from tests.benchmarks.pairs import Cost, Figure, ratio

REQUESTS = 1000
LIMITS = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)


def reads(client: httpx2.AsyncClient, expected: list[bytes]) -> Cost:
    """The time until all reads, made at the same moment, are answered, each as expected; the first time tells what that is."""

    async def cost() -> float:
        before = time.perf_counter()
        responses = await asyncio.gather(*(client.get(path) for path in paths(REQUESTS)))
        duration = time.perf_counter() - before
        assert all(response.status_code == 200 for response in responses)
        expected[:] = expected or [response.content for response in responses]
        assert [response.content for response in responses] == expected
        return duration

    return cost


async def figures(rounds: int) -> AsyncIterator[Figure]:
    """The program's waiting time; above 1 the transport is faster."""
    expected: list[bytes] = []
    with uvicorn("tests.benchmarks.hosts:trivial") as near:
        async with far_away(near) as port:
            url = f"http://127.0.0.1:{port}"
            batching = AsyncBatchTransport(httpx2.AsyncHTTPTransport(limits=LIMITS), url=f"{url}/batch")
            async with (
                httpx2.AsyncClient(base_url=url, limits=LIMITS, timeout=None) as plain,
                httpx2.AsyncClient(base_url=url, transport=batching, timeout=None) as through,
            ):
                name = f"{REQUESTS:,} client.get over {CONNECTIONS} connections, 30 ms round trip: without / with the transport"
                yield await ratio(name, reads(plain, expected), reads(through, expected), rounds, (">=", 4.0))
