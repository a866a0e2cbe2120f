"""A check for a host's own tests: that its cost hook keeps what protocol.md#admission promises to clients."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable, signature

from starlette.applications import Starlette

from batchkit._arguments import check_choice, check_seconds
from batchkit.model import METHODS
from batchkit.settings import CostHook
from batchkit.testing.client import check_headers
from batchkit.testing.testbed import CostHookError, Testbed

__all__ = ["CostHookError", "check_cost_hook"]


async def check_cost_hook(
    make_hook: Callable[[], CostHook | Awaitable[CostHook]],
    *,
    limit: int,
    gives_back: bool = False,
    host: Callable[[], Starlette] | None = None,
    method: str = "GET",
    path: str = "/checked",
    limit_name: str | None = None,
    batch_path: str = "/batch",
    headers: Mapping[str, str] | None = None,
    patience: float = 5.0,
) -> None:
    """Hold a cost hook to protocol.md#admission, by batches to a real ``BatchEndpoint`` that it charges for.

    Checked are: a refused batch consumes nothing, not even one larger than the whole limit; concurrent batches never
    over-admit, and burn nothing; what is charged is ``Batch.cost``, refused actions included, by one call per batch; a
    refusal is a TooManyRequests with a ``retry_after`` that can be sent, and without one where waiting does not help.

    ``make_hook``: gives the hook, or an awaitable of it, in a fresh state, some seven times: under a key of its own each time
    where the store remembers. Use the store that you run with: what is a race over Redis may be none in memory.
    ``limit``: the units of a fresh hook, at least 10, in a window so long (an hour) that none comes back in the meantime. Of
    several limits check each in turn as the tightest, the others at most 25 times as large: those are what a refusal burns.
    ``gives_back``: the units are slots, given back when the work of a batch has ended or was cancelled.
    ``host``: makes an app with the middleware by which you limit direct requests, and with its lifespan: those must charge the
    same units, and neither actions nor the batch's own POST any in addition.
    ``method``, ``path`` and ``limit_name`` (of ``@batchable(limit=…)``): of the one route asked, where the hook looks at them;
    ``batch_path``, whose parent ``path`` is relative to, and ``headers``, of every request, where hook or host look at them.
    ``patience``: seconds within which a batch must be admitted or refused.

    Raises CostHookError; TypeError or ValueError for arguments that cannot be.
    """
    _check_maker("make_hook", make_hook, "the hook, in a fresh state each time")
    if host is not None:
        _check_maker("host", host, "the app")
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit={limit!r}: give a whole number of units, at least 10")
    if limit < 10:
        raise ValueError(f"limit={limit!r}: give at least 10 units, or a race has no room to show")
    check_choice("method", method, METHODS)
    for name, value in (("path", path), ("batch_path", batch_path)):
        if not (isinstance(value, str) and re.fullmatch(r"(?:/[^/?#\s]+)+/?", value)):
            raise ValueError(f"{name}={value!r}: give a path like '/checked'")
    if not isinstance(gives_back, bool):
        raise TypeError(f"gives_back={gives_back!r}: give True or False")
    check_headers(headers)
    check_seconds("patience", patience)
    checks = [_limit, _refusals, _other_refusals, _too_large, _concurrency, _slots if gives_back else _weights]
    if not gives_back and limit_name is None and path == "/checked":
        checks.append(_refused_actions)
    if host is not None:
        checks.append(_direct_requests)
    for check in checks:
        made = make_hook()
        hook = await made if isawaitable(made) else made
        if not callable(hook):
            raise TypeError(
                f"make_hook={make_hook!r}: it made {hook!r}: give a function that makes the hook, which is a callable"
            )
        testbed = Testbed(
            hook,
            limit,
            (host or Starlette)(),
            held=gives_back,
            route=(method, path, batch_path),
            mark={"limit": limit_name, "cost": 3 if check is _weights else 1},
            headers=headers or {},
            patience=patience,
        )
        await testbed.run(check)


def _check_maker(name: str, function: Callable[[], object], makes: str) -> None:
    try:
        signature(function).bind()
    except ValueError:
        # Of something written in C: it is seen when it is called.
        return
    except TypeError:
        raise TypeError(f"{name}={function!r}: it is not called without arguments: give a function that makes {makes}") from None


FRESH = "give limit= as the hook has it, and a hook in a fresh state each time"
BURNT = (
    "refused batches consumed units. Test and charge in one step that takes all or nothing: a fixed window counts what it "
    "refuses, and of two limits charged one after the other the first is not given back when the second refuses"
)
UNCHARGED = "charge batch.cost, whatever becomes of its actions, and raise TooManyRequests where that does not fit"
RACE = "test and charge in one atomic step of the limiter, with no await between looking and taking"
OVERCHARGED = (
    "charge batch.cost once per batch; an action is no request of its own for a limiter (current_action(scope) tells it)"
)
KEPT = "slots have not come back after {}: give them back in a finally, under CancelScope(shield=True)"
SHARED = "charge direct requests and batches under the same key, each unit once: not actions again, nor the batch's own POST"


async def _limit(bed: Testbed) -> None:
    await bed.passes(bed.limit, FRESH)


async def _refusals(bed: Testbed) -> None:
    await _refuse(bed, bed.limit // 2 + 1)


async def _other_refusals(bed: Testbed) -> None:
    # Where the refusals happen to leave just enough of another limit in one of the two, they do not in the other.
    await _refuse(bed, bed.limit // 2 + 2)


async def _refuse(bed: Testbed, first: int) -> None:
    left = bed.limit // 2
    await bed.passes(bed.limit - left, FRESH)
    await bed.refuses(first, left, UNCHARGED)
    for _ in range(49):
        await bed.refuses(left + 1, left, UNCHARGED)
    await bed.passes(left, BURNT)
    await bed.refuses(1, 0, UNCHARGED)


async def _too_large(bed: Testbed) -> None:
    await bed.refuses(bed.limit + 1, bed.limit, UNCHARGED)
    if bed.waits[-1] not in (None, math.inf):
        raise CostHookError(
            f"A batch of cost {bed.limit + 1} never passes a limit of {bed.limit}, but was told to come back in "
            f"{bed.waits[-1]} s: leave retry_after out where batch.cost is above the whole limit"
        )
    await bed.passes(bed.limit, BURNT)


async def _concurrency(bed: Testbed) -> None:
    cost = next(cost for cost in range(3, bed.limit) if bed.limit % cost)
    taken = cost * await bed.offer(cost, times=max(50, 2 * bed.limit // cost))
    if taken > bed.limit:
        raise CostHookError(f"Concurrent batches of cost {cost} took {taken} units of {bed.limit}: {RACE}")
    await bed.passes(bed.limit - taken, BURNT)


async def _weights(bed: Testbed) -> None:
    whole = bed.limit // 3
    await bed.passes(whole - 1, OVERCHARGED)
    await bed.refuses(2, 3 + bed.limit % 3, UNCHARGED)
    await bed.passes(1, OVERCHARGED)


async def _refused_actions(bed: Testbed) -> None:
    await bed.passes(bed.limit - 3, OVERCHARGED, malformed=True)
    await bed.refuses(4, 3, UNCHARGED, malformed=True)


async def _slots(bed: Testbed) -> None:
    await bed.passes(bed.limit, FRESH)
    await bed.finish()
    await bed.passes(bed.limit, KEPT.format("all work had ended"))
    await bed.finish(cancel=True)
    await bed.passes(bed.limit, KEPT.format("a batch was cancelled at work"))


async def _direct_requests(bed: Testbed) -> None:
    for _ in range(3):
        if not await bed.offer(0):
            raise CostHookError(f"A direct request was refused, with nearly all of {bed.limit} units left: {SHARED}")
    await bed.refuses(bed.limit - 2, bed.limit - 3, SHARED)
    await bed.passes(bed.limit - 4, SHARED)
    await bed.passes(1, SHARED)
    if await bed.offer(0):
        raise CostHookError(f"A direct request passed where none of {bed.limit} units was left: {SHARED}")
