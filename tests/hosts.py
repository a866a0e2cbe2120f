"""Every shape in which an app can host its batches, with the same endpoints in each, for the tests that hold everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import anyio
import pytest
from fastapi import APIRouter, FastAPI
from litestar import Litestar, asgi, route
from litestar import Request as LitestarRequest
from litestar import Response as LitestarResponse
from litestar.types import Receive as LitestarReceive
from litestar.types import Scope as LitestarScope
from litestar.types import Send as LitestarSend
from quart import Quart
from quart import Response as QuartResponse
from quart import request as quart_request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint, batchable
from tests.asgi import Answer, request
from tests.batches import JSON, Headers, envelope

BODYLESS = ["GET", "DELETE", "HEAD"]
METHODS = [*BODYLESS, "POST", "PUT", "PATCH"]

# The endpoints of every host, by path: those that may run in a batch, and one that may not.
OPEN = {"/echo": METHODS, "/cookie": ["GET"], "/moved": ["GET"], "/fails": ["GET"], "/never": ["GET"], "/big": ["GET"]}
CLOSED = "/closed"


class Reply(NamedTuple):
    """What an endpoint answers, in whatever framework."""

    content: bytes
    status: int = 200
    headers: dict[str, str] | None = None


async def reply(path: str, method: str, query: str, body: bytes) -> Reply:
    """What the endpoint at ``path`` does, in whatever framework."""
    match path:
        case "/cookie":
            return Reply(b"{}", headers={"set-cookie": "a=1; HttpOnly"})
        case "/moved":
            return Reply(b"", 307, {"location": "/elsewhere"})
        case "/fails":
            raise ValueError("secret")
        case "/never":
            await anyio.sleep_forever()
        case "/big":
            return Reply(b'"' + b"x" * 5000 + b'"')
        case "/closed":
            raise AssertionError("an endpoint that is not batchable was reached")
    return Reply(json.dumps({"method": method, "query": query, "body": body.decode()}).encode())


@dataclass
class Hosting:
    """A host, where its batch endpoint is, and what actions are relative to, both below ``root_path``."""

    app: ASGIApp
    path: str = "/batch"
    base: str = ""
    root_path: str = ""
    host: bytes = b"testserver"
    readable: bool = True
    dialect: str = "asana"

    async def alone(self, method: str, path: str, *, query: bytes = b"", body: bytes = b"", headers: Headers = ()) -> Answer:
        """The answer to the request that an action for ``path`` stands for."""
        fields = [(b"host", self.host), *([JSON, (b"content-length", b"%d" % len(body))] if body else []), *headers]
        path = self.base + path
        return await request(self.app, method, path, query=query, body=body, headers=fields, root_path=self.root_path)

    async def post(self, body: bytes, *, method: str = "POST", path: str | None = None, headers: Headers = (JSON,)) -> Answer:
        """The answer to a batch of this body."""
        fields = [(b"host", self.host), *headers]
        return await request(self.app, method, path or self.path, body=body, headers=fields, root_path=self.root_path)

    async def batch(self, *actions: Any) -> list[dict[str, Any]]:
        """The results of a batch of these actions, which must be answered 200."""
        answer = await self.post(envelope(*actions))
        assert answer.status == 200, answer.body
        document = answer.json()
        assert list(document) == ["data"]
        results: list[dict[str, Any]] = document["data"]
        return results

    def body_of(self, data: str) -> str:
        """The body that the handler of a POST receives of this ``data``."""
        return '{"data":%s}' % data if self.dialect == "asana" else data  # noqa: UP031


class Through:
    """A middleware that does nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Dispatching(BaseHTTPMiddleware):
    """A middleware that does nothing, in Starlette's other style."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


MIDDLEWARE = [Middleware(Through), Middleware(Dispatching)]


def function(path: str) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        content, status, headers = await reply(path, request.method, request.url.query, await request.body())
        return Response(content, status, headers, "application/json")

    return batchable(endpoint) if path in OPEN else endpoint


def routes() -> list[BaseRoute]:
    return [Route(path, function(path), methods=OPEN.get(path)) for path in (*OPEN, CLOSED)]


# Starlette


def mount_to(**settings: Any) -> Hosting:
    return Hosting(BatchEndpoint(**settings).mount_to(Starlette(routes=routes())))


def behind_middleware(**settings: Any) -> Hosting:
    app = Starlette(routes=[Mount("/api/1.0", routes=routes(), middleware=MIDDLEWARE)], middleware=MIDDLEWARE)
    return Hosting(BatchEndpoint(**settings).mount_to(app, "/api/1.0/batch"), "/api/1.0/batch", "/api/1.0")


def as_a_route(**settings: Any) -> Hosting:
    app = Starlette(routes=routes(), middleware=MIDDLEWARE)
    app.router.routes.append(Route("/batch", BatchEndpoint(host=app, **settings)))
    return Hosting(app)


def as_a_mount(**settings: Any) -> Hosting:
    app = Starlette(routes=routes())
    app.mount("/batch", BatchEndpoint(host=app, **settings))
    return Hosting(app, "/batch/")


def by_host(**settings: Any) -> Hosting:
    app = Starlette(routes=[Host("{tenant}.example", Router(routes()))])
    return Hosting(BatchEndpoint(**settings).mount_to(app), host=b"acme.example")


def in_a_host_route(**settings: Any) -> Hosting:
    app = Starlette()
    endpoint = BatchEndpoint(host=app, **settings)
    app.router.routes.append(Host("api.example", Router([Route("/batch", endpoint), *routes()])))
    return Hosting(app, host=b"api.example")


def nested(**settings: Any) -> Hosting:
    inner = Starlette(routes=routes(), middleware=MIDDLEWARE)
    outer = Starlette(routes=[Mount("/api", routes=[Mount("/v1", inner)])], middleware=MIDDLEWARE)
    BatchEndpoint(host=outer, **settings).mount_to(inner)
    return Hosting(outer, "/api/v1/batch", "/api/v1")


def router(**settings: Any) -> Hosting:
    return Hosting(BatchEndpoint(**settings).mount_to(Router(routes(), middleware=MIDDLEWARE)))


def in_a_parameterised_mount(**settings: Any) -> Hosting:
    app = Starlette()
    endpoint = BatchEndpoint(host=app, **settings)
    app.mount("/t/{tenant}", Router([Route("/batch", endpoint), *routes()]))
    return Hosting(app, "/t/a%20b/batch", "/t/a%20b")


def behind_a_proxy(**settings: Any) -> Hosting:
    hosting = mount_to(**settings)
    hosting.root_path = "/proxy"
    return hosting


def nested_behind_a_proxy(**settings: Any) -> Hosting:
    hosting = nested(**settings)
    hosting.root_path = "/proxy"
    return hosting


def wrapped(**settings: Any) -> Hosting:
    app = Starlette(routes=routes())
    host = Through(app)
    BatchEndpoint(host=host, base_path="/", **settings).mount_to(app, "/somewhere/else")
    return Hosting(host, "/somewhere/else")


# FastAPI


def routed() -> FastAPI:
    """An app whose routes lie in a router in a router."""
    inner, outer, app = APIRouter(prefix="/inner"), APIRouter(prefix="/outer"), FastAPI()
    app.add_middleware(Dispatching)
    for path in (*OPEN, CLOSED):
        inner.add_api_route(path, function(path), methods=OPEN.get(path))
    outer.include_router(inner)
    app.include_router(outer, prefix="/v1")
    return app


INNER = "/v1/outer/inner"


def fastapi(**settings: Any) -> Hosting:
    return Hosting(BatchEndpoint(**settings).mount_to(routed(), f"{INNER}/batch"), f"{INNER}/batch", INNER)


def fastapi_plain(**settings: Any) -> Hosting:
    app = BatchEndpoint(dialect="plain", base_path=INNER, **settings).mount_to(routed(), f"{INNER}/batch")
    return Hosting(app, f"{INNER}/batch", INNER, dialect="plain")


def fastapi_in_starlette(**settings: Any) -> Hosting:
    app = routed()
    outer = Starlette(routes=[Mount("/app", app)], middleware=MIDDLEWARE)
    BatchEndpoint(host=outer, dialect="plain", **settings).mount_to(app, f"{INNER}/batch")
    return Hosting(outer, f"/app{INNER}/batch", f"/app{INNER}", dialect="plain")


# Others, by ``host=``, ``base_path=`` and ``allow=``


def litestar(**settings: Any) -> Hosting:
    def handler(path: str) -> Any:
        async def endpoint(request: LitestarRequest[Any, Any, Any]) -> LitestarResponse[bytes]:
            content, status, headers = await reply(path, request.method, request.url.query, await request.body())
            return LitestarResponse(content, status_code=status, headers=headers, media_type="application/json")

        methods: Any = OPEN.get(path, ["GET"])
        return route(path, http_method=methods, status_code=200)(endpoint)

    @asgi("/batch", copy_scope=True)
    async def batches(scope: LitestarScope, receive: LitestarReceive, send: LitestarSend) -> None:
        await endpoint(scope, receive, send)  # type: ignore[arg-type]

    app: Any = Litestar([*map(handler, (*OPEN, CLOSED)), batches], logging_config=None)
    endpoint = BatchEndpoint(host=app, base_path="/", allow=tuple(OPEN), **settings)
    return Hosting(app, readable=False)


def quart(**settings: Any) -> Hosting:
    app = Quart(__name__)

    def add(path: str) -> None:
        async def endpoint() -> QuartResponse:
            query = quart_request.query_string.decode()
            body: Any = await quart_request.get_data(as_text=False)
            content, status, headers = await reply(path, quart_request.method, query, body)
            return QuartResponse(content, status, headers, content_type="application/json")

        app.add_url_rule(path, path, endpoint, methods=OPEN.get(path))

    for path in (*OPEN, CLOSED):
        add(path)
    inner: Any = app.asgi_app

    async def with_batches(scope: Scope, receive: Receive, send: Send) -> None:
        await (endpoint if scope["path"] == "/batch" else inner)(scope, receive, send)

    app.asgi_app = with_batches  # type: ignore[method-assign, assignment]
    host: Any = app
    endpoint = BatchEndpoint(host=host, base_path="/", allow=tuple(OPEN), dialect="plain", **settings)
    return Hosting(host, readable=False, dialect="plain")


def bare(**settings: Any) -> Hosting:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (endpoint if scope["path"] == "/batch" else behind)(scope, receive, send)

    behind = Starlette(routes=routes())
    endpoint = BatchEndpoint(host=app, base_path="", allow=tuple(OPEN), **settings)
    return Hosting(app, readable=False)


Make = Callable[..., Hosting]

SHAPES: list[Make] = [
    *[mount_to, behind_middleware, as_a_route, as_a_mount, by_host, in_a_host_route, nested, router, in_a_parameterised_mount],
    *[behind_a_proxy, nested_behind_a_proxy, wrapped, fastapi, fastapi_plain, fastapi_in_starlette, litestar, quart, bare],
]

# Quart runs on asyncio only.
PLACES = [(make, backend) for make in SHAPES for backend in ("asyncio", "trio") if (make, backend) != (quart, "trio")]

everywhere = pytest.mark.parametrize(
    ("make", "anyio_backend"), PLACES, ids=[f"{make.__name__}-{backend}" for make, backend in PLACES], indirect=["anyio_backend"]
)
