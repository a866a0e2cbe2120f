"""What a client sees: the time until its last answer, with a round trip of 30 ms between it and the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.benchmarks.hosts import ACTIONS, envelope, paths
from tests.benchmarks.over_http import CONNECTIONS, connected, request, uvicorn, wall
from tests.benchmarks.pairs import Figure, ratio

# In seconds.
ROUND_TRIP = 0.03


@asynccontextmanager
async def far_away(port: int) -> AsyncIterator[int]:
    """The port of a way to ``port`` on which every byte takes half a round trip."""
    tasks = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(2**16):
            asyncio.get_running_loop().call_later(ROUND_TRIP / 2, writer.write, chunk)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        for way in (carry(reader, server_writer), carry(server_reader, writer)):
            tasks.add(asyncio.create_task(way))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()


async def figures(rounds: int) -> AsyncIterator[Figure]:
    """The client's waiting time; above 1 the batch is faster."""
    with uvicorn("tests.benchmarks.hosts:trivial") as near:
        async with far_away(near) as port, connected(port) as connections:
            for reads, wanted in ((10, None), (30, (">=", 4.0))):
                separate = [request("GET", path) for path in paths(reads)]
                tens = [paths(reads)[start : start + ACTIONS] for start in range(0, reads, ACTIONS)]
                batches = [request("POST", "/batch", envelope(ten)) for ten in tens]
                name = f"{reads} reads over {CONNECTIONS} connections, 30 ms round trip: separate / batched"
                yield await ratio(name, wall(connections, separate), wall(connections, batches), rounds, wanted)
