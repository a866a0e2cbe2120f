"""How a batch grows: with its actions, with the routes of its host, with the bodies of its results."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator

from starlette.types import ASGIApp

from tests.benchmarks.hosts import ACTIONS, envelope, get_task, host, paths, posting
from tests.benchmarks.in_process import grouped_json
from tests.benchmarks.pairs import Figure, cpu, ratio

BATCH = envelope(paths())


async def figures(rounds: int) -> AsyncIterator[Figure]:
    """CPU in this process, and peaks of its memory."""
    app = host(get_task, max_actions=1000)
    ten = cpu(posting(app, "/batch", BATCH), 20)
    for count in (1, 100, 1000):
        many = cpu(posting(app, "/batch", envelope(paths(count))), max(1, 200 // count))
        wanted = ("<=", 1.05) if count == 1000 else None
        yield await ratio(f"per action, {count} actions / {ACTIONS} actions", many, ten, rounds, wanted, scale=ACTIONS / count)
        name, most = f"  ... peak memory per action, KiB, {count} actions", ("<=", 3.5) if count == 1000 else None
        yield await peak(name, app, envelope(paths(count)), 1024 * count, most)
    for more in (10, 100, 1000):
        app = host(get_task, more=more)
        name = f"batch / the same in a bare task group and JSON, {more} other routes"
        wanted = ("<=", 1.05)
        yield await ratio(name, cpu(posting(app, "/batch", BATCH), 10), cpu(grouped_json(app), 10), rounds, wanted)
    app = host(get_task)
    for kib in (1, 100, 1024):
        body = envelope([f"/large/{kib}"] * ACTIONS)
        name = f"batch / the same in a bare task group and JSON, results of {kib} KiB"
        yield await ratio(name, cpu(posting(app, "/batch", body), 5), cpu(grouped_json(app, body), 5), rounds)
        wanted = ("<=", 2.2) if kib == 1024 else None
        yield await peak(f"  ... peak memory / the size of its {ACTIONS} results", app, body, ACTIONS * kib * 1024, wanted)


async def peak(name: str, app: ASGIApp, body: bytes, size: int, wanted: tuple[str, float] | None = None) -> Figure:
    """The most memory that a batch takes, its answer included, by ``size``."""
    run = posting(app, "/batch", body)
    await run()
    tracemalloc.start()
    await run()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Figure(name, most / size, most / size, most / size, wanted)
