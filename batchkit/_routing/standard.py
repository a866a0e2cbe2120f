"""Which routes, routers, apps and endpoints route by the code of Starlette or FastAPI alone, as batchkit reads it.

Whatever has a way of its own cannot be told beforehand, and so is refused (protocol.md#which-action-may-run).
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.routing import Router
from starlette.types import ASGIApp

__all__ = [
    "LIBRARIES",
    "answers_405",
    "departure",
    "is_plain_endpoint",
    "router_of",
]

LIBRARIES = ("starlette", "fastapi", "batchkit", "builtins")

_LOOKUPS = ("__getattr__", "__getattribute__")
_ROUTE = ("matches", "handle", "__call__", *_LOOKUPS)
_ROUTER = ("app", "matches", "handle", "__call__", *_LOOKUPS)
_APP = ("__call__", *_LOOKUPS)
_ENDPOINT = ("__init__", "__await__", "dispatch", "method_not_allowed", *_LOOKUPS)


def departure(thing: object) -> str | None:
    """The method by which a route, router or app routes in a way of its own, as ``Folding.matches``; None where it has none."""
    if isinstance(thing, Starlette):
        # FastAPI routes by what it is given here, and not by where it is mounted.
        return _own(thing, _APP) or departure(thing.router)
    return _own(thing, _ROUTER if isinstance(thing, Router) else _ROUTE)


def is_plain_endpoint(route: Any, app: object) -> bool:
    """Whether ``app``, that of a route, calls the function that is its endpoint, and nothing else before."""
    own_handler = _definer(type(getattr(route, "original_route", route)), "get_route_handler")
    return isinstance(app, FunctionType) and app.__module__ in ("starlette.routing", "fastapi.routing") and own_handler is None


def answers_405(endpoint: type[HTTPEndpoint]) -> bool:
    """Whether Starlette's own code answers for a method that this class does not have."""
    return not any(_definer(endpoint, name) for name in _ENDPOINT)


def router_of(app: ASGIApp) -> Router | None:
    """The router of a Starlette or FastAPI app, or the router itself; None for any other app."""
    return app.router if isinstance(app, Starlette) else app if isinstance(app, Router) else None


def _own(thing: object, names: tuple[str, ...]) -> str | None:
    of_instance = getattr(thing, "__dict__", {})
    for name in names:
        if name in of_instance or _definer(type(thing), name):
            return f"{type(thing).__name__}.{name}"
    return None


def _definer(kind: type, name: str) -> type | None:
    """The class that defines an attribute of ``kind``, unless that is a library's. What instruments the library counts as its."""
    for each in kind.__mro__:
        if name in vars(each):
            return None if each.__module__.partition(".")[0] in LIBRARIES else each
    return None
