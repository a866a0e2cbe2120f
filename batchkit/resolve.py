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

from batchkit.errors import ActionFailed, InvalidAction
from batchkit.frame import Frame
from batchkit.marks import Mark, lost_marks
from batchkit.matching import FULL
from batchkit.model import Action, Batch
from batchkit.routes import Entry, Found, Table, find
from batchkit.rules import unmet
from batchkit.schema import Validator, explain, loads
from batchkit.settings import Settings

__all__ = ["Resolver"]

logger = logging.getLogger("batchkit")


class Resolver:
    """Resolves actions that are sent to ``app`` against ``routes``, the app or router that has them; ``base_path`` is what the
    log says they are below.
    """

    def __init__(self, app: ASGIApp, settings: Settings, base_path: str, *, routes: Starlette | Router) -> None:
        router = routes.router if isinstance(routes, Starlette) else routes
        self.app = app
        self.routed = routes
        self.settings = settings
        self.base_path = base_path
        self.logged = False
        self.table = Table(router, settings, responder=routes if isinstance(routes, Starlette) else None)

    def log(self) -> None:
        """Say what may run in a batch, at the start or with the first batch; warn of marks and templates that have no effect."""
        self.logged = True
        leaves = list(self.table.leaves())
        for sentence in lost_marks(layer for entry in leaves for layer in (entry.endpoint, *entry.around)):
            logger.warning("%s", sentence)
        templates = [entry.template for entry in leaves]
        for sentence in unmet(self.settings.rules, templates):
            logger.warning("exclude: %s", sentence)
        hook: Any = self.settings.cost_hook
        # Of its class: a mock has whatever it is asked for.
        if hasattr(type(hook), "unmet"):
            for sentence in hook.unmet(templates):
                logger.warning("cost_hook: %s", sentence)
        if (self.settings.base_path or "").strip("/") and not any(_below(self.base_path, template) for template in templates):
            logger.warning("base_path=%r: the app has no route below it", self.base_path)
        may_run = [f"{method} {template}" for method, template in self.may_run()]
        around = [item.cls for item in getattr(self.app, "user_middleware", ())]
        logger.log(
            logging.INFO if may_run else logging.WARNING,
            "Batches go to %s, below %s, through %s; %d routes may run: %s",
            type(self.app).__name__,
            self.base_path or "/",
            ", ".join(getattr(item, "__name__", repr(item)) for item in around) or "no middleware",
            len(may_run),
            ", ".join(may_run) or "none, mark some with @batchable",
        )

    def may_run(self) -> list[tuple[str, str]]:
        """The methods and full templates of all that may run in a batch, in the order of the routes as they are now."""
        return [(method, entry.template) for method, entry in self.table.methods() if entry.verdict(method).mark is not None]

    def resolve(self, batch: Batch, frame: Frame) -> None:
        """Give each action its route, its mark's figures and the app that answers it, or a 400 result."""
        if not self.logged:
            # Mounted by hand, or on a server that sends no lifespan.
            self.log()
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
        router = self.routed.router if isinstance(self.routed, Starlette) else self.routed
        return {"router": router, "path_params": {}, **found.scope}

    def _permit(self, action: Action, found: Found) -> Mark:
        if found.entry is None:
            raise self._refused(action, "no route matches")
        action.route, action.conduct = found.entry.template, found.entry.conduct
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


def _below(base_path: str, template: str) -> bool:
    """Whether a route with this template, or what is mounted there, can be below ``base_path``."""
    pairs = zip(base_path.strip("/").split("/"), template.strip("/").split("/"), strict=False)
    return all(segment in ("", wanted) or "{" in segment for wanted, segment in pairs)


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
