"""Which limits a request meets where its route cannot be told: each that could cover it, never none (protocol.md#admission)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Host, Match, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint, batchable
from batchkit.limiter import Limiter, LimitMiddleware, Rate
from tests.asgi import lifespan, request
from tests.batches import action, envelope, post

pytestmark = pytest.mark.anyio


async def ok(request: Request) -> Response:
    return Response()


@batchable(limit="search", cost=2)
async def search(request: Request) -> Response:
    return Response()


async def opaque(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that shows nothing of what it routes."""
    await Response()(scope, receive, send)


class Through:
    """A middleware that hides what it leads to."""

    def __init__(self, app: ASGIApp) -> None:
        self.inner = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.inner(scope, receive, send)


class WithStaff:
    """What stands behind the limiter and finds out what a route asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "staff": False}, receive, send)


class ForStaff(Route):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if scope["staff"] else (Match.NONE, {})


class ForPublic(Route):
    """It does not fail where it is asked too early: it says the wrong thing."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.NONE, {}) if scope.get("staff", True) else super().matches(scope)


class StaffMount(Mount):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if scope.get("staff") else (Match.NONE, {})


class Folding(Router):
    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().app({**scope, "path": scope["path"].lower()} if scope["type"] == "http" else scope, receive, send)


class FoldingApp(Starlette):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__({**scope, "path": scope["path"].lower()} if "path" in scope else scope, receive, send)


class Folded(APIRoute):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches({**scope, "path": scope["path"].lower()})


class ForBeta(APIRoute):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if (b"x-beta", b"1") in scope["headers"] else (Match.NONE, {})


class Betas(APIRouter):
    def matches(self, scope: Scope) -> Any:
        return super().matches(scope) if (b"x-beta", b"1") in scope["headers"] else (Match.NONE, {})


LOGIN = [Route("/login", ok, methods=["POST"])]


def included(beta: APIRouter) -> FastAPI:
    """A router that is not for this client, and what it would take there, before the one that is."""
    main, app = APIRouter(), FastAPI()
    beta.add_api_route("/{page}", ok, methods=["POST"])
    main.add_api_route("/login", ok, methods=["POST"])
    app.include_router(beta)
    app.include_router(main)
    return app


def folded() -> FastAPI:
    router, app = APIRouter(route_class=Folded), FastAPI()
    router.add_api_route("/login", ok, methods=["POST"])
    app.include_router(router)
    app.add_api_route("/{path:path}", ok, methods=["POST"])
    return app


def with_root_path() -> FastAPI:
    """Mounted, it puts its own root path in place of the mount's, and so routes another path than Starlette would."""
    app = FastAPI()
    app.root_path = "/v1"
    app.add_api_route("/in/login", ok, methods=["POST"])
    return app


def at(path: str, app: ASGIApp) -> Starlette:
    return Starlette(routes=[Mount(path, app)])


# The app, what a client posts to, and what a limit names by which it must be counted.
UNTOLD: list[tuple[Callable[[], Starlette], str, str]] = [
    (lambda: Starlette(routes=[ForStaff("/staff", ok), *LOGIN]), "/login", "POST /login"),
    (lambda: Starlette(routes=[ForStaff("/{page}", ok, methods=["POST"]), *LOGIN]), "/login", "POST /login"),
    (lambda: Starlette(routes=[ForPublic("/login", ok, methods=["POST"]), Route("/{page}", ok)]), "/login", "/login"),
    (lambda: Starlette(routes=[StaffMount("/in", routes=LOGIN), Route("/{path:path}", ok)]), "/in/login", "/in/login"),
    (lambda: included(APIRouter(route_class=ForBeta)), "/login", "POST /login"),
    (lambda: included(Betas()), "/login", "POST /login"),
    (folded, "/LOGIN", "POST /login"),
    (lambda: at("/in", Folding(LOGIN)), "/in/LOGIN", "/in/login"),
    (lambda: at("/in", FoldingApp(routes=LOGIN)), "/in/LOGIN", "/in/login"),
    (lambda: at("/in", with_root_path()), "/in/login", "/in/in/login"),
    (lambda: at("/in", Through(Starlette(routes=LOGIN))), "/in/login", "POST /in/login"),
    (lambda: at("/in", opaque), "/in/login", "/in/*"),
    (lambda: at("/in", opaque), "/in/login", "/in/login/{provider}"),
    (lambda: at("/in/{tenant}", opaque), "/in/a/login", "/in/{tenant}/login"),
    (lambda: at("", opaque), "/login", "/login"),
    (lambda: Starlette(routes=[Host("api.example", opaque)]), "/login", "/login"),
    (lambda: Starlette(routes=[Route("/in/{path:path}", Through(opaque))]), "/in/login", "/in/login"),
    (lambda: at("/in", at("/deep", opaque)), "/in/deep/login", "POST /in/deep/login"),
    (lambda: at("/in", Router(default=opaque)), "/in/login", "/in/login"),
    (lambda: Starlette(routes=[Route("/x/{gid:int}", ok), *LOGIN]), f"/x/{'9' * 5000}", "/x/{gid}"),
]


def limited(app: Starlette, limiter: Limiter) -> Starlette:
    for middleware in (WithStaff, LimitMiddleware):
        app.add_middleware(middleware, **({"limiter": limiter} if middleware is LimitMiddleware else {}))
    return app


async def posts(app: ASGIApp, path: str, count: int) -> list[bool]:
    """Whether each of so many is let through, whatever then becomes of it."""
    passed = []
    for _ in range(count):
        passed.append((await request(app, "POST", path, headers=[(b"host", b"api.example")])).status != 429)
    return passed


@pytest.mark.parametrize(("make", "path", "named"), UNTOLD, ids=map(str, range(len(UNTOLD))))
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_route_that_cannot_be_told_counts_against_all_that_could_cover_it(
    make: Callable[[], Starlette], path: str, named: str, wrapped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """“A middleware that cannot tell a request's route charges every limit that could cover it, and says so once in the log
    (WARNING): never none.”
    """
    gets = Rate(1, 3600, name="gets", routes=[named.removeprefix("POST ")], methods=["GET"])
    limiter = Limiter([Rate(2, 3600, name="named", routes=[named]), gets])
    app: ASGIApp = make()
    app = LimitMiddleware(WithStaff(app), limiter=limiter) if wrapped else limited(make(), limiter)
    assert await posts(app, path, 4) == [True, True, False, False]
    said = [record.getMessage() for record in caplog.records if "counts against all" in record.getMessage()]
    assert len(said) == len(set(said)) <= 1
    assert all("named" in sentence and "gets" not in sentence for sentence in said)


@pytest.mark.parametrize("where", ["/in", "/other"])
async def test_below_a_mounted_app_only_what_could_be_there_counts(where: str) -> None:
    """“every limit that could cover it”: not one whose routes lie elsewhere."""
    limiter = Limiter([Rate(1, 3600, name="a", routes=["POST /in/login", "/inner", "GET /other/*"])])
    app = limited(Starlette(routes=[Mount("/in", opaque), Mount("/other", opaque), Mount("/inner/x", opaque)]), limiter)
    assert await posts(app, f"{where}/login", 2) == [True, where == "/other"]
    assert await posts(app, "/inner/x", 2) == [True, True]


async def test_a_mark_below_a_mounted_app_that_cannot_be_read_may_be_there() -> None:
    """A limit by marks counts there as well, unless the mark of the mounted app itself says which one it falls under."""
    limiter = Limiter([Rate(1, 3600, name="searches", limit="search"), Rate(1, 3600, name="exports", limit="export")])
    routes = [
        Mount("/hidden", Through(Starlette(routes=[Route("/search", search)]))),
        Mount("/marked", batchable(limit="other")(Through(opaque))),
    ]
    app = limited(Starlette(routes=routes), limiter)
    assert await posts(app, "/marked/x", 2) == [True, True]
    assert await posts(app, "/hidden/search", 2) == [True, False]


async def test_what_has_no_routes_counts_as_it_is(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Files and single answers fall under no mark."""
    limiter = Limiter([Rate(1, 3600, name="searches", limit="search"), Rate(1, 3600, name="deep", routes=["/files/deep"])])
    with tempfile.TemporaryDirectory() as folder:
        routes = [Mount("/files", StaticFiles(directory=folder)), Mount("/old", RedirectResponse("/new"))]
        app = limited(Starlette(routes=routes), limiter)
        for path in ("/files/deep", "/old/x", "/nowhere"):
            assert await posts(app, path, 3) == [True] * 3
    assert "counts against all" not in caplog.text


async def test_routes_that_can_be_told_count_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    """Own classes that leave the matching to Starlette or FastAPI are told as any other."""

    class Timed(APIRoute):
        def get_route_handler(self) -> Any:
            return super().get_route_handler()

    router, app = APIRouter(route_class=Timed), FastAPI()
    router.add_api_route("/login", ok, methods=["POST"])
    router.add_api_route("/other", ok, methods=["POST"])
    app.include_router(router, prefix="/v1")
    limiter = Limiter([Rate(1, 3600, name="logins", routes=["POST /v1/login"]), Rate(1, 3600, name="searches", limit="search")])
    limited(app, limiter)
    assert await posts(app, "/v1/other", 3) == [True] * 3
    assert await posts(app, "/v1/login", 2) == [True, False]
    assert "counts against all" not in caplog.text


async def test_the_highest_cost_of_several_possible_routes_counts() -> None:
    limiter = Limiter([Rate(3, 3600, name="all")])
    app = limited(Starlette(routes=[ForStaff("/staff", search), *LOGIN]), limiter)
    assert await posts(app, "/login", 2) == [True, False]


@pytest.mark.parametrize("outside", [False, True])
async def test_a_root_path_of_the_host_itself_is_told(outside: bool) -> None:
    """Behind a proxy that leaves the prefix in the path, FastAPI routes what is below its ``root_path``."""
    app = FastAPI()
    app.root_path = "/api"
    app.add_api_route("/login", ok, methods=["POST"])
    limiter = Limiter([Rate(1, 3600, name="logins", routes=["POST /login"])])
    around = LimitMiddleware(app, limiter=limiter) if outside else limited(app, limiter)
    for path in ("/api/login", "/login"):
        assert await posts(around, path, 1) == [path == "/api/login"]


async def test_the_post_of_a_batch_behind_a_route_that_cannot_be_told_counts_only_there() -> None:
    """“the batch request itself costs nothing”, unless it may be another route's."""
    limiter = Limiter([Rate(2, 3600, name="staff", routes=["/staff", "POST /batch"]), Rate(1, 3600, name="other", routes=["/x"])])
    app = Starlette(routes=[ForStaff("/staff", ok), Route("/x", ok)])
    app.router.routes.append(Route("/batch", BatchEndpoint(host=app, policy="all", cost_hook=limiter)))
    limited(app, limiter)
    assert [(await post(app, envelope(action("/x")))).status for _ in range(2)] == [200, 429]
    assert (await post(app, envelope(action("/nowhere")))).status == 429


# Batches

MARKED = batchable(Through(opaque))


@pytest.mark.parametrize(
    ("routes", "path", "named"),
    [
        ([Mount("/in", MARKED)], "/in/login", "POST /in/login"),
        ([Mount("/in", opaque)], "/in/login", "POST /in/login"),
        ([Mount("/in/{tenant}", MARKED)], "/in/a/login", "/in/{tenant}/login"),
        ([Mount("/in", routes=[Mount("/deep", MARKED)])], "/in/deep/login", "/in/deep/*"),
        ([Mount("/in", Router(default=opaque))], "/in/login", "POST /in/login"),
        ([Route("/x/{gid:int}", ok, methods=["POST"])], f"/x/{'9' * 1000}{'9' * 900}", "/x/{gid}"),
    ],
    ids=map(str, range(6)),
)
async def test_the_same_holds_for_actions(routes: Any, path: str, named: str, caplog: pytest.LogCaptureFixture) -> None:
    """An action “would have been a request”: below an app that cannot be read, whatever could cover it counts it."""
    gets = Rate(1, 3600, name="gets", routes=[named.removeprefix("POST ")], methods=["GET"])
    elsewhere = Rate(1, 3600, name="elsewhere", routes=["/elsewhere"])
    limiter = Limiter([Rate(3, 3600, name="named", routes=[named]), gets, elsewhere])
    app = limited(Starlette(routes=[*routes, Route("/elsewhere", ok)]), limiter)
    BatchEndpoint(policy="all", cost_hook=limiter).mount_to(app)
    statuses = [(await post(app, envelope(*[action(path, "post")] * 2))).status for _ in range(2)]
    assert statuses == [200, 429]
    # Direct requests share the counter.
    assert await posts(app, path, 2) == [True, False]


async def test_it_is_said_once_for_batches_and_direct_requests_together(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter([Rate(99, 3600, name="a", routes=["/in/login"])])
    app = limited(Starlette(routes=[Mount("/in", MARKED)]), limiter)
    BatchEndpoint(cost_hook=limiter).mount_to(app)
    async with lifespan(app):
        for _ in range(2):
            await post(app, envelope(*[action("/in/login", "post")] * 2))
            await posts(app, "/in/login", 2)
    sentence = "Which route takes a request below '/in' cannot be read, so it counts against all that could cover it: a"
    assert caplog.text.count(sentence) == 1


async def test_a_method_in_lower_case_meets_the_limits_of_its_name() -> None:
    """A server with h11 hands it on as it came, and WSGI apps run it as the method in upper case."""
    limiter = Limiter([Rate(1, 60, name="writes", methods=["POST"])])
    app = Starlette(
        routes=[Mount("/old", app=PlainTextResponse("did it"))], middleware=[Middleware(LimitMiddleware, limiter=limiter)]
    )
    statuses = [(await request(app, method, "/old/t")).status for method in ("POST", "POST", "post", "Post", "get", "purge")]
    assert statuses == [200, 429, 429, 429, 200, 200]
