"""Limits that are published elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from batchkit.limiter.keys import Key, by_client
from batchkit.limiter.limits import Concurrency, Limit, Rate

__all__ = ["asana_limits"]


def asana_limits(*, per_minute: int = 1500, search_routes: Iterable[str] | None = None, key: Key = by_client) -> list[Limit]:
    """The limits that Asana publishes for one client: requests a minute (1500; 150 for a free plan), 60 searches a minute, and at
    once 50 reads and 15 writes.

    A search is what is marked ``@batchable(limit="search")``, or has one of the templates ``search_routes``. Asana also lets
    refused requests count; here they do not (protocol.md#admission).
    """
    if search_routes is None:
        search = Rate(60, 60, name="searches", key=key, limit="search")
    else:
        search = Rate(60, 60, name="searches", key=key, routes=search_routes)
    return [
        Rate(per_minute, 60, name="requests", key=key),
        search,
        Concurrency(50, name="reads", key=key, methods=["GET"]),
        Concurrency(15, name="writes", key=key, methods=["POST", "PUT", "PATCH", "DELETE"]),
    ]
