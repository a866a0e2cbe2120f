"""Action → the host's route and its mark: pure, never awaits, fails closed (protocol.md#which-action-may-run)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.routing import Router
from starlette.types import ASGIApp

from batchkit._protocol.answer import error_result
from batchkit._protocol.dialects import DIALECTS
from batchkit._protocol.scope import Frame
from batchkit._record import Record
from batchkit._routing.fastapi import has_low_priority_routes
from batchkit._routing.find import Found, find
from batchkit._routing.guard import Guards
from batchkit._routing.matching import FULL
from batchkit._routing.table import Table
from batchkit.errors import MAY_NOT_RUN, InvalidAction, NotBatchable
from batchkit.settings import Settings

__all__ = ["Resolver"]

logger = logging.getLogger("batchkit")


class Resolver:
    """Resolves actions that are sent to ``app`` against ``routes``, the app or router that has them."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        announce: Callable[[Resolver, str | None], None],
        *,
        routes: Starlette | Router,
        guards: Guards | None,
    ) -> None:
        router = routes.router if isinstance(routes, Starlette) else routes
        self.app = app
        self.settings = settings
        self.announce = announce
        # Whether it is, and what was said then.
        self.announced = False
        self.told: set[str] = set()
        self.told_repeated = False
        self.table = Table(router, settings, guards=guards)

    def resolve(self, actions: Sequence[Record], frame: Frame) -> None:
        """Find the way of each action through the host's routers, its mark's figures, and the verdict at its end."""
        if not self.announced:
            # Mounted by hand or in another app, or on a server that sends no lifespan.
            self.announce(self, frame.base_path.removeprefix(frame.scope["root_path"]))
        self.table.refresh()
        for action in actions:
            if action.result is None:
                scope = frame.place(action)
                action.found = found = find(self.table, scope)
                action.app = self.app
                if found.error is None:
                    action.refusal = self._verdict(action, found)
                    if found.entry is None and not self.told_repeated:
                        self._tell_repeated(action, frame)
                else:
                    # The host fails on it, as on the same request alone.
                    action.below = True
                    logger.debug("data.actions[%d]: its route cannot be told", action.index, exc_info=found.error)
                if self.table.guard is None and (action.refusal or found.error):
                    # Where no guard can stand, what is not on the host's list does not enter.
                    refusal = action.refusal or self._refused(action, "its route cannot be told")
                    action.refuse(error_result(refusal, self.settings))

    def _tell_repeated(self, action: Record, frame: Frame) -> None:
        """Say so in the log, once, where an action meets no route because its relative path repeats the base path."""
        if sentence := _repeated(action.path, frame.base_path, frame.scope["root_path"]):
            self.told_repeated = True
            logger.warning("data.actions[%d]: %s", action.index, sentence)

    def _verdict(self, action: Record, found: Found) -> InvalidAction | None:
        entry, router = found.entry, found.table.router
        if entry is None:
            if self.table.unreadable is not None:
                action.below = True
                return self._refused(action, f"the routes of the host cannot be read: {self.table.unreadable}")
            if self.table.guard is None:
                return self._refused(action, "no route matches")
            if found.redirects or router is None:
                return None
            # What it runs instead cannot be told, but for a 404 of Starlette's.
            others = has_low_priority_routes(router)
            if others or getattr(router.default, "__func__", None) is not Router.not_found:
                action.route, action.below = found.table.template, True
                what = "a frontend would answer" if others else "the router's default would run"
                return self._refused(action, f"no route matches, and what {what} cannot be determined")
            return None
        action.route, action.below = entry.template, entry.is_opaque
        verdict = entry.verdicts.get(action.method) or entry.verdict(action.method)
        mark = verdict.mark
        if found.match is not FULL and not verdict.final:
            # The route's own 405.
            return None
        if mark is None:
            return self._refused(action, verdict.reason)
        action.cost, action.limit, action.timeout, action.schema = mark.cost, mark.limit, mark.timeout, mark.schema
        return None

    def _refused(self, action: Record, reason: str) -> InvalidAction:
        logger.debug("data.actions[%d]: %s %s cannot run in a batch: %s", action.index, action.method, action.route, reason)
        return NotBatchable(f"{DIALECTS[self.settings.dialect].place(action.index)}: {MAY_NOT_RUN}")


def _repeated(path: str, base_path: str, root_path: str) -> str | None:
    """What to say of the ``path`` of an action that no route has; None unless its relative path repeats the base path."""
    relative = path.removeprefix(base_path)
    # As clients see it, or as the app does behind a proxy.
    for prefix in (base_path, base_path.removeprefix(root_path)):
        if prefix and relative.startswith(prefix + "/"):
            return f"relative_path={relative!r} repeats the base path {prefix!r}: write {relative.removeprefix(prefix)!r}"
    return None
