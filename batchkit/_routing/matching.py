"""How one route of Starlette's matches a request: the same as its own ``matches`` says, for less where that can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from starlette import routing
from starlette.convertors import StringConvertor
from starlette.routing import Match, Mount, Route, compile_path
from starlette.types import Scope

from batchkit._routing.standard import departure

__all__ = ["FULL", "NONE", "NOTHING", "PARTIAL", "first_segment", "matcher", "matches_by_path", "route_path"]

# Looked up once: on the path of every action, the members of an enumeration are dear.
FULL, PARTIAL, NONE = Match.FULL, Match.PARTIAL, Match.NONE

Matched = tuple[Match, Scope]
NOTHING: Matched = NONE, {}


def route_path(scope: Scope) -> str:
    """The path below ``root_path``: what Starlette matches routes on."""
    path: str = scope["path"]
    root_path: str = scope["root_path"]
    if not root_path or not path.startswith(root_path):
        return path
    below = path[len(root_path) :]
    return below if not below or below[0] == "/" else path


def first_segment(path: str) -> str | None:
    """What stands between the first two slashes of a path, None where it begins with none."""
    return path.split("/", 2)[1] if path[:1] == "/" else None


def matches_by_path(route: Any) -> bool:
    """Whether a route matches just by its path, as written; another class, or another pattern, is its own affair."""
    original = getattr(route, "original_route", route)
    if not isinstance(original, Route | Mount) or departure(original) is not None:
        return False
    path: str = route.path + "/{path:path}" if isinstance(original, Mount) else route.path
    return bool(route.path_regex == compile_path(path)[0])


def matcher(route: Any) -> Callable[[Scope, str], Matched]:
    """A function of a scope, and its path below ``root_path``, that says what ``route.matches(scope)`` says.

    It leaves the scope as it is, whatever the route does with what it is shown.
    """
    if not matches_by_path(route):
        return lambda scope, path: route.matches(dict(scope))
    original = getattr(route, "original_route", route)
    # FastAPI's own adds itself to the scope, and so is asked, unless its router routes again all the same.
    is_readable = isinstance(original, Route) and (original is not route or type(route).matches is READ)
    if is_readable and route.param_convertors.keys() == route.path_regex.groupindex.keys():
        return _reader(route)
    return lambda scope, path: route.matches(scope)


def _reader(route: Any) -> Callable[[Scope, str], Matched]:
    # Most parameters are texts, which stay as they are.
    converted = [(name, of.convert) for name, of in route.param_convertors.items() if type(of) is not StringConvertor]
    if hasattr(route, "original_route"):
        # What FastAPI shows of a route in an included router never changes, and is dear to ask for.
        route = SimpleNamespace(
            path_regex=route.path_regex, methods=route.methods, endpoint=route.endpoint, matches=route.matches
        )
    return partial(_match, route, converted)


def _match(route: Any, converted: Sequence[tuple[str, Callable[[str], Any]]], scope: Scope, path: str) -> Matched:
    """``Route.matches``, less what is the same for all requests or all routes."""
    if Route.matches is not READ:
        return route.matches(dict(scope))  # type: ignore[no-any-return]
    match = route.path_regex.match(path)
    if match is None:
        return NOTHING
    params: dict[str, Any] = match.groupdict()
    for name, convert in converted:
        params[name] = convert(params[name])
    if "path_params" in scope:
        params = {**scope["path_params"], **params}
    methods = route.methods
    return FULL if not methods or scope["method"] in methods else PARTIAL, {"endpoint": route.endpoint, "path_params": params}


def _agrees() -> bool:
    """Whether ``Route.matches`` is Starlette's own, and one that says what is read here; a later one's may say more."""
    route = Route("/a/{b:int}/{c}", _match, methods=["POST"])
    scope = {"type": "http", "method": "GET", "path": "/r/a/7/8", "root_path": "/r", "path_params": {"d": 1}}
    is_starlettes = getattr(READ, "__globals__", None) is vars(routing)
    return is_starlettes and route.matches({**scope}) == _reader(route)(scope, "/a/7/8")


# The ``Route.matches`` that is read instead of asked; None where there is none.
READ: object = Route.matches
if not _agrees():
    READ = None
