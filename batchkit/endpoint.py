"""BatchEndpoint: the straight line from one POST to its results, and the ways to mount it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable
from contextvars import Context
from functools import partial
from types import SimpleNamespace
from typing import TypeVar

from starlette.applications import Starlette
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit._checks.keywords import suggesting
from batchkit._protocol.answer import encode, encode_error
from batchkit._protocol.headers import line_type
from batchkit._protocol.paths import parent
from batchkit._protocol.request import decode
from batchkit._protocol.scope import Frame, frame
from batchkit._routing.allow_list import allow_list
from batchkit._routing.fastapi import SIGNATURE, show_in_fastapi
from batchkit._routing.guard import Guards
from batchkit._routing.marks import MarkedApp, not_batchable
from batchkit._routing.resolve import Resolver
from batchkit._routing.table import routed
from batchkit._routing.templates import check_template
from batchkit._running.admission import FREE, admit
from batchkit._running.charging import Answered
from batchkit._running.dispatch import Dispatch, collect, enter
from batchkit._running.lines import Lines
from batchkit._running.reading import ClientGone, read
from batchkit._running.uploading import Upload, Uploading
from batchkit.client_js import asks_for_client, client
from batchkit.console import asks_for_page, page
from batchkit.errors import BatchError
from batchkit.model import Batch
from batchkit.openapi import in_one_piece
from batchkit.settings import Settings

__all__ = ["BatchEndpoint"]

logger = logging.getLogger("batchkit")

HostApp = TypeVar("HostApp", bound="Starlette | Router")


@not_batchable
class BatchEndpoint(Settings):
    """A ``POST /batch`` for an ASGI app, as Asana has it: up to ten actions in one request, each run as a request of its own.

    A plain ASGI app; ``mount_to`` is the way to put it into a Starlette or FastAPI app. Its keywords are all its
    configuration, see ``Settings`` for their checks:

    ``host``: the app that actions are sent to; default: the app it is mounted to. If that is wrapped after its construction, name
    the outermost, ``Auth(app)``, or actions skip ``Auth``. If it is mounted in another app, name that one, or a batch is a
    RuntimeError; middleware around that one must keep what it wraps as its ``app``.
    ``base_path``: what ``relative_path`` is relative to; default: the parent of the batch URL.
    ``dialect``: ``"asana"``: bodies in a ``data`` envelope, ``opt_fields``; or ``"plain"``.
    ``policy``: ``"marked"``: only routes marked ``@batchable`` run; ``"all"``: all but ``@not_batchable`` and ``exclude``.
    ``exclude``: route templates, ``[METHOD ]template``, ``/*`` at the end for all below.
    ``allow``: for a host that is neither Starlette nor FastAPI, with ``host`` and ``base_path``: the templates of what may run.
    ``cost_hook``: an async function of a ``Batch``, or an async context manager of it, called once before anything runs.
    ``plugins``: what watches batches and actions, see ``Plugin``.
    ``max_actions``: of one batch.
    ``max_concurrency``: how many actions of one batch work at a time, in order; default: all.
    ``max_body_size``: of the whole POST, in bytes.
    ``max_result_size``: of one result, in bytes: as it is sent, and as it stands in the answer (base64 is a third larger).
    ``action_timeout``: seconds until an action is answered 504.
    ``limiter_timeout``: seconds that the cost hook has for its answer.
    ``limiter_errors``: what becomes of a batch whose hook fails or does not answer in time: ``"refuse"``: 503, nothing runs;
    ``"allow"``: it runs uncharged, and that is logged.
    ``require_json``: ``False`` takes other media types too, and with them forged cross-site form posts.
    ``result_headers``: header fields that results show besides the usual ones, or ``"*"``.
    ``withhold``: header fields of the POST that actions do not get, besides the usual ones; ``_`` is read as ``-``.
    ``scope_keys``: keys that your server adds to the scope, ``"aws.event"`` say, and that actions get too: the very same objects.
    ``help``: a text for the ``help`` of every error.
    ``console``: ``True`` answers a browser's GET with a page to compose batches, run them and see how their actions ran.
    ``client_js``: ``True`` answers a GET with the query ``client.js`` with a JavaScript module whose ``fetch`` batches.
    ``server_timing``: whether the answer says in ``Server-Timing`` when each action started and how long it took; default: as
    ``console``.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        # Middleware of hosts, SlowAPI's for one, reads the name of whatever a route leads to.
        self.__name__ = "batch"
        self.__signature__ = SIGNATURE
        self._mounted_to: Starlette | Router | None = None
        self._hosts: dict[int, tuple[Resolver, Guards | None]] = {}
        self._around_actions: ASGIApp | None = None
        for plugin in reversed(self.plugins):
            if hasattr(plugin, "action"):
                self._around_actions = plugin.action(self._around_actions or enter)
                if not callable(self._around_actions):
                    raise TypeError(f"plugins: {plugin!r}: its action(app) returned {self._around_actions!r}: return an ASGI app")
        self.uploads: list[Callable[[Scope], Upload]] = []
        # A limiter that direct requests meet as well is told which endpoint's own POST costs nothing.
        if (free := getattr(self.cost_hook, "free", None)) is not None:
            free(self)

    @suggesting
    def mount_to(self, app: HostApp, path: str = "/batch") -> HostApp:
        """Serve batches at exactly ``path`` of ``app``, a Starlette or FastAPI app or a Router, and return ``app``.

        Actions then start with the lifespan state and nothing else as ``request.state``, and a guard at the host's router
        refuses an action whose path, method or host a middleware has changed (contract sections 2 and 4).

        Raises TypeError for another kind of app, ValueError for a path that no request can have or that is a route already,
        or with ``allow``, RuntimeError for a second mount.
        """
        if isinstance(app, MarkedApp):
            raise TypeError(f"mount_to: {app.ADVICE}")
        if not isinstance(app, Starlette | Router):
            raise TypeError(f"mount_to: {app!r} is no Starlette app and no Router; mount the endpoint by hand with host=…")
        if self._mounted_to is not None:
            raise RuntimeError("mount_to: this BatchEndpoint is already mounted; make a second one")
        if not isinstance(path, str) or not re.fullmatch(r"/[^?#\s]+", path):
            raise ValueError(f"mount_to: {path!r}: give a path like '/batch'")
        check_template("mount_to", path)
        if self.allowed:
            raise ValueError(f"mount_to: allow={self.allow!r} is for other hosts: mark the routes of this one with @batchable")
        router = _router(app)
        if isinstance(app, Starlette) and app.middleware_stack is not None:
            logger.warning(
                "mount_to: the app has started, so actions will not have its lifespan state, nor a Limiter its connections: "
                "call mount_to where the app is made"
            )
        # A router of FastAPI's has its path operations below that.
        prefix: str = getattr(router, "prefix", "")
        if any(isinstance(route, Route) and route.path == prefix + path for route in router.routes):
            raise ValueError(f"mount_to: {path!r} is a route already: give another path")
        # Around the app there may be middleware of its own, which does not say what it leads to.
        host = app if self.host is None else routed(self.host) or app
        base_path = parent(prefix + path) if self.base_path is None else self.base_path
        # Below a mount, its prefix is known only by each request.
        self._hosts[id(app if self.host is None else self.host)] = self._guarded(host, base_path if host is app else None)
        # First, so that no catch-all of the host can take its path.
        router.routes.insert(0, Route(prefix + path, self))
        if hasattr(router, "add_api_route"):
            show_in_fastapi(router, path, self, whole=router is not app)
        self._mounted_to = app
        return app

    @property
    def post(self) -> object:
        """Where Starlette's ``SchemaGenerator`` finds what the POST does: the docstring of this, in YAML."""
        return SimpleNamespace(__doc__=json.dumps(in_one_piece(self)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("A BatchEndpoint has no lifespan: serve the app that it is mounted to: mount_to(app, '/batch')")
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        try:
            await self._run(scope, receive, send)
        except BatchError as error:
            await self._refuse(send, error)
        except (ClientGone, Answered):
            return

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.client_js and asks_for_client(scope):
            await client(scope)(scope, receive, send)
            return
        if self.console and asks_for_page(scope):
            await self._show(scope, send)
            return
        if not self.uploads:
            await self._answer(Batch(scope, decode(await read(scope, receive, self, None), self)), receive, send, None)
            return
        async with Uploading(scope, self.uploads, self) as upload:
            actions = decode(await read(scope, receive, self, upload), self)
            await self._answer(Batch(scope, actions, uploads=upload.uploads), receive, send, upload)

    async def _answer(self, batch: Batch, receive: Receive, send: Send, upload: Uploading | None) -> None:
        scope = batch.scope
        media_type = line_type(scope)
        lines = Lines(batch, media_type, send, self) if media_type else None
        resolver, guards = self._host_of(scope)
        resolver.resolve(batch, self._frame(scope, guards, in_lines=lines is not None))
        context = Context() if guards is None else guards.context.copy()
        dispatch = Dispatch(batch, self._around_actions, receive, self, context, lines)
        async with lines or FREE, admit(batch, self, partial(self._refuse, send)):
            if upload is not None:
                upload.end()
            async with dispatch as running:
                await collect(running)
                if lines is None:
                    content, fields = encode(batch.actions, self)
                    if self.server_timing:
                        fields.append(running.timing())
                    await _send(send, 200, content, fields)
                running.log()

    async def _refuse(self, send: Send, error: BatchError) -> None:
        await _send(send, error.status_code, encode_error(error, self), error.raw_headers)

    async def _show(self, scope: Scope, send: Send) -> None:
        resolver, guards = self._host_of(scope)
        await _send(
            send, 200, *page(resolver.may_run(), self._frame(scope, guards), self), media_type=b"text/html; charset=utf-8"
        )

    def _frame(self, scope: Scope, guards: Guards | None, *, in_lines: bool = False) -> Frame:
        in_host = self._mounted_to is not None and self.host in (None, self._mounted_to)
        state = guards.state if guards is not None and self._mounted_to is not None else None
        return frame(
            *(scope, state, self.base_path),
            nested=not in_host,
            in_lines=in_lines,
            withheld=self.withheld,
            scope_keys=self.inherited,
        )

    def _guarded(self, host: Starlette | Router, base_path: str | None = None) -> tuple[Resolver, Guards]:
        guards = Guards(self, lambda: resolver.log(base_path))
        resolver = Resolver(host if self.host is None else self.host, self, routes=host, guards=guards)
        return resolver, guards

    def _host_of(self, scope: Scope) -> tuple[Resolver, Guards | None]:
        """Where the actions of this batch go, and the guards that stand there."""
        app = self.host
        if app is None:
            app = self._mounted_to or scope.get("app")
            # A router of another app would let actions past that one's middleware.
            if isinstance(app, Starlette | Router) and not (scope.get("router") is _router(app) and scope.get("app", app) is app):
                app = None
        elif isinstance(inner := routed(app), Router) and getattr(scope.get("app"), "router", None) is inner:
            raise RuntimeError("host= is the router of an app, whose middleware actions would pass by: give the app itself")
        known = self._hosts.get(id(app))
        if known is not None and (isinstance(app, Starlette | Router) or not _came_past(known[0], scope)):
            return known
        # Mounted by hand: the host is known from its first batch on.
        inner = routed(app) if not self.allowed else None
        if inner is not None and (inner is app or scope.get("router") is _router(inner)):
            known = self._hosts[id(app)] = self._guarded(inner)
            return known
        if self.host is None or not self.allowed:
            raise RuntimeError(
                "batchkit cannot tell which app its actions should go to: mount_to the outermost app, or name it, with all its "
                "middleware, each of which shows what it leads to as its app: BatchEndpoint(host=app, …); for a host that is "
                "neither Starlette nor FastAPI add base_path= and allow=, the templates of what may run"
            )
        resolver = Resolver(self.host, self, routes=allow_list(self.allowed), guards=None)
        known = self._hosts[id(app)] = resolver, None
        return known


def _came_past(resolver: Resolver, scope: Scope) -> bool:
    """Whether a batch came through another app than the guarded one: so may what middleware that is named as host leads to."""
    router = scope.get("router")
    return isinstance(router, Router) and router is not resolver.table.router


def _router(app: Starlette | Router) -> Router:
    return app.router if isinstance(app, Starlette) else app


async def _send(
    send: Send,
    status: int,
    content: bytes,
    fields: Iterable[tuple[bytes, bytes]],
    media_type: bytes = b"application/json; charset=utf-8",
) -> None:
    headers = [
        (b"content-type", media_type),
        (b"content-length", b"%d" % len(content)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *fields,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
