"""Limiter: what a batch or a request asks of all limits together, taken in one step or not at all (protocol.md#admission)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import lru_cache
from itertools import chain
from types import TracebackType
from typing import Any, Self

from anyio import get_current_task
from starlette.requests import Request
from starlette.types import Scope

from batchkit._arguments import nearest
from batchkit._record import Record
from batchkit._routing.table import Entry
from batchkit._routing.templates import unmet
from batchkit.limiter.decision import Admission, LimiterUpload
from batchkit.limiter.ends import End
from batchkit.limiter.keys import COMMON, Keys, by_client, key_of
from batchkit.limiter.limits import Concurrency, Limit
from batchkit.limiter.stores.memory import MemoryStore
from batchkit.limiter.stores.store import Store
from batchkit.model import METHODS, Action, Batch

__all__ = ["Limiter"]

logger = logging.getLogger("batchkit")

# In the scope of a batch: the limiter whose middleware it has come past before there was a user.
EARLY = "batchkit.limiter.early"


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
        self.limits = tuple(limits)
        names = [limit.name for limit in self.limits]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"Limiter: {', '.join(names) or 'no limits'}: give limits, each with a name of its own")
        if isinstance(store, str):
            # Only who asks for it needs the extra.
            from batchkit.limiter.stores.redis import RedisStore

            store = RedisStore(store, prefix=prefix)
        self.store: Store = MemoryStore() if store is None else store
        # Of what may hold the slot of a batch whose body is read, those that can cover any of its actions.
        self.of_uploads = [
            limit for limit in self.limits if isinstance(limit, Concurrency) and set(limit.methods or METHODS) & {*METHODS}
        ]
        self.gate = self.store if isinstance(self.store, MemoryStore) else MemoryStore()
        self.endpoints: list[object] = []
        self.in_middleware = False
        self.told: set[str] = set()
        self.methods = frozenset(METHODS).union(*(limit.methods or () for limit in self.limits))
        self.covering = lru_cache(maxsize=4096)(self._covering)
        # By task: several apps may share a limiter, and end in any order.
        self._opened: dict[int, list[AsyncExitStack]] = {}

    def __call__(self, batch: Batch) -> Admission:
        """The cost hook: a context around the run of ``batch``."""
        admission = Admission(self.store, self)
        alike: dict[tuple[Limit, ...], list[Action]] = {}
        last: tuple[Limit, ...] | None = None
        for action in batch.actions:
            limits = self.covering(action.method, action.route, action.limit, action.below)
            if limits is not last:
                group, last = alike.setdefault(limits, []), limits
            group.append(action)
        for upload in batch.uploads:
            if isinstance(upload, LimiterUpload) and upload.limiter is self:
                admission.upload = upload
        if (
            batch.scope.get(EARLY) is self
            and batch.scope.get("user") is not None
            and any(limit.key is by_client for limit in self.limits)
        ):
            self._tell(
                "scope['user'] is there for batches, and not yet for LimitMiddleware, so that one client is counted as two: put "
                "the middleware inside of what checks the client (of those that add_middleware adds, the last is the outermost)"
            )
        keys = Keys(Request(batch.scope)) if admission.upload is None else admission.upload.keys
        for limits, actions in alike.items():
            for limit in limits:
                if limit.key in COMMON:
                    admission.ask(limit, keys.of(limit.key, limit.name), actions)
                else:
                    for action in actions:
                        admission.ask(limit, key_of(limit.key, Request(_seen(batch, action)), limit.name), [action])
        admission.promised = batch.actions
        return admission

    def request(self, scope: Scope, ends: Sequence[End]) -> Admission:
        """A context around a direct request, that of ``scope``, which meets each limit that counts one of its possible ends."""
        admission = Admission(self.store, self)
        # Any other method meets the same limits as none, and is not to be kept: a client could make up new ones for ever.
        # WSGI apps and frameworks that are mounted read "post" as POST.
        method = scope["method"].upper()
        method = method if method in self.methods else ""
        action = Action(0, method, scope["path"], cost=max([end.mark.cost for end in ends]))
        keys = Keys(Request(scope))
        met = [self.covering(method, end.route, end.mark.limit, end.below) for end in ends]
        for limit in met[0] if len(met) == 1 else dict.fromkeys(chain(*met)):
            admission.ask(limit, keys.of(limit.key, limit.name), [action])
        return admission

    def free(self, endpoint: object) -> None:
        """The own POST of this batch endpoint costs nothing.

        ``BatchEndpoint(cost_hook=limiter)`` says so itself; a hook of yours that asks the limiter must.
        """
        if all(endpoint is not each for each in self.endpoints):
            self.endpoints.append(endpoint)
            if self.of_uploads:
                reading: Any = endpoint
                reading.uploads.append(self.upload)

    def upload(self, scope: Scope) -> LimiterUpload:
        """What the batch with this scope holds while its body is read. Raises TooManyRequests."""
        keys = Keys(Request(scope))
        slots = [(limit, key) for limit in self.of_uploads if (key := keys.of_upload(limit.key, limit.name)) is not None]
        shared = None
        if self.gate is not self.store:
            shared, action = Admission(self.store, self), Action(0)
            for limit, key in slots:
                shared.ask(limit, key, [action])
        return LimiterUpload(self, keys, slots, self.gate, shared)

    def unmet(self, entries: Sequence[Entry]) -> Iterator[str]:
        """What to say of limits that count nothing, as ``entries``, all routes, have none of theirs; and of a limiter that direct
        requests do not meet.
        """
        for limit in self.limits:
            yield from (f"{limit.name}: routes: {sentence}" for sentence in unmet(limit.rules, entries))
        # The middleware of a mounted app is made with its first request.
        apps = (app for entry in entries for app in (entry.endpoint, *entry.around))
        if not (self.in_middleware or any(getattr(app, "user_middleware", None) for app in apps)):
            yield "direct requests are not counted: write app.add_middleware(LimitMiddleware, limiter=limiter)"

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

    def _covering(self, method: str, route: str | None, limit: str | None, below: bool) -> tuple[Limit, ...]:
        if limit is not None and all(each.limit != limit for each in self.limits):
            # A misspelled name would limit nothing.
            known = [each.limit for each in self.limits if each.limit is not None]
            logger.warning(
                "@batchable(limit=%r) on %s: the limiter has no Rate or Concurrency with that limit=%s",
                limit,
                route,
                f": {nearest(limit, known)}" if known else "",
            )
        met = tuple(each for each in self.limits if each.covers(method, route, limit, below))
        if perhaps := [each.name for each in met if not each.covers(method, route, limit)]:
            self._tell_below(route, perhaps)
        return met

    def _tell_below(self, route: str | None, names: Sequence[str]) -> None:
        place = f"below {route!r} " if route else ""
        self._tell(f"Which route takes a request {place}cannot be read, so it counts against all that could cover it: ", *names)

    def _tell(self, sentence: str, *names: str) -> None:
        if sentence not in self.told:
            self.told.add(sentence)
            logger.warning("%s%s", sentence, ", ".join(names))


def _seen(batch: Batch, action: Action) -> Scope:
    """The scope that a key function of the host's is shown for an action: its own, and behind it what the middleware found out
    about the batch (``user``, ``state``), which comes from the same header fields.
    """
    scope = action.scope if isinstance(action, Record) else None
    if scope is None:
        return batch.scope
    state = {**batch.scope.get("state", {}), **scope["state"]}
    seen = {**batch.scope, **scope, "state": state}
    for name in ("path_params", "endpoint", "route"):
        seen.pop(name, None)
    return seen
