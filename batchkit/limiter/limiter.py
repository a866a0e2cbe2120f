"""Limiter: what a batch or a request asks of all limits together, taken in one step or not at all (contract section 3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from difflib import get_close_matches
from functools import lru_cache
from http import HTTPMethod
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from anyio import get_current_task
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from batchkit.admission import WrongHook
from batchkit.errors import BatchError
from batchkit.keywords import nearest, suggesting
from batchkit.limiter.admission import Admission
from batchkit.limiter.keys import COMMON, digest
from batchkit.limiter.limits import Concurrency, Limit, Rate
from batchkit.limiter.memory import MemoryStore
from batchkit.limiter.store import Store
from batchkit.model import METHODS, Action, Batch
from batchkit.routes import Entry
from batchkit.rules import unmet

__all__ = ["Limiter"]

logger = logging.getLogger("batchkit")

LONGEST_KEY = 64

# What a Store has.
STORES = ("open", "admit", "hold", "waits")

# For who knows limiters that are decorators.
NO_DECORATOR = (
    "it is for BatchEndpoint(cost_hook=limiter) and LimitMiddleware; mark a route @batchable(limit='…'), or name it in "
    "Rate(5, 60, name='…', routes=['…'])"
)

Key = Callable[[Request], str]


@suggesting
class Limiter:
    """Limits that a batch must pass all together: ``BatchEndpoint(cost_hook=limiter)``, and for direct requests
    ``LimitMiddleware(app, limiter=limiter)``. Both count on the same keys.

    ``limits``: ``Rate`` and ``Concurrency``, each with a name of its own. ``store``: None counts in memory, for one process; a
    ``redis://``, ``rediss://`` or ``valkey://`` URL counts there, for all processes that name it (extra ``redis``); or a
    ``Store``. ``prefix`` begins the keys there: what shares a prefix and a name shares counters.

    ``async with limiter:`` keeps the connections to the store open. ``mount_to`` and ``LimitMiddleware`` do that themselves for
    the life of the app; outside of it every call connects anew.

    Refuses by TooManyRequests: with ``retry_after`` for a rate; without it where the cost is larger than the limit, and for
    concurrency, because nobody knows when somebody else's work ends. Raises TypeError or ValueError for wrong arguments,
    ImportError where the extra is missing.
    """

    def __init__(self, limits: Iterable[Limit], store: str | Store | None = None, *, prefix: str = "batchkit") -> None:
        if not isinstance(limits, Iterable):
            raise TypeError(f"Limiter: {limits!r}: give a list of Rate(…) and Concurrency(…)")
        self.limits = tuple(limits)
        for limit in self.limits:
            if not isinstance(limit, Rate | Concurrency):
                raise TypeError(f"Limiter: {limit!r}: give Rate(…) and Concurrency(…)")
        names = [limit.name for limit in self.limits]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"Limiter: {', '.join(names) or 'no limits'}: give limits, each with a name of its own")
        if not isinstance(prefix, str):
            raise TypeError(f"Limiter: prefix={prefix!r}: give a text")
        if isinstance(store, str):
            # Only who asks for it needs the extra.
            from batchkit.limiter.redis import RedisStore

            store = RedisStore(store, prefix=prefix)
        elif store is not None and (isinstance(store, type) or not all(hasattr(store, name) for name in STORES)):
            raise TypeError(f"Limiter: store={store!r}: give None for memory, a URL like redis://127.0.0.1:6379/0, or a Store")
        self.store: Store = MemoryStore() if store is None else store
        self.endpoints: list[object] = []
        self.told: set[str] = set()
        self.methods = frozenset(METHODS).union(*(limit.methods or () for limit in self.limits))
        self.covering = lru_cache(maxsize=4096)(self._covering)
        # By task: several apps may share a limiter, and end in any order.
        self._opened: dict[int, list[AsyncExitStack]] = {}

    def __call__(self, batch: Batch) -> Admission:
        """The cost hook: a context around the run of ``batch``."""
        if not isinstance(batch, Batch):
            raise TypeError(f"Limiter: {batch!r} is no batch: {NO_DECORATOR}")
        admission = Admission(self.store, self, self.told)
        alike: dict[tuple[Limit, ...], list[Action]] = {}
        last: tuple[Limit, ...] | None = None
        for action in batch.actions:
            limits = self.covering(action.method, action.route, action.limit)
            if limits is not last:
                group, last = alike.setdefault(limits, []), limits
            group.append(action)
        request = Request(batch.scope)
        common: dict[Key, str] = {}
        for limits, actions in alike.items():
            for limit in limits:
                if limit.key in COMMON:
                    if limit.key not in common:
                        common[limit.key] = _key(limit, request)
                    admission.ask(limit, common[limit.key], actions)
                else:
                    for action in actions:
                        admission.ask(limit, _key(limit, Request(_seen(batch, action))), [action])
        admission.promised = batch.actions
        return admission

    if not TYPE_CHECKING:  # A type checker says so before it runs.

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"Limiter has no {name!r}: {NO_DECORATOR}")

    def request(self, scope: Scope, route: str | None, cost: int, limit: str | None) -> Admission:
        """A context around a direct request: that of ``scope``, to the ``route`` whose mark says ``cost`` and ``limit``."""
        admission = Admission(self.store, self, self.told)
        # Any other method meets the same limits as none, and is not to be kept: a client could make up new ones for ever.
        method = scope["method"] if scope["method"] in self.methods else ""
        action = Action(0, method, scope["path"], route, cost, limit)
        request = Request(scope)
        for each in self.covering(action.method, route, limit):
            admission.ask(each, _key(each, request), [action])
        return admission

    def free(self, endpoint: object) -> None:
        """The own POST of this batch endpoint costs nothing.

        ``BatchEndpoint(cost_hook=limiter)`` says so itself; a hook of yours that asks the limiter must.
        """
        if isinstance(endpoint, type) or not hasattr(endpoint, "mount_to"):
            raise TypeError(f"free: {endpoint!r}: give the BatchEndpoint itself")
        self.endpoints.append(endpoint)

    def unmet(self, entries: Sequence[Entry]) -> Iterator[str]:
        """What to say of limits that may count nothing, as ``entries``, all routes, have none of their routes or methods; and of
        routes whose cost is more than a limit allows.
        """
        named = {*HTTPMethod, *(method for entry in entries for method in entry.methods or ())}
        for limit in self.limits:
            for method in sorted(set(limit.methods or ()) - named):
                # Others, a PURGE or PROPFIND, are somebody's own.
                if meant := get_close_matches(method, map(str, HTTPMethod), n=1):
                    yield f"{limit.name}: methods: {method!r}: did you mean {meant[0]!r}?"
            yield from (f"{limit.name}: routes: {sentence}" for sentence in unmet(limit.rules, entries))
            if isinstance(limit, Rate):
                yield from _never_passing(limit, entries)

    async def __aenter__(self) -> Self:
        stack = AsyncExitStack()
        await stack.enter_async_context(self.store.open())
        self._opened.setdefault(get_current_task().id, []).append(stack)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        stacks = self._opened[get_current_task().id]
        stack = stacks.pop()
        if not stacks:
            del self._opened[get_current_task().id]
        return await stack.__aexit__(kind, error, traceback)

    def _covering(self, method: str, route: str | None, limit: str | None) -> tuple[Limit, ...]:
        if limit is not None and all(each.limit != limit for each in self.limits):
            # A misspelled name would limit nothing.
            known = [each.limit for each in self.limits if each.limit is not None]
            logger.warning(
                "@batchable(limit=%r) on %s: the limiter has no Rate or Concurrency with that limit=%s",
                limit,
                route,
                f": {nearest(limit, known)}" if known else "",
            )
        return tuple(each for each in self.limits if each.covers(method, route, limit))


def _never_passing(rate: Rate, entries: Iterable[Entry]) -> Iterator[str]:
    """What to say of each of ``entries`` that costs more than ``rate`` allows at once."""
    for entry in entries:
        for method in entry.of_actions():
            mark = entry.verdict(method).mark
            if mark is not None and mark.cost > rate.amount and rate.covers(method, entry.template, mark.limit):
                yield f"{method} {entry.template} costs {mark.cost}, and {rate.name} allows {rate.amount}: it can never pass"
                break


def _seen(batch: Batch, action: Action) -> Scope:
    """The scope that a key function of the host's is shown for an action: its own, and behind it what the middleware found out
    about the batch (``user``, ``state``), which comes from the same header fields.
    """
    if action.scope is None:
        return batch.scope
    state = {**batch.scope.get("state", {}), **action.scope["state"]}
    seen = {**batch.scope, **action.scope, "state": state}
    for name in ("path_params", "endpoint", "route"):
        seen.pop(name, None)
    return seen


def _key(limit: Limit, request: Request) -> str:
    try:
        key = limit.key(request)
    except BatchError:
        raise
    except HTTPException as error:
        raise WrongHook(f"the key of {limit.name!r} raised {error!r}: return a string for everybody") from None
    except Exception as error:
        # No store is out of reach: to let it through would be to let through whoever knows what the key fails on.
        raise WrongHook(
            f"the key of {limit.name!r} failed with {error!r}: what it reads must come from middleware outside of "
            "LimitMiddleware (the last that was added is the outermost); path_params are not known yet"
        ) from error
    if not isinstance(key, str):
        # Nothing to fall back to: strangers who share a key share a limit.
        raise WrongHook(f"the key of {limit.name!r} returned {type(key).__name__}: return a string for everybody")
    return key if len(key) <= LONGEST_KEY else digest(key.encode("utf-8", "surrogatepass"))
