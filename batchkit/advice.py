"""What is told of a host as it has started: marks, templates and settings that have no effect, or another than was meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from batchkit.marks import Mark, lost_marks, read_mark
from batchkit.routes import Entry, Table
from batchkit.rules import is_below, unmet
from batchkit.settings import Settings

__all__ = ["advice"]

# Those with a body.
WRITES = ("POST", "PUT", "PATCH")


def advice(table: Table, settings: Settings, base_path: str | None) -> Iterator[str]:
    """Sentences for the developer, each naming what it is about. ``base_path`` is what actions are relative to, None where
    only a request will tell.
    """
    entries = list(table.ends())
    yield from lost_marks(layer for entry in entries for layer in (entry.endpoint, *entry.around))
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
