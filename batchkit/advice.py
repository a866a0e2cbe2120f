"""What is told of a host as it has started: marks, templates and settings that have no effect, or another than was meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from types import FunctionType, MethodType
from typing import Any

from batchkit.marks import BATCHABLE, COPIES, HANDLERS, Mark, MarkedApp, layers, own_mark, read_mark
from batchkit.routes import Entry, Table
from batchkit.rules import is_below, unmet
from batchkit.settings import Settings

__all__ = ["advice"]

# Those with a body.
WRITES = ("POST", "PUT", "PATCH")
FUNCTIONS = (FunctionType, MethodType, functools.partial)


def advice(table: Table, settings: Settings, base_path: str | None) -> Iterator[str]:
    """Sentences for the developer, each naming what it is about. ``base_path`` is what actions are relative to, None where
    only a request will tell.
    """
    entries = list(table.ends())
    yield from _lost_marks(layer for entry in entries for layer in (entry.endpoint, *entry.around))
    own = [entry.template for entry in entries if entry.endpoint is settings]
    for entry in entries:
        yield from _marked_in_vain(entry, settings)
        # FastAPI's description has a route of the endpoint's own there.
        if entry.template in own and entry.endpoint is not settings and read_mark(entry.endpoint, "POST") is not False:
            yield f"{entry.template}: the batch endpoint has this path, so your route is never reached: give it another one"
        if entry.endpoint is settings and (settings.console or settings.client_js) and "GET" not in entry.of_actions():
            yield f"{entry.template}: its methods= keep out the GET of console and client_js: leave methods= out"
    yield from (f"exclude: {sentence}" for sentence in unmet(settings.rules, entries))
    hook: Any = settings.cost_hook
    # Of its class: a mock has whatever it is asked for.
    if hasattr(type(hook), "unmet"):
        yield from (f"cost_hook: {sentence}" for sentence in hook.unmet(list(table.leaves())))
    running = list(table.may_run())
    if settings.dialect == "asana":
        yield from _without_envelope(running)
    if base_path and running and not any(is_below(base_path, entry.template) for _, entry in running):
        given = f"base_path={base_path!r}" if settings.base_path else f"{base_path!r}, the parent of the batch URL"
        yield f"{given}: no route that may run is below it: give base_path='/', or what your routes are below"


def _lost_marks(endpoints: Iterable[Any]) -> Iterator[str]:
    """Endpoints and mounted apps that show no mark, though somebody has set one for them."""
    shown = {id(endpoint): endpoint for endpoint in endpoints}
    for endpoint in [*shown.values()]:
        if isinstance(endpoint, MarkedApp):
            shown.pop(id(endpoint.app), None)
    seen = {id(layer) for endpoint in shown.values() for layer in layers(endpoint)}
    for endpoint in shown.values():
        handlers = [vars(endpoint).get(name) for name in HANDLERS] if inspect.isclass(endpoint) else []
        for each in filter(None, (endpoint, *handlers)):
            if all(own_mark(layer) is None for layer in layers(each)):
                yield from _lost_mark(each, seen)


def _lost_mark(endpoint: Any, seen: Container[int]) -> Iterator[str]:
    name = getattr(endpoint, "__qualname__", repr(endpoint))
    bases = [base for base in inspect.getmro(endpoint)[1:] if BATCHABLE in vars(base)] if inspect.isclass(endpoint) else ()
    if bases:
        yield f"{name}: the mark of {bases[0].__qualname__} is for that class alone: mark this one as well"
    if any(copy() is None for copy in getattr(endpoint, COPIES, ())):
        yield f"{name}: the mark is for what batchable(…) returned, and that was dropped: lead the route to it"
    for hidden in _inside(endpoint):
        if own_mark(hidden) is not None and id(hidden) not in seen:
            of = getattr(hidden, "__qualname__", repr(hidden))
            yield f"{name}: hides the mark of {of}: write that with functools.wraps, or put the mark above it"


def _inside(endpoint: Any) -> Iterator[Any]:
    """The functions that a function or an object holds on to, as a decorator's do; the methods of a class are no such."""
    found = [] if inspect.isclass(endpoint) else [endpoint]
    for each in found:
        held = [value for layer in layers(each) for value in (layer, *getattr(layer, "__dict__", {}).values(), *_cells(layer))]
        found += [value for value in held if isinstance(value, FUNCTIONS) and all(value is not known for known in found)]
    yield from found[1:]


def _cells(function: Any) -> Iterator[Any]:
    for cell in getattr(function, "__closure__", None) or ():
        # It may be empty as yet.
        with suppress(ValueError):
            yield cell.cell_contents


def _marked_in_vain(entry: Entry, settings: Settings) -> Iterator[str]:
    """What is marked, and the mark, or a part of it, does nothing there."""
    methods = entry.of_actions()
    marks = [mark for method in methods or ("GET",) if isinstance(mark := read_mark(entry.endpoint, method), Mark)]
    if marks and not methods:
        yield f"{entry.template}: @batchable has no effect: no action is a websocket, or has a method of this route's"
    for mark in marks[:1]:
        if mark.limit is not None and settings.cost_hook is None:
            yield f"{entry.template}: @batchable(limit={mark.limit!r}) has no effect on batches without cost_hook=, a Limiter"


def _without_envelope(running: Sequence[tuple[str, Entry]]) -> Iterator[str]:
    """FastAPI's routes whose bodies cannot be those that Asana's dialect makes."""
    for method, entry in running:
        if method in WRITES and _lacks_data(getattr(getattr(entry.route, "body_field", None), "field_info", None)):
            yield f"{method} {entry.template}: its body has no 'data', where dialect='asana' puts all: give dialect='plain'"


def _lacks_data(body: Any) -> bool:
    model: Any = getattr(body, "annotation", None)
    fields = getattr(model, "model_fields", None)
    # Validators of a whole model may unwrap it first.
    if not fields or body.media_type != "application/json" or model.__pydantic_decorators__.model_validators:
        return False
    names = [name for each, field in fields.items() for name in (each, field.validation_alias)]
    return any(field.is_required() for field in fields.values()) and not any(
        name == "data" or not isinstance(name, str | None) for name in names
    )
