"""LimitMiddleware: the limiter of direct requests, which counts them as it counts actions (protocol.md#admission)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit._arguments import check_choice, check_seconds
from batchkit._checks.settings import LIMITER_ERRORS
from batchkit._record import record_of
from batchkit._routing.lifespan import telling
from batchkit._routing.standard import departure
from batchkit._routing.table import Entry, Table, routed
from batchkit._running.charging import Charged
from batchkit.endpoint import BatchEndpoint
from batchkit.errors import BatchError
from batchkit.limiter.decision import Admission
from batchkit.limiter.ends import End, ends
from batchkit.limiter.limiter import EARLY, Limiter
from batchkit.settings import Settings

__all__ = ["LimitMiddleware"]

logger = logging.getLogger("batchkit")

# Where a host's routes cannot be read.
ANYWHERE = (End(None, below=True),)


class LimitMiddleware:
    """Pure ASGI middleware that asks ``limiter`` for each HTTP request; what it refuses is answered 429.

    An action that the limiter has charged as part of its batch is not charged again, and the POST of a batch endpoint whose
    ``cost_hook`` is the limiter costs nothing: told by where the host's routes lead, not by its path. The ``cost`` and ``limit``
    of ``@batchable`` hold for direct requests too. A slot is taken until the app has done its work. Websockets pass.

    ``limiter_timeout`` and ``limiter_errors`` as for ``BatchEndpoint``; ``help`` is the text for the ``help`` of its errors.

    Put it inside what checks the client and what rewrites paths, as middleware of the app that the batch endpoint is mounted to.
    Where it cannot tell the route of a request (a mounted app whose routes cannot be read, a route or router with rules of its
    own, a host that is neither Starlette nor FastAPI), the request counts against every limit that could cover it, which is
    logged; for such a host a batch costs one more. Raises TypeError or ValueError for wrong arguments.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limiter: Limiter,
        limiter_timeout: float = 1.0,
        limiter_errors: str = "refuse",
        help: str | None = None,
    ) -> None:
        check_seconds("limiter_timeout", limiter_timeout)
        check_choice("limiter_errors", limiter_errors, LIMITER_ERRORS)
        self.app = app
        self.limiter = limiter
        limiter.in_middleware = True
        self.limiter_timeout = limiter_timeout
        self.limiter_errors = limiter_errors
        self.help = help
        self._table: Table | None = None
        self._host: Starlette | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            if (table := self._read(scope)) is not None:
                send = telling(send, partial(self._warn, table))
            async with self.limiter:
                await self.app(scope, receive, send)
            return
        if scope["type"] != "http" or self._is_charged(scope, receive, send):
            await self.app(scope, receive, send)
            return
        places = self._ends(scope)
        if scope["method"] == "POST":
            places = [end for end in places if end.entry is None or not self._is_own_post(end.entry)]
            if not places:
                if "user" not in scope:
                    scope[EARLY] = self.limiter
                await self.app(scope, receive, send)
                return

        def charge() -> Admission:
            return self.limiter.request(scope, places)

        running = False
        try:
            async with Charged(charge, self.limiter_timeout, self.limiter_errors, lambda: f"a {scope['method']} request"):
                running = True
                await self.app(scope, receive, send)
        except BatchError as error:
            if running:
                raise
            headers = {**error.headers, "cache-control": "no-store"}
            content = error.content(self.help)
            response = Response(content, error.status_code, headers, "application/json; charset=utf-8")
            await response(scope, receive, send)

    def _warn(self, table: Table) -> None:
        try:
            for sentence in self._advice(table):
                logger.warning("LimitMiddleware: %s", sentence)
        except Exception:
            # It looks into whatever the host is made of, and must not keep it from answering.
            logger.debug("The set-up could not be looked through", exc_info=True)

    def _advice(self, table: Table) -> Iterator[str]:
        entries = list(table.leaves())
        yield from self.limiter.unmet(entries)
        for entry in entries:
            if isinstance(entry.endpoint, BatchEndpoint) and not self._asked_by(entry.endpoint):
                yield (
                    f"the batch endpoint at {entry.template} does not ask this limiter, so its actions are counted one by one as "
                    "they run: give it cost_hook=limiter, or where its hook asks the limiter, say limiter.free(endpoint)"
                )

    def _asked_by(self, endpoint: object) -> bool:
        return any(endpoint is each for each in self.limiter.endpoints)

    def _is_charged(self, scope: Scope, receive: Receive, send: Send) -> bool:
        action = record_of(scope, receive, send)
        # What goes on after its action has ended was not charged with it.
        return action is not None and action.scope is not None and any(each is self.limiter for each in action.charged_by)

    def _is_own_post(self, entry: Entry) -> bool:
        layers = (entry.endpoint, *(entry.below.around if entry.below is not None else ()))
        return any(self._asked_by(layer) for layer in layers)

    def _ends(self, scope: Scope) -> Sequence[End]:
        """Where the request may end."""
        table = self._table
        if table is None:
            table = self._read(scope)
            if table is None:
                return ANYWHERE
            # In a mount, or on a server that sends no lifespan, there was no start to tell it at.
            self._warn(table)
        app = self._host
        if app is not None and scope.get("app") is not app and departure(app) is not None:
            # It stands between this and its routes.
            return ANYWHERE
        try:
            # That of a FastAPI app goes before all others.
            return list(ends(table, {**scope, "root_path": getattr(app, "root_path", "") or scope.get("root_path", "")}))
        except Exception:
            logger.debug("The route of a request cannot be told", exc_info=True)
            return ANYWHERE

    def _read(self, scope: Scope) -> Table | None:
        host = routed(self.app) or scope.get("app")
        if isinstance(host, Starlette | Router):
            router = host.router if isinstance(host, Starlette) else host
            self._table = Table(router, Settings())
            self._host = host if isinstance(host, Starlette) else None
        return self._table
