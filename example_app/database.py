"""The database: SQLite in a file or PostgreSQL, and a transaction for each request."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, event, make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from example_app.models import Object, Workspace

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgres": "postgresql+asyncpg", "postgresql": "postgresql+asyncpg"}
# As many as one batch has actions.
CONNECTIONS = 10


class Database:
    """The connections to the database at ``url``, which names no driver."""

    def __init__(self, url: str) -> None:
        address = make_url(url)
        address = address.set(drivername=DRIVERS.get(address.drivername, address.drivername))
        if address.get_backend_name() == "sqlite":
            # It has one writer at a time: they queue for the one connection here, rather than poll for a lock there.
            self.writers = sqlite(create_async_engine(address, pool_size=1, max_overflow=0), "BEGIN IMMEDIATE")
            self.readers = sqlite(create_async_engine(address, pool_size=CONNECTIONS), "BEGIN")
        else:
            # With the ping it recovers from a server that was restarted.
            self.writers = self.readers = create_async_engine(address, pool_size=CONNECTIONS, pool_pre_ping=True)

    def session(self, *, writes: bool = False) -> AsyncSession:
        """A session, which takes a connection when it is first used and gives it back at its end."""
        return AsyncSession(self.writers if writes else self.readers, expire_on_commit=False)

    async def close(self) -> None:
        await self.readers.dispose()
        await self.writers.dispose()

    async def fill(self, objects: Iterable[Object]) -> None:
        """Create the tables that are missing, and put ``objects`` into a database that is empty."""
        async with self.session(writes=True) as session, session.begin():
            await (await session.connection()).run_sync(Object.metadata.create_all)
            if await session.scalar(select(Workspace.gid).limit(1)) is None:
                session.add_all(objects)


def sqlite(engine: AsyncEngine, begin: str) -> AsyncEngine:
    """Make SQLite keep to foreign keys, let others read while one writes, and ``begin`` transactions when SQLAlchemy does.

    One that reads first and then writes would fail if another has written in between: what is going to write must say so at
    its beginning. SQLAlchemy has no words for any of this, so here, and only here, is SQL by hand.
    """

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None  # the driver would begin by itself, too late
        cursor = connection.cursor()
        for pragma in ("busy_timeout = 30000", "journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


class Transaction:
    """Pure ASGI middleware: a session of its own for each request, ``request.state.session``, and so for each action of a batch.

    What the request did is committed before its answer starts, and rolled back where that is an error. A commit that fails can
    thus still become a 500. The POST of a batch passes here as well, but never uses its session: it holds no connection while
    its actions wait for theirs.
    """

    def __init__(self, app: ASGIApp, database: Database) -> None:
        self.app = app
        self.database = database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        async with self.database.session(writes=scope["method"] not in ("GET", "HEAD")) as session:

            async def end(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await (session.commit() if message["status"] < 400 else session.rollback())
                await send(message)

            scope.setdefault("state", {})["session"] = session
            await self.app(scope, receive, end)
