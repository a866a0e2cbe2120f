"""Action → the host's route and its mark: pure, never awaits, fails closed (contract section 2, "Which action may run")."""

from __future__ import annotations

import logging
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit.advice import advice
from batchkit.errors import ActionFailed, InvalidAction
from batchkit.frame import Frame
from batchkit.marks import Mark
from batchkit.matching import FULL
from batchkit.model import Action, Batch
from batchkit.routes import Entry, Found, Table, find
from batchkit.schema import Validator, explain, loads
from batchkit.settings import Settings

__all__ = ["Resolver"]

logger = logging.getLogger("batchkit")


class Resolver:
    """Resolves actions that are sent to ``app`` against ``routes``, the app or router that has them."""

    def __init__(self, app: ASGIApp, settings: Settings, *, routes: Starlette | Router) -> None:
        router = routes.router if isinstance(routes, Starlette) else routes
        self.app = app
        self.router = router
        self.settings = settings
        self.logged = False
        self.told: set[str] = set()
        self.table = Table(router, settings, responder=routes if isinstance(routes, Starlette) else None)

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
        """Give each action its route, its mark's figures and the app that answers it, or a 400 result."""
        if not self.logged:
            # Mounted by hand or in another app, or on a server that sends no lifespan.
            self.log(frame.base_path.removeprefix(frame.origin.root_path))
        self.table.refresh()
        for action in batch.actions:
            if action.result is None:
                scope = frame.place(action)
                try:
                    self._resolve(action, find(self.table, scope))
                except InvalidAction as error:
                    action.refuse(error, self.settings.help)
                except Exception as error:
                    # A convertor of the host may fail on what a client sends, {id:int} on 5,000 digits for one.
                    action.refuse(ActionFailed.logged(action.index, error), self.settings.help)

    def _resolve(self, action: Action, found: Found) -> None:
        if found.match is FULL:
            mark = self._permit(action, found)
            action.cost, action.limit, action.timeout = mark.cost, mark.limit, mark.timeout
            action.app, action.taken = self.app, found.taken
            if mark.schema is not None:
                _require(mark.schema, action)
        elif found.redirects:
            action.app = self.app
        elif found.entry is not None:
            action.app = self._not_allowed(action, found.entry, found.table)
            action.scope = self._shown(found)
        elif found.table.router is not None and not _answers_404(found.table.router):
            raise self._refused(action, "no route matches, and what the router's default would run cannot be determined")
        else:
            action.app = Refusal(found.table.responder, HTTPException(404))
            action.scope = self._shown(found)

    def _shown(self, found: Found) -> Scope:
        """The scope that the host's own handler of 404 or 405 is shown, so that it may link to the host's routes."""
        assert found.scope is not None
        return {"router": self.router, "path_params": {}, **found.scope}

    def _permit(self, action: Action, found: Found) -> Mark:
        if found.entry is None:
            raise self._refused(action, "no route matches")
        action.route = found.entry.template
        verdict = found.entry.verdicts.get(action.method) or found.entry.verdict(action.method)
        if verdict.mark is None:
            raise self._refused(action, verdict.reason)
        return verdict.mark

    def _not_allowed(self, action: Action, entry: Entry, table: Table) -> ASGIApp:
        methods = getattr(entry.route, "methods", None)
        action.route = entry.template
        if methods is None:
            raise self._refused(action, "its methods cannot be read")
        if any(rule.matches(action.method, entry.template) for rule in self.settings.rules):
            raise self._refused(action, "it is excluded")
        return Refusal(table.responder, HTTPException(405, headers={"Allow": ", ".join(methods)}))

    def _refused(self, action: Action, reason: str) -> InvalidAction:
        logger.debug("data.actions[%d]: %s %s cannot run in a batch: %s", action.index, action.method, action.route, reason)
        return InvalidAction(f"data.actions[{action.index}]: This action cannot be used in a batch request")


class Refusal:
    """The host's own answer to a path or method that no route takes, without entering its routes or middleware."""

    def __init__(self, host: Starlette | None, error: HTTPException) -> None:
        self.host = host
        self.error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.host is None:
            await ExceptionMiddleware(self._raise)(scope, receive, send)
            return
        scope["app"] = self.host
        handlers: dict[Any, Any] = dict(self.host.exception_handlers)
        # Where the handler itself fails, the host's own 500 answers, as alone.
        of_500 = [handlers.pop(key) for key in (500, Exception) if key in handlers]
        app = ExceptionMiddleware(self._raise, handlers, self.host.debug)
        await ServerErrorMiddleware(app, of_500[0] if of_500 else None, self.host.debug)(scope, receive, send)

    async def _raise(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise self.error


def _answers_404(router: Router) -> bool:
    return getattr(router.default, "__func__", None) is Router.not_found


# jsonschema judges some hundred values in a millisecond; commas stand for them, and cost nothing to count.
MOST_VALUES = 1000


def _require(schema: Validator, action: Action) -> None:
    place = f"data.actions[{action.index}].data"
    if action.data.count(b",") > MOST_VALUES:
        raise InvalidAction(f"{place}: More than {MOST_VALUES:,} values, which is more than can be checked")
    try:
        violations = explain(schema, loads(action.data or b"{}"), place)
    except RecursionError:
        violations = [f"{place}: Nested too deeply"]
    if violations:
        raise InvalidAction(*violations)
