"""The app in one piece. ``create_app`` is where the batch endpoint comes in; nothing else here knows of batches."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Mount

from batchkit import BatchEndpoint
from batchkit.limiter import Limiter, LimitMiddleware, asana_limits
from batchkit.limiter.limits import Limit
from batchkit.settings import CostHook, Plugin
from example_app import administration, attachments, projects, stories, tasks, users
from example_app.api import HELP, failed, not_authorized, refused
from example_app.auth import BearerToken
from example_app.database import Database, Transaction
from example_app.demo_data import demo_data

DATABASE, FILES = "sqlite:///example_app.db", "example_app.files"
RESOURCES = (users, projects, tasks, stories, attachments, administration)
# What Asana's guide keeps out of batches: uploads, organization exports, SCIM. A batch in a batch needs no saying.
EXCLUDE = ("POST /api/1.0/attachments", "/api/1.0/organization_exports", "/api/1.0/organization_exports/*", "/api/1.0/scim/*")


def create_app(
    database: str = DATABASE,
    *,
    files: str | os.PathLike[str] = FILES,
    store: str | None = None,
    limits: Sequence[Limit] | None = None,
    cost_hook: CostHook | None = None,
    plugins: Sequence[Plugin] = (),
) -> Starlette:
    """The task manager on a database, ``sqlite:///path`` or ``postgresql://…``, with its uploads in the folder ``files``.

    ``limits`` are Asana's, or others, and are counted in ``store``: see ``Limiter``. ``cost_hook`` is asked before each batch in
    place of the limiter; ``plugins`` as for ``BatchEndpoint``.
    """
    data = Database(database)
    limiter = Limiter(asana_limits() if limits is None else limits, store, prefix="example_app")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await anyio.Path(files).mkdir(parents=True, exist_ok=True)
        try:
            await data.fill(demo_data())
            yield
        finally:
            await data.close()

    app = Starlette(
        routes=[Mount("/api/1.0", routes=[route for resource in RESOURCES for route in resource.ROUTES])],
        middleware=[
            Middleware(AuthenticationMiddleware, backend=BearerToken(data), on_error=not_authorized),
            Middleware(LimitMiddleware, limiter=limiter, help=HELP),
            Middleware(Transaction, database=data),
        ],
        exception_handlers={HTTPException: refused, Exception: failed},
        lifespan=lifespan,
    )
    app.state.files = Path(files)
    batch = BatchEndpoint(policy="all", exclude=EXCLUDE, cost_hook=cost_hook or limiter, plugins=plugins, help=HELP)
    return batch.mount_to(app, "/api/1.0/batch")
