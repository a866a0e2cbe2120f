"""An action in a batch is exactly the request it would have been alone, and is never anything to its neighbours.

Hosts, stacks of middleware, handlers and actions are generated. Each action is sent alone and all of them in one batch, through
the same app. What it is as a request, and how its answer stands in that of the batch, is worked out here from the protocol
(sections 2 and 5), so that nothing of the library judges itself.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from email.message import Message as Mail
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, BaseUser, SimpleUser
from starlette.background import BackgroundTask
from starlette.convertors import Convertor, register_url_convertor
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.routing import Host as HostRoute
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from batchkit import BatchEndpoint, batchable, not_batchable
from tests.asgi import ASCII, Answer, NoAnswer, lifespan, request
from tests.batches import JSON, action, batch, messages

BACKENDS = ["asyncio", "trio"]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
Fields = tuple[tuple[bytes, bytes], ...]

decode_answer = msgspec.json.Decoder(dict[str, list[msgspec.Raw]]).decode
decode_result = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def fields_of(text: str) -> list[tuple[bytes, bytes]]:
    """The header fields that stand in these lines."""
    pairs = (line.split(":", 1) for line in text.strip().splitlines())
    return [(name.encode(), value.strip().encode("latin-1")) for name, value in pairs]


# JSON, as text: what a parser would make of it is no longer what the client sent.


def escaped(text: str) -> str:
    units = text.encode("utf-16-be").hex()
    return '"' + "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)) + '"'


def object_text(members: list[tuple[str, str]]) -> str:
    return "{ " + " ,".join(f"{name}:\t{value}" for name, value in members) + "\n}"


def array_text(items: list[str]) -> str:
    return "[" + " , ".join(items) + " ]"


SPELLINGS: list[Callable[[str], str]] = [json.dumps, partial(json.dumps, ensure_ascii=False), escaped]
NUMBERS = ["0", "-0", "1.10", "1E5", "1e400", "-1.5e-7", "12345678901234567890123", "0.10000000000000000555", "9" * 5000]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
strings = st.builds(lambda text, spell: spell(text), texts, st.sampled_from(SPELLINGS))
numbers = (
    st.sampled_from(NUMBERS) | st.integers().map(str) | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: repr(x))
)
json_texts = st.recursive(
    strings | numbers | st.sampled_from(["true", "false", "null"]),
    lambda inner: st.lists(inner, max_size=3).map(array_text) | st.lists(st.tuples(strings, inner), max_size=3).map(object_text),
    max_leaves=5,
)
object_texts = st.lists(st.tuples(strings, json_texts), max_size=3).map(object_text)


# What handlers do.


@dataclass(frozen=True)
class Plan:
    """What a handler does, said rather than written. No ``content``: it answers with what it saw."""

    status: int = 200
    headers: Fields = ()
    content: bytes | None = None
    content_type: bytes | None = b"application/json"
    coding: str | None = None
    pieces: int = 1
    view: bool = False
    raises: str | None = None
    sync: bool = False
    background: str | None = None


STATUSES = [200, 201, 202, 204, 301, 302, 304, 400, 401, 403, 404, 409, 418, 422, 429, 500, 503]
RESPONSE_HEADERS = fields_of("""
location: /elsewhere?a=%20
ETag: "v1"
Retry-After: 3
link: </2>; rel=next
Link: </0>; rel=prev
set-cookie: a=1; HttpOnly; Path=/
Set-Cookie: b=2, 3
set-cookie: a=
www-authenticate: Basic
WWW-Authenticate: Bearer realm="x"
content-disposition: attachment; filename=é.txt
content-language: de
content-location: /here
last-modified: Tue, 15 Nov 1994 12:45:26 GMT
allow: GET
deprecation: @1
sunset: Tue, 15 Nov 1994 12:45:26 GMT
x-total-count: 12
x-extra: 1
X-Extra: 2
x-private:
vary: Accept
date: Tue, 15 Nov 1994 12:45:26 GMT
Server: secret/1
connection: close
proxy-authenticate: Basic
trailer: x
""")
CODINGS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"X-GZip", gzip.compress),
    "deflate": (b"deflate", zlib.compress),
    "members": (b"gzip", lambda content: gzip.compress(content[:9]) + gzip.compress(content[9:])),
    "other": (b"br", bytes),
    "broken": (b"gzip", bytes),
}
CONTENT_TYPES = [
    None,
    *b"""
application/json
Application/JSON; Charset=UTF-8
application/json;charset=utf-16
application/problem+json
application/vnd.api+json; version=1
text/json
text/plain
TEXT/HTML; charset=utf-8
text/plain; charset="iso-8859-1"
text/plain; format=flowed; charset=shift_jis
text/csv; charset=utf-16
text/plain; charset=no-such-charset
text/plain; charset=base64
text/javascript
application/javascript
application/xml
image/svg+xml
application/x-www-form-urlencoded
application/pdf; charset=utf-8
application/octet-stream
application/x-ndjson
image/png
""".split(b"\n")[1:-1],
]
CHARSETS = ["utf-8", "utf-8-sig", "iso-8859-1", "utf-16", "shift_jis"]
NO_JSON = [
    *[b"NaN", b"[-Infinity]", b"{'a': 1}", b"[1,]", b'{"a":1,}', b"01", b"1.", b".5", b"+1", b"tru", b"  ", b"1 2", b"/**/1"],
    *[b'"\\ud800"', b'"\\ude00\\ud83d"', b'"\\q"', b'"\x01"', b'"\xed\xa0\x80"', b'"\xff"', b'"', b'{"a" 1}', b"\x0c1", b"{"],
    *[b"\xef\xbb\xbf{}", b"\xef\xbb\xbf", b'"]}', b'{}]}{"data":['],
]
contents = st.one_of(
    st.none(),
    json_texts.map(str.encode),
    json_texts.map(lambda text: f" \t{text}\r\n".encode()),
    st.sampled_from(NO_JSON),
    st.builds(lambda text, charset: text.encode(charset, "replace"), texts, st.sampled_from(CHARSETS)),
    st.binary(max_size=40),
    st.just(b""),
)
plans = st.builds(
    Plan,
    status=st.sampled_from([200] * 9 + STATUSES),
    headers=st.lists(st.sampled_from(RESPONSE_HEADERS), max_size=5).map(tuple),
    content=contents,
    content_type=st.sampled_from([b"application/json"] * 9 + CONTENT_TYPES),
    coding=st.sampled_from([None] * 9 + list(CODINGS)),
    pieces=st.sampled_from([1, 1, 2, 40]),
    view=st.booleans(),
    raises=st.sampled_from([None] * 12 + ["HTTPException", "Teapot", "RuntimeError", "ExceptionGroup", "midway"]),
    sync=st.booleans(),
    background=st.sampled_from([None, None, None, "works", "fails"]),
)


class Teapot(Exception):
    """An exception that a host may have a handler for."""


TRACE: ContextVar[str] = ContextVar("TRACE", default="none")


def saw(request: Request, body: bytes, gone: bool) -> str:
    """All that a handler can see of its request, in ASCII. ``gone``: whether the client is."""
    scope = request.scope
    user: BaseUser | None = scope.get("user")
    return json.dumps(
        {
            "method": request.method,
            "path": [scope["path"], scope["raw_path"].decode(), scope["root_path"], scope["query_string"].decode()],
            "query": request.query_params.multi_items(),
            # By name: where the headers of the body stand among the others is the client's affair.
            "headers": sorted(((name.decode(), value.decode("latin-1")) for name, value in scope["headers"]), key=lambda x: x[0]),
            "cookies": request.cookies,
            "body": [body.decode("latin-1"), gone],
            "route": scope["route"].path,
            "path_params": request.path_params,
            "state": scope["state"],
            "trace": TRACE.get(),
            "user": user and [user.is_authenticated, user.display_name, scope["auth"].scopes],
            "urls": [str(request.url), str(request.base_url), str(request.url_for("items", key="k"))],
            "connection": [scope["client"], scope["server"], scope["scheme"], scope["http_version"]],
        }
    )


async def stream(pieces: list[bytes], breaks: bool) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if breaks:
        raise RuntimeError("midway")


def stream_in_thread(pieces: list[bytes], breaks: bool) -> Iterator[bytes]:
    yield from pieces
    if breaks:
        raise RuntimeError("midway")


class Endpoints:
    """The endpoints of one host, by their names; ``journal`` says which of them ran, and their background tasks."""

    def __init__(self, plans: Mapping[str, Plan], marked: bool) -> None:
        self.plans = plans
        self.marked = marked
        self.journal: list[str] = []

    async def read_and_answer(self, name: str, request: Request) -> Response:
        return self.answer(name, request, await request.body(), await request.is_disconnected())

    def answer(self, name: str, request: Request, body: bytes = b"not read", gone: bool = False) -> Response:
        plan = self.plans.get(name, Plan())
        self.journal.append(f"{name} {request.method} {request.url}")
        seen = saw(request, body, gone)
        # For a neighbour that can see it, and says so.
        request.state.left_by = request.path_params["left_by"] = name
        TRACE.set(f"left by {name}")
        # In a header, so that answers that show no body tell it as well.
        fields = [*plan.headers, (b"x-request-id", seen.encode())]
        match plan.raises:
            case "HTTPException":
                status = plan.status if plan.status in (204, 304) or plan.status >= 400 else 404
                raise HTTPException(status, "No", {key.decode(): value.decode("latin-1") for key, value in fields})
            case "Teapot":
                raise Teapot(seen)
            case "RuntimeError":
                raise RuntimeError(seen)
            case "ExceptionGroup":
                raise ExceptionGroup(seen, [RuntimeError(seen), Teapot(seen)])
        content = seen.encode() if plan.content is None else plan.content
        if plan.content_type is not None:
            fields.append((b"content-type", plan.content_type))
        if plan.coding is not None:
            label, encode = CODINGS[plan.coding]
            content = encode(content)
            fields.append((b"Content-Encoding", label))
        if plan.pieces == 1 and plan.raises is None:
            fields.append((b"Content-Length", b"%d" % len(content)))
            response = Response(memoryview(content) if plan.view else content, plan.status)
        else:
            size = len(content) // plan.pieces + 1
            pieces = [content[i : i + size] for i in range(0, len(content), size)]
            chunks = stream_in_thread if plan.sync else stream
            response = StreamingResponse(chunks(pieces, plan.raises == "midway"), plan.status)
        response.raw_headers = fields
        if plan.background is not None:
            response.background = BackgroundTask(self.afterwards, name, plan.background)
        return response

    async def afterwards(self, name: str, task: str) -> None:
        self.journal.append(f"{name} {task}")
        if task == "fails":
            raise RuntimeError(task)

    def function(self, name: str) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return await self.read_and_answer(name, request)

        def sync_endpoint(request: Request) -> Response:
            return self.answer(name, request)

        # From a server of ASGI 2.3 a stream listens for the disconnect beside its work: over a body that nobody has read it then
        # meets the body's limit after its answer has begun.
        sync = self.plans.get(name, Plan()).sync and name != "limited"
        chosen: Callable[[Request], Any] = sync_endpoint if sync else endpoint
        return batchable(chosen) if self.marked else chosen

    def of_class(self, name: str) -> type[HTTPEndpoint]:
        """An endpoint that leaves PUT and DELETE to its own 405."""
        endpoints = self

        class Endpoint(HTTPEndpoint):
            async def get(self, request: Request) -> Response:
                return await endpoints.read_and_answer(name, request)

            def post(self, request: Request) -> Response:
                return endpoints.answer(name, request)

            patch = get

        return batchable(Endpoint) if self.marked else Endpoint

    def opaque(self, name: str) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            answer = await self.read_and_answer(name, Request(scope, receive, send))
            await answer(scope, receive, send)

        return batchable(app)


# The host around them.


class Visit(BaseHTTPMiddleware):
    """Sets a header and ``request.state``."""

    def __init__(self, app: ASGIApp, name: str, reads: bool = False) -> None:
        super().__init__(app)
        self.name = name
        self.reads = reads

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        body = await request.body() if self.reads else b""
        setattr(request.state, self.name, f"{request.method} {request.url.path} {len(body)}")
        response = await call_next(request)
        response.headers.append("deprecation", f"{self.name} {len(body)}")
        return response


class Trace:
    """Sets a context variable."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            TRACE.set(f"{scope['method']} {scope['path']}")
        await self.app(scope, receive, send)


class Visitor:
    """Sets a cookie and a header, from within ASGI."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self.app = app
        self.name = name.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                cookie = b"%s=%s; HttpOnly" % (self.name, quote(scope["path"]).encode())
                message["headers"] = [*message["headers"], (b"set-cookie", cookie), (b"x-extra", self.name)]
            await send(message)

        await self.app(scope, receive, send_with_cookie if scope["type"] == "http" else send)


class Gatekeeper:
    """Refuses some paths, before and instead of their handlers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http" and scope["path"].endswith("/k-locked"):
            app = PlainTextResponse("Who?", 401, {"WWW-Authenticate": "Bearer"})
        elif scope["type"] == "http" and scope["path"].endswith("/k-forbidden"):
            app = JSONResponse({"errors": [{"message": "No"}]}, 403)
        await app(scope, receive, send)


class Accounts(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        if conn.url.path.endswith("/k-stranger"):
            raise AuthenticationError("stranger")
        if "authorization" not in conn.headers:
            return None
        return AuthCredentials(["read", conn.scope["method"]]), SimpleUser(conn.headers["authorization"])


STACK: dict[str, Middleware] = {
    "accounts": Middleware(AuthenticationMiddleware, backend=Accounts()),
    "cookie": Middleware(Visitor, name="visitor"),
    "cors": Middleware(CORSMiddleware, allow_origins=["https://a.example"], allow_credentials=True, expose_headers=["x-extra"]),
    "gatekeeper": Middleware(Gatekeeper),
    "gzip": Middleware(GZipMiddleware, minimum_size=1),
    "hosts": Middleware(TrustedHostMiddleware, allowed_hosts=["*.example"]),
    "trace": Middleware(Trace),
    "visit": Middleware(Visit, name="visit"),
    "visit and read": Middleware(Visit, name="reader", reads=True),
}
# The oldest Starlette of those that are supported does not have it.
if find_spec("starlette.middleware.body_limit"):
    body_limit = import_module("starlette.middleware.body_limit")
    STACK["limit"] = Middleware(body_limit.RequestBodyLimitMiddleware, max_body_size=2**20)


async def on_404(request: Request, exc: Exception) -> Response:
    urls = [str(request.url), str(request.url_for("items", key="k"))]
    content = {"missing": [request.method, request.path_params, urls, len(request.app.routes)]}
    return JSONResponse(content, 404, {"set-cookie": "missing=1"})


def on_405(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return PlainTextResponse(f"not {request.method} {request.path_params}", 405, exc.headers)


async def on_http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return JSONResponse({"status": exc.status_code, "path": request.url.path}, 400, exc.headers)


def on_teapot(request: Request, exc: Exception) -> Response:
    return JSONResponse({"teapot": str(exc)}, 418, {"x-total-count": "1"})


async def on_500(request: Request, exc: Exception) -> Response:
    return JSONResponse({"failed": request.url.path, "exc": str(exc)}, 500, {"retry-after": "7"})


EXCEPTION_HANDLERS: dict[Any, ExceptionHandler] = {
    404: on_404,
    405: on_405,
    HTTPException: on_http_exception,
    Teapot: on_teapot,
    500: on_500,
    Exception: on_500,
}


class Fragile(Convertor[str]):
    regex = "[^/]+"

    def convert(self, value: str) -> str:
        if value.startswith("broken"):
            raise ValueError(value)
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("fragile", Fragile())


@asynccontextmanager
async def with_pool(app: object) -> AsyncIterator[dict[str, str]]:
    yield {"pool": "of the lifespan"}


@dataclass(frozen=True)
class Host:
    """``shape``: how the batch endpoint and its host are put together. ``handled``: which exceptions have handlers."""

    shape: str
    prefix: str
    root_path: str
    stack: tuple[str, ...]
    handled: frozenset[Any]
    plans: dict[str, Plan]
    policy: str
    dialect: str
    result_headers: str | tuple[str, ...]

    def build(self) -> tuple[ASGIApp, Endpoints, str, str]:
        """The app that the server calls, its endpoints, and the paths of the batch endpoint and of what actions are below."""
        options: Any = {"policy": self.policy, "dialect": self.dialect, "result_headers": self.result_headers}
        endpoints = Endpoints(self.plans, marked=self.policy == "marked")
        routes = self.routes(endpoints)
        batch_path = self.prefix + "/batch"
        stack = [STACK[name] for name in self.stack]
        handlers = {key: handler for key, handler in EXCEPTION_HANDLERS.items() if key in self.handled}
        if self.shape == "router":
            router = Router(routes, lifespan=with_pool, middleware=stack)
            return BatchEndpoint(**options).mount_to(router, batch_path), endpoints, batch_path, self.prefix
        if self.shape == "by hand":
            routes.insert(0, Route(batch_path, BatchEndpoint(**options)))
        outermost, around = (stack[:1], stack[1:]) if self.shape == "in another" else ([], stack)
        app = Starlette(routes=routes, middleware=around, exception_handlers=handlers, lifespan=with_pool)
        match self.shape:
            case "by host":
                app.router.routes[:] = [HostRoute("api.example", app=Router(routes))]
                BatchEndpoint(**options).mount_to(app, batch_path)
            case "base path":
                BatchEndpoint(base_path=self.prefix or "/", **options).mount_to(app, "/else/where")
                return app, endpoints, "/else/where", self.prefix
            case "wrapped":
                wrapped = Trace(app)
                BatchEndpoint(host=wrapped, **options).mount_to(app, batch_path)
                return wrapped, endpoints, batch_path, self.prefix
            case "in another":
                outer = Starlette(routes=[Mount("/outer", app=app)], middleware=outermost, lifespan=with_pool)
                BatchEndpoint(host=outer, **options).mount_to(app, batch_path)
                return outer, endpoints, f"/outer{batch_path}", f"/outer{self.prefix}"
            case "mounted":
                BatchEndpoint(**options).mount_to(app, batch_path)
        return app, endpoints, batch_path, self.prefix

    def routes(self, endpoints: Endpoints) -> list[BaseRoute]:
        def route(path: str, name: str, methods: list[str] = METHODS, **more: Any) -> Route:
            return Route(path, endpoints.function(name), methods=methods, name=name, **more)

        def only_get(path: str) -> Route:
            return Route(path, endpoints.function("only get"), methods=["GET"])

        at = self.prefix
        nested = Starlette(
            routes=[route("/{key}", "nested"), only_get("/only/get")],
            middleware=[Middleware(Visit, name="nested")],
            exception_handlers={Teapot: on_teapot, 405: on_405},
        )
        return [
            route(at + "/plain", "plain"),
            route(at + "/items/{key}", "items"),
            route(at + "/n/{number:int}", "number"),
            route(at + "/f/{number:float}", "float"),
            route(at + "/files/{rest:path}", "files"),
            route(at + "/fragile/{key:fragile}", "fragile"),
            route(at + "/limited/{key}", "limited", max_body_size=60, middleware=[Middleware(Visitor, name="limited")]),
            route(at + "/twice/{key}", "twice", ["PUT", "GET"]),
            route(at + "/twice/{other}", "twice", ["POST", "GET", "PATCH", "DELETE"]),
            Route(at + "/class/{key}", endpoints.of_class("class")),
            only_get(at + "/only/get"),
            Mount(
                at + "/sub",
                routes=[only_get("/only/get"), route("/{key}", "sub")],
                middleware=[Middleware(Visitor, name="sub")],
            ),
            Mount(at + "/tree/{trunk}", routes=[only_get("/only/get"), route("/{key}", "tree")]),
            Mount(at + "/{tenant}/strict", app=Router([route("/{key}", "strict")], redirect_slashes=False)),
            Mount(at + "/nested", app=nested),
            Mount(at + "/opaque", app=endpoints.opaque("opaque")),
        ]


# What actions are, in the batch and alone.


@dataclass(frozen=True)
class Sent:
    """An action as it stands in a batch, and the request that it stands for."""

    text: str
    place: str
    method: str
    path: str
    query: bytes
    body: bytes | None


def spelled(key: str, spelling: str) -> str:
    match spelling:
        case "raw":
            return re.sub("[ /?#%]", lambda char: quote(char[0], safe=""), key)
        case "ascii":
            return quote(key, safe="")
        case _:
            return "".join(f"%{byte:02x}" for byte in key.encode())


# Cc is refused, and so are the backslash and dot segments; the k keeps the latter away.
keys = st.builds(
    spelled,
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), max_size=5).map("k{}".format),
    st.sampled_from(["raw", "ascii", "bytes"]),
) | st.sampled_from(["k-locked", "k-forbidden", "k-stranger", "k%2C;a=b:c@d", "%6b", "K", "k.json", "...", "k%2520"])
rests = st.lists(keys | st.sampled_from(["", "k%2Fk", "k/%2fk"]), max_size=3).map("/".join)

UNROUTED = [
    *["/nope", "/PLAIN", "/plain%2Fk", "/items/", "/items/k/k", "/n/x", "/n/-1", "/class"],
    *["/k/strict/k/", "/sub/k/k", "/tree/k/k/k", "/nested/k/k"],
]
PLACES: dict[str, st.SearchStrategy[str]] = {
    "plain": st.just("/plain"),
    "items": keys.map("/items/{}".format),
    "number": st.sampled_from(["/n/7", "/n/007", "/n/%31", f"/n/{'9' * 1900}"]),
    "float": st.sampled_from(["/f/7", "/f/1.10", "/f/0.0000000000000000000001"]),
    "files": rests.map("/files/{}".format),
    "fragile": keys.map("/fragile/{}".format),
    "limited": keys.map("/limited/{}".format),
    "twice": keys.map("/twice/{}".format),
    "class": keys.map("/class/{}".format),
    "sub": keys.map("/sub/{}".format),
    "tree": st.builds("/tree/{}/{}".format, keys, keys),
    "strict": st.builds("/{}/strict/{}".format, keys, keys),
    "nested": keys.map("/nested/{}".format),
    "opaque": rests.map("/opaque/{}".format),
    "only get": st.sampled_from(["/only/get", "/sub/only/get", "/nested/only/get", "/sub/only%2Fget"]),
    "redirected": st.sampled_from(["/plain/", "/items/k%20k/", "/tree/k/k/", "/sub/k/", "/nested/k/", "/opaque", "/only/get/"]),
    "redirected nowhere": st.sampled_from(["/sub", "/nested", "/tree/k", "/k/strict"]),
    "nowhere": st.sampled_from(UNROUTED),
    "unmatchable": st.just("/fragile/broken"),
}
# As a query in a relative_path may be: RFC 3986 has no backslash, no space and no broken encoding there.
queries = st.lists(
    st.sampled_from(["a=1", "a", "=", "&", "%20", "+", "/", "?", "é", "%C3%A9", "\u2003", "b=%26", ":"]), max_size=4
)

scalars = (
    st.builds(lambda text, spell: (spell(text), text), texts, st.sampled_from(SPELLINGS))
    | numbers.map(lambda text: (text, text))
    | st.sampled_from([("true", "true"), ("false", "false")])
)
# An object as JSON, and the strings that each of its values stands for in a query.
parameters = st.lists(
    st.tuples(
        # Which the protocol wants in the options.
        texts.filter(lambda name: name not in ("limit", "offset") and not name.startswith("opt_")),
        scalars.map(lambda scalar: (scalar[0], [scalar[1]]))
        | st.lists(scalars, max_size=3).map(
            lambda found: (array_text([text for text, _ in found]), [value for _, value in found])
        )
        | st.just(("null", list[str]())),
    ),
    max_size=3,
    unique_by=lambda member: member[0],
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
several = st.lists(names, max_size=3) | names
options = st.fixed_dictionaries(
    {},
    optional={
        "limit": st.none() | st.integers(-(2**70), 2**70),
        "offset": st.none() | st.integers(0, 2**70) | names,
        "fields": st.none() | several,
        "expand": st.none() | several,
        "pretty": st.booleans(),
    },
)


def query_of(members: list[tuple[str, tuple[str, list[str]]]], asked: Mapping[str, Any], dialect: str) -> list[tuple[str, str]]:
    """Section 2: what ``data`` and ``options`` are in a query."""
    commas = dialect == "asana"
    pairs = [
        (name, value)
        for name, (_, values) in members
        for value in ([",".join(values)] if values and commas else values)
    ]  # fmt: skip
    for option, name in (("limit", "limit"), ("offset", "offset"), ("fields", "opt_fields"), ("expand", "opt_expand")):
        if (value := asked.get(option)) not in (None, []):
            chosen = [str(item) for item in value] if isinstance(value, list) else [str(value)]
            pairs += [(name, ",".join(chosen))] if commas else [(option, item) for item in chosen]
    return pairs


@st.composite
def actions(draw: st.DrawFn, dialect: str) -> Sent:
    place = draw(st.sampled_from(list(PLACES)))
    path = draw(PLACES[place])
    method = draw(st.sampled_from(METHODS))
    asked = draw(st.none() | options)
    inline = "&".join(draw(queries)) if dialect == "plain" else ""
    data: str | None = None
    body: bytes | None = None
    if method in ("GET", "HEAD", "DELETE"):
        members = draw(st.none() | parameters)
        if members is not None:
            data = object_text([(json.dumps(name), text) for name, (text, _) in members])
        pairs = query_of(members or [], asked or {}, dialect)
    else:
        data = draw(st.none() | object_texts)
        content = data if data is not None else "{}"
        body = (f'{{"data":{content}}}' if dialect == "asana" else content).encode()
        pairs = query_of([], asked or {}, dialect)
    query = "&".join(part for part in (quote(inline, safe=ASCII), urlencode(pairs)) if part)
    # A colon in what is then the first segment would make it a scheme.
    relative_path = path[1:] if ":" not in path and draw(st.booleans()) else path
    if inline or (dialect == "plain" and draw(st.booleans())):
        relative_path += "?" + inline
    entries = [
        ("relative_path", draw(st.sampled_from(SPELLINGS))(relative_path)),
        ("method", json.dumps(draw(st.sampled_from([method, method.lower(), method.title()])))),
        *([] if data is None else [("data", data)]),
        *([] if asked is None else [("options", json.dumps(asked))]),
        # Of a key that stands twice the last one counts.
        *draw(st.sampled_from([[], [], [("data", "null")] if data is None else [("data", data)]])),
    ]
    text = object_text([(json.dumps(name), value) for name, value in entries])
    return Sent(text, place, method, path, query.encode(), body)


INHERITED = fields_of("""
authorization: Bearer ann
cookie: a=1; b=2
cookie: c=3
origin: https://a.example
accept: text/html
user-agent: é
x-forwarded-for: 192.0.2.1
x-forwarded-for: 192.0.2.2
forwarded: for=192.0.2.1
traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
x-custom:
contents: 1
ifs: 1
""")
WITHHELD = fields_of("""
content-language: de
content-encoding: identity
transfer-encoding: chunked
accept-encoding: gzip
connection: keep-alive, x-custom
keep-alive: 1
te: trailers
trailer: x
upgrade: h2c
expect: 100-continue
proxy-authorization: Basic
range: bytes=0-1
if-none-match: *
if-modified-since: Tue, 15 Nov 1994 12:45:26 GMT
access-control-request-method: PUT
idempotency-key: 1
x-idempotency-key: 1
idempotency_key: 1
x_http_method_override: DELETE
content_md5: 1
x-http-method: DELETE
x-http-method-override: DELETE
x-method-override: DELETE
x-original-url: /plain
x-rewrite-url: /plain
""")


@dataclass(frozen=True)
class Case:
    host: Host
    fields: list[tuple[bytes, bytes]]
    actions: list[Sent]


RESULT_HEADERS: list[str | tuple[str, ...]] = [(), ("X-Extra", "vary"), "*"]
SHAPES = ["mounted", "mounted", "base path", "by hand", "by host", "wrapped", "in another", "router"]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dialect = draw(st.sampled_from(["asana", "plain"]))
    chosen = draw(st.lists(actions(dialect), min_size=1, max_size=6))
    host = Host(
        shape=draw(st.sampled_from(SHAPES)),
        prefix=draw(st.sampled_from(["", "/api/1.0"])),
        root_path=draw(st.sampled_from(["", "/proxy"])),
        stack=tuple(draw(st.lists(st.sampled_from(list(STACK)), max_size=5, unique=True))),
        handled=draw(st.frozensets(st.sampled_from(list(EXCEPTION_HANDLERS)))),
        plans={place: draw(plans) for place in sorted({sent.place for sent in chosen})},
        policy=draw(st.sampled_from(["marked", "all"])),
        dialect=dialect,
        result_headers=draw(st.sampled_from(RESULT_HEADERS)),
    )
    return Case(host, draw(st.lists(st.sampled_from(INHERITED + WITHHELD), max_size=8, unique=True)), chosen)


# How an answer stands in that of the batch.

SHOWN = set(
    b"location content-location etag last-modified retry-after link allow www-authenticate content-disposition "
    b"content-language deprecation sunset x-total-count x-request-id".split()
)
NEVER_SHOWN = set(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade "
    b"content-length content-encoding date server content-type set-cookie".split()
)


def as_json(content: bytes) -> bool:
    """Whether it is JSON, strictly, by the standard library's parser, which is less strict by itself."""

    def no_constant(name: str) -> None:
        raise ValueError(name)

    try:
        value = json.loads(content.decode(), parse_constant=no_constant, parse_int=str)
        # Lone surrogates cannot be encoded.
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


def undone(coding: bytes, content: bytes) -> bytes | None:
    try:
        match coding.lower():
            case b"gzip" | b"x-gzip":
                return gzip.decompress(content)
            case b"deflate":
                return zlib.decompress(content)
    except (OSError, EOFError, zlib.error):
        pass
    return None


def text_of(content_type: bytes | None, content: bytes) -> str | None:
    """Section 5: "text is a string, decoded by its charset"; None for what is none, or does not decode."""
    mail = Mail()
    mail["content-type"] = (content_type or b"text/plain").decode()
    kind, charset = mail.get_content_type(), mail.get_content_charset()
    textual = ["application/json", "application/javascript", "application/xml", "application/x-www-form-urlencoded"]
    if charset is None and not (kind.startswith("text/") or kind.endswith(("+xml", "+json")) or kind in textual):
        return None
    try:
        text = content.decode(charset or "utf-8")
        text.encode()
    except (LookupError, ValueError):
        return None
    return text


def as_string(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


def sent_on(cookies: list[tuple[str, bytes]]) -> list[bytes]:
    """Section 5: the cookies of a batch, of those that its actions set at these paths."""
    last: list[tuple[tuple[bytes, bytes], bytes]] = []
    for path, cookie in cookies:
        pair, *attributes = cookie.split(b";")
        named = [attribute.strip()[5:] for attribute in attributes if attribute.strip().lower().startswith(b"path=")]
        if not named:
            # A semicolon would end it.
            named.append(path[: path.rindex("/")].replace(";", "%3B").encode() or b"/")
            cookie += b"; Path=" + named[0]
        key = pair.split(b"=")[0], named[-1]
        last = [entry for entry in last if entry[0] != key] + [(key, cookie)]
    return [cookie for _, cookie in last]


def standing(answer: Answer, result_headers: str | tuple[str, ...]) -> dict[str, Any]:
    """Section 5: how an answer stands in the batch's. A body in bytes is JSON that stands byte for byte."""
    fields: dict[bytes, list[bytes]] = {}
    for name, value in answer.headers:
        fields.setdefault(name, []).append(value)
    every = result_headers == "*"
    extra = {name.lower().encode() for name in result_headers} if not every else set()
    names = {name for name in fields if every or name in SHOWN | extra} - NEVER_SHOWN
    content_type = fields.get(b"content-type", [None])[0]
    content: bytes | None = answer.body
    if content and b"content-encoding" in fields:
        content = undone(fields[b"content-encoding"][0], content)
    kind = (content_type or b"").split(b";")[0].lower()
    shown: dict[str, Any] = {"status_code": answer.status}
    if content == b"":
        shown["body"] = b"{}"
    elif content and (kind == b"application/json" or kind.endswith(b"+json")) and as_json(content):
        shown["body"] = content.strip(b" \t\r\n")
    else:
        names |= {b"content-type", b"content-encoding"} if content is None else {b"content-type"}
        text = None if content is None else text_of(content_type, content)
        as_base64 = base64.b64encode(answer.body if content is None else content).decode()
        if text is None or 3 * len(as_string(text)) > 4 * len(as_string(as_base64)):
            shown["body_encoding"] = "base64"
            text = as_base64
        shown["body"] = text
    shown["headers"] = {name.decode(): b", ".join(fields[name]).decode("latin-1") for name in names & set(fields)}
    return shown


def compare(raw: msgspec.Raw, expected: dict[str, Any]) -> None:
    result = {name: bytes(value) for name, value in decode_result(raw).items()}
    whole = {"status_code", "headers", "body", *(["body_encoding"] if "body_encoding" in result else [])}
    assert set(result) == whole
    byte_for_byte = isinstance(expected.get("body"), bytes)
    got = {
        name: value if name == "body" and byte_for_byte else json.loads(value)
        for name, value in result.items()
        if name in expected or (name == "body_encoding" and "body" in expected)
    }
    assert got == expected


class Run(NamedTuple):
    """What came of a case: the answers of its actions, each sent alone, that of the batch of them, and what ran each time."""

    alone: list[Answer | None]
    ran_alone: list[str]
    together: Answer
    ran_together: list[str]
    batch_path: str
    base_path: str


async def both_ways(case: Case) -> Run:
    app, endpoints, batch_path, base_path = case.host.build()
    own = [(b"host", b"api.example"), *case.fields]
    content = ('{"data": {"actions": [' + ",\n".join(sent.text for sent in case.actions) + "]}}").encode()
    alone: list[Answer | None] = []
    async with lifespan(app) as state:
        send = partial(request, app, root_path=case.host.root_path, state=state)
        for sent in case.actions:
            fields = [field for field in own if field not in WITHHELD]
            if sent.body is not None:
                fields += [JSON, (b"content-length", b"%d" % len(sent.body))]
            path = base_path + sent.path
            try:
                alone.append(await send(sent.method, path, query=sent.query, headers=fields, body=sent.body or b""))
            except NoAnswer:
                alone.append(None)
        ran_alone = sorted(endpoints.journal)
        endpoints.journal.clear()
        own += [JSON, (b"content-length", b"%d" % len(content))]
        together = await send("POST", batch_path, query=b"limit=100", headers=own, body=content)
    root_path = case.host.root_path
    return Run(alone, ran_alone, together, sorted(endpoints.journal), root_path + batch_path, root_path + base_path)


def check(case: Case, backend: str) -> None:
    run = anyio.run(both_ways, case, backend=backend)
    together = run.together
    assert together.status == 200
    assert together.all(b"content-type") == [b"application/json; charset=utf-8"]
    content = gzip.decompress(together.body) if together.all(b"content-encoding") else together.body
    # The decoder leaves it open.
    content.decode()
    document = decode_answer(content)
    assert list(document) == ["data"]
    assert len(document["data"]) == len(case.actions)
    cookies: list[tuple[str, bytes]] = []
    for sent, answer, raw in zip(case.actions, run.alone, document["data"], strict=True):
        if answer is None:
            compare(raw, {"status_code": 500})
            continue
        expected = standing(answer, case.host.result_headers)
        own = answer.all(b"set-cookie")
        compare(raw, expected)
        cookies += [(quote(run.base_path + sent.path, safe=ASCII), cookie) for cookie in own]
    expected_cookies = sent_on(cookies)
    if "cookie" in case.host.stack:
        expected_cookies.append(b"visitor=%s; HttpOnly" % run.batch_path.encode())
    assert together.all(b"set-cookie") == expected_cookies
    assert run.ran_together == run.ran_alone


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=120)
@given(case=cases())
def test_an_action_in_a_batch_is_exactly_the_request_it_would_have_been_alone(backend: str, case: Case) -> None:
    check(case, backend)


@pytest.mark.anyio
async def test_every_content_of_every_media_type_stands_in_the_batch_as_the_contract_says() -> None:
    samples = [b'{"a": 1.10}', b" [1e400]\n", b"text", "\xe9\u20ac".encode(), b"\x93\xfa", "\xe9".encode("utf-16"), *NO_JSON]
    table = [(content_type, content) for content_type in CONTENT_TYPES for content in samples]

    async def endpoint(request: Request) -> Response:
        content_type, content = table[request.path_params["index"]]
        headers = {} if content_type is None else {"content-type": content_type.decode()}
        return Response(content, headers=headers)

    app = BatchEndpoint(policy="all", max_actions=100).mount_to(Starlette(routes=[Route("/{index:int}", endpoint)]))
    paths = [f"/{index}" for index in range(len(table))]
    for start in range(0, len(table), 100):
        some = paths[start : start + 100]
        results, _ = await posted(app, [entry(path) for path in some])
        for path, result in zip(some, results, strict=True):
            result.decode()
            compare(msgspec.Raw(result), standing(await request(app, "GET", path), ()))


# Neighbours: a host of its own, with an action for every way to fail.


def crowd() -> ASGIApp:
    @batchable
    async def echo(request: Request) -> Response:
        key = request.path_params["key"]
        seen = [request.method, key, request.url.query, (await request.body()).decode()]
        response = JSONResponse(seen, 201, {"location": f"/echo/{key}"})
        response.set_cookie("echo", key)
        return response

    @batchable
    def fails(request: Request) -> Response:
        raise HTTPException(409, "taken")

    @batchable
    async def breaks(request: Request) -> Response:
        raise RuntimeError("secret")

    async def unmarked(request: Request) -> Response:
        return PlainTextResponse("ran")

    async def opaque(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("ran")(scope, receive, send)

    app = Starlette(
        routes=[
            Route("/echo/{key}", echo, methods=["GET", "HEAD", "POST"], name="items"),
            Route("/fails", fails),
            Route("/breaks", breaks),
            Route("/unmarked", unmarked),
            Route("/barred", not_batchable(batchable(partial(unmarked)))),
            Route("/excluded", batchable(partial(unmarked))),
            Mount("/opaque", app=opaque),
        ],
        exception_handlers={404: on_404, 500: on_500},
    )
    return BatchEndpoint(exclude=("/excluded",)).mount_to(app)


def entry(path: str, method: str = "get", **more: Any) -> str:
    return json.dumps({"relative_path": path, "method": method, **more})


# What actions are answered, in the words of protocol.md#which-action-may-run.
CROWD: dict[int, list[str]] = {
    201: [
        entry("/echo/a", data={"n": 1}, options={"limit": 2}),
        entry("/echo/b", "POST", data={"n": 1}),
        entry("echo/c%20d", "post"),
        entry("/echo/é", "head"),
        '{"relative_path": "/no/such", "method": "get", "relative_path": "/echo/e"}',
    ],
    404: [entry("/nope"), entry("/echo/a/b", "put"), entry("/Echo/a")],
    405: [entry("/echo/a", "delete"), entry("/fails", "post"), entry("/unmarked", "put")],
    409: [entry("/fails")],
    500: [entry("/breaks"), entry("/breaks", "head")],
    307: [entry("/fails/"), entry("/echo/a/", "post"), entry("/opaque")],
    400: [
        # Refused.
        *[entry("/unmarked"), entry("/barred"), entry("/excluded"), entry("/opaque/x")],
        *[entry("/batch", "post", data={"actions": []}), entry("/%62atch")],
        # Malformed.
        *["null", "[]", "{}", '"/echo/a"', "1e400", '{"relative_path": "/echo/a"}', '{"method": "get"}'],
        *[entry(""), entry("//echo/a"), entry("https://api.example/echo/a"), entry("/echo/a?b=1"), entry("/echo/a#b")],
        *[entry("/echo/../echo/a"), entry("/echo/%2e"), entry("/echo/%"), entry("/echo/%ff"), entry("/echo/%0a")],
        *[entry("/echo/a b"), entry("/echo/\\"), entry("/echo/" + "a" * 2000)],
        *[entry("/echo/a", "options"), entry("/echo/a", " get"), entry("/echo/a", headers={"a": "b"})],
        *[entry("/echo/a", "post", data=[]), entry("/echo/a", data={"a": {}}), entry("/echo/a", data={"a": [[]]})],
        *[entry("/echo/a", data={"limit": 1}), entry("/echo/a", data={"opt_fields": "a"})],
        *[entry("/echo/a", options=[]), entry("/echo/a", options={"limit": "1"}), entry("/echo/a", options={"fields": [1]})],
        *[entry("/echo/a", relative_paths=1, a=2)],
    ],
}
no_actions = strings | numbers | json_texts.map("[{}]".format) | json_texts.map('{{"x": {}}}'.format)
crowds = st.lists(
    st.sampled_from(list(CROWD)).flatmap(lambda status: st.tuples(st.sampled_from(CROWD[status]), st.just(status)))
    | st.tuples(no_actions, st.just(400)),
    min_size=1,
    max_size=10,
)


async def posted(app: ASGIApp, texts: list[str]) -> tuple[list[bytes], list[bytes]]:
    """The results of a batch of these actions, each as it stands in the answer, and the cookies that the batch sets."""
    content = '{"data": {"actions": [' + ",".join(texts) + "]}}"
    answer = await request(app, "POST", "/batch", headers=[(b"host", b"api.example"), JSON], body=content.encode())
    assert answer.status == 200
    return [bytes(raw) for raw in decode_answer(answer.body)["data"]], answer.all(b"set-cookie")


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=80)
@given(actions=crowds)
def test_an_action_has_the_result_that_it_has_in_a_batch_of_its_own_whatever_its_neighbours(
    backend: str, actions: list[tuple[str, int]]
) -> None:
    async def both() -> None:
        app = crowd()
        results, cookies = await posted(app, [text for text, _ in actions])
        alone = [await posted(app, [text]) for text, _ in actions]
        # Each has its path by now.
        assert cookies == sent_on([("", cookie) for _, own in alone for cookie in own])
        for index, (result, (_, status), ((own,), _)) in enumerate(zip(results, actions, alone, strict=True)):
            assert json.loads(bytes(decode_result(own)["status_code"])) == status
            assert result == own.replace(b"data.actions[0]", b"data.actions[%d]" % index)

    anyio.run(both, backend=backend)


@pytest.mark.anyio
async def test_good_actions_between_malformed_ones_reach_their_own_handlers_with_their_own_bodies() -> None:
    received: dict[str, Any] = {}

    def keeps(name: str) -> Route:
        @batchable
        async def endpoint(request: Request) -> Response:
            received[name] = await request.json()
            return JSONResponse({"name": name, "got": received[name]})

        return Route(f"/{name}", endpoint, methods=["POST"])

    app = BatchEndpoint().mount_to(Starlette(routes=[keeps("first"), keeps("second"), keeps("third")]))
    results = await batch(
        app,
        action("/first", "post", data={"n": 1}),
        action("/second", "post", data={"n": "malformed"}, headers={}),
        action("/second", "post", data={"n": 2}),
        {"relative_path": "/third", "data": {"n": "malformed"}},
        action("/third", "post", data={"n": 3}),
    )
    assert [result["status_code"] for result in results] == [200, 400, 200, 400, 200]
    assert [result["body"] for result in results[::2]] == [
        {"name": "first", "got": {"data": {"n": 1}}},
        {"name": "second", "got": {"data": {"n": 2}}},
        {"name": "third", "got": {"data": {"n": 3}}},
    ]
    assert messages(results[1]) == [
        "data.actions[1].headers: Unrecognized key; the allowed keys are: relative_path, method, data, options"
    ]
    assert messages(results[3]) == ["data.actions[3].method: Missing input"]
    assert received == {"first": {"data": {"n": 1}}, "second": {"data": {"n": 2}}, "third": {"data": {"n": 3}}}


@pytest.mark.anyio
async def test_ten_actions_that_wait_for_each_other_at_a_barrier_of_ten_all_come_back_200() -> None:
    arrived: list[str] = []
    everyone = anyio.Event()

    @batchable
    async def waits(request: Request) -> Response:
        arrived.append(request.path_params["key"])
        if len(arrived) == 10:
            everyone.set()
        await everyone.wait()
        return JSONResponse({"key": request.path_params["key"]})

    # Actions that run one after the other would be 504 then, instead of a test that never ends.
    app = BatchEndpoint(action_timeout=5).mount_to(Starlette(routes=[Route("/waits/{key}", waits)]))
    results = await batch(app, *[action(f"/waits/{number}") for number in range(10)])
    assert [(result["status_code"], result["body"]) for result in results] == [(200, {"key": str(n)}) for n in range(10)]
    assert sorted(arrived) == [str(n) for n in range(10)]


# What the properties have found, an example of each.


async def pair(app: ASGIApp, path: str, method: str = "get") -> tuple[tuple[int, str], tuple[int, str]]:
    """Status and body of a request alone, and of the same request in a batch."""
    alone = await request(app, method.upper(), path, headers=[(b"host", b"api.example")])
    (result,), _ = await posted(app, [entry(path, method)])
    document = json.loads(result)
    return (alone.status, alone.body.decode()), (document["status_code"], document["body"])


async def where(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return PlainTextResponse(f"{request.url_for('home')} {request.path_params}", exc.status_code)


async def plain(request: Request) -> Response:
    return PlainTextResponse("ran")


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "method"), [("/x/inner/a/b", "get"), ("/x/routes/a/b", "get"), ("/items/a", "post")])
async def test_the_hosts_handlers_of_404_and_405_see_what_they_see_alone(path: str, method: str) -> None:
    """ "what the host's own 404 or 405 handler answers": links to the host's routes, and the parameters of the path so far."""
    inner = Starlette(routes=[Route("/{key}", plain)], exception_handlers={404: where})
    app = Starlette(
        routes=[
            Route("/", plain, name="home"),
            Route("/items/{key}", plain),
            Mount("/{tenant}/inner", app=inner),
            Mount("/{tenant}/routes", routes=[Route("/{key}", plain)]),
        ],
        exception_handlers={404: where, 405: where},
    )
    alone, together = await pair(BatchEndpoint(policy="all").mount_to(app), path, method)
    assert together == alone


@pytest.mark.anyio
async def test_a_path_that_only_misses_its_slash_is_redirected_even_where_that_leads_nowhere() -> None:
    app = Starlette(routes=[Route("/batch", BatchEndpoint(policy="all")), Mount("/tree", routes=[Route("/{key}", plain)])])
    alone, together = await pair(app, "/tree")
    assert alone[0] == 307
    assert together[0] == 307


@pytest.mark.anyio
async def test_gzip_in_several_members_is_undone() -> None:
    async def members(request: Request) -> Response:
        content = gzip.compress(b"one, ") + gzip.compress(b"two")
        return Response(content, headers={"content-encoding": "gzip"}, media_type="text/plain")

    (result,) = await batch(BatchEndpoint(policy="all").mount_to(Starlette(routes=[Route("/", members)])), action("/"))
    assert result["body"] == "one, two"


@pytest.mark.anyio
async def test_who_instruments_the_handle_of_routes_sees_actions_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracers replace ``Route.handle`` to name a request by its route: an action has that name too."""
    handle = Route.handle

    async def traced(route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        async def named(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": f"{route.path}: ".encode() + message["body"]}
            elif message["type"] == "http.response.start":
                message = {**message, "headers": [(b"content-type", b"text/plain")]}
            await send(message)

        await handle(route, scope, receive, named if route.path != "/batch" else send)

    monkeypatch.setattr(Route, "handle", traced)
    app = Starlette(routes=[Route("/items/{key}", plain)])
    alone, together = await pair(BatchEndpoint(policy="all").mount_to(app), "/items/a")
    assert together == alone == (200, "/items/{key}: ran")
