"""FastAPI as the host: included routers, dependencies, validation and its errors, with ``dialect="plain"``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from batchkit import BatchEndpoint, batchable, not_batchable
from tests.asgi import request
from tests.batches import action, batch

pytestmark = pytest.mark.anyio


async def session(request: Request) -> AsyncIterator[list[str]]:
    """A dependency that is opened and closed for each request."""
    log = request.app.state.log
    log.append(f"open {request.url.path}")
    yield log
    log.append(f"close {request.url.path}")


async def user(authorization: Annotated[str, Header()] = "") -> str:
    if not authorization.startswith("Bearer "):
        raise HTTPException(401, "Who are you?", {"www-authenticate": "Bearer"})
    return authorization.removeprefix("Bearer ")


Session = Annotated[list[str], Depends(session)]
User = Annotated[str, Depends(user)]


class Timing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-request-id"] = request.url.path
        return response


def plain(request: Request) -> Response:
    return Response("plain", media_type="text/plain")


def unmarked_plain(request: Request) -> Response:
    return Response("plain", media_type="text/plain")


async def opaque(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("reached")


def hosting(**settings: Any) -> FastAPI:
    """An app whose routes lie in routers in routers."""
    inner, outer, app = APIRouter(prefix="/inner"), APIRouter(prefix="/outer"), FastAPI()
    app.state.log = []
    app.add_middleware(Timing)

    @app.get("/items/{item}")
    @batchable
    async def read_item(item: int, session: Session, q: str = "", tag: str | None = None) -> dict[str, Any]:
        return {"item": item, "q": q, "tag": tag}

    @app.post("/items", status_code=201)
    @batchable
    async def add_item(item: dict[str, int], user: User) -> dict[str, Any]:
        return {"item": item, "user": user}

    @inner.get("/deep/{x}")
    @batchable(cost=2)
    def deep(x: str, session: Session) -> dict[str, str]:
        return {"deep": x}

    @inner.get("/closed")
    @not_batchable
    async def closed() -> None:
        raise AssertionError("reached")

    @outer.get("/unmarked")
    async def unmarked() -> str:
        return "ran"

    # A router puts its prefix before its path operations only.
    inner.routes.append(Route("/inner/plain", batchable(plain)))
    outer.include_router(inner)
    outer.routes.append(Mount("/outer/mounted", routes=[Route("/x", unmarked_plain)]))
    outer.routes.append(Mount("/outer/opaque", opaque))
    app.include_router(outer, prefix="/v1")
    return BatchEndpoint(dialect="plain", **settings).mount_to(app)


async def statuses(app: FastAPI, *actions: Any, headers: Any = ()) -> list[int]:
    return [result["status_code"] for result in await batch(app, *actions, headers=headers)]


async def test_routes_of_included_routers_run_at_any_depth() -> None:
    app = hosting()
    paths = ["/v1/outer/inner/deep/a", "/v1/outer/inner/plain", "/items/7"]
    results = await batch(app, *map(action, paths))
    assert [result["body"] for result in results] == [{"deep": "a"}, "plain", {"item": 7, "q": "", "tag": None}]
    assert [result["headers"]["x-request-id"] for result in results] == paths


async def test_each_action_has_dependencies_of_its_own() -> None:
    app = hosting()
    await batch(app, action("/items/1"), action("/items/2"))
    assert sorted(app.state.log) == ["close /items/1", "close /items/2", "open /items/1", "open /items/2"]


async def test_what_is_not_marked_does_not_run_however_deep_it_lies() -> None:
    for policy, unmarked in (("marked", 400), ("all", 200)):
        entries = [
            action(f"/v1/outer/{path}")
            for path in ("inner/closed", "opaque/x", "unmarked", "mounted/x", "nowhere", "inner/deep/a/")
        ]
        assert await statuses(hosting(policy=policy), *entries) == [400, 400, unmarked, unmarked, 404, 307]
        assert await statuses(hosting(policy=policy), action("/openapi.json"), action("/docs")) == [unmarked, unmarked]


async def test_exclude_goes_by_the_template_with_all_prefixes() -> None:
    app = hosting(policy="all", exclude=("/v1/outer/inner/*", "GET /v1/outer/mounted/x"))
    entries = ["inner/deep/a", "inner/plain", "mounted/x", "unmarked"]
    assert await statuses(app, *[action(f"/v1/outer/{path}") for path in entries]) == [400, 400, 400, 200]


async def test_routes_that_are_added_to_an_included_router_later_are_seen() -> None:
    router, app = APIRouter(), FastAPI()
    app.include_router(router, prefix="/late")
    BatchEndpoint(dialect="plain").mount_to(app)
    assert await statuses(app, action("/late/a")) == [404]

    @router.get("/a")
    @batchable
    async def a() -> str:
        return "a"

    assert await statuses(app, action("/late/a"), action("/late/b")) == [200, 404]


async def test_an_action_is_answered_as_the_same_request_alone() -> None:
    app = hosting()
    bearer = (b"authorization", b"Bearer ada")
    for path, query, method, data in [
        ("/items/7", b"q=a+b&tag=t", "get", {"q": "a b", "tag": "t"}),
        ("/items/x", b"", "get", None),
        ("/items", b"", "post", {"a": 1}),
        ("/items", b"", "post", {"a": "x"}),
        ("/items", b"", "put", {}),
        ("/v1/outer/inner/deep/%C3%BC", b"", "get", None),
    ]:
        for headers in ([], [bearer]):
            [result] = await batch(app, action(path, method, data=data), headers=headers)
            body = json.dumps(data).encode() if method != "get" else b""
            fields = [(b"host", b"testserver"), *headers, *([(b"content-type", b"application/json")] if body else [])]
            alone = await request(app, method.upper(), path, query=query, headers=fields, body=body)
            assert (result["status_code"], result["body"]) == (alone.status, alone.json())
            for name in (b"www-authenticate", b"allow"):
                assert result["headers"].get(name.decode()) == (b"".join(alone.all(name)).decode() or None)
