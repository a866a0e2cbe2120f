"""What is told of a host as it has started: marks, templates and settings that have no effect, or another than was meant."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Container, Iterator
from contextlib import suppress
from types import FunctionType, MethodType
from typing import Any

from starlette.endpoints import HTTPEndpoint

from batchkit._routing.marks import BATCHABLE, HANDLERS, Mark, MarkedApp, is_dropped, layers, own_mark, read_mark
from batchkit._routing.resolve import Resolver
from batchkit._routing.table import Table
from batchkit._routing.templates import is_below, unmet
from batchkit.model import METHODS
from batchkit.settings import KnowsRoutes, Settings, settings_of

__all__ = ["announce"]

logger = logging.getLogger("batchkit")

# Those with a body.
WRITES = ("POST", "PUT", "PATCH")
FUNCTIONS = (FunctionType, MethodType, functools.partial)


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
    for look in (_lost_marks, _marks_in_vain, _hidden_routes, _hidden_pages, _rules, _hook, _envelopes, _base_path):
        try:
            yield from look(survey)
        except Exception:
            # It looks into whatever the host is made of, and must not keep that from starting.
            logger.debug("%s: the host could not be looked through", look.__name__, exc_info=True)


def _lost_marks(survey: Survey) -> Iterator[str]:
    """Endpoints and mounted apps that show no mark, though somebody has set one for them."""
    shown = {id(layer): layer for entry in survey.entries for layer in (entry.endpoint, *entry.around)}
    for endpoint in [*shown.values()]:
        # What is marked by its wrapper has lost no mark.
        if isinstance(endpoint, MarkedApp):
            shown.pop(id(endpoint.app), None)
    seen = {id(layer) for endpoint in shown.values() for layer in layers(endpoint)}
    for endpoint in shown.values():
        handlers = [vars(endpoint).get(name) for name in HANDLERS] if inspect.isclass(endpoint) else []
        for each in filter(None, (endpoint, *handlers)):
            if all(own_mark(layer) is None for layer in layers(each)):
                yield from _lost_mark(each, seen)


def _lost_mark(endpoint: Any, seen: Container[int]) -> Iterator[str]:
    bases = [base for base in inspect.getmro(endpoint)[1:] if BATCHABLE in vars(base)] if inspect.isclass(endpoint) else ()
    if bases:
        yield f"{_name(endpoint)}: the mark of {_name(bases[0])} is for that class alone: mark this one as well"
    of_class = type(getattr(endpoint, "__self__", None))
    if BATCHABLE in vars(of_class):
        yield f"{_name(endpoint)}: the mark of {_name(of_class)} is not for its methods: mark this one as well"
    if inspect.isclass(endpoint) and issubclass(endpoint, HTTPEndpoint):
        for name, held in vars(endpoint).items():
            if name not in HANDLERS and isinstance(held, FUNCTIONS) and own_mark(held):
                yield f"{_name(endpoint)}: the mark of {name} is not seen: mark the class, or its {', '.join(HANDLERS)}"
    if is_dropped(endpoint):
        yield (
            f"{_name(endpoint)}: the mark is for what batchable(…) or not_batchable(…) returned, and that was dropped: lead the "
            "route to it"
        )
    for hidden in _inside(endpoint):
        if own_mark(hidden) is not None and id(hidden) not in seen:
            yield (
                f"{_name(endpoint)}: seems to hide the mark of {_name(hidden)}: write that with functools.wraps, or put the "
                "mark above it"
            )


def _name(endpoint: Any) -> str:
    name: str = getattr(endpoint, "__qualname__", repr(endpoint))
    return name


def _inside(endpoint: Any) -> Iterator[Any]:
    """The functions that a function or an object holds on to, as a decorator's do; the methods of a class are no such."""
    found = {} if inspect.isclass(endpoint) else {id(endpoint): endpoint}
    for each in (queue := [*found.values()]):
        for layer in layers(each):
            for value in (layer, *getattr(layer, "__dict__", {}).values(), *_cells(layer)):
                if isinstance(value, FUNCTIONS) and id(value) not in found:
                    found[id(value)] = value
                    queue.append(value)
                    yield value


def _cells(function: Any) -> Iterator[Any]:
    for cell in getattr(function, "__closure__", None) or ():
        # It may be empty as yet.
        with suppress(ValueError):
            yield cell.cell_contents


def _marks_in_vain(survey: Survey) -> Iterator[str]:
    """What is marked, and the mark, or a part of it, does nothing there."""
    for entry in survey.entries:
        methods = entry.of_actions()
        marks = [mark for method in methods or ("GET",) if isinstance(mark := read_mark(entry.endpoint, method), Mark)]
        if marks and not methods:
            of_route = f"it has {', '.join(sorted(entry.methods or ()))}, and an action one of {', '.join(METHODS)}"
            yield f"{entry.template}: @batchable has no effect: {'no action is a websocket' if entry.is_websocket else of_route}"
        for limit in sorted({mark.limit for mark in marks if mark.limit is not None}):
            if survey.settings.cost_hook is None:
                yield f"{entry.template}: @batchable(limit={limit!r}): without cost_hook=limiter no batch is counted as a whole"


def _hidden_routes(survey: Survey) -> Iterator[str]:
    """Routes of the host at the endpoint's own path, behind it."""
    own = None
    for entry in survey.entries:
        if settings_of(entry.endpoint) is survey.settings:
            own = own or entry
        elif (
            own is not None
            and (entry.template, entry.around) == (own.template, own.around)
            and not (entry.is_websocket or entry.below)
            and not (entry.methods and own.methods and set(entry.methods).isdisjoint(own.methods))
            # FastAPI's description has a route of the endpoint's own there.
            and read_mark(entry.endpoint, "POST") is not False
        ):
            yield f"{entry.template}: the batch endpoint has this path, so your route is never reached: give it another one"


def _hidden_pages(survey: Survey) -> Iterator[str]:
    settings = survey.settings
    for entry in survey.entries if settings.console or settings.client_js else ():
        if settings_of(entry.endpoint) is settings and "GET" not in entry.of_actions():
            yield f"{entry.template}: its methods= keep out the GET of console and client_js: leave methods= out"


def _rules(survey: Survey) -> Iterator[str]:
    return (f"exclude: {sentence}" for sentence in unmet(survey.settings.rules, survey.entries))


def _hook(survey: Survey) -> Iterator[str]:
    hook = survey.settings.cost_hook
    if isinstance(hook, KnowsRoutes):
        yield from (f"cost_hook: {sentence}" for sentence in hook.unmet(survey.leaves))


def _envelopes(survey: Survey) -> Iterator[str]:
    """FastAPI's routes whose bodies cannot be those that Asana's dialect makes."""
    for method, entry in survey.running if survey.settings.dialect == "asana" else ():
        if method in WRITES and _lacks_data(getattr(getattr(entry.route, "body_field", None), "field_info", None)):
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
