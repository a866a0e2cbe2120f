"""What a person may write that has no effect, while all may yet be right: it is told in the log when the app has started."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body, FastAPI
from pydantic import AliasChoices, BaseModel, Field, RootModel, model_validator
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from batchkit import BatchEndpoint, batchable, not_batchable
from batchkit.limiter import Concurrency, Limiter, LimitMiddleware, Rate, asana_limits
from tests.asgi import lifespan, request
from tests.batches import JSON, action, batch, envelope, post

limiter = Limiter(asana_limits())


async def another_app(scope: Scope, receive: Receive, send: Send) -> None: ...


def endpoint(request: Request) -> Response:
    return Response()


def fresh() -> Callable[[Request], Response]:
    """An endpoint of which nobody else has a mark."""

    def endpoint(request: Request) -> Response:
        return Response()

    return endpoint


ROUTES = [
    Route("/tasks", endpoint),
    Route("/dav", endpoint, methods=["PROPFIND"]),
    Mount("/users", routes=[Route("/{gid:int}", endpoint)]),
    Route("/uploads", endpoint, methods=["PUT"]),
]


async def warned(app: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is warned of at the start of ``app``."""
    caplog.clear()
    async with lifespan(app):
        pass
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.fixture(autouse=True)
def unmarked() -> None:
    """Marks stay where they were put: each test begins without those of others."""
    for function in (endpoint, handler, chat):
        for name in ("__batchable__", "__not_batchable__"):
            vars(function).pop(name, None)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (Rate(5, 60, name="a", routes=["/taks"]), "a: routes: '/taks': the app has no such route: did you mean '/tasks'?"),
        (Concurrency(5, name="a", routes=["/user/*"]), "a: routes: '/user/*': the app has no such route"),
        (Rate(5, 60, name="a", routes=["GET /taks"]), "'GET /taks': the app has no such route: did you mean 'GET /tasks'?"),
        (Rate(5, 60, name="a", methods=["HEAD"], routes=["GET /tasks"]), None),
        (Rate(5, 60, name="a", methods=["GTE", "POST"]), "a: methods: 'GTE': did you mean 'GET'?"),
        (Rate(5, 60, name="a", routes=["GET /tasks", "/users/{gid}", "/users/*", "HEAD /tasks/"], methods=["GET"]), None),
        (Rate(5, 60, name="a", methods=["PROPFIND"], routes=["/dav"]), None),
        (
            Rate(5, 60, name="a", routes=["POST /tasks"]),
            "a: routes: 'POST /tasks': the app has no such route: did you mean 'GET /tasks'?",
        ),
        (Rate(5, 60, name="a", routes=["POST /upload"]), "did you mean 'PUT /uploads'?"),
        (Rate(5, 60, name="a", routes=["DELETE /users/*"]), "'DELETE /users/*': the app has no such route: did you mean 'GET /u"),
        (Rate(5, 60, name="a", routes=["PUT /uploads", "HEAD /users/*", "GET /users/{gid}"]), None),
        # Nothing that a rule could say means it.
        (Rate(5, 60, name="a", routes=["GET /dav"]), "a: routes: 'GET /dav': the app has no such route"),
    ],
)
async def test_a_limit_on_a_route_that_is_not_there_is_told_at_the_start(
    limit: Rate | Concurrency, says: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    apps = [
        BatchEndpoint(cost_hook=Limiter([limit]), policy="all").mount_to(Starlette(routes=ROUTES)),
        Starlette(routes=ROUTES, middleware=[Middleware(LimitMiddleware, limiter=Limiter([limit]))]),
    ]
    for app in apps:
        told = await warned(app, caplog)
        assert [says is not None and says in sentence for sentence in told] == [True] * (says is not None)


@pytest.mark.anyio
async def test_a_method_of_the_hosts_own(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter([Rate(5, 60, name="a", methods=["PURGE", "PROPPATCH", "get"])])
    app = Starlette(routes=[Route("/x", endpoint, methods=["PROPPATCH"])])
    app.add_middleware(LimitMiddleware, limiter=limiter)
    assert await warned(app, caplog) == []


@pytest.mark.anyio
async def test_an_exclusion_of_a_method_that_no_route_has(caplog: pytest.LogCaptureFixture) -> None:
    class Tasks(HTTPEndpoint):
        pass

    async def told(*exclude: str, **more: Any) -> list[str]:
        app = Starlette(routes=[Route("/any", Tasks), Mount("/opaque", another_app), *ROUTES])
        return await warned(BatchEndpoint(policy="all", exclude=exclude, **more).mount_to(app), caplog)

    assert await told("POST /uploads") == ["exclude: 'POST /uploads': the app has no such route: did you mean 'PUT /uploads'?"]
    assert await told("POST /any", "DELETE /opaque", "PUT /uploads", "HEAD /tasks") == []
    allowing = BatchEndpoint(host=another_app, base_path="/", allow=["/a", "PUT /b"], exclude=["POST /a", "GET /b"])
    caplog.clear()
    caplog.set_level("INFO", "batchkit")
    await batch(Starlette(routes=[Route("/batch", allowing)]), action("/x"))
    assert "6 routes may run: GET /a, HEAD /a, PUT /a, PATCH /a, DELETE /a, PUT /b" in caplog.text
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "exclude: 'GET /b': the app has no such route: did you mean 'PUT /b'?"
    ]


@pytest.mark.anyio
async def test_what_has_no_effect_is_told_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    unmarked = BatchEndpoint().mount_to(Starlette(routes=ROUTES))
    assert await warned(unmarked, caplog) == [
        "Batches go to Starlette, below /, through no middleware; 0 routes may run: none, mark some with @batchable"
    ]
    elsewhere = BatchEndpoint(policy="all", base_path="/ap").mount_to(Starlette(routes=ROUTES))
    remedy = "no route that may run is below it: give base_path='/', or what your routes are below"
    assert await warned(elsewhere, caplog) == [f"base_path='/ap': {remedy}"]
    above = BatchEndpoint(policy="all").mount_to(Starlette(routes=ROUTES), "/api/batch")
    assert await warned(above, caplog) == [f"'/api', the parent of the batch URL: {remedy}"]
    itself = BatchEndpoint(policy="all", base_path="/batch").mount_to(Starlette(routes=ROUTES))
    assert await warned(itself, caplog) == [f"base_path='/batch': {remedy}"]
    closed = BatchEndpoint(policy="all", exclude=["/*"]).mount_to(Starlette(routes=ROUTES))
    assert await warned(closed, caplog) == [
        "Batches go to Starlette, below /, through no middleware; 0 routes may run: none, all are excluded, or cannot be read"
    ]
    for base_path in ("/users", "/t/acme", "/opaque", ""):
        routes = [*ROUTES, Route("/t/{tenant}/x", endpoint), Mount("/opaque", batchable(another_app))]
        there = BatchEndpoint(policy="all", base_path=base_path)
        assert await warned(there.mount_to(Starlette(routes=routes)), caplog) == []
    tenants = [Route("/t/{tenant}/x", endpoint), Route("/t/acme/y", endpoint)]
    assert await warned(BatchEndpoint(policy="all").mount_to(Starlette(routes=tenants), "/t/{org}/batch"), caplog) == []
    for cost_hook in (None, Limiter(asana_limits())):
        apart = Starlette(routes=ROUTES, middleware=[Middleware(LimitMiddleware, limiter=limiter)])
        assert await warned(BatchEndpoint(policy="all", cost_hook=cost_hook).mount_to(apart), caplog) == [
            "LimitMiddleware: the batch endpoint at /batch does not ask this limiter, so its actions are counted one by one "
            "as they run: give it cost_hook=limiter, or where its hook asks the limiter, say limiter.free(endpoint)"
        ]


@pytest.mark.anyio
async def test_routes_that_the_app_adds_as_it_starts_are_there(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def adds(app: Starlette) -> AsyncIterator[None]:
        app.add_route("/late", endpoint)
        yield

    limiter = Limiter([Rate(5, 60, name="a", routes=["/late"])])
    app = Starlette(lifespan=adds, middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    BatchEndpoint(policy="all", cost_hook=limiter, exclude=["/late"]).mount_to(app)
    # Nothing but that none is left to run.
    assert [sentence for sentence in await warned(app, caplog) if not sentence.startswith("Batches go")] == []


# Marks that nobody sees


def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
    async def around(request: Request) -> Response:
        answer: Response = await function(request)
        return answer

    return around


class Decorator:
    """One that is an object, as FastAPI takes them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    async def __call__(self, request: Request) -> Any:
        return await self.function(request)


class Tasks:
    async def show(self, request: Request) -> Response:
        return Response()

    @batchable
    async def marked(self, request: Request) -> Response:
        return Response()


@batchable
class MarkedTasks:
    async def show(self, request: Request) -> Response:
        return Response()


class Dispatches(HTTPEndpoint):
    @batchable
    async def dispatch(self) -> None: ...


class Called:
    @batchable
    async def __call__(self) -> dict[str, int]:
        return {"a": 1}


class Base(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return Response()


class Derived(batchable(type("Marked", (Base,), {}))):  # type: ignore[misc]
    pass


class OfMethods(HTTPEndpoint):
    get = decorator(batchable(Base.get))


async def handler(request: Request) -> Response:
    return Response()


def dropped_method() -> Route:
    tasks = Tasks()
    batchable(tasks.show)
    return Route("/x", tasks.show)


def dropped_app(app: ASGIApp) -> Mount:
    batchable(app)
    return Mount("/x", app)


ASGI = Starlette(routes=[Route("/y", endpoint)])
hides = "seems to hide the mark of handler: write that with functools.wraps, or put the mark above it"
dropped = "the mark is for what batchable(…) or not_batchable(…) returned, and that was dropped: lead the route to it"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda: Route("/x", decorator(batchable(handler))), f"decorator.<locals>.around: {hides}"),
        (lambda: Route("/x", functools.partial(decorator(batchable(handler)))), hides),
        (lambda: Route("/x", decorator(functools.partial(decorator(batchable(handler))))), hides),
        # This one would run with policy="all".
        (lambda: Route("/x", decorator(not_batchable(handler))), hides),
        (lambda: Route("/x", OfMethods), "seems to hide the mark of Base.get"),
        (lambda: Route("/x", Derived), "Derived: the mark of Marked is for that class alone: mark this one as well"),
        (dropped_method, f"Tasks.show: {dropped}"),
        (lambda: dropped_app(Starlette(routes=[Route("/y", endpoint)])), dropped),
        (lambda: dropped_app(another_app), None),
        (lambda: Route("/x", decorator(batchable(functools.partial(handler)))), "seems to hide the mark of functools.partial("),
        (lambda: Route("/x", MarkedTasks().show), "the mark of MarkedTasks is not for its methods: mark this one as well"),
        (lambda: Route("/x", Dispatches), "Dispatches: the mark of dispatch is not seen: mark the class, or its get, head, post"),
        # These are right.
        (lambda: Route("/x", functools.wraps(handler)(decorator(batchable(handler)))), None),
        (lambda: Route("/x", batchable(decorator(batchable(handler)))), None),
        (lambda: Route("/x", not_batchable(decorator(batchable(handler)))), None),
        (lambda: Route("/x", batchable(decorator(handler))), None),
        (lambda: Route("/x", batchable(Tasks().show)), None),
        (lambda: Route("/x", Tasks().marked), None),
        (lambda: Route("/x", batchable(type("Own", (Derived,), {}))), None),
        (lambda: Mount("/x", batchable(ASGI)), None),
        (lambda: Host("a.example", batchable(ASGI)), None),
    ],
)
async def test_a_mark_that_nobody_sees(write: Callable[[], Any], says: str | None, caplog: pytest.LogCaptureFixture) -> None:
    told = await warned(BatchEndpoint(policy="all").mount_to(Starlette(routes=[write(), Route("/z", endpoint)])), caplog)
    assert [says is not None and says in sentence for sentence in told] == [True] * (says is not None)


@pytest.mark.anyio
async def test_what_calls_a_marked_endpoint_that_has_a_route_hides_no_mark(caplog: pytest.LogCaptureFixture) -> None:
    @batchable
    async def first(request: Request) -> Response:
        return Response()

    async def second(request: Request) -> Response:
        return await first(request)

    app = BatchEndpoint().mount_to(Starlette(routes=[Route("/1", first), Route("/2", second)]))
    assert await warned(app, caplog) == []


@pytest.mark.anyio
async def test_the_mark_of_a_method_of_an_object_in_fastapi(caplog: pytest.LogCaptureFixture) -> None:
    app, router = FastAPI(), APIRouter()
    router.add_api_route("/x", Decorator(batchable(decorator(endpoint))))
    app.include_router(router, prefix="/api")
    app.get("/y")(batchable(endpoint))
    [told] = await warned(BatchEndpoint().mount_to(app), caplog)
    assert "Decorator object at " in told
    assert "seems to hide the mark of decorator.<locals>.around" in told


# Limits


async def chat(websocket: WebSocket) -> None: ...


@pytest.mark.anyio
async def test_no_limit_counts_websockets(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter([Rate(5, 60, name="a", routes=["/chat"])])
    app, router = FastAPI(), APIRouter()
    router.websocket("/chat")(chat)
    app.include_router(router)
    app.get("/x")(batchable(endpoint))
    starlette = Starlette(routes=[Route("/x", batchable(endpoint)), WebSocketRoute("/chat", chat)])
    for host in (app, starlette):
        assert await warned(BatchEndpoint(cost_hook=limiter).mount_to(host), caplog) == [
            "cost_hook: a: routes: '/chat': the app has no such route"
        ]


@pytest.mark.anyio
async def test_a_mark_with_a_limit_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    @batchable(limit="serch")
    async def search(request: Request) -> Response:
        return Response()

    app = BatchEndpoint(cost_hook=Limiter(asana_limits())).mount_to(Starlette(routes=[Route("/x", search)]))
    async with lifespan(app):
        await batch(app, action("/x"), action("/x"))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "@batchable(limit='serch') on /x: the limiter has no Rate or Concurrency with that limit=: did you mean 'search'?"
    ]


@pytest.mark.anyio
async def test_a_route_that_costs_more_than_a_limit_allows(caplog: pytest.LogCaptureFixture) -> None:
    @batchable(cost=50)
    async def search(request: Request) -> Response:
        return Response()

    @batchable(cost=51, limit="dear")
    async def export(request: Request) -> Response:
        return Response()

    limiter = Limiter(
        [
            Rate(50, 60, name="a", methods=["GET"]),
            Rate(50, 60, name="b", limit="other"),
            Rate(50, 60, name="c", limit="dear", routes=["/exports/*"]),
            Concurrency(5, name="d"),
        ]
    )
    routes = [Route("/s", search), Mount("/exports", routes=[Route("/", export, methods=["POST"])]), Route("/e", export)]
    app = BatchEndpoint(cost_hook=limiter).mount_to(
        Starlette(routes=routes, middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    )
    told = ["GET /e costs 51, and a allows 50: it can never pass", "POST /exports/ costs 51, and c allows 50: it can never pass"]
    assert await warned(app, caplog) == [f"{by}: {sentence}" for by in ("cost_hook", "LimitMiddleware") for sentence in told]


@pytest.mark.anyio
@pytest.mark.parametrize("template", ["/sub/x", "/x"])
async def test_a_middleware_below_the_app_of_its_batch_endpoint(template: str, caplog: pytest.LogCaptureFixture) -> None:
    """There its templates would mean other routes than in a batch."""
    limiter = Limiter([Rate(5, 60, name="a", routes=[template])])
    around = [Middleware(LimitMiddleware, limiter=limiter)]
    routes = [Route("/x", batchable(endpoint))]
    told = (
        "LimitMiddleware: the batch endpoint that asks this limiter is in another app, and routes= of its limits is for that "
        "one's: add the middleware there, and not below it"
    )
    for below in (Mount("/sub", routes=routes, middleware=around), Mount("/sub", Starlette(routes=routes, middleware=around))):
        app = BatchEndpoint(cost_hook=limiter).mount_to(Starlette(routes=[below]))
        caplog.clear()
        async with lifespan(app):
            await batch(app, action("/sub/x"))
            await request(app, "GET", "/sub/x")
            await request(app, "GET", "/sub/x")
        records = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert records[-1] == told
        assert records.count(told) == 1
        assert len(records) == 1 + (template == "/x")


@pytest.mark.anyio
async def test_a_middleware_below_that_is_right(caplog: pytest.LogCaptureFixture) -> None:
    """Limits for all routes mean the same everywhere; and an app in another one may have a batch endpoint of its own."""
    for rate, own in ((Rate(5, 60, name="a"), False), (Rate(5, 60, name="a", routes=["/x"]), True)):
        limiter = Limiter([rate])
        sub = Starlette(routes=[Route("/x", batchable(endpoint))], middleware=[Middleware(LimitMiddleware, limiter=limiter)])
        app = Starlette(routes=[Mount("/sub", sub)])
        BatchEndpoint(cost_hook=limiter, host=sub if own else None).mount_to(sub if own else app)
        async with lifespan(app):
            await batch(app, action("/x" if own else "/sub/x"), path="/sub/batch" if own else "/batch")
            await request(app, "GET", "/sub/x")
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


@pytest.mark.anyio
async def test_without_a_lifespan_the_first_batch_and_request_tell(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter([Rate(5, 60, name="a", routes=["/taks"])])
    around = [Middleware(LimitMiddleware, limiter=limiter)]
    app = BatchEndpoint(cost_hook=limiter, exclude=["/y"]).mount_to(
        Starlette(routes=[Route("/tasks", batchable(endpoint))], middleware=around)
    )
    for _ in range(2):
        await request(app, "GET", "/tasks")
        await batch(app, action("/tasks"))
    meant = "a: routes: '/taks': the app has no such route: did you mean '/tasks'?"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"LimitMiddleware: {meant}",
        "exclude: '/y': the app has no such route",
        f"cost_hook: {meant}",
    ]


# Plugins


class Through:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Watcher:
    def action(self, app: ASGIApp) -> ASGIApp:
        return app


class Misspelled(Watcher):
    def batchs(self, batch: Any) -> None: ...

    def refuse(self, batch: Any, error: Any) -> None: ...


class Careful(Watcher):
    actions = 0

    def refused(self, batch: Any, error: Any) -> None: ...

    def refuses(self) -> None: ...

    def patch(self) -> None: ...

    def reaction(self) -> None: ...


def test_a_method_of_a_plugin_that_is_never_called(caplog: pytest.LogCaptureFixture) -> None:
    BatchEndpoint(plugins=[Careful(), Watcher()])
    assert caplog.messages == []
    BatchEndpoint(plugins=[Misspelled()])
    assert caplog.messages == [
        "plugins: Misspelled.batchs is never called: did you mean 'batch'?",
        "plugins: Misspelled.refuse is never called: did you mean 'refused'?",
    ]


# What is mounted, and where to


@pytest.mark.anyio
async def test_a_host_that_its_batches_do_not_reach(caplog: pytest.LogCaptureFixture) -> None:
    """Where the endpoint is in another app than its host, only a batch tells what its actions are relative to."""
    sub = Starlette(routes=[Route("/x", batchable(endpoint))])
    app = BatchEndpoint(host=sub, exclude=["/typo"]).mount_to(Starlette(routes=[Mount("/api", sub)]), "/api/batch")
    assert await warned(app, caplog) == []
    for _ in range(2):
        assert [result["status_code"] for result in await batch(app, action("/x"), path="/api/batch")] == [404]
    remedy = "no route that may run is below it: give base_path='/', or what your routes are below"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "exclude: '/typo': the app has no such route",
        f"'/api', the parent of the batch URL: {remedy}",
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("root_path", ["", "/v1"])
async def test_an_endpoint_in_a_mounted_app_is_right(root_path: str, caplog: pytest.LogCaptureFixture) -> None:
    sub = Starlette(routes=[Route("/x", batchable(endpoint))])
    app = Starlette(routes=[Mount("/api", sub)])
    for host, path in ((sub, "/1"), (app, "/2")):
        BatchEndpoint(host=host).mount_to(sub, path)
        sub.router.routes.append(Route(path + "/by-hand", BatchEndpoint(host=host, base_path="/" if host is sub else "/api")))
    async with lifespan(app):
        for path in ("/api/1", "/api/1/by-hand", "/api/2", "/api/2/by-hand"):
            answer = await request(app, "POST", path, headers=[JSON], body=envelope(action("/x")), root_path=root_path)
            assert b'"status_code":200' in answer.body
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


class Login:
    """Middleware around an app that is complete, which lets nobody in."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].endswith("/batch"):
            await Response(status_code=401)(scope, receive, send)
            return
        await self.app(scope, receive, send)


@pytest.mark.anyio
async def test_a_router_of_an_app_does_not_let_actions_past_its_middleware(caplog: pytest.LogCaptureFixture) -> None:
    app = Starlette(routes=[Route("/x", batchable(endpoint))], middleware=[Middleware(Login)])
    BatchEndpoint().mount_to(app.router)
    caplog.set_level("INFO")
    assert (await post(app, envelope(action("/x")))).status == 500
    assert "mount_to the outermost app, or name it, with all its middleware" in caplog.text
    for mounted in ("app", "router"):
        app = Starlette(routes=[Route("/x", batchable(endpoint))], middleware=[Middleware(Login)])
        BatchEndpoint(host=Through(app.router)).mount_to(app.router if mounted == "router" else app, "/1/batch")
        BatchEndpoint(host=app.router).mount_to(app.router if mounted == "router" else app, "/2/batch")
        caplog.clear()
        for path in ("/1/batch", "/2/batch"):
            assert (await post(app, envelope(action("/x")), path=path)).status == 500
        assert (
            caplog.text.count("RuntimeError: host= is the router of an app, whose middleware actions would pass by: give the app")
            == 2
        )
    router = Router([Route("/x", batchable(endpoint))])
    assert [result["status_code"] for result in await batch(BatchEndpoint().mount_to(router), action("/x"))] == [200]


@pytest.mark.anyio
async def test_an_endpoint_by_hand_whose_host_has_middleware_around_it() -> None:
    app = Starlette(routes=[Route("/x", batchable(endpoint)), Route("/y", handler)])
    outer = Login(app)
    app.router.routes.append(Route("/batch", BatchEndpoint(host=outer)))
    results = await batch(outer, action("/x"), action("/y"))
    assert [result["status_code"] for result in results] == [401, 401]


class Opaque:
    """Middleware that does not show what it leads to; where it leads to may depend on the path."""

    def __init__(self, app: ASGIApp, other: ASGIApp | None = None) -> None:
        self._app, self._other = app, other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._other if self._other and scope["path"].startswith("/v2") else self._app)(scope, receive, send)


class Switch(Opaque):
    """The same, but for what it shows."""

    def __init__(self, app: ASGIApp, other: ASGIApp) -> None:
        super().__init__(app, other)
        self.app = app


@pytest.mark.anyio
async def test_actions_are_judged_by_the_app_that_they_go_to(caplog: pytest.LogCaptureFixture) -> None:
    """``host`` may be middleware around another app than the one that has the endpoint: that is an error, and nothing runs."""
    marked = [Route("/x", batchable(endpoint)), Route("/v2/x", batchable(endpoint))]
    unmarked = [Route("/x", handler), Route("/v2/x", handler)]
    caplog.set_level("INFO")
    # Middleware around the app that has the endpoint, and around one that this is mounted in.
    app = Starlette(routes=marked)
    BatchEndpoint(host=Through(Opaque(app))).mount_to(app)
    assert [result["status_code"] for result in await batch(app, action("/x"))] == [200]
    sub = Starlette(routes=marked)
    app = Starlette(routes=[Mount("/api", sub), *unmarked])
    BatchEndpoint(host=Through(app), base_path="/").mount_to(sub)
    results = await batch(app, action("/x"), action("/api/x"), path="/api/batch")
    assert [result["status_code"] for result in results] == [400, 200]
    # Around another one; one that leads to several; one that does not show that there is another one around.
    here, there = Starlette(routes=marked), Starlette(routes=unmarked)
    BatchEndpoint(host=Through(there)).mount_to(here)
    assert (await post(here, envelope(action("/x")))).status == 500
    here, there = Starlette(routes=marked), Starlette(routes=unmarked)
    switch = Switch(here, there)
    BatchEndpoint(host=switch).mount_to(there, "/v2/batch")
    assert (await post(switch, envelope(action("/x")), path="/v2/batch")).status == 500
    sub = Starlette(routes=marked)
    app = Starlette(routes=[Mount("/api", sub), *unmarked])
    BatchEndpoint(host=Opaque(app), base_path="/").mount_to(sub)
    assert (await post(app, envelope(action("/x")), path="/api/batch")).status == 500
    assert caplog.text.count("mount_to the outermost app, or name it, with all its middleware") == 3


@pytest.mark.anyio
async def test_an_endpoint_that_comes_after_the_start(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def late(app: Starlette) -> AsyncIterator[None]:
        BatchEndpoint(policy="all").mount_to(app)
        yield

    async with lifespan(Starlette(routes=[Route("/x", endpoint)], lifespan=late)):
        [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage() == (
        "mount_to: the app has started, so actions will not have its lifespan state, nor a Limiter its connections: "
        "call mount_to where the app is made"
    )


@pytest.mark.anyio
async def test_what_is_reached_beside_the_batch_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    routes = [
        Route("/batch", BatchEndpoint(), methods=["POST"]),
        Route("/batch", endpoint, methods=["GET"]),
        WebSocketRoute("/batch", chat),
        Mount("/batch", another_app),
        Host("a.example", Starlette(routes=[Route("/batch", endpoint)])),
        Route("/x", batchable(fresh())),
    ]
    app = Starlette(routes=routes)
    await batch(app, action("/x"))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []
    assert (await request(app, "GET", "/batch")).status == 200


@pytest.mark.anyio
async def test_a_limiter_of_two_apps(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter([Rate(5, 60, name="a", routes=["/x"])])
    around = [Middleware(LimitMiddleware, limiter=limiter)]
    BatchEndpoint(cost_hook=limiter).mount_to(Starlette(routes=[Route("/x", batchable(fresh()))], middleware=around))
    assert await warned(Starlette(routes=[Route("/x", endpoint)], middleware=around), caplog) == []


@pytest.mark.anyio
async def test_one_failure_to_advise_leaves_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(dict[str, Any]):
        def values(self) -> Any:
            raise OSError

    odd = fresh()
    holder = Decorator(odd)
    holder.__dict__ = Odd(function=odd)
    app = FastAPI()
    app.add_api_route("/x", holder)
    [told] = await warned(BatchEndpoint(policy="all", exclude=["/y"]).mount_to(app), caplog)
    assert told == "exclude: '/y': the app has no such route"


def test_marks_of_one_app_in_many_places_take_no_memory() -> None:
    app, tasks = Starlette(), Tasks()
    kept: list[Any] = [batchable(app) for _ in range(3)]
    before = {**vars(app)}
    kept += [batchable(app), not_batchable(tasks.show)]
    assert vars(app) == before
    assert not vars(tasks)
    assert len(kept) == 5


@pytest.mark.anyio
async def test_a_route_behind_the_batch_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    for app in (FastAPI(), Starlette(routes=[Route("/x", batchable(endpoint))])):
        BatchEndpoint().mount_to(app)
        app.router.add_route("/y", batchable(endpoint))
        app.router.add_route("/batch", endpoint, methods=["POST"])
        assert await warned(app, caplog) == [
            "/batch: the batch endpoint has this path, so your route is never reached: give it another one"
        ]


@pytest.mark.anyio
@pytest.mark.parametrize(("keywords", "told"), [({"console": True}, 1), ({"client_js": True}, 1), ({}, 0)])
async def test_a_page_that_its_route_keeps_out(keywords: Any, told: int, caplog: pytest.LogCaptureFixture) -> None:
    routes = [Route("/x", batchable(endpoint)), Route("/batch", BatchEndpoint(**keywords), methods=["POST"])]
    await batch(Starlette(routes=routes), action("/x"))
    says = "/batch: its methods= keep out the GET of console and client_js: leave methods= out"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [says] * told


@pytest.mark.anyio
async def test_a_mark_without_effect(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    app.websocket("/chat")(batchable(chat))
    app.add_api_route("/purged", batchable(fresh()), methods=["PURGE"])
    app.router.routes.append(Route("/x", Searched))
    chat_says = "/chat: @batchable has no effect: no action is a websocket"
    purged_says = "/purged: @batchable has no effect: it has PURGE, and an action one of GET, HEAD, POST, PUT, PATCH, DELETE"
    search_says = "/x: @batchable(limit='search'): without cost_hook=limiter no batch is counted as a whole"
    assert await warned(BatchEndpoint().mount_to(app), caplog) == [chat_says, purged_says, search_says]
    limited = BatchEndpoint(cost_hook=Limiter(asana_limits()))
    assert await warned(limited.mount_to(app, "/2"), caplog) == [chat_says, purged_says]


class Searched(HTTPEndpoint):
    @batchable
    async def get(self, request: Request) -> Response:
        return Response()

    @batchable(limit="search")
    async def post(self, request: Request) -> Response:
        return Response()


class Task(BaseModel):
    name: str


class Envelope(BaseModel):
    data: Task


class Aliased(BaseModel):
    task: Task = Field(alias="data")


class Choices(BaseModel):
    task: Task = Field(validation_alias=AliasChoices("data", "task"))


class Root(RootModel[dict[str, Any]]):
    pass


class Optional(BaseModel):
    name: str = ""


class Unwraps(Task):
    @model_validator(mode="before")
    @classmethod
    def unwrap(cls, value: Any) -> Any:
        return value["data"]


@pytest.mark.anyio
async def test_bodies_that_asanas_dialect_cannot_send(caplog: pytest.LogCaptureFixture) -> None:
    app, router = FastAPI(), APIRouter()

    @router.post("/1")
    @batchable
    async def one(task: Task) -> None: ...

    @router.put("/2")
    @batchable
    async def two(task: Task, other: Task) -> None: ...

    @router.post("/right/1")
    @batchable
    async def right(task: Envelope) -> None: ...

    @router.post("/right/2")
    @batchable
    async def aliased(task: Aliased) -> None: ...

    @router.post("/right/3")
    @batchable
    async def optional(task: Optional) -> None: ...

    @router.post("/right/4")
    @batchable
    async def unwraps(task: Unwraps) -> None: ...

    @router.post("/right/5")
    @batchable
    async def embedded(data: Annotated[Task, Body(embed=True)]) -> None: ...

    @router.post("/right/6")
    @batchable
    async def anything(task: dict[str, Any]) -> None: ...

    @router.post("/right/7")
    @batchable
    async def choices(task: Choices) -> None: ...

    @router.post("/right/8")
    @batchable
    async def root(task: Root) -> None: ...

    @router.post("/not/marked")
    async def unmarked(task: Task) -> None: ...

    app.include_router(router)
    says = "its body has no 'data', where dialect='asana' puts all: give dialect='plain'"
    assert await warned(BatchEndpoint(dialect="plain").mount_to(app, "/plain"), caplog) == []
    BatchEndpoint().mount_to(app)
    assert await warned(app, caplog) == [f"POST /1: {says}", f"PUT /2: {says}"]


@pytest.mark.anyio
async def test_what_is_called_like_a_function_is_marked_like_one() -> None:
    """What ``functools.cache`` gives, and an object whose ``__call__`` is marked; it stays what it is alone, too."""

    @batchable
    @functools.cache
    def cached() -> dict[str, int]:
        return {"a": 1}

    @not_batchable
    @functools.cache
    def closed() -> dict[str, int]:
        return {"a": 1}

    class Closed:
        @not_batchable
        async def __call__(self) -> dict[str, int]:
            return {"a": 1}

    app = FastAPI()
    endpoints: list[Any] = [cached, Called(), functools.partial(Called()), closed, Closed()]
    for number, called in enumerate(endpoints):
        app.get(f"/{number}")(called)
    for policy in ("marked", "all"):
        BatchEndpoint(policy=policy, base_path="/").mount_to(app, f"/{policy}")
        results = await batch(app, *[action(f"/{number}") for number in range(5)], path=f"/{policy}")
        assert [result["status_code"] for result in results] == [200, 200, 200, 400, 400]
    for number in range(5):
        assert (await request(app, "GET", f"/{number}")).body == b'{"a":1}'


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"max_body_size": 10}, "max_body_size=10: it is counted in bytes: for 10 MiB give 10 * 2**20"),
        ({"max_result_size": 5}, "max_result_size=5: it is counted in bytes: for 10 MiB give 10 * 2**20"),
        ({"action_timeout": 30_000}, "action_timeout=30000: it is counted in seconds: for half a minute give 30"),
        ({"limiter_timeout": 1000}, "limiter_timeout=1000: it is counted in seconds: for a tenth of one give 0.1"),
        ({"action_timeout": 600, "limiter_timeout": 10, "max_body_size": 1000}, None),
    ],
)
def test_what_may_be_another_unit(keywords: Any, says: str | None, caplog: pytest.LogCaptureFixture) -> None:
    BatchEndpoint(**keywords)
    assert caplog.messages == ([says] if says else [])


@pytest.mark.anyio
async def test_the_mark_of_an_app_that_wraps_a_function_is_for_one_place() -> None:
    """As of any app, which may stand in several places: the mark is for what came back."""

    class App:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await Response("ran")(scope, receive, send)

    app = functools.update_wrapper(App(), fresh())
    host = Starlette(routes=[Mount("/open", batchable(app)), Mount("/closed", app)])
    results = await batch(BatchEndpoint().mount_to(host), action("/open/x"), action("/closed/x"))
    assert [result["status_code"] for result in results] == [200, 400]
