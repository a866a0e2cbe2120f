"""The app in one piece. ``create_app`` is where the batch endpoint comes in; nothing else here knows of batches."""

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Mount

from batchkit import BatchEndpoint
from batchkit.limiter import Limiter, LimitMiddleware, asana_limits, by_token
from batchkit.limiter.limits import Limit
from example_app import attachments, projects, tasks, users
from example_app.api import HELP, failed, not_authorized, refused
from example_app.auth import BearerToken
from example_app.database import Database, Transaction
from example_app.demo_data import demo_data

DATABASE, FILES = "sqlite:///example_app.db", "example_app.files"
# What Asana's guide keeps out of batches: uploads, organization exports, SCIM. A batch in a batch needs no saying.
EXCLUDE = ("POST /api/1.0/attachments", "/api/1.0/organization_exports", "/api/1.0/organization_exports/*", "/api/1.0/scim/*")


def create_app(
    database: str = DATABASE, *, files: Path | str = FILES, store: str | None = None, limits: Sequence[Limit] | None = None
) -> Starlette:
    """The task manager on ``sqlite:///path`` or ``postgresql://…``; ``limits`` and ``store`` as for ``Limiter``, or Asana's."""
    data = Database(database, files)
    limiter = Limiter(asana_limits(key=by_token) if limits is None else limits, store, prefix="example_app")
    app = Starlette(
        routes=[Mount("/api/1.0", routes=[*users.ROUTES, *projects.ROUTES, *tasks.ROUTES, *attachments.ROUTES])],
        middleware=[
            Middleware(AuthenticationMiddleware, backend=BearerToken(data), on_error=not_authorized),
            Middleware(LimitMiddleware, limiter=limiter, help=HELP),
            Middleware(Transaction, database=data),
        ],
        exception_handlers={HTTPException: refused, Exception: failed},
        lifespan=lambda app: data.filled(demo_data()),
    )
    batch = BatchEndpoint(policy="all", exclude=EXCLUDE, cost_hook=limiter, help=HELP, server_timing=True)
    return batch.mount_to(app, "/api/1.0/batch")
