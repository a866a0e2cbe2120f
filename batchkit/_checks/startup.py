"""What is told of a host as it has started: marks, templates and settings that have no effect, or another than was meant."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from batchkit._routing.marks import BATCHABLE, layers, own_mark
from batchkit._routing.resolve import Resolver
from batchkit._routing.table import Table
from batchkit._routing.templates import is_below, unmet
from batchkit.settings import Settings

__all__ = ["announce"]

logger = logging.getLogger("batchkit")

# Those with a body.
WRITES = ("POST", "PUT", "PATCH")
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def announce(resolver: Resolver, base_path: str | None) -> None:
    """Log what may run in a batch, and what seems to be wrong; ``base_path`` is None where only a batch can tell."""
    resolver.announced = base_path is not None
    for sentence in advice(resolver.table, resolver.settings, base_path):
        if sentence not in resolver.told:
            resolver.told.add(sentence)
            logger.warning("%s", sentence)
    may_run = [f"{method} {entry.template}" for method, entry in resolver.table.may_run()]
    around = [item.cls for item in getattr(resolver.app, "user_middleware", ())]
    remedy = "mark some with @batchable" if resolver.settings.policy == "marked" else "all are excluded, or cannot be read"
    logger.log(
        logging.INFO if may_run else logging.WARNING,
        "Batches go to %s, below %s, through %s; %d routes may run: %s",
        type(resolver.app).__name__,
        "…" if base_path is None else base_path or "/",
        ", ".join(getattr(item, "__name__", repr(item)) for item in around) or "no middleware",
        len(may_run),
        ", ".join(may_run) or f"none, {remedy}",
    )


class Survey:
    """The routes of a host, and the batch endpoint whose actions go there."""

    def __init__(self, table: Table, settings: Settings, base_path: str | None) -> None:
        self.settings = settings
        self.base_path = base_path
        self.entries = list(table.ends())
        self.leaves = list(table.leaves())
        self.running = list(table.may_run())


def advice(table: Table, settings: Settings, base_path: str | None) -> Iterator[str]:
    """Sentences for the developer, each naming what it is about. ``base_path`` is what actions are relative to, None where
    only a request will tell.
    """
    survey = Survey(table, settings, base_path)
    for look in (_lost_marks, _limits_in_vain, _rules, _hook, _bodies, _base_path):
        try:
            yield from look(survey)
        except Exception:
            # It looks into whatever the host is made of, and must not keep that from starting.
            logger.debug("%s: the host could not be looked through", look.__name__, exc_info=True)


def _lost_marks(survey: Survey) -> Iterator[str]:
    """Endpoints that show no mark, though somebody has set one for them."""
    endpoints = {id(entry.endpoint): entry.endpoint for entry in survey.entries}
    for endpoint in endpoints.values():
        if any(own_mark(layer) is not None for layer in layers(endpoint)):
            continue
        name = getattr(endpoint, "__qualname__", repr(endpoint))
        for base in inspect.getmro(endpoint)[1:] if inspect.isclass(endpoint) else ():
            if BATCHABLE in vars(base):
                yield f"{name}: the mark of {base.__qualname__} is for that class alone: mark this one as well"
        for held in _held(endpoint):
            # What calls another endpoint, which has a route of its own, hides nothing.
            if id(held) not in endpoints and own_mark(held) is not None:
                yield f"{name}: seems to hide the mark of {held.__qualname__}: write it with functools.wraps, or mark it again"


def _held(function: Any) -> Iterator[Any]:
    """The functions that a decorator's function has closed over."""
    for cell in getattr(function, "__closure__", None) or ():
        # It may be empty as yet.
        with suppress(ValueError):
            if inspect.isfunction(cell.cell_contents):
                yield cell.cell_contents


def _limits_in_vain(survey: Survey) -> Iterator[str]:
    if survey.settings.cost_hook is None:
        for method, entry in survey.running:
            mark = entry.verdict(method).mark
            if mark is not None and mark.limit is not None:
                yield f"{entry.template}: @batchable(limit={mark.limit!r}): without cost_hook=limiter no batch is counted by it"


def _rules(survey: Survey) -> Iterator[str]:
    return (f"exclude: {sentence}" for sentence in unmet(survey.settings.rules, survey.entries))


def _hook(survey: Survey) -> Iterator[str]:
    hook: Any = survey.settings.cost_hook
    # Of its class: a mock has whatever it is asked for.
    if hasattr(type(hook), "unmet"):
        yield from (f"cost_hook: {sentence}" for sentence in hook.unmet(survey.leaves))


def _bodies(survey: Survey) -> Iterator[str]:
    """FastAPI's routes whose bodies cannot be those that an action makes."""
    for method, entry in survey.running:
        body = getattr(getattr(entry.route, "body_field", None), "field_info", None)
        if method not in WRITES or body is None:
            continue
        if body.media_type in FORMS:
            if body.is_required():
                yield f"{method} {entry.template}: takes a form or a file, which no action can carry: mark it @not_batchable"
        elif survey.settings.dialect == "asana" and _lacks_data(body):
            yield f"{method} {entry.template}: its body has no 'data', where dialect='asana' puts all: give dialect='plain'"


def _lacks_data(body: Any) -> bool:
    model: Any = getattr(body, "annotation", None)
    fields = getattr(model, "model_fields", None)
    if not fields or body.media_type != "application/json":
        return False
    # Validators of a whole model may unwrap it first, and a root may be anything.
    if model.__pydantic_decorators__.model_validators or model.__pydantic_root_model__:
        return False
    names = [name for each, field in fields.items() for name in (each, field.validation_alias)]
    return any(field.is_required() for field in fields.values()) and not any(
        name == "data" or not isinstance(name, str | None) for name in names
    )


def _base_path(survey: Survey) -> Iterator[str]:
    base_path = survey.base_path
    if base_path and survey.running and not any(is_below(base_path, entry.template) for _, entry in survey.running):
        given = f"base_path={base_path!r}" if survey.settings.base_path else f"{base_path!r}, the parent of the batch URL"
        yield f"{given}: no route that may run is below it: give base_path='/', or what your routes are below"
