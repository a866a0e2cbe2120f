"""LimitMiddleware: the limiter of direct requests, which counts them as it counts actions (contract section 3)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchkit.admission import Charged
from batchkit.app import BatchEndpoint
from batchkit.errors import BatchError
from batchkit.keywords import suggesting
from batchkit.limiter.admission import Admission
from batchkit.limiter.limiter import Limiter
from batchkit.marks import Mark
from batchkit.matching import FULL
from batchkit.model import RUNNING, current_action
from batchkit.routes import Entry, Found, Table, find, routed
from batchkit.settings import LIMITER_ERRORS, Settings, check_choice, check_seconds

__all__ = ["LimitMiddleware"]

logger = logging.getLogger("batchkit")

UNMARKED = Mark()


@suggesting
class LimitMiddleware:
    """Pure ASGI middleware that asks ``limiter`` for each HTTP request; what it refuses is answered 429.

    An action that the limiter has charged as part of its batch is not charged again, and the POST of a batch endpoint whose
    ``cost_hook`` is the limiter costs nothing: told by where the host's routes lead, not by its path. The ``cost`` and ``limit``
    of ``@batchable`` hold for direct requests too. A slot is taken until the app has done its work. Websockets pass.

    ``limiter_timeout`` and ``limiter_errors`` as for ``BatchEndpoint``; ``help`` is the text for the ``help`` of its errors.

    Put it inside what checks the client and what rewrites paths, as middleware of the app that the batch endpoint is mounted to.
    For a host that is neither Starlette nor FastAPI it cannot tell the endpoint, so a batch costs one more, and limits with
    ``routes`` or ``limit`` raise RuntimeError. Raises TypeError or ValueError for wrong arguments.
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
        if isinstance(app, type) or not callable(app):
            raise TypeError(f"app={app!r}: give an ASGI app")
        if not isinstance(limiter, Limiter):
            raise TypeError(f"limiter={limiter!r}: give a Limiter")
        check_seconds("limiter_timeout", limiter_timeout)
        check_choice("limiter_errors", limiter_errors, LIMITER_ERRORS)
        if not isinstance(help, str | None):
            raise TypeError(f"help={help!r}: give a text, or None")
        self.app = app
        self.limiter = limiter
        self.limiter_timeout = limiter_timeout
        self.limiter_errors = limiter_errors
        self.help = help
        self._table: Table | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            table = self._read(scope)

            async def tell(message: Message) -> None:
                if message["type"] == "lifespan.startup.complete" and table is not None:
                    # The app may have added routes until now.
                    self._warn(table, mounted=False)
                await send(message)

            async with self.limiter:
                await self.app(scope, receive, tell)
            return
        if scope["type"] != "http" or self._is_charged(scope, receive, send):
            await self.app(scope, receive, send)
            return
        found = self._find(scope)
        if found is not None and scope["method"] == "POST" and self._is_free(found):
            await self.app(scope, receive, send)
            return
        route = found.entry.template if found is not None and found.entry is not None else None
        mark = _mark(found, scope["method"])

        def charge() -> Admission:
            return self.limiter.request(scope, route, mark.cost, mark.limit)

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

    def _warn(self, table: Table, *, mounted: bool) -> None:
        try:
            for sentence in self._advice(table, mounted):
                logger.warning("LimitMiddleware: %s", sentence)
        except Exception:
            # It looks into whatever the host is made of, and must not keep it from answering.
            logger.debug("The set-up could not be looked through", exc_info=True)

    def _advice(self, table: Table, mounted: bool) -> Iterator[str]:
        entries = list(table.leaves())
        if mounted and self._is_elsewhere(table, entries):
            yield (
                "the batch endpoint that asks this limiter is in another app, and routes= of its limits is for that one's: add "
                "the middleware there, and not below it"
            )
            return
        yield from self.limiter.unmet(entries)
        for entry in entries:
            if isinstance(entry.endpoint, BatchEndpoint) and not self._asked_by(entry.endpoint):
                yield (
                    f"the batch endpoint at {entry.template} does not ask this limiter, so its actions are counted one by one as "
                    "they run: give it cost_hook=limiter, or where its hook asks the limiter, say limiter.free(endpoint)"
                )

    def _is_elsewhere(self, table: Table, entries: Sequence[Entry]) -> bool:
        """Whether batches are counted by the templates of another app."""
        hosts = [routed(getattr(endpoint, "host", None)) for endpoint in self.limiter.endpoints]
        return (
            any(limit.rules for limit in self.limiter.limits)
            and bool(hosts)
            and not any(self._asked_by(layer) for entry in entries for layer in (entry.endpoint, *entry.around))
            and not any(getattr(host, "router", host) is table.source for host in hosts)
        )

    def _asked_by(self, endpoint: object) -> bool:
        return any(endpoint is each for each in self.limiter.endpoints)

    def _is_charged(self, scope: Scope, receive: Receive, send: Send) -> bool:
        action = current_action(scope)
        if action is None and (running := RUNNING.get()) is not None and running.carries(scope, receive, send):
            # A middleware has built the scope anew.
            action = running.action
        # What goes on after its action has ended was not charged with it.
        return action is not None and action.scope is not None and any(each is self.limiter for each in action.charged_by)

    def _is_free(self, found: Found) -> bool:
        entry = found.entry
        if entry is None or found.match is not FULL:
            return False
        layers = (entry.endpoint, *(entry.below.around if entry.below is not None else ()))
        return any(self._asked_by(layer) for layer in layers)

    def _find(self, scope: Scope) -> Found | None:
        """Where the request ends, None where that cannot be told."""
        table = self._table
        if table is None:
            table = self._read(scope)
            if table is None:
                return None
            # In a mount, or on a server that sends no lifespan, there was no start to tell it at.
            self._warn(table, mounted="app_root_path" in scope)
        try:
            table.refresh()
            found = find(table, {"root_path": "", **scope})
        except Exception:
            # A convertor of the host may fail on what a client sends: the host's own answer will say so.
            logger.debug("The route of a request cannot be told", exc_info=True)
            return None
        return None if found.error is not None else found

    def _read(self, scope: Scope) -> Table | None:
        host = routed(self.app) or scope.get("app")
        if isinstance(host, Starlette | Router):
            router = host.router if isinstance(host, Starlette) else host
            self._table = Table(router, Settings())
        elif any(limit.routes is not None or limit.limit is not None for limit in self.limiter.limits):
            raise RuntimeError(
                "LimitMiddleware: limits with routes or limit need a Starlette or FastAPI app, whose routes can be read"
            )
        return self._table


def _mark(found: Found | None, method: str) -> Mark:
    if found is None or found.match is not FULL or found.entry is None:
        return UNMARKED
    return found.entry.verdict(method).mark or UNMARKED
