"""Over HTTP: what a batch costs a real server's process, against the same requests on keep-alive connections."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.benchmarks.hosts import ACTIONS, HEADERS, KINDS, TASKS, envelope, paths
from tests.benchmarks.pairs import Cost, Figure, ratio

ROOT = Path(__file__).parents[2]
NODE = Path(__file__).with_name("node")
# Of a browser to one host, over HTTP/1.1.
CONNECTIONS = 6
UVICORN = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--timeout-keep-alive", "600"]
QUOTED = str.maketrans({"{": "%7B", "}": "%7D", '"': "%22"})


class Connection:
    """One keep-alive connection, which costs its process next to nothing: it is the server that is measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> bytes:
        """The content of the answer, which must be a 200, and say its length or come in chunks."""
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in head.split(b"\r\n", 1)[0], head
        if b"transfer-encoding: chunked" not in head:
            return await self.reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
        content = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            content += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)
        return content


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    fields = [*HEADERS]
    if body:
        fields += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    head = b"".join(b"%b: %b\r\n" % pair for pair in fields)
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method.encode(), path.encode(), head, body)


# Requests that do no more than to call the app: for ten in one, nothing can cost less.
LEAST = (("/in-turn", "in turn: no batch saves more"), ("/at-once", "in a task each: nor any of tasks"))

BATCH = request("POST", "/batch", envelope(paths()))


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[list[Connection]]:
    """As many connections as a browser makes."""
    connections = [Connection(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.writer.close()


@contextmanager
def uvicorn(app: str, *options: str) -> Iterator[int]:
    """The port of a uvicorn with httptools and uvloop that serves ``app``, in a process of its own."""
    # It binds the port itself: what comes by --fd has no TCP_NODELAY, and each answer would wait for the client's kernel.
    command = [sys.executable, "-m", "uvicorn", app, "--port", "0", *UVICORN, *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            yield next(
                int(port[1]) for line in server.stderr if (port := re.search(r"running on http://127\.0\.0\.1:(\d+)", line))
            )
        finally:
            server.kill()


@contextmanager
def node(script: str) -> Iterator[int]:
    """The port of a Node server, in a process of its own, which prints it as it starts."""
    with subprocess.Popen(["node", script], cwd=NODE, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


def server_cpu(connections: list[Connection], requests: list[bytes], calls: int = 40) -> Cost:
    """The CPU time, user and system, that the server's process takes for these requests over these connections."""

    async def used() -> float:
        return float(await connections[0].ask(request("GET", "/cpu")))

    async def cost() -> float:
        before = await used()
        for _ in range(calls):
            await at_once(connections, requests)
        return (await used() - before) / calls

    return cost


def wall(connections: list[Connection], requests: list[bytes]) -> Cost:
    """The time until all these requests are answered."""

    async def cost() -> float:
        before = time.perf_counter()
        await at_once(connections, requests)
        return time.perf_counter() - before

    return cost


async def at_once(connections: list[Connection], requests: list[bytes]) -> None:
    """Each connection takes its share of the requests, one after another."""

    async def share(connection: Connection, requests: list[bytes]) -> None:
        for request in requests:
            await connection.ask(request)

    async with asyncio.TaskGroup() as tasks:
        for index, connection in enumerate(connections[: len(requests)]):
            tasks.create_task(share(connection, requests[index :: len(connections)]))


async def figures(rounds: int) -> AsyncIterator[Figure]:
    """CPU of the server's process; above 1 the batch is cheaper."""
    for kind, title in KINDS.items():
        with uvicorn(f"tests.benchmarks.hosts:{kind}") as port:
            wanted = (">=", 1.4) if kind in ("trivial", "waiting") else None
            async for figure in compared(title, port, "", paths(), rounds, wanted):
                yield figure
    with uvicorn("tests.benchmarks.hosts:example", "--factory") as port:
        async for figure in compared("(f) tasks of the example app", port, "/api/1.0", TASKS, rounds):
            yield figure


async def compared(
    title: str, port: int, base: str, paths: list[str], rounds: int, wanted: tuple[str, float] | None = None
) -> AsyncIterator[Figure]:
    """These reads, below ``base``, on connections of their own and as a batch."""
    separate, batch = [request("GET", base + path) for path in paths], request("POST", f"{base}/batch", envelope(paths))
    async with connected(port) as connections:
        one, of_batch = connections[:1], server_cpu(connections, [batch])
        name = f"{len(paths)} requests one after another / batch, {title}"
        yield await ratio(name, server_cpu(one, separate), of_batch, rounds, wanted)
        for path, how in LEAST:
            least_cost = server_cpu(one, [request("GET", path)])
            yield await ratio(f"  ... / one that calls the app {how}", server_cpu(one, separate), least_cost, rounds)
        yield await ratio(
            f"  ... over {CONNECTIONS} connections at once / batch", server_cpu(connections, separate), of_batch, rounds
        )
        yield await ratio("  ... time, one after another / batch", wall(one, separate), wall(one, [batch]), rounds)


async def peers(rounds: int) -> AsyncIterator[Figure]:
    """CPU of other servers' processes for a batch of ten, by that of ours; above 1 ours is cheaper."""
    if shutil.which("npm") is None:
        print("  Node's are not measured: there is no npm")
        return
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=NODE, check=True)  # noqa: ASYNC221
    bassmaster = {"requests": [{"method": "get", "path": path} for path in paths()]}
    inputs = json.dumps({str(index): str(index) for index in range(ACTIONS)}, separators=(",", ":")).translate(QUOTED)
    trpc = f"/{','.join(['task'] * ACTIONS)}?batch=1&input={inputs}"
    for name, script, batch, least in (
        ("bassmaster on hapi", "bassmaster.js", request("POST", "/batch", json.dumps(bassmaster).encode()), 1.3),
        ("tRPC", "trpc.mjs", request("GET", trpc), 1.2),
    ):
        with uvicorn("tests.benchmarks.hosts:trivial") as ours, node(script) as theirs:
            async with connected(ours) as to_ours, connected(theirs) as to_theirs:
                # V8 compiles as it goes: what it has learned counts.
                await server_cpu(to_theirs, [batch], 2000)()
                their_cost, our_cost = server_cpu(to_theirs, [batch], 200), server_cpu(to_ours, [BATCH], 200)
                yield await ratio(f"batch of {name} / batch", their_cost, our_cost, rounds, (">=", least))
                for path, how in LEAST:
                    least_cost = server_cpu(to_ours[:1], [request("GET", path)], 200)
                    yield await ratio(f"  ... / one that calls the app {how}", their_cost, least_cost, rounds)
