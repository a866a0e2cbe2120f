"""What a type checker makes of the public names: read by mypy and pyright, run by nobody."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, assert_type

import httpx2
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Scope

from batchkit import Action, Batch, BatchEndpoint, Result, TooManyRequests, batchable, current_action, not_batchable
from batchkit.client import AsyncBatchTransport, BatchClient, BatchTransport
from batchkit.limiter import Concurrency, Limiter, LimitMiddleware, Rate, asana_limits, by_address

# A decorated function is still the function that it was.


@batchable
async def bare(request: Request, number: int = 0) -> JSONResponse:
    return JSONResponse(number)


@batchable(cost=3, schema={"type": "object"}, timeout=5.0, limit="search")
async def with_arguments(request: Request) -> Response:
    return Response()


@not_batchable
async def never(request: Request) -> Response:
    return Response()


@batchable
class Endpoint(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return Response()


async def calls(request: Request, scope: Scope) -> None:
    assert_type(await bare(request, number=1), JSONResponse)
    assert_type(await with_arguments(request), Response)
    assert_type(await never(request), Response)
    assert_type(Endpoint, type[Endpoint])
    assert_type(current_action(scope), Action | None)
    assert_type(current_action(request), Action | None)
    await bare(request, number="one")  # type: ignore[arg-type]
    await with_arguments()  # type: ignore[call-arg]


# The wrong words are seen before anything runs.

BatchEndpoint(max_action=3)  # type: ignore[call-arg]
BatchEndpoint(dialect="json")  # type: ignore[arg-type]
BatchEndpoint(policy="some")  # type: ignore[arg-type]
batchable(price=3)  # type: ignore[call-overload]
batchable("name", cost=3)  # type: ignore[call-overload]
Rate(60, "a minute", name="requests")  # type: ignore[arg-type]


# Both kinds of cost hook, and what hooks and plugins see.


async def charge(batch: Batch) -> None:
    assert_type(batch.request, Request)
    assert_type(batch.cost, int)
    assert_type(batch.id, str)
    for action in batch.actions:
        assert_type(action, Action)
        assert_type((action.index, action.method, action.path, action.route), tuple[int, str, str, str | None])
        assert_type((action.cost, action.limit, action.runs), tuple[int, str | None, bool])
        if (result := action.result) is not None:
            assert_type(result, Result)
            assert_type((result.status_code, result.body, result.duration), tuple[int, bytes, float])
            assert_type(result.headers["location"], str)
    raise TooManyRequests("reads: asked for 10, 3 left", retry_after=30)


@asynccontextmanager
async def hold(batch: Batch) -> AsyncGenerator[None, None]:
    yield


def synchronous(batch: Batch) -> None: ...


class Watch:
    def batch(self, batch: Batch) -> AbstractAsyncContextManager[object]:
        return nullcontext()

    def action(self, app: ASGIApp) -> ASGIApp:
        return app


class OnlyActions:
    def action(self, app: ASGIApp) -> ASGIApp:
        return app


BatchEndpoint(cost_hook=charge, plugins=[Watch(), OnlyActions()], exclude=["/scim/*"])
BatchEndpoint(cost_hook=hold, max_actions=20, action_timeout=5)
BatchEndpoint(cost_hook=synchronous)  # type: ignore[arg-type]
BatchEndpoint(plugins=[object()])  # type: ignore[list-item]

# What it is mounted to comes back as what it was, and an endpoint is an ASGI app.

assert_type(BatchEndpoint().mount_to(Starlette()), Starlette)
assert_type(BatchEndpoint().mount_to(Router(), "/batch"), Router)
app: ASGIApp = BatchEndpoint(host=Starlette())
routes = [Route("/batch", BatchEndpoint()), Route("/tasks", Endpoint)]

limiter = Limiter([Rate(60, 60, name="requests", key=by_address), Concurrency(5, name="slots", methods=["GET"])])
BatchEndpoint(cost_hook=limiter)
Limiter(asana_limits(), "redis://127.0.0.1")
Middleware(LimitMiddleware, limiter=limiter)

# The client's transports are where httpx2 takes one, and responses are its own.

httpx2.Client(transport=BatchTransport(url="https://example.com/batch", dialect="plain", max_wait=10))
httpx2.AsyncClient(transport=AsyncBatchTransport(httpx2.AsyncHTTPTransport(http2=True), url="https://example.com/batch"))
httpx2.AsyncClient(transport=BatchTransport(url="https://example.com/batch"))  # type: ignore[arg-type]
BatchTransport(url="https://example.com/batch", max_action=3)  # type: ignore[call-arg]


async def by_hand() -> None:
    async with BatchClient("https://example.com", stream=False) as client:
        batch = client.batch()
        batch.get("/tasks/1")
        assert_type(await batch.send(), list[httpx2.Response])
        assert_type(batch.send_sync(), list[httpx2.Response])


def keywords(settings: dict[str, Any]) -> BatchEndpoint:
    return BatchEndpoint(**settings)
