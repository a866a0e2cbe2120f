"""The database: SQLite in a file or PostgreSQL, and a transaction for each request."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import event, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from example_app.models import Object, Workspace

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgres": "postgresql+asyncpg", "postgresql": "postgresql+asyncpg"}
CONNECTIONS = 10  # as many as one batch has actions


class Database:
    """The connections to the database at ``url``, which names no driver, and ``files``, the folder of what is uploaded."""

    def __init__(self, url: str, files: Path | str) -> None:
        self.files = Path(files)
        address = make_url(url)
        address = address.set(drivername=DRIVERS.get(address.drivername, address.drivername))
        if address.get_backend_name() == "sqlite":
            # It has one writer at a time: they queue for the one connection here, rather than poll for a lock there. So nobody
            # else in this process writes between what a request reads and what it writes; more processes want PostgreSQL.
            self.writers = create_async_engine(address, pool_size=1, max_overflow=0, connect_args={"timeout": 30})
            self.readers = create_async_engine(address, pool_size=CONNECTIONS, connect_args={"timeout": 30})
            # What a request reads is all of one moment. By itself the driver starts no transaction before the first change.
            event.listen(self.readers.sync_engine, "begin", lambda begun: begun.dialect.do_savepoint(begun, "moment"))
        else:
            # With the ping it recovers from a server that was restarted.
            self.writers = create_async_engine(address, pool_size=CONNECTIONS, pool_pre_ping=True)
            self.readers = self.writers.execution_options(isolation_level="REPEATABLE READ")

    def session(self, *, writes: bool = False) -> AsyncSession:
        """A session, which takes a connection when it is first used and gives it back at its end."""
        engine = self.writers if writes else self.readers
        return AsyncSession(engine, autoflush=False, expire_on_commit=False, info={"files": self.files})

    @asynccontextmanager
    async def filled(self, objects: Iterable[Object]) -> AsyncIterator[None]:
        """Create the folder and the tables that are missing, and put ``objects`` into a database that is empty."""
        self.files.mkdir(parents=True, exist_ok=True)
        try:
            async with self.session(writes=True) as session:
                await (await session.connection()).run_sync(Object.metadata.create_all)
                if await session.scalar(select(Workspace.gid).limit(1)) is None:
                    session.add_all(objects)
                await session.commit()
            yield
        finally:
            await self.readers.dispose()
            await self.writers.dispose()


class Transaction:
    """Pure ASGI middleware: a session of its own for each request, ``request.state.session``, and so for each action of a batch.

    What the request did is committed before its answer starts, where a failure can still become a 500, and rolled back if the
    answer is an error. A batch's own POST passes here too, but holds no connection while its actions wait for theirs.
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
