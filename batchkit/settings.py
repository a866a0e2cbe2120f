"""The whole configuration of an endpoint: a plain record that every room reads. What it may hold is checked in ``_checks``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from starlette.types import ASGIApp

from batchkit.errors import BatchError
from batchkit.model import Batch

if TYPE_CHECKING:
    from batchkit._protocol.dialects import DialectName
    from batchkit._routing.table import Entry
    from batchkit._routing.templates import Rule

__all__ = ["CostHook", "FreesEndpoint", "KnowsRoutes", "Plugin", "Settings", "settings_of"]

CostHook = Callable[[Batch], Awaitable[None] | AbstractAsyncContextManager[object]]
"""What charges a batch, ``cost_hook=``: an async function of the Batch, or an async context manager of it, called once before
anything runs. It refuses by raising ``TooManyRequests``.

It may have more parts, each optional: those of ``FreesEndpoint`` and ``KnowsRoutes``; it may be an async context manager itself,
which is entered for the life of the app; and a context that it gives may say ``waits = False``, and is entered without a clock.
"""


class FreesEndpoint(Protocol):
    """A cost hook that counts direct requests as well, and so must know whose own POST costs nothing."""

    def free(self, endpoint: Any) -> None:
        """``endpoint`` is a BatchEndpoint with this cost hook."""
        ...


class KnowsRoutes(Protocol):
    """A cost hook that means some routes of the host."""

    def unmet(self, entries: Sequence[Entry]) -> Iterable[str]:
        """What to say at the start of routes that it means and that are not among ``entries``, all that there are."""
        ...


class BatchPlugin(Protocol):
    """A plugin that watches batches. It observes: only the cost hook charges or refuses, and its exceptions are only logged."""

    def batch(self, batch: Batch) -> AbstractAsyncContextManager[object]:
        """A context around an admitted batch: entered before its actions start, left after the last has ended."""
        ...


class ActionPlugin(Protocol):
    """A plugin that watches actions."""

    def action(self, app: ASGIApp) -> ASGIApp:
        """Plain ASGI middleware around each action that runs, built once; ``current_action(scope)`` is the action."""
        ...


class RefusalPlugin(Protocol):
    """A plugin that watches what is not admitted."""

    def refused(self, batch: Batch, error: BatchError) -> None:
        """The cost hook refused ``batch``, or could not be asked: ``error`` is its answer, and nothing runs. It must not wait."""
        ...


# What ``plugins=`` takes: any of them, or several in one.
Plugin = BatchPlugin | ActionPlugin | RefusalPlugin


@dataclass(kw_only=True, eq=False, repr=False)
class Settings:
    """The keywords of ``BatchEndpoint``, which says what each means, and what the checks work out of them."""

    host: ASGIApp | None = None
    base_path: str | None = None
    dialect: DialectName = "asana"
    policy: Literal["marked", "all"] = "marked"
    exclude: Sequence[str] = ()
    allow: Sequence[str] = ()
    cost_hook: CostHook | None = None
    plugins: Sequence[Plugin] = ()
    max_actions: int = 10
    max_concurrency: int | None = None
    max_body_size: int = 2**20
    max_result_size: int = 2**20
    action_timeout: float = 30.0
    limiter_timeout: float = 1.0
    limiter_errors: Literal["refuse", "allow"] = "refuse"
    require_json: bool = True
    result_headers: Iterable[str] | Literal["*"] = ()
    withhold: Iterable[str] = ()
    scope_keys: Iterable[str] = ()
    help: str | None = None
    console: bool = False
    client_js: bool = False
    server_timing: bool | None = None
    rules: tuple[Rule, ...] = field(init=False, default=())
    allowed: tuple[tuple[str | None, str], ...] = field(init=False, default=())
    shown: frozenset[bytes] | None = field(init=False, default=frozenset())
    withheld: frozenset[bytes] = field(init=False, default=frozenset())
    inherited: tuple[str, ...] = field(init=False, default=())


def settings_of(app: object) -> Settings | None:
    """The settings of a batch endpoint, None for any other app."""
    settings = getattr(app, "__dict__", {}).get("settings")
    return settings if isinstance(settings, Settings) else None
