"""No spelling of a path reaches through a batch what must not run in one, or passes a guard that it does not pass alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint, batchable, not_batchable
from tests.asgi import request
from tests.batches import action, batch

HOST = [(b"host", b"testserver")]
reached: list[str] = []


async def secret(request: Request) -> Response:
    reached.append(request.scope["path"])
    return PlainTextResponse("secret")


@not_batchable
@batchable
async def forbidden(request: Request) -> Response:
    return await secret(request)


@batchable
async def public(request: Request) -> Response:
    return PlainTextResponse("public")


@batchable
async def probe(request: Request) -> Response:
    """What only a batch in a batch asks for."""
    return await secret(request)


class Rewrite:
    """A middleware that rewrites every path."""

    def __init__(self, app: ASGIApp, rewrite: Callable[[str], str]) -> None:
        self.app = app
        self.rewrite = rewrite

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": self.rewrite(scope["path"]) or "/"}
        await self.app(scope, receive, send)


def stripped(path: str) -> str:
    return path.rstrip("/")


def folded(path: str) -> str:
    """As a server that means well: in lower case, without empty segments and parameters."""
    segments = [segment.partition(";")[0] for segment in path.lower().split("/")]
    return "/" + "/".join(segment for segment in segments if segment)


# What spells a path, or nearly so.


def encoded(char: str) -> str:
    return "".join(f"%{byte:02x}" for byte in char.encode())


def wide(char: str) -> str:
    return chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char


SPELL: list[Callable[[str], str]] = [
    *[encoded, lambda char: encoded(char).upper(), lambda char: encoded(char).replace("%", "%25")],
    *[str.swapcase, wide, lambda char: encoded(wide(char)), lambda char: char + "\u0301", lambda char: char + "%00"],
]
SLASHES = [
    "%2F",
    "%2f",
    "%252F",
    "//",
    "/./",
    "/x/../",
    "/%2e/",
    "/..;/",
    ";a=b/",
    "\\",
    "%5c",
    "/%20",
    "/;/",
    "/\t",
    "%0a/",
    "／",
]
ENDS = [
    "/",
    "//",
    "%2F",
    "%0a",
    "%0A",
    "\n",
    "%00",
    "%20",
    " ",
    ";",
    ";a=b",
    ".",
    "/.",
    "/..",
    "?",
    "?x",
    "#",
    "%23",
    "%3f",
    ".json",
    "%",
]
STARTS = [
    "",
    "/",
    "//",
    "/.",
    "/x/..",
    "/./",
    "%2f",
    "http://testserver",
    "//testserver",
    "/public",
    "\\",
    "@testserver",
    "/%2e%2e",
    ";",
]

chars = st.sampled_from([str] * 8 + SPELL)


@st.composite
def spellings(draw: st.DrawFn, paths: list[str]) -> str:
    path = draw(st.sampled_from(paths))
    wild = draw(st.sampled_from([0, 0, 1, 3]))
    slashes = st.sampled_from(["/"] * (9 if wild < 3 else 1) + SLASHES)
    spelled = "".join(draw(slashes) if char == "/" else draw(chars if wild else st.just(str))(char) for char in path[1:])
    start = draw(st.sampled_from(["/"] * 9 + STARTS))
    return start + spelled + draw(st.sampled_from([""] * 6 + ENDS))


def starlette_host(**settings: Any) -> Starlette:
    middleware = settings.pop("middleware")
    inner = Starlette(routes=[Route("/closed", secret), Route("/batch", BatchEndpoint())])
    routes = [
        Route("/closed", secret, methods=["GET", "POST"]),
        Route("/forbidden", forbidden),
        Route("/excluded/{x}", batchable(partial(secret))),
        Route("/probe", probe, methods=["GET", "POST"]),
        Mount("/admin", routes=[Route("/closed", secret), Mount("/deep", routes=[Route("/closed/", secret)])]),
        Mount("/app", inner),
        Mount("/{tenant}/t", routes=[Route("/closed", secret)]),
        Route("/{path:path}", public, methods=["GET", "POST"]),
    ]
    app = Starlette(routes=routes, middleware=middleware)
    # Mounted at last: then as second batch endpoint of the same app.
    BatchEndpoint(exclude=["/probe"]).mount_to(app, "/other/batch")
    return BatchEndpoint(exclude=["/excluded/*"], **settings).mount_to(app)


def fastapi_host(**settings: Any) -> FastAPI:
    app, router = FastAPI(middleware=settings.pop("middleware")), APIRouter(prefix="/admin")
    for path, endpoint in [("/closed", secret), ("/deep/closed/", secret), ("/forbidden", forbidden)]:
        router.add_api_route(path, endpoint)
    app.include_router(router)
    app.add_api_route("/closed", secret)
    app.add_api_route("/probe", probe, methods=["GET", "POST"])
    app.add_api_route("/{path:path}", public, methods=["GET", "POST"])
    return BatchEndpoint(**settings).mount_to(app)


NOT_BATCHABLE = ["/closed", "/forbidden", "/excluded/x", "/admin/closed", "/admin/deep/closed/", "/app/closed", "/x/t/closed"]
BATCHES = ["/batch", "/other/batch", "/app/batch"]
MIDDLEWARE = {
    "no": [],
    "lower-casing": [Middleware(Rewrite, str.lower)],
    "slash-stripping": [Middleware(Rewrite, stripped)],
    "folding": [Middleware(Rewrite, folded)],
}


@pytest.mark.parametrize("rewriting", MIDDLEWARE)
@pytest.mark.parametrize("make", [starlette_host, fastapi_host])
def test_no_spelling_of_a_path_reaches_what_is_not_batchable(make: Callable[..., Starlette], rewriting: str) -> None:
    """“No path spelling, encoding, mount, redirect, rewriting middleware, … reaches an endpoint that is not batchable …”"""
    host = make(middleware=MIDDLEWARE[rewriting])
    plain = make(middleware=MIDDLEWARE[rewriting], dialect="plain")
    nested = {"actions": [action("/probe")]}
    alone = 0

    @given(st.lists(spellings(NOT_BATCHABLE + BATCHES), min_size=8, max_size=8))
    @settings(max_examples=40)
    def spelled(paths: list[str]) -> None:
        nonlocal alone
        reached.clear()
        anyio.run(partial(batch, host, *[action(path) for path in paths]))
        anyio.run(partial(batch, host, *[action(path, "post", data=nested) for path in paths]))
        # Here the body of the action is a batch as it stands.
        anyio.run(partial(batch, plain, *[action(path, "post", data={"data": nested}) for path in paths]))
        assert not reached, paths
        # Alone, some of them do.
        for path in paths:
            target = quote(path, safe="/%;:@=").partition("?")[0]
            if target.startswith("/"):
                anyio.run(partial(request, host, "GET", target, headers=HOST))
        alone += len(reached)

    spelled()
    assert alone > 10


class Acl:
    """A middleware that closes all below a prefix, by the path of the request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        closed = scope["type"] == "http" and scope["path"].lower().startswith(("/admin", "/api/admin"))
        await (PlainTextResponse("acl", 403) if closed else self.app)(scope, receive, send)


def around(path: str, *middleware: Middleware) -> Starlette:
    routes = [Mount("/admin", routes=[Route("/{path:path}", public)]), Route("/{path:path}", public)]
    app = Starlette(routes=routes, middleware=[Middleware(Acl), *middleware])
    return BatchEndpoint().mount_to(app, path)


def around_nested() -> ASGIApp:
    inner = around("/batch")
    outer = Starlette(routes=[Mount("/api", inner)], middleware=[Middleware(Acl)])
    inner.router.routes[:] = inner.router.routes[1:]
    BatchEndpoint(host=outer).mount_to(inner)
    return outer


def around_by_hand() -> ASGIApp:
    app = Starlette(
        routes=[Route("/api/admin/{path:path}", public), Route("/api/{path:path}", public)], middleware=[Middleware(Acl)]
    )
    app.router.routes.insert(0, Route("/api/batch", BatchEndpoint(host=app)))
    return app


@pytest.mark.parametrize(
    ("app", "base"),
    [(around("/batch"), ""), (around("/api/batch"), "/api"), (around_nested(), "/api"), (around_by_hand(), "/api")],
)
def test_a_middleware_that_denies_by_path_denies_each_spelling_as_alone(app: ASGIApp, base: str) -> None:
    """“a host ACL middleware gives 403 through the batch exactly as alone”"""
    denied = 0

    @given(st.lists(spellings(["/admin", "/admin/x", "/admin/x/y/", "/public/admin"]), min_size=8, max_size=8))
    @settings(max_examples=40)
    def spelled(paths: list[str]) -> None:
        nonlocal denied
        results = anyio.run(partial(batch, app, *map(action, paths), path=f"{base}/batch"))
        for path, result in zip(paths, results, strict=True):
            if result["status_code"] == 400:
                # What could be read as another path is refused, whoever guards it.
                assert "errors" in result["body"]
                continue
            target = base + ("" if path.startswith("/") else "/") + path
            alone = anyio.run(partial(request, app, "GET", target, headers=HOST))
            assert (result["status_code"], result["body"]) == (alone.status, alone.body.decode() or {}), path
            denied += alone.status == 403

    spelled()
    assert denied > 20


@pytest.mark.anyio
async def test_no_rewriting_middleware_reaches_it_from_an_endpoint_mounted_by_hand() -> None:
    reached.clear()
    app = Starlette(routes=[Route("/closed", secret), Route("/{page}", public)], middleware=[Middleware(Rewrite, str.lower)])
    app.router.routes.insert(0, Route("/batch", BatchEndpoint(host=app)))
    for _ in range(2):
        [result] = await batch(app, action("/CLOSED"))
        assert result["status_code"] == 400
    assert not reached
