"""The verdict falls at the router (protocol.md#which-action-may-run): who would not get there alone learns nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchkit import BatchEndpoint, batchable, not_batchable
from batchkit.limiter import Limiter, LimitMiddleware, Rate, by_address
from tests.asgi import lifespan, request
from tests.batches import JSON, action, batch, messages

pytestmark = pytest.mark.anyio

TOKEN = (b"authorization", b"Bearer right")
HOST = (b"host", b"testserver")
SCHEMA = {"type": "object", "properties": {"plan": {"enum": ["acquire-initech"]}}, "additionalProperties": False}
REFUSED = "This action cannot be used in a batch request"

ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


class Auth:
    """Middleware that asks for a token below a path."""

    def __init__(self, app: ASGIApp, below: str = "") -> None:
        self.app = app
        self.below = below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self.below) and TOKEN not in scope["headers"]:
            await PlainTextResponse("who are you", 401)(scope, receive, send)
            return
        await self.app(scope, receive, send)


@batchable
async def page(request: Request) -> Response:
    ran.append("page")
    return JSONResponse({"page": request.path_params})


@not_batchable
async def admin(request: Request) -> Response:
    ran.append("admin")
    return JSONResponse({"admin": 1})


@batchable(schema=SCHEMA)
async def plan(request: Request) -> Response:
    ran.append("plan")
    return JSONResponse({})


async def legacy(request: Request, error: Exception) -> Response:
    return JSONResponse({"secret": "payroll"}, 404)


def hosting(*routes: BaseRoute, middleware: Any = (), handlers: Any = None, **settings: Any) -> Starlette:
    app = Starlette(routes=list(routes), middleware=list(middleware), exception_handlers=handlers)
    return BatchEndpoint(**settings).mount_to(app)


def refused(result: dict[str, Any]) -> bool:
    return result["status_code"] == 400 and REFUSED in messages(result)[0]


# Nothing is said to who would not have reached it alone

BEHIND = [
    action("/admin/payroll"),
    action("/admin/plan"),
    action("/admin/unmarked"),
    action("/admin/plan", "post", data={"plan": "?", "x": 1}),
    action("/admin/closed", "head"),
    action("/admin/plan/"),
    action("/admin/batch", "post"),
]


def admin_routes() -> list[BaseRoute]:
    return [
        Route("/plan", plan, methods=["POST"]),
        Route("/unmarked", legacy, methods=["PUT"]),
        Route("/closed", admin),
        Route("/batch", BatchEndpoint(), methods=["POST"]),
    ]


def in_sub_app() -> Starlette:
    middleware = [Middleware(Auth)]
    return hosting(Mount("/admin", Starlette(routes=admin_routes(), middleware=middleware, exception_handlers={404: legacy})))


def in_router() -> Starlette:
    return hosting(Mount("/admin", Router(admin_routes(), middleware=[Middleware(Auth)])), handlers={404: legacy})


def in_mount() -> Starlette:
    return hosting(Mount("/admin", routes=admin_routes(), middleware=[Middleware(Auth)]), handlers={404: legacy})


def by_path() -> Starlette:
    middleware = [Middleware(Auth, below="/admin")]
    return hosting(Mount("/admin", routes=admin_routes()), middleware=middleware, handlers={404: legacy})


@pytest.mark.parametrize("make", [in_sub_app, in_router, in_mount, by_path])
async def test_who_has_no_token_is_told_what_he_is_told_alone(make: Callable[[], Starlette]) -> None:
    """“Nothing is said about a route (that it exists, its methods, its schema) to a client that would not have reached it alone.”

    Security: “Nobody learns more in a batch than alone.”
    """
    app = make()
    for result in await batch(app, *BEHIND):
        assert result["status_code"] == 401, result
    told = [action for action in BEHIND if action["method"] != "head"]
    assert {result["body"] for result in await batch(app, *told)} == {"who are you"}
    assert not ran


@pytest.mark.parametrize("make", [in_sub_app, in_router, in_mount, by_path])
async def test_who_has_a_token_is_told_the_verdict(make: Callable[[], Starlette]) -> None:
    results = await batch(make(), *BEHIND, action("/admin/plan", "post", data={"plan": "acquire-initech"}), headers=[TOKEN])
    assert [result["status_code"] for result in results] == [404, 405, 405, 400, 400, 307, 400, 200]
    assert results[0]["body"] == {"secret": "payroll"}
    assert "Must be one of" in "".join(messages(results[3]))
    # “a refused HEAD has the error as its body”
    assert refused(results[4])
    assert refused(results[6])
    assert ran == ["plan"]


async def test_what_a_middleware_answers_by_itself_is_the_result() -> None:
    """“what a middleware answers by itself is the result, as alone”."""

    class Health:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await (PlainTextResponse("well") if scope.get("path") == "/healthz" else self.app)(scope, receive, send)

    results = await batch(hosting(middleware=[Middleware(Health)]), action("/healthz"), action("/other"))
    assert [(result["status_code"], result["body"]) for result in results] == [(200, "well"), (404, "Not Found")]


async def test_the_schema_is_judged_after_authentication_and_charge_and_tells_nothing_before_that_of_the_route() -> None:
    """“Authentication that stands on the route itself … comes before the schema too”, or “its message names no key, value or
    enum”.

    Security: “A schema is judged after authentication and charge, within a budget of steps.”
    """
    wrong = {"data": {"plan": "?", "secret-key": 1}}

    def needs_token(request: Request) -> None:
        if request.headers.get("authorization") != "Bearer right":
            raise HTTPException(401)

    api = FastAPI()
    api.add_api_route("/depends", plan, methods=["POST"], dependencies=[Depends(needs_token)])
    api.add_api_route("/open", plan, methods=["POST"])
    of_router = APIRouter(dependencies=[Depends(needs_token)])
    of_router.add_api_route("/included", plan, methods=["POST"])
    api.include_router(of_router)
    BatchEndpoint().mount_to(api)
    results = await batch(api, *[action(path, "post", **wrong) for path in ("/depends", "/open", "/included")])
    assert messages(results[0]) == ["data.actions[0].data: Does not meet the schema of this route"]
    assert "acquire-initech" in "".join(messages(results[1]))
    assert messages(results[2]) == ["data.actions[2].data: Does not meet the schema of this route"]
    app = hosting(Route("/route", plan, methods=["POST"], middleware=[Middleware(Auth)]))
    [result] = await batch(app, action("/route", "post", **wrong))
    assert messages(result) == ["data.actions[0].data: Does not meet the schema of this route"]
    assert not ran


# What routes in a way of its own


class Folding(Route):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches({**scope, "path": scope["path"].lower()})


class FoldingAPI(APIRoute):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches({**scope, "path": scope["path"].lower()})


class ForV2(APIRoute):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if (b"x-version", b"2") in scope["headers"] else (Match.NONE, {})


class Elsewhere(Route):
    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        ran.append("elsewhere")
        await super().handle(scope, receive, send)


class FoldingRouter(Router):
    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().app({**scope, "path": scope["path"].lower()}, receive, send)


class CallingRouter(Router):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__({**scope, "path": scope["path"].lower()}, receive, send)


class FoldingApp(Starlette):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__({**scope, "path": scope["path"].lower()}, receive, send)


class ForV2Router(APIRouter):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if (b"x-version", b"2") in scope["headers"] else (Match.NONE, {})


def both() -> list[BaseRoute]:
    return [Route("/admin", admin), Route("/{path:path}", page)]


def included(router: APIRouter, *routers: APIRouter) -> FastAPI:
    app = FastAPI(openapi_url=None)
    for each in (router, *routers):
        app.include_router(each)
    return app


def api_router(path: str, endpoint: Any, kind: type[APIRouter] = APIRouter, **keywords: Any) -> APIRouter:
    router = kind(**keywords)
    router.add_api_route(path, endpoint)
    return router


OWN: dict[str, Callable[[], Any]] = {
    "route": lambda: Starlette(routes=[Folding("/admin", admin), Route("/{path:path}", page)]),
    "handle": lambda: Starlette(routes=[Elsewhere("/{path:path}", page)]),
    "router as host": lambda: FoldingRouter(both()),
    "router with a call as host": lambda: CallingRouter(both()),
    "included route": lambda: included(api_router("/admin", admin, route_class=FoldingAPI), api_router("/{path:path}", page)),
    "route of FastAPI": lambda: FastAPI(openapi_url=None, routes=[FoldingAPI("/admin", admin), APIRoute("/{path:path}", page)]),
    "default": lambda: Starlette(routes=[]),
}


@pytest.mark.parametrize("policy", ["marked", "all"])
@pytest.mark.parametrize("kind", OWN)
async def test_what_routes_in_a_way_of_its_own_is_refused(kind: str, policy: Any) -> None:
    """“cannot be determined: … a router, route, app or sub-app that routes by code or settings of its own … 400: refuse”.

    Security: “What cannot be determined is refused.”
    """
    app = OWN[kind]()
    if kind == "default":
        app.router.default = page
    BatchEndpoint(policy=policy).mount_to(app)
    [result] = await batch(app, action("/ADMIN"))
    assert refused(result), result
    assert not ran


MOUNTED: dict[str, Callable[[], ASGIApp]] = {
    "router": lambda: FoldingRouter(both()),
    "router with a call": lambda: CallingRouter(both()),
    "app": lambda: FoldingApp(routes=both()),
    "root_path": lambda: FastAPI(root_path="/elsewhere", routes=both(), openapi_url=None),
    "hidden": lambda: hide(Starlette(routes=both())),
    "no routes": lambda: NoRoutes(),
}


def hide(app: ASGIApp) -> ASGIApp:
    async def hidden(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "path": scope["path"].lower()}, receive, send)

    return hidden


class NoRoutes:
    """As Litestar's: its ``routes`` are not Starlette's."""

    routes: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ran.append("no routes")
        await PlainTextResponse("other")(scope, receive, send)


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
@pytest.mark.parametrize("kind", MOUNTED)
async def test_a_mounted_app_in_a_way_of_its_own_is_refused_unless_it_is_marked(kind: str) -> None:
    """“an opaque mounted app that is not marked”: refuse, never let through."""
    app = hosting(Mount("/in", MOUNTED[kind]()))
    [result] = await batch(app, action("/in/ADMIN"))
    assert refused(result), result
    assert not ran
    if kind != "root_path":
        app = hosting(Mount("/in", batchable(MOUNTED[kind]())))
        [result] = await batch(app, action("/in/anything"))
        assert result["status_code"] == 200
        assert ran


async def test_a_route_that_can_only_be_asked_is_asked_again_where_it_stands() -> None:
    """“what was resolved runs, or a 400; never another route. The same for a plain route that stands behind one that cannot be
    told.”
    """

    class ForAnn(Route):
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            return super().matches(scope) if scope.get("user") == "ann" else (Match.NONE, {})

    class Users:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            user = "ann" if TOKEN in scope["headers"] and scope["path"] != "/batch" else "nobody"
            await self.app({**scope, "user": user}, receive, send)

    app = hosting(ForAnn("/x", admin), Route("/x", page), middleware=[Middleware(Users)])
    [result] = await batch(app, action("/x"))
    assert result["status_code"] == 200
    [result] = await batch(app, action("/x"), headers=[TOKEN])
    assert refused(result)
    assert ran == ["page"]


async def test_an_included_route_for_some_clients_is_passed_over_for_others() -> None:
    new = api_router("/tasks", page, route_class=ForV2)
    app = BatchEndpoint().mount_to(included(new, api_router("/tasks", admin)))
    assert all(map(refused, await batch(app, action("/tasks"))))
    # It would take it, and which of its routes is not to be told.
    assert all(map(refused, await batch(app, action("/tasks"), headers=[(b"x-version", b"2")])))
    two = api_router("/tasks", page, kind=ForV2Router)
    app = BatchEndpoint().mount_to(included(two, api_router("/tasks", admin)))
    assert all(map(refused, await batch(app, action("/tasks"))))
    assert not ran


class Some(HTTPEndpoint):
    @batchable
    async def get(self, request: Request) -> Response:
        return PlainTextResponse("got")


class Own(Some):
    async def method_not_allowed(self, request: Request) -> Response:
        ran.append("own")
        return PlainTextResponse("anything")


class Any_(Some):
    def __getattr__(self, name: str) -> Any:
        if name == "put":
            return self.get
        raise AttributeError(name)


@pytest.mark.parametrize(("kind", "status"), [(Some, 405), (Own, 400), (Any_, 400)])
async def test_a_class_endpoint_answers_for_methods_that_it_does_not_have(kind: Any, status: int) -> None:
    """“a class endpoint without that method | the endpoint's own 405, where its class answers that by Starlette's own code; else
    400”.
    """
    results = await batch(hosting(Route("/x", kind)), action("/x"), action("/x", "put"))
    assert [result["status_code"] for result in results] == [200, status]
    assert not ran


# What changes on the way


async def test_routes_that_change_after_the_resolution_never_lead_to_another_route() -> None:
    """“Routes added or removed elsewhere since the resolution harm nobody: what was resolved runs, or a 400; never another
    route.”
    """

    class Changes:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] != "/batch":
                host.router.routes[1:1] = [Route("/x", admin), Route("/none", admin), Route("/slash/", admin)]
            await self.app(scope, receive, send)

    host: Starlette
    statuses = []
    for path in ("/x", "/none", "/slash"):
        host = hosting(Route("/x", page), Route("/slash/", page), middleware=[Middleware(Changes)])
        [result] = await batch(host, action(path))
        statuses.append(result["status_code"])
    assert statuses == [200, 404, 400]
    assert ran == ["page"]
    api = BatchEndpoint().mount_to(included(api_router("/x", page)))
    api.add_middleware(Changes)
    host = api
    assert refused((await batch(api, action("/x")))[0])
    assert ran == ["page"]


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("change", ["path", "method", "host", "scope"])
async def test_what_middleware_changes_on_the_way_is_refused_at_every_router(change: str, mounted: bool) -> None:
    """“path, method or host changed by a middleware on the way | 400”, at sub-apps too, and where a scope is built anew.

    Security: “Only what you opened runs.”
    """

    class Changes:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and not scope["path"].endswith("/batch"):
                prefix = "/in" if mounted else ""
                match change:
                    case "path":
                        scope = {**scope, "path": f"{prefix}/admin"}
                    case "method":
                        scope = {**scope, "method": "POST"}
                    case "host":
                        scope = {**scope, "headers": [(b"host", b"other")]}
                    case "scope":
                        kept = ("type", "method", "path", "root_path", "query_string", "headers", "app")
                        scope = {key: scope[key] for key in kept if key in scope}
            await self.app(scope, receive, send)

    routes = [Route("/admin", admin), Route("/x", page), Route("/x", admin, methods=["POST"])]
    middleware = [Middleware(Changes)]
    app = (
        hosting(Mount("/in", Starlette(routes=routes, middleware=middleware)))
        if mounted
        else hosting(*routes, middleware=middleware)
    )
    [result] = await batch(app, action("/in/x" if mounted else "/x"))
    assert refused(result), result
    assert not ran


async def test_a_middleware_that_tries_again_is_judged_again() -> None:
    """An action is that same action the second time, and gets no further than the first."""

    class Again:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def drop(message: Message) -> None:
                pass

            if scope["type"] == "http" and scope["path"] != "/batch":
                await self.app(dict(scope), receive, drop)
                scope = {**scope, "path": scope["path"].replace("again", "admin")}
            await self.app(scope, receive, send)

    app = hosting(Route("/again", page), Route("/admin", admin), Route("/x", page), middleware=[Middleware(Again)])
    results = await batch(app, action("/again"), action("/x"), action("/admin"))
    assert [result["status_code"] for result in results] == [400, 200, 400]
    assert ran == ["page"] * 3


async def test_an_app_mounted_twice_and_two_endpoints_have_each_their_verdicts() -> None:
    sub = Starlette(routes=[Route("/x", page), Route("/admin", admin)])
    app = Starlette(routes=[Mount("/a", sub), Mount("/b", sub)])
    BatchEndpoint().mount_to(app, "/batch")
    BatchEndpoint(policy="all", exclude=("/a/x",)).mount_to(app, "/all")
    results = await batch(app, action("/a/x"), action("/b/x"), action("/a/admin"), action("/b/none"))
    assert [result["status_code"] for result in results] == [200, 200, 400, 404]
    results = await batch(app, action("/a/x"), action("/b/x"), action("/batch", "post"), path="/all")
    assert [result["status_code"] for result in results] == [400, 200, 400]


@pytest.mark.parametrize("methods", [{"GET", "PUT"}, None])
async def test_a_route_that_gets_a_method_meanwhile_does_not_run_for_it(methods: Any) -> None:
    route = Route("/x", admin, methods=["GET"])

    class Opens:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope.get("path") == "/x":
                route.methods = methods
            await self.app(scope, receive, send)

    [result] = await batch(hosting(route, middleware=[Middleware(Opens)]), action("/x", "put"))
    assert refused(result)
    assert not ran


async def test_the_scope_names_the_route_as_alone() -> None:
    """Starlette's router does, and FastAPI's leaves it to its own routes."""

    @batchable
    async def says(request: Request) -> Response:
        named = [repr(request.scope.get(name)) for name in ("route", "endpoint", "router")]
        return PlainTextResponse("\n".join(named))

    async def opaque(scope: Scope, receive: Receive, send: Send) -> None:
        await (await says(Request(scope)))(scope, receive, send)

    routes = [Route("/plain", says), Mount("/mounted", batchable(opaque)), Mount("/sub", routes=[Route("/plain", says)])]
    api = FastAPI(openapi_url=None, routes=list(routes))
    api.add_api_route("/operation", says)
    for app in (Starlette(routes=list(routes)), api):
        BatchEndpoint().mount_to(app)
        for path in ("/plain", "/mounted/x", "/sub/plain", *["/operation"] * isinstance(app, FastAPI)):
            alone = await request(app, "GET", path, headers=[HOST])
            [result] = await batch(app, action(path))
            assert result["body"] == alone.body.decode()


async def test_path_parameters_of_middleware_are_there_as_alone() -> None:
    class Tenant:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app({**scope, "path_params": {"tenant": "acme", "gid": "?"}}, receive, send)

    app = hosting(Route("/{gid}", page), Mount("/in/{n}", routes=[Route("/{gid}", page)]), middleware=[Middleware(Tenant)])
    for path in ("/7", "/in/2/7"):
        alone = await request(app, "GET", path, headers=[HOST])
        [result] = await batch(app, action(path))
        assert result["body"] == json.loads(alone.body)


async def test_what_the_host_fails_on_fails_as_alone() -> None:
    """“An exception while matching (a 5,000-digit `{id:int}`) is that action's own error”, and the host's own answer to it."""

    async def failed(request: Request, error: Exception) -> Response:
        return PlainTextResponse("cannot count that far", 418)

    app = hosting(Route("/{n:int}", page), Route("/x", page), handlers={ValueError: failed})
    far = "/" + "9" * 1999
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(700)
    try:
        alone = await request(app, "GET", far, headers=[HOST])
        results = await batch(app, action(far), action("/x"))
    finally:
        sys.set_int_max_str_digits(before)
    assert [result["status_code"] for result in results] == [418, 200]
    assert results[0]["body"] == alone.body.decode()


# Found by an attack: what is true once may be untrue a moment later


def kept(scope: Scope) -> Scope:
    """A scope of ASGI's own keys alone, as middleware builds it anew."""
    return {key: value for key, value in scope.items() if "." not in key and key not in ("router", "route", "endpoint", "app")}


async def test_a_second_try_with_a_scope_built_anew_is_refused() -> None:
    class Fallback:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            statuses: list[int] = []

            async def unless_404(message: Message) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                if statuses[0] != 404:
                    await send(message)

            await self.app(scope, receive, unless_404)
            if statuses[0] == 404:
                await self.app({**kept(scope), "path": scope["path"].lower()}, receive, send)

    app = hosting(Route("/admin", admin), Route("/x", page), middleware=[Middleware(Fallback)])
    results = await batch(app, action("/ADMIN"), action("/x"))
    assert refused(results[0])
    assert results[1]["status_code"] == 200
    assert ran == ["page"]


async def test_a_second_request_beside_an_action_that_is_in_its_route_is_refused() -> None:
    """Middleware asks twice at once, the second time with a scope of its own making: only what the handler makes is its own."""
    second, answered = anyio.Event(), anyio.Event()
    statuses: list[int] = []

    class Hedges:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope.get("path") != "/waits":
                await self.app(scope, receive, send)
                return

            async def note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            async def first() -> None:
                await self.app(scope, receive, send)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first)
                await second.wait()
                await self.app({**kept(scope), "path": "/admin"}, receive, note)
                answered.set()

    @batchable
    async def waits(request: Request) -> Response:
        second.set()
        await answered.wait()
        # What a handler makes of its own request is its affair, as alone.
        await host({**kept(request.scope), "path": "/admin"}, request.receive, drop)
        return PlainTextResponse("waited")

    async def drop(message: Message) -> None:
        pass

    host: Starlette = hosting(Route("/waits", waits), Route("/admin", admin), middleware=[Middleware(Hedges)])
    [result] = await batch(host, action("/waits"))
    assert (result["body"], statuses, ran) == ("waited", [400], ["admin"])


@pytest.mark.parametrize("kind", ["included", "redirect"])
async def test_routes_that_change_while_an_action_waits_and_others_are_resolved(kind: str) -> None:
    """Another batch reads the routes anew in the meantime: what this one was resolved by is past all the same."""
    waiting, gate = anyio.Event(), anyio.Event()

    class Waits:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope.get("path", "").startswith("/p/x"):
                waiting.set()
                await gate.wait()
            await self.app(scope, receive, send)

    if kind == "included":
        router = APIRouter(prefix="/p")
        router.add_api_route("/{path}", page)
        app: Starlette = included(router)
        path = "/p/x"
    else:
        app = Starlette(routes=[Route("/p/x", page)])
        path = "/p/x/"
    app.add_middleware(Waits)
    BatchEndpoint().mount_to(app)
    results: list[dict[str, Any]] = []

    async def waits() -> None:
        results.extend(await batch(app, action(path)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits)
        await waiting.wait()
        if kind == "included":
            router.add_api_route("/x", admin)
            router.routes.insert(0, router.routes.pop())
        else:
            app.router.routes.insert(1, Route("/p/x/", admin))
        await batch(app, action("/p/other"))
        gate.set()
    assert refused(results[0])
    assert "admin" not in ran


async def test_an_app_that_takes_the_place_of_another_is_not_let_through() -> None:
    open_app, closed = Starlette(routes=[Route("/x", page)]), Starlette(routes=[Route("/x", admin)])
    mount = Mount("/s", app=open_app)
    app = hosting(mount)
    assert (await batch(app, action("/s/x")))[0]["status_code"] == 200
    mount.app = mount._base_app = closed
    assert refused((await batch(app, action("/s/x")))[0])
    app = hosting(Mount("/s", app=open_app))
    assert (await batch(app, action("/s/x")))[0]["status_code"] == 200
    open_app.router, open_app.middleware_stack = Router(routes=[Route("/x", admin)]), None
    assert refused((await batch(app, action("/s/x")))[0])
    marked = Mount("/s", app=batchable(Auth(Starlette(routes=[Route("/x", page)]))))
    app = hosting(marked)
    assert (await batch(app, action("/s/x"), headers=[TOKEN]))[0]["status_code"] == 200
    marked.app = closed
    assert refused((await batch(app, action("/s/x"), headers=[TOKEN]))[0])
    assert ran == ["page"] * 3


async def test_a_host_route_in_an_included_router_is_refused() -> None:
    """FastAPI makes a router anew for it whenever routes change, and no guard stands there."""

    async def opaque(scope: Scope, receive: Receive, send: Send) -> None:
        ran.append("opaque")
        await PlainTextResponse("opaque")(scope, receive, send)

    router = APIRouter()
    router.routes.append(Host("testserver", app=opaque))
    app = FastAPI(openapi_url=None)
    app.include_router(router, prefix="/p")
    BatchEndpoint().mount_to(app)
    for _ in range(2):
        assert refused((await batch(app, action("/p/x")))[0])
        router.add_api_route("/tmp", page)
        router.routes.pop()
    assert not ran


async def test_an_app_that_is_mounted_in_itself_starts_and_is_refused_there() -> None:
    app = Starlette(routes=[Route("/x", page)])
    app.mount("/self", app)
    BatchEndpoint().mount_to(app)
    async with lifespan(app):
        results = await batch(app, action("/x"), action("/self/x"))
    assert results[0]["status_code"] == 200
    assert refused(results[1])


async def test_a_route_that_asks_for_what_middleware_adds_is_asked_where_that_is() -> None:
    class Beta(Route):
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            return super().matches(scope) if scope["user"] == "beta" else (Match.NONE, {})

    class User:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            beta = TOKEN in scope.get("headers", ()) and scope["path"] != "/batch"
            await self.app({**scope, "user": "beta" if beta else "all"}, receive, send)

    app = hosting(Beta("/x", admin), Route("/x", page), middleware=[Middleware(User)])
    assert (await batch(app, action("/x")))[0]["status_code"] == 200
    assert refused((await batch(app, action("/x"), headers=[TOKEN]))[0])
    assert ran == ["page"]


class OwnHandler(APIRoute):
    def get_route_handler(self) -> Any:
        async def handler(request: Request) -> Response:
            return PlainTextResponse("who are you", 401)

        return handler


async def unknown(request: Request, call_next: Any) -> Response:
    return PlainTextResponse("who are you", 401)


@pytest.mark.parametrize(
    "middleware",
    [[Middleware(GZipMiddleware), Middleware(Auth)], [Middleware(BaseHTTPMiddleware, dispatch=unknown)]],
    ids=["gzip", "base"],
)
async def test_a_schema_is_no_secret_given_away_by_what_stands_in_front_of_a_route(middleware: Any) -> None:
    wrong = action("/x", "post", data={"plan": "?", "secret-key": 1})
    own = FastAPI(openapi_url=None)
    own.router.route_class = OwnHandler
    own.add_api_route("/x", plan, methods=["POST"])
    hosts: list[Starlette] = [Starlette(routes=[Route("/x", plan, methods=["POST"], middleware=middleware)]), own]
    for app in hosts:
        [result] = await batch(BatchEndpoint().mount_to(app), wrong)
        assert messages(result) == ["data.actions[0].data: Does not meet the schema of this route"]


# The mark ends with its action


class Pool:
    """Requests are answered by workers, each started with the first that has no other to go to, and then kept."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.idle = 0
        self.workers: list[asyncio.Task[None]] = []

    async def work(self) -> None:
        while True:
            self.idle += 1
            scope, receive, send, done = await self.queue.get()
            try:
                await self.app(scope, receive, send)
            finally:
                done.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.idle == 0:
            self.workers.append(asyncio.create_task(self.work()))
            await asyncio.sleep(0)
        self.idle -= 1
        done = anyio.Event()
        self.queue.put_nowait((scope, receive, send, done))
        await done.wait()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("limited", [False, True])
async def test_what_middleware_starts_from_an_action_is_nobodys_afterwards(limited: bool) -> None:
    """An anonymous batch made the requests of others a 400, or free of charge, for the life of the process.

    Security: “The mark of an action ends with it.”
    """
    limiter = Limiter([Rate(20, 3600, name="requests", key=by_address)])
    pools: list[Pool] = []

    def pool(app: ASGIApp) -> Pool:
        pools.append(Pool(app))
        return pools[-1]

    middleware: list[Any] = [
        Middleware(pool),
        *[Middleware(LimitMiddleware, limiter=limiter)] * limited,
        Middleware(Auth, below="/x"),
    ]
    app = hosting(Route("/x", page), middleware=middleware, cost_hook=limiter if limited else None)
    try:
        assert {result["status_code"] for result in await batch(app, *[action("/x")] * 10)} == {401}
        answers = [(await request(app, "GET", "/x", headers=[HOST, TOKEN])).status for _ in range(20)]
        assert answers == [200] * 10 + [429] * 10 if limited else [200] * 20
        assert (
            {result["status_code"] for result in await batch(app, action("/x"), headers=[TOKEN])} == {200}
            if not limited
            else True
        )
    finally:
        for worker in pools[0].workers:
            worker.cancel()
        await asyncio.gather(*pools[0].workers, return_exceptions=True)


async def test_a_request_of_its_own_that_middleware_makes_is_one() -> None:
    """“while it runs only what carries the action's own `receive` and `send` is that action”."""

    class Introspect:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and not scope["path"].startswith("/internal"):
                answer = await request(host, "GET", "/internal/whoami", headers=[HOST])
                scope.setdefault("state", {})["user"] = answer.body.decode()
            await self.app(scope, receive, send)

    async def whoami(request: Request) -> Response:
        return PlainTextResponse("ann")

    @batchable
    async def says(request: Request) -> Response:
        return PlainTextResponse(request.state.user)

    host = hosting(Route("/internal/whoami", whoami), Route("/x", says), middleware=[Middleware(Introspect)])
    results = await batch(host, action("/x"), action("/x"))
    assert [result["body"] for result in results] == ["ann", "ann"]


async def test_what_goes_on_with_an_action_after_its_end_gets_nowhere() -> None:
    """A scope that somebody has kept is no way past the routes that are closed to batches."""
    kept: list[tuple[ASGIApp, Scope, Receive]] = []

    class Keeps:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope.get("path") == "/x":
                kept.append((self.app, dict(scope), receive))
            await self.app(scope, receive, send)

    app = hosting(Route("/x", page), Route("/admin", admin), middleware=[Middleware(Keeps)])
    await batch(app, action("/x"))
    [(inner, scope, receive)] = kept
    for path in ("/x", "/admin"):
        sent: list[Message] = []

        async def send(message: Message, sent: list[Message] = sent) -> None:
            sent.append(message)

        await inner({**scope, "path": path}, receive, send)
        assert sent[0]["status"] == 400
    assert ran == ["page"]


async def test_refusals_by_the_guard_have_json_type_and_own_body() -> None:
    [result] = await batch(hosting(Route("/admin", admin)), action("/admin"), headers=[JSON][:0])
    assert result == {
        "status_code": 400,
        "headers": {},
        "body": {"errors": [{"message": f"data.actions[0]: {REFUSED}", "code": "not_batchable"}]},
    }
