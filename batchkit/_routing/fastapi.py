"""FastAPI's included routers, each one route to Starlette, as its public functions show them; FastAPI itself is not imported."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from starlette.routing import BaseRoute, Host, Router

from batchkit._routing.standard import departure

__all__ = ["every_route", "has_low_priority_routes", "included_departure", "unfolded"]


def included_departure(route: Any) -> str | None:
    """As ``departure``, of a router that FastAPI includes and all that is in it, as far as it is included too."""
    if (own := departure(route.original_router)) is not None:
        return own
    for each in route.original_router.routes:
        if isinstance(each, Host):
            # FastAPI makes a new router for it with each change of the routes, at which no guard stands.
            return "Host"
        if (own := included_departure(each) if hasattr(each, "original_router") else departure(each)) is not None:
            return own
    return None


def has_low_priority_routes(router: Router) -> bool:
    """Whether FastAPI would try routes, of a frontend, that no public function shows, where no other takes a request."""
    shown = getattr(router, "_iter_low_priority_routes", None)
    return shown is not None and next(iter(shown()), None) is not None


def every_route(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """All routes that a table depends on. FastAPI keeps an included router as one route, which follows that router."""
    for route in routes:
        yield route
        if (router := getattr(route, "original_router", None)) is not None:
            yield from every_route(router.routes)


def unfolded(routes: Iterable[BaseRoute]) -> Iterator[Any]:
    """The routes with those of included routers in their places, as FastAPI's public function shows them."""
    iter_route_contexts = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    for route in routes:
        if hasattr(route, "original_router"):
            if iter_route_contexts is None:
                raise RuntimeError("This FastAPI does not show the routes of included routers: pip install -U fastapi")
            # What has a way of its own in it can only be asked as a whole.
            yield from iter_route_contexts([route]) if included_departure(route) is None else [route]
        else:
            yield route
