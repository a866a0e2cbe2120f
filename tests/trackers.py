"""The example app as its tests use it: served on a database of its own, watched on the wire and counted in its tables."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asana
import httpx2
from sqlalchemy import NullPool, func, select
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit.limiter import Concurrency, Rate
from example_app.app import create_app
from example_app.demo_data import TOKEN
from example_app.models import Object
from tests.servers import TLS, serving

# Asana's own limits would end most tests within their first seconds.
UNLIMITED: Sequence[Rate | Concurrency] = [Rate(1_000_000, 60, name="requests")]


class Wire:
    """Counts what reaches the server: the actions of a batch do not come through here."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.seen: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.seen.append(f"{scope['method']} {scope['path']}")
        await self.app(scope, receive, send)


@dataclass
class Tracker:
    """A served app."""

    # Of its API.
    url: str
    database: str
    wire: Wire

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        return asyncio.run(count_rows(self.database))

    def objects(self) -> int:
        """How many there are of all kinds."""
        return sum(count for table, count in self.rows().items() if table not in ("members", "memberships"))

    @contextmanager
    def client(self, token: str = TOKEN, **headers: str) -> Iterator[httpx2.Client]:
        """A client for requests of their own."""
        fields = {"authorization": f"Bearer {token}", **headers}
        with httpx2.Client(base_url=self.url, headers=fields, trust_env=False, verify=TLS, timeout=60) as client:
            yield client

    def official_client(self, token: str = TOKEN) -> AbstractContextManager[Any]:
        """Asana's own client, as it comes."""
        return official_client(self.url, token)


@contextmanager
def official_client(url: str, token: str = TOKEN) -> Iterator[Any]:
    """Asana's own client, as it comes, for the API at ``url``."""
    configuration = asana.Configuration()
    configuration.host = url
    configuration.access_token = token
    client = asana.ApiClient(configuration)
    try:
        yield client
    finally:
        client.pool.close()
        client.pool.join()
        client.rest_client.pool_manager.clear()


async def count_rows(database: str) -> dict[str, int]:
    kind, _, place = database.partition("://")
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}[kind]
    engine = create_async_engine(f"{driver}://{place}", poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return {
                table.name: (await connection.execute(select(func.count()).select_from(table))).scalar_one()
                for table in Object.metadata.sorted_tables
            }
    finally:
        await engine.dispose()


@contextmanager
def serving_tracker(
    database: str, files: Path, *, limits: Sequence[Rate | Concurrency] = UNLIMITED, around: Any = None, **keywords: Any
) -> Iterator[Tracker]:
    """Serve the app on ``database``, and if ``around`` is given, what it makes of the app."""
    app: ASGIApp = create_app(database, files=files, limits=limits, **keywords)
    wire = Wire(around(app) if around else app)
    with serving(wire) as url:
        # Answered when the tables are there.
        httpx2.get(url, trust_env=False, verify=TLS, timeout=60)
        wire.seen.clear()
        yield Tracker(f"{url}/api/1.0", database, wire)
