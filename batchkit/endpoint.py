"""BatchEndpoint: the straight line from one POST to its results."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import fields
from functools import partial
from inspect import signature
from types import SimpleNamespace
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from starlette.applications import Starlette
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit._arguments import nearest
from batchkit._checks.mounting import check_mount
from batchkit._checks.settings import checked
from batchkit._checks.startup import announce
from batchkit._checks.toml import KeywordFile
from batchkit._protocol.answer import encode, encode_error
from batchkit._protocol.headers import line_type
from batchkit._protocol.request import decode
from batchkit._record import Record
from batchkit._routing.fastapi_description import SIGNATURE
from batchkit._routing.marks import not_batchable
from batchkit._routing.mounting import Hosts
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

HostApp = TypeVar("HostApp", bound="Starlette | Router")
P = ParamSpec("P")

KEYWORDS = [each.name for each in fields(Settings) if each.init]


def _keywords_of(record: Callable[P, object]) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Give a method the keywords of ``record``, for type checkers, editors and ``help``: they stand in one place."""

    def give(method: Any) -> Callable[Concatenate[Any, P], None]:
        own = next(iter(signature(method).parameters.values()))
        method.__signature__ = signature(record).replace(
            parameters=[own, *signature(record).parameters.values()], return_annotation=None
        )
        typed: Callable[Concatenate[Any, P], None] = method
        return typed

    return give


@not_batchable
class BatchEndpoint:
    """A ``POST /batch`` for an ASGI app, as Asana has it: up to ten actions in one request, each run as a request of its own.

    A plain ASGI app; ``mount_to`` is the way to put it into a Starlette or FastAPI app. Its keywords are all its configuration,
    and stand in its ``settings``. Raises TypeError or ValueError naming the keyword and saying what would do.

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

    @_keywords_of(Settings)
    def __init__(self, **keywords: Any) -> None:
        for keyword in keywords:
            if keyword not in KEYWORDS:
                raise TypeError(f"BatchEndpoint: unexpected keyword argument {keyword!r}: {nearest(keyword, KEYWORDS)}")
        self.settings = settings = checked(Settings(**keywords))
        # Middleware of hosts, SlowAPI's for one, reads the name of whatever a route leads to.
        self.__name__ = "batch"
        self.__signature__ = SIGNATURE
        self._hosts = Hosts(settings, announce)
        self._around_actions: ASGIApp | None = None
        for plugin in reversed(tuple(settings.plugins)):
            if hasattr(plugin, "action"):
                self._around_actions = plugin.action(self._around_actions or enter)
                if not callable(self._around_actions):
                    raise TypeError(f"plugins: {plugin!r}: its action(app) returned {self._around_actions!r}: return an ASGI app")
        self.uploads: list[Callable[[Scope], Upload]] = []
        # A limiter that direct requests meet as well is told which endpoint's own POST costs nothing.
        if (free := getattr(settings.cost_hook, "free", None)) is not None:
            free(self)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], **overrides: Any) -> Self:
        """The endpoint whose keywords stand in a TOML file: in ``[tool.batchkit]``, as in a pyproject.toml, or in ``[batchkit]``.

        ``host``, ``cost_hook`` and each of the ``plugins`` are named there as ``"module:name"``. What is given here as well wins,
        and is not looked up. A relative ``path`` begins in the working directory.

        Raises OSError, ImportError, TypeError or ValueError, naming the file, the table and the key.
        """
        table = KeywordFile(path, KEYWORDS)
        keywords = {key: table.value(key) for key in table.values if key not in overrides}
        try:
            return cls(**keywords, **overrides)
        except (TypeError, ValueError) as error:
            # Each begins with the keyword that is wrong.
            if re.split(r"\W", str(error))[0] in keywords:
                raise type(error)(f"{table.place}: {error}") from None
            raise

    def mount_to(self, app: HostApp, path: str = "/batch") -> HostApp:
        """Serve batches at exactly ``path`` of ``app``, a Starlette or FastAPI app or a Router, and return ``app``.

        Actions then start with the lifespan state and nothing else as ``request.state``, and a guard at the host's router
        refuses an action whose path, method or host a middleware has changed (protocol.md#an-action, protocol.md#running).

        Raises TypeError for another kind of app, ValueError for a path that no request can have or that is a route already,
        or with ``allow``, RuntimeError for a second mount.
        """
        check_mount(self, app, path)
        self._hosts.mount(self, app, path)
        return app

    @property
    def post(self) -> object:
        """Where Starlette's ``SchemaGenerator`` finds what the POST does: the docstring of this, in YAML."""
        return SimpleNamespace(__doc__=json.dumps(in_one_piece(self.settings)))

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
        settings = self.settings
        if settings.client_js and asks_for_client(scope):
            await client(scope)(scope, receive, send)
            return
        if settings.console and asks_for_page(scope):
            await self._show(scope, send)
            return
        if not self.uploads:
            await self._answer(scope, decode(await read(scope, receive, settings, None), settings), receive, send, None)
            return
        async with Uploading(scope, self.uploads, settings) as upload:
            actions = decode(await read(scope, receive, settings, upload), settings)
            await self._answer(scope, actions, receive, send, upload)

    async def _answer(
        self, scope: Scope, actions: Sequence[Record], receive: Receive, send: Send, upload: Uploading | None
    ) -> None:
        settings = self.settings
        batch = Batch(scope, actions, uploads=() if upload is None else upload.uploads)
        media_type = line_type(scope)
        lines = Lines(batch, media_type, send, settings) if media_type else None
        host = self._hosts.of(scope)
        host.resolver.resolve(actions, self._hosts.frame(host, scope, in_lines=lines is not None))
        context = Context() if host.guards is None else host.guards.context.copy()
        dispatch = Dispatch(batch, actions, self._around_actions, receive, settings, context, lines)
        async with lines or FREE, admit(batch, settings, partial(self._refuse, send)):
            if upload is not None:
                upload.end()
            async with dispatch as running:
                await collect(running)
                if lines is None:
                    content, fields = encode(actions, settings)
                    if settings.server_timing:
                        fields.append(running.timing())
                    await _send(send, 200, content, fields)
                running.log()

    async def _refuse(self, send: Send, error: BatchError) -> None:
        await _send(send, error.status_code, encode_error(error, self.settings), error.raw_headers)

    async def _show(self, scope: Scope, send: Send) -> None:
        host = self._hosts.of(scope)
        may_run = [(method, entry.template) for method, entry in host.resolver.table.may_run()]
        content, fields = page(may_run, self._hosts.frame(host, scope), self.settings)
        await _send(send, 200, content, fields, media_type=b"text/html; charset=utf-8")


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
