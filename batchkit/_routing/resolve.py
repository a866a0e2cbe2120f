"""Action → the host's route and its mark: pure, never awaits, fails closed (contract section 2, "Which action may run")."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.routing import Router
from starlette.types import ASGIApp

from batchkit._checks.startup import advice
from batchkit._protocol.answer import error_result
from batchkit._protocol.dialects import DIALECTS
from batchkit._protocol.scope import Frame
from batchkit._routing.find import Found, find
from batchkit._routing.guard import Guards
from batchkit._routing.matching import FULL
from batchkit._routing.standard import has_low_priority_routes
from batchkit._routing.table import Table
from batchkit.errors import MAY_NOT_RUN, InvalidAction
from batchkit.model import Action, Batch
from batchkit.settings import Settings

__all__ = ["Resolver"]

logger = logging.getLogger("batchkit")


class Resolver:
    """Resolves actions that are sent to ``app`` against ``routes``, the app or router that has them."""

    def __init__(self, app: ASGIApp, settings: Settings, *, routes: Starlette | Router, guards: Guards | None) -> None:
        router = routes.router if isinstance(routes, Starlette) else routes
        self.app = app
        self.settings = settings
        self.guards = guards
        self.logged = False
        self.told: set[str] = set()
        self.table = Table(router, settings, guards=guards)

    def log(self, base_path: str | None) -> None:
        """Say what may run in a batch, and what seems to be wrong; ``base_path`` is None where only a batch can tell."""
        self.logged = base_path is not None
        for sentence in advice(self.table, self.settings, base_path):
            if sentence not in self.told:
                self.told.add(sentence)
                logger.warning("%s", sentence)
        may_run = [f"{method} {template}" for method, template in self.may_run()]
        around = [item.cls for item in getattr(self.app, "user_middleware", ())]
        remedy = "mark some with @batchable" if self.settings.policy == "marked" else "all are excluded, or cannot be read"
        logger.log(
            logging.INFO if may_run else logging.WARNING,
            "Batches go to %s, below %s, through %s; %d routes may run: %s",
            type(self.app).__name__,
            "…" if base_path is None else base_path or "/",
            ", ".join(getattr(item, "__name__", repr(item)) for item in around) or "no middleware",
            len(may_run),
            ", ".join(may_run) or f"none, {remedy}",
        )

    def may_run(self) -> list[tuple[str, str]]:
        """The methods and full templates of all that may run in a batch, in the order of the routes as they are now."""
        return [(method, entry.template) for method, entry in self.table.may_run()]

    def resolve(self, batch: Batch, frame: Frame) -> None:
        """Find the way of each action through the host's routers, its mark's figures, and the verdict at its end."""
        if not self.logged:
            # Mounted by hand or in another app, or on a server that sends no lifespan.
            self.log(frame.base_path.removeprefix(frame.scope["root_path"]))
        self.table.refresh()
        for action in batch.actions:
            if action.result is None:
                scope = frame.place(action)
                action.found = found = find(self.table, scope)
                action.app = self.app
                if found.error is None:
                    action.refusal = self._verdict(action, found)
                else:
                    # The host fails on it, as on the same request alone.
                    action.below = True
                    logger.debug("data.actions[%d]: its route cannot be told", action.index, exc_info=found.error)
                if self.table.guard is None and (action.refusal or found.error):
                    # Where no guard can stand, what is not on the host's list does not enter.
                    refusal = action.refusal or self._refused(action, "its route cannot be told")
                    action.refuse(error_result(refusal, self.settings))

    def _verdict(self, action: Action, found: Found) -> InvalidAction | None:
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

    def _refused(self, action: Action, reason: str) -> InvalidAction:
        logger.debug("data.actions[%d]: %s %s cannot run in a batch: %s", action.index, action.method, action.route, reason)
        return InvalidAction(f"{DIALECTS[self.settings.dialect].place(action.index)}: {MAY_NOT_RUN}")
