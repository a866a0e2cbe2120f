"""@batchable and @not_batchable, and reading a mark back off an endpoint (protocol.md#an-action)."""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, overload

from jsonschema.exceptions import SchemaError
from msgspec import Struct
from starlette.endpoints import HTTPEndpoint
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit._routing.standard import answers_405
from batchkit._schemas.compiler import compile_schema
from batchkit._schemas.validation import Node
from batchkit.model import METHODS

__all__ = [
    "BATCHABLE",
    "HANDLERS",
    "Mark",
    "MarkedApp",
    "batchable",
    "lacks",
    "layers",
    "not_batchable",
    "own_mark",
    "read_mark",
]

logger = logging.getLogger("batchkit")

T = TypeVar("T")

# Two attributes, not one: functools.wraps copies both upwards, and a refusal must survive a permission above it.
BATCHABLE = "__batchable__"
NOT_BATCHABLE = "__not_batchable__"

# None is an endpoint that somebody lost.
_NOTHING = object()

# What functools.cache gives; any other object with __wrapped__ may be an app.
CACHED = type(functools.cache(lambda: None))

HANDLERS = tuple(method.lower() for method in METHODS)


class Mark(Struct, frozen=True):
    """What ``@batchable(…)`` says of a route; the defaults are those of a bare ``@batchable``."""

    cost: int = 1
    schema: Node | None = None
    timeout: float | None = None
    limit: str | None = None


class MarkedApp:
    """An ASGI app with a mark, for objects that cannot carry one themselves."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    @property
    def routes(self) -> Any:
        """The routes of the app, so that a mark on one of them is seen through this one."""
        return getattr(self.app, "routes", [])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@overload
def batchable(endpoint: T, /) -> T: ...
@overload
def batchable(
    *,
    cost: int = 1,
    schema: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    limit: str | None = None,
) -> Callable[[T], T]: ...
def batchable(
    endpoint: Any = _NOTHING,
    /,
    *,
    cost: int = 1,
    schema: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    limit: str | None = None,
) -> Any:
    """Mark a route as usable in a batch: ``@batchable`` or ``@batchable(cost=3, …)`` (protocol.md#an-action).

    Goes on functions, ``HTTPEndpoint`` classes (that class, not its subclasses) and their methods, FastAPI path operations,
    ``functools.partial`` objects, the ``__call__`` of a class whose objects are endpoints, and mounted apps, above or below
    decorators that use ``functools.wraps``. A bound method and a mounted app come back wrapped, and the mark is for what comes
    back; everything else comes back itself.

    ``cost``: what one action counts against rate limits, in requests, at least 1. ``schema``: a JSON Schema (2020-12) that
    the action's ``data`` must meet, compiled here. ``timeout``: seconds until the action's 504, instead of the endpoint's
    ``action_timeout``. ``limit``: the name of the limit it falls under.

    Raises TypeError or ValueError, naming the argument.
    """
    if isinstance(cost, bool) or not isinstance(cost, int) or cost < 1:
        raise ValueError(f"batchable(cost={cost!r}): give a whole number of requests, at least 1")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf):
        raise ValueError(f"batchable(timeout={timeout!r}): give seconds above 0, or None for the endpoint's action_timeout")
    if timeout is not None and timeout > 3600:
        logger.warning("batchable(timeout=%r): it is counted in seconds: for half a minute give 30", timeout)
    if limit is not None and not (isinstance(limit, str) and limit):
        raise TypeError(f"batchable(limit={limit!r}): give the name of a limit")
    try:
        compiled = None if schema is None else compile_schema(schema)
    except SchemaError as error:
        raise ValueError(f"batchable(schema=…): not a JSON Schema: {error.message}") from None
    mark = Mark(cost=cost, schema=compiled, timeout=timeout, limit=limit)
    if endpoint is _NOTHING:
        return lambda decorated: _attach(decorated, BATCHABLE, mark)
    return _attach(endpoint, BATCHABLE, mark)


@overload
def not_batchable(endpoint: T, /) -> T: ...
@overload
def not_batchable() -> Callable[[T], T]: ...
def not_batchable(endpoint: Any = _NOTHING, /) -> Any:
    """Mark a route as never usable in a batch: ``@not_batchable``. It wins over every permission (protocol.md#an-action).

    Goes on whatever ``@batchable`` goes on; on a class it holds for subclasses too.
    """
    if endpoint is _NOTHING:
        return not_batchable
    return _attach(endpoint, NOT_BATCHABLE, True)


def read_mark(endpoint: Any, method: str) -> Mark | bool | None:
    """The mark that decides for ``method`` on ``endpoint``: a Mark, False where it is refused, None where it has none.

    A method of an ``HTTPEndpoint`` speaks before its class.
    """
    all_layers = list(layers(endpoint))
    marks = [own_mark(layer) for layer in all_layers]
    innermost = all_layers[-1] if all_layers else None
    if inspect.isclass(innermost) and issubclass(innermost, HTTPEndpoint):
        handler = _handler(innermost, method)
        if handler is not None:
            marks = [*(own_mark(layer) for layer in layers(handler)), *marks]
    if any(mark is False for mark in marks):
        return False
    return next((mark for mark in marks if mark is not None), None)


def lacks(endpoint: Any, method: str) -> bool:
    """Whether ``endpoint`` is a class without this method, for which Starlette's own code answers 405."""
    *_, innermost = layers(endpoint) if endpoint is not None else (None,)
    return (
        inspect.isclass(innermost)
        and issubclass(innermost, HTTPEndpoint)
        and _handler(innermost, method) is None
        and answers_405(innermost)
    )


def _handler(endpoint: type[HTTPEndpoint], method: str) -> Any:
    return getattr(endpoint, method.lower(), None) or (getattr(endpoint, "get", None) if method == "HEAD" else None)


def _attach(endpoint: Any, name: str, value: object) -> Any:
    if isinstance(endpoint, BaseRoute):
        raise TypeError(f"{endpoint!r} cannot be marked: mark the endpoint or the app that it leads to")
    if not callable(endpoint):
        raise TypeError(f"{endpoint!r} cannot be marked: give a function, an HTTPEndpoint class or an ASGI app")
    if inspect.ismethod(endpoint):
        endpoint = functools.partial(endpoint)
    elif not (
        inspect.isfunction(endpoint) or inspect.isclass(endpoint) or isinstance(endpoint, CACHED | functools.partial | MarkedApp)
    ):
        # An app may stand in several places, and the mark is for this one.
        endpoint = MarkedApp(endpoint)
    known = vars(endpoint).get(name, value)
    # functools.wraps copies the mark of what it wraps, and the outer one holds.
    if known != value and known is not getattr(getattr(endpoint, "__wrapped__", None), name, None):
        raise TypeError(f"{endpoint!r} is marked already: give all keywords to one @batchable")
    setattr(endpoint, name, value)
    return endpoint


def layers(endpoint: Any) -> Iterator[Any]:
    """The endpoint and what its partials and ``functools.wraps`` decorators wrap, from the outside in; behind an object, what it
    does when it is called.
    """
    seen: set[int] = set()
    while endpoint is not None and id(endpoint) not in seen:
        seen.add(id(endpoint))
        yield endpoint
        if not (inspect.isroutine(endpoint) or inspect.isclass(endpoint) or isinstance(endpoint, functools.partial)):
            yield type(endpoint).__call__
        endpoint = getattr(endpoint, "func" if isinstance(endpoint, functools.partial) else "__wrapped__", None)


def own_mark(layer: Any) -> Mark | bool | None:
    """The mark of one of the ``layers`` of an endpoint: a Mark, False where it is refused, None where it has none."""
    if getattr(layer, NOT_BATCHABLE, False):
        return False
    # A subclass may add methods that its base's author never saw: permission is not inherited, refusal is.
    own = getattr(layer, "__dict__", {})
    mark = own.get(BATCHABLE) or vars(type(layer)).get(BATCHABLE)
    return mark if isinstance(mark, Mark) else None
