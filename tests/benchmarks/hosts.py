"""The hosts that are measured, each with a batch endpoint and routes of one kind, and how to call one as a server would."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from tempfile import mkdtemp
from typing import Annotated, Any, TypeVar

import anyio
import anyio.lowlevel
from fastapi import Depends, FastAPI, Header
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint, batchable
from batchkit.limiter import Rate
from example_app.app import create_app
from example_app.demo_data import BEANS, DEMO, FENCE, README, TAG, TOKEN

ACTIONS = 10
HEADERS = [
    (b"host", b"localhost"),
    (b"user-agent", b"benchmark"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip"),
    (b"authorization", b"Bearer %b" % TOKEN.encode()),
    (b"origin", b"http://localhost"),
]

# Of the example app, below its base.
TASKS = [f"/tasks/{gid}" for gid in (README, DEMO, TAG, BEANS, FENCE) * 2]

Answer = tuple[int, bytes]
Run = Callable[[], Awaitable[object]]
A = TypeVar("A", bound=Starlette)


def task(gid: str) -> dict[str, Any]:
    """Asana's compact record of a task."""
    return {"data": {"gid": gid, "resource_type": "task", "resource_subtype": "default_task", "name": "Write the benchmark"}}


@batchable
async def get_task(request: Request) -> Response:
    return JSONResponse(task(request.path_params["gid"]))


@batchable
async def wait_once(request: Request) -> Response:
    await anyio.lowlevel.checkpoint()
    return JSONResponse(task(request.path_params["gid"]))


@batchable
async def get_large(request: Request) -> Response:
    """A JSON string of so many KiB, in memory of its own."""
    return Response(bytes(bytearray(b'"%b"' % (b"x" * (1024 * request.path_params["kib"] - 2)))), media_type="application/json")


@batchable(schema={"properties": {"tags": {"type": "array", "items": {"type": "string"}}}})
async def checked(request: Request) -> Response:
    return Response()


async def used(request: Request) -> Response:
    """The CPU time of the server so far, in seconds, for who cannot read it from outside."""
    return PlainTextResponse(repr(time.process_time()))


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def paths(count: int = ACTIONS) -> list[str]:
    return [f"/tasks/{index}" for index in range(count)]


def host(get: Callable[[Request], Awaitable[Response]], *middleware: Middleware, more: int = 0, **settings: Any) -> Starlette:
    """A host whose tasks ``get`` answers, with ``more`` routes before them."""
    others = [Route(f"/other-{index}/{{gid}}", get_task) for index in range(more)]
    routes = [
        *others,
        Route("/tasks/{gid}", get),
        Route("/large/{kib:int}", get_large),
        Route("/checked", checked, methods=["POST"]),
    ]
    return measured(Starlette(routes=routes, middleware=list(middleware)), **settings)


class Task(BaseModel):
    gid: str
    resource_type: str
    resource_subtype: str
    name: str


class Found(BaseModel):
    data: Task


async def bearer(authorization: Annotated[str, Header()]) -> str:
    return authorization.removeprefix("Bearer ")


def bearer_in_thread(authorization: Annotated[str, Header()]) -> str:
    return authorization.removeprefix("Bearer ")


@batchable
async def read_task(gid: str, token: Annotated[str, Depends(bearer)]) -> Found:
    return Found.model_validate(task(gid))


@batchable
def read_task_in_thread(gid: str, token: Annotated[str, Depends(bearer_in_thread)]) -> Found:
    return Found.model_validate(task(gid))


def fastapi_host(get: Callable[..., Any]) -> FastAPI:
    """A host of FastAPI's, with a parameter, a model and a dependency, as most have."""
    app = FastAPI()
    app.get("/tasks/{gid}")(get)
    return measured(app, dialect="plain")


def measured(app: A, **settings: Any) -> A:
    """The app with a batch endpoint, and beside it what that is measured against."""
    app.router.routes += [
        Route("/cpu", used),
        Route("/by-hand", by_hand(app), methods=["POST"]),
        Route("/in-turn", in_turn(app, paths())),
        Route("/at-once", at_once(app, paths())),
    ]
    return BatchEndpoint(**settings).mount_to(app, "/batch")


def example() -> Starlette:
    """The example app with a database of its own, and limits that nobody meets."""
    folder = mkdtemp()
    limits = [Rate(10**7, 60, name="requests")]
    tasks = [f"/api/1.0{path}" for path in TASKS]
    app = create_app(f"sqlite:///{folder}/example_app.db", files=folder, limits=limits)
    # Above its routes, so that nobody needs a token for them.
    routes = [Route("/cpu", used), Route("/in-turn", in_turn(app, tasks)), Route("/at-once", at_once(app, tasks))]
    app.add_middleware(InFront, apps={route.path: route.app for route in routes})
    return app


class InFront:
    """Some apps, each at a path in front of another app."""

    def __init__(self, app: ASGIApp, apps: dict[str, ASGIApp]) -> None:
        self.app = app
        self.apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.apps.get(scope.get("path", ""), self.app)(scope, receive, send)


def in_turn(app: ASGIApp, paths: list[str]) -> Callable[[Request], Awaitable[Response]]:
    """The least that requests in one can cost: ``app`` is called for each, with no JSON, no limit and no task."""

    async def endpoint(request: Request) -> Response:
        for path in paths:
            await call(app, "GET", path, request.headers.raw.copy())
        return Response()

    return endpoint


def at_once(app: ASGIApp, paths: list[str]) -> Callable[[Request], Awaitable[Response]]:
    """As ``in_turn``, but each in a task of its own, the cheapest there is."""

    async def endpoint(request: Request) -> Response:
        async with asyncio.TaskGroup() as tasks:
            for path in paths:
                tasks.create_task(call(app, "GET", path, request.headers.raw.copy()))
        return Response()

    return endpoint


def by_hand(app: ASGIApp) -> Callable[[Request], Awaitable[Response]]:
    """What one would write without a library: the same requests in a bare anyio task group, JSON by the standard library."""

    async def endpoint(request: Request) -> Response:
        return JSONResponse(await in_group(app, (await request.json())["data"]["actions"], request.headers.raw))

    return endpoint


async def in_group(app: ASGIApp, actions: list[dict[str, Any]], headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """The results of ``actions``, each a request to ``app`` in a bare task group, with the JSON of their bodies read."""
    results: list[Any] = [None] * len(actions)

    async def one(index: int, action: dict[str, Any]) -> None:
        status, body = await call(app, action["method"].upper(), action["relative_path"], headers.copy())
        results[index] = {"status_code": status, "headers": {}, "body": json.loads(body)}

    async with anyio.create_task_group() as tasks:
        for index, action in enumerate(actions):
            tasks.start_soon(one, index, action)
    return {"data": results}


MIDDLEWARE = (
    Middleware(BaseHTTPMiddleware, dispatch=pass_on),
    Middleware(CORSMiddleware, allow_origins=["http://localhost"]),
    Middleware(GZipMiddleware),
)
# What a request does besides being one.
KINDS = {
    "trivial": "(a) trivial",
    "waiting": "(b) waiting once",
    "layered": "(c) behind BaseHTTPMiddleware, CORS and GZip",
    "fastapi": "(d) FastAPI, async def",
    "fastapi_in_thread": "(e) FastAPI, def",
}
trivial, waiting, layered = host(get_task), host(wait_once), host(get_task, *MIDDLEWARE)
fastapi, fastapi_in_thread = fastapi_host(read_task), fastapi_host(read_task_in_thread)


async def call(app: ASGIApp, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> Answer:
    """One request to ``app``, as a server would call it."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1234),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    status = 0
    chunks: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            chunks.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, b"".join(chunks)


def envelope(paths: list[str]) -> bytes:
    """The body of a batch that reads these paths."""
    return json.dumps({"data": {"actions": [{"relative_path": path, "method": "get"} for path in paths]}}).encode()


def posting(app: ASGIApp, path: str, body: bytes) -> Run:
    """A POST of this JSON to ``app``, which must be answered 200."""
    headers = [*HEADERS, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def run() -> None:
        status, content = await call(app, "POST", path, headers, body)
        assert status == 200, content

    return run
