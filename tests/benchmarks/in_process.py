"""In process, without a server: a batch against what it saves, what people write by hand, and other libraries' batches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx2
from starlette.types import ASGIApp

from tests.benchmarks import hosts, peers
from tests.benchmarks.hosts import HEADERS, Run, call, envelope, in_group, paths, posting
from tests.benchmarks.pairs import Figure, cpu, ratio

BATCH = envelope(paths())
# At most, by what a request does.
WANTED = {"trivial": 0.78, "waiting": 0.85, "layered": 1.0}


def alone(app: ASGIApp) -> Run:
    """The ten requests in a plain task each, with no JSON read or written."""

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            for path in paths():
                tasks.create_task(call(app, "GET", path, HEADERS.copy()))

    return run


def grouped_json(app: ASGIApp, batch: bytes = BATCH) -> Run:
    """The ten requests in a bare anyio task group, and the JSON of the batch by the standard library, outside of any request."""

    async def run() -> None:
        json.dumps(await in_group(app, json.loads(batch)["data"]["actions"], HEADERS)).encode()

    return run


def over_transport(app: ASGIApp) -> Run:
    """What people write in an endpoint, with an HTTP client's transport for apps: its requests gathered, and their JSON."""

    async def run() -> None:
        actions = json.loads(BATCH)["data"]["actions"]
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=HEADERS) as client:
            responses = await asyncio.gather(*(client.request(action["method"], action["relative_path"]) for action in actions))
        results = [{"status_code": response.status_code, "headers": {}, "body": response.json()} for response in responses]
        json.dumps({"data": results}).encode()

    return run


async def figures(rounds: int) -> AsyncIterator[Figure]:
    """CPU in this process; below 1 the batch is cheaper than what it is compared to."""
    for kind, title in hosts.KINDS.items():
        app = getattr(hosts, kind)
        batch, wanted = cpu(posting(app, "/batch", BATCH), 20), ("<=", WANTED[kind]) if kind in WANTED else None
        name = f"batch / an endpoint that runs the ten in a bare anyio group, {title}"
        yield await ratio(name, batch, cpu(posting(app, "/by-hand", BATCH), 20), rounds, wanted)
        yield await ratio("  ... / these and the JSON of the batch, without the POST", batch, cpu(grouped_json(app), 20), rounds)
        yield await ratio("  ... / the ten in a plain task each: no batch costs less", batch, cpu(alone(app), 20), rounds)
    batch = cpu(posting(hosts.trivial, "/batch", BATCH), 20)
    transport = cpu(over_transport(hosts.trivial), 4)
    yield await ratio("by hand with httpx2.ASGITransport / batch", transport, batch, rounds, (">=", 4.5))
    bare = cpu(alone(hosts.trivial), 20)
    yield await ratio("  ... / the ten in a plain task each, without JSON: no batch of tasks saves more", transport, bare, rounds)
    for name, peer in peers.available():
        yield await ratio(f"batch of {name} / batch", cpu(peer, 4), batch, rounds, (">=", 1))
