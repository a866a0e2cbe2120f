"""Random hosts, random requests: what each is answered alone it is answered in a batch, or the 400 that the protocol names."""

from __future__ import annotations

import json
import random
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint, batchable, not_batchable
from tests.asgi import request
from tests.batches import JSON, action, envelope, post

pytestmark = pytest.mark.anyio

TOKEN = (b"authorization", b"Bearer right")
SEGMENTS = ["a", "b", "A", "admin", "7", "7", "x-1", "", "b%20c", "bb"]
TEMPLATES = ["/a", "/b", "/{p}", "/a/{p}", "/{p:int}", "/{p}/b", "/private/{p}", "/{p:path}", "/a/", "/admin"]
PREFIXES = ["/a", "/b", "/admin", "/private", "/{p}", ""]
METHODS = ["get", "post", "put", "delete", "patch", "head"]
# What authentication that stands behind a router says.
BEHIND = "who are you, here"
MARKS: list[Callable[[Any], Any]] = [batchable, batchable, batchable, lambda endpoint: endpoint, not_batchable]


class Auth:
    """Middleware that asks for a token below a prefix of the whole path, and leaves the batch's own POST alone."""

    def __init__(self, app: ASGIApp, prefix: str = "", says: str = "who are you") -> None:
        self.app = app
        self.prefix = prefix
        self.says = says

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and scope["path"].startswith(self.prefix) and scope["path"] != "/batch"
        if guarded and TOKEN not in scope["headers"]:
            await PlainTextResponse(self.says, 401)(scope, receive, send)
            return
        await self.app(scope, receive, send)


class LowerCase:
    """Middleware that changes the path of what goes to the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "path": scope["path"].lower()} if scope["type"] == "http" else scope, receive, send)


class Folding(Route):
    """A route in a way of its own."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches({**scope, "path": scope["path"].lower()} if scope["type"] == "http" else scope)


class ByToken(Route):
    """One that only some clients see."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if scope["type"] == "http" and TOKEN in scope["headers"] else (Match.NONE, {})


class FoldingAPI(APIRoute):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches({**scope, "path": scope["path"].lower()})


class FoldingRouter(Router):
    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().app({**scope, "path": scope["path"].lower()} if scope["type"] == "http" else scope, receive, send)


class FoldingApp(Starlette):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__({**scope, "path": scope["path"].lower()} if scope["type"] == "http" else scope, receive, send)


def needs_token(request: Request) -> None:
    if request.headers.get("authorization") != TOKEN[1].decode():
        raise HTTPException(401, BEHIND)


async def not_found(request: Request, error: Exception) -> Response:
    return JSONResponse({"secret": "what the 404 page says", "path": request.url.path}, 404)


class Hosts:
    """Makes hosts out of one seed; ``ran`` is which handlers have run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ran: list[int] = []
        # Whether what is made now stands behind something that routes in a way of its own.
        self.behind = False
        self._handlers = 0

    def odd(self, share: float) -> bool:
        return self.random.random() < share

    def one(self, *of: Any) -> Any:
        return self.random.choice(of)

    @contextmanager
    def own_way(self, own: bool = True) -> Iterator[None]:
        before, self.behind = self.behind, self.behind or own
        yield
        self.behind = before

    def auth(self) -> Middleware:
        return Middleware(Auth, says=BEHIND if self.behind else "who are you")

    def handler(self) -> Callable[[Request], Any]:
        """A handler with a mark; what it answers shows what it was called with."""
        self._handlers += 1
        number = self._handlers
        ran = self.ran

        async def handler(request: Request) -> Response:
            ran.append(number)
            told = {
                "handler": number,
                "params": request.path_params,
                "root": request.scope["root_path"],
                "path": request.url.path,
            }
            return JSONResponse({**told, "body": (await request.body()).decode()})

        return self.one(*MARKS)(handler)  # type: ignore[no-any-return]

    def endpoint(self) -> type[HTTPEndpoint]:
        """A class that has some of the methods."""
        handlers = {name: self._method() for name in self.random.sample(["get", "post", "delete"], 2)}
        return self.one(*MARKS)(type("Endpoint", (HTTPEndpoint,), handlers))  # type: ignore[no-any-return]

    def _method(self) -> Any:
        handler = self.handler()

        async def method(self: HTTPEndpoint, request: Request) -> Any:
            return await handler(request)

        return batchable(method) if self.odd(0.5) else method

    def routes(self, depth: int = 0) -> list[BaseRoute]:
        return [self.route(depth) for _ in range(self.random.randint(1, 4))]

    def route(self, depth: int) -> BaseRoute:
        template, methods = self.one(*TEMPLATES), [self.one("GET", "GET", "POST", "DELETE")]
        kind = self.random.random()
        if kind < 0.45 or depth == 2:
            return Route(template, self.handler(), methods=methods)
        if kind < 0.55:
            return Route(template, self.endpoint())
        if kind < 0.62:
            return Route(template, self.handler(), methods=methods, middleware=[Middleware(Auth, says=BEHIND)])
        if kind < 0.68:
            return self.one(Folding, ByToken)(template, self.handler(), methods=methods)  # type: ignore[no-any-return]
        if kind < 0.72:
            return Host(self.one("testserver", "other"), self.sub_app(depth))
        return (
            Mount(self.one(*PREFIXES), app=self.sub_app(depth)) if kind < 0.9 else Mount(self.one(*PREFIXES), self.mounted(depth))
        )

    def mounted(self, depth: int) -> ASGIApp:
        """A router, with middleware of its own perhaps."""
        own = self.odd(0.15)
        with self.own_way(own):
            routes = self.routes(depth + 1)
        if own:
            return FoldingRouter(routes)
        return Router(routes, redirect_slashes=self.odd(0.7), middleware=[self.auth()] if self.odd(0.3) else None)

    def sub_app(self, depth: int) -> ASGIApp:
        handlers: Any = {404: not_found} if self.odd(0.4) else None
        kind = self.random.random()
        root_path = self.one("", "", "/elsewhere", "/a") if 0.1 <= kind < 0.3 else ""
        with self.own_way(kind < 0.1 or bool(root_path) or 0.3 <= kind < 0.4):
            middleware = [self.auth()] if self.odd(0.4) else []
            if 0.1 <= kind < 0.3:
                app = FastAPI(root_path=root_path, middleware=middleware, exception_handlers=handlers, openapi_url=None)
                self.fill(app.router, depth + 1)
                return app
            routes = self.routes(depth + 1)
        if kind < 0.1:
            return FoldingApp(routes=routes, middleware=middleware)
        if kind < 0.4:
            # What is behind it cannot be told, unless somebody marks it.
            hidden = Auth(Starlette(routes=routes, middleware=middleware), says=BEHIND)
            return batchable(hidden) if self.odd(0.5) else hidden
        return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)

    def fill(self, router: APIRouter, depth: int = 0, included: bool = False) -> None:
        """Add operations, included routers and mounts to a router of FastAPI's."""
        for _ in range(self.random.randint(1, 4)):
            kind = self.random.random()
            if kind < 0.5 or depth == 2:
                needs = [Depends(needs_token)] if self.odd(0.2) else None
                router.add_api_route(
                    self.one(*TEMPLATES), self.operation(), methods=[self.one("GET", "GET", "POST", "DELETE")], dependencies=needs
                )
            elif kind < 0.8:
                # One route with a way of its own makes a way of its own of all that is included with it.
                own = not included and self.odd(0.15)
                more = APIRouter(route_class=FoldingAPI if own else APIRoute)
                with self.own_way(own):
                    self.fill(more, depth + 1, included=True)
                needs = [Depends(needs_token)] if self.odd(0.3) else None
                router.include_router(more, prefix=self.one("/a", "/b", "/private"), dependencies=needs)
            else:
                router.mount(self.one("/a", "/b", "/admin"), self.sub_app(depth))

    def operation(self) -> Any:
        handler = self.handler()
        marks = {name: value for name, value in vars(handler).items() if "batchable" in name}

        async def operation(request: Request) -> Any:
            return await handler(request)

        vars(operation).update(marks)
        return operation

    def host(self) -> Starlette:
        """A host with a batch endpoint."""
        middleware = [Middleware(Auth, prefix="/private")] if self.odd(0.5) else []
        changes = self.odd(0.1)
        middleware += [Middleware(LowerCase)] * changes
        handlers: Any = {404: not_found} if self.odd(0.5) else None
        app: Starlette
        with self.own_way(changes):
            if self.odd(0.4):
                app = FastAPI(middleware=middleware, exception_handlers=handlers, openapi_url=None)
                self.fill(app.router)
            else:
                app = Starlette(routes=self.routes(), middleware=middleware, exception_handlers=handlers)
        exclude = (self.one("/admin/*", "GET /a", "/private/{p}"),) if self.odd(0.3) else ()
        policy = self.one("marked", "marked", "all")
        return BatchEndpoint(policy=policy, exclude=exclude, max_actions=50).mount_to(app, "/batch")


def requests(random: random.Random) -> Iterator[tuple[str, str]]:
    """Paths made like those of the routes, of which some are not quite."""
    for _ in range(16):
        path = "".join(random.choice(PREFIXES) for _ in range(random.choice([0, 0, 1, 1, 2]))) + random.choice(TEMPLATES)
        path = re.sub(r"{.*?}", lambda _: random.choice(SEGMENTS), path)
        if random.random() < 0.2:
            path = random.choice([path + "/", path.upper(), path.rstrip("/"), path.replace("a", "%61", 1), path + "/" + "b"])
        if path and not path.startswith("//"):
            yield random.choice(METHODS if random.random() < 0.5 else ["get"]), path


def readable(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode() or {}


async def compare(seed: int) -> Counter[str]:
    """One host: how many requests were answered equally, by the status, and how many were refused in the batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hosts = Hosts(seed)
        app = hosts.host()
    told: Counter[str] = Counter()
    for identity in ([], [TOKEN]):
        headers = [(b"host", b"testserver"), *identity]
        drawn = list(requests(hosts.random))
        alone = []
        for method, path in drawn:
            hosts.ran.clear()
            writes = method in ("post", "put", "patch")
            answer = await request(
                app,
                method.upper(),
                path,
                headers=[*headers, JSON] if writes else headers,
                body=b'{"data":{"n": 1}}' if writes else b"",
            )
            fields = {name: value.decode() for name, value in answer.headers}
            alone.append((answer.status, readable(answer.body), fields.get(b"location"), fields.get(b"allow"), [*hosts.ran]))
        actions = [
            action(path, method, **({"data": {"n": 1}} if method in ("post", "put", "patch") else {})) for method, path in drawn
        ]
        hosts.ran.clear()
        batch = await post(app, envelope(*actions), headers=headers[1:] if len(headers) > 1 else ())
        assert batch.status == 200, batch.body
        ran = Counter(hosts.ran)
        for (method, path), expected, result in zip(drawn, alone, json.loads(batch.body)["data"], strict=True):
            status, body, location, allow, handlers = expected
            where = (seed, method, path, bool(identity), expected, result)
            if "cannot be used in a batch request" in json.dumps(result["body"]):
                assert result["status_code"] == 400, where
                # It may be said to anybody who reached the router, and to nobody else.
                assert body != "who are you", where
                told["refused"] += 1
                continue
            assert result["status_code"] == status, where
            assert result["body"] == body or method == "head", where
            assert (result["headers"].get("location"), result["headers"].get("allow")) == (location, allow), where
            ran.subtract(handlers)
            told[f"{status}"] += 1
        # What ran, ran for one of those that were not refused.
        assert not +ran, (seed, ran)
        assert not -ran, (seed, ran)
    return told


def judge(told: Counter[str]) -> None:
    """A fuzz that refuses all, or finds nothing, would be none."""
    total = told.total()
    assert told["200"] > total * 0.05, told
    assert told["401"] > total * 0.02, told
    assert told["404"] > total * 0.05, told
    assert told["405"] > 0, told
    assert told["307"] > 0, told
    assert told["refused"] < total * 0.7, told


@pytest.mark.parametrize("first", range(0, 160, 40))
async def test_alone_and_in_a_batch_are_equal_or_refused(first: int) -> None:
    """“**an action in a batch is exactly the request it would have been alone**”, and what cannot be told is a 400.

    Security: “Nothing gets in through a batch that could not get in alone.”
    """
    told: Counter[str] = Counter()
    for seed in range(first, first + 40):
        told += await compare(seed)
    judge(told)


@pytest.mark.soak
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_twenty_thousand_actions_show_no_difference() -> None:
    told: Counter[str] = Counter()
    seed = 1000
    while told.total() < 20_000:
        told += await compare(seed)
        seed += 1
    judge(told)
    print(dict(told))
