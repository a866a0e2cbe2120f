"""The whole configuration of an endpoint: its keywords, checked where they are given."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, Self

from starlette.applications import Starlette
from starlette.routing import Router
from starlette.types import ASGIApp

from batchkit._checks.hooks import check_app, check_hook, check_plugin
from batchkit._checks.keywords import suggesting
from batchkit._checks.toml import Table
from batchkit._protocol.dialects import DIALECTS, DialectName
from batchkit._protocol.scope import OWN_KEYS, SCOPE_KEYS, WITHHELD
from batchkit._routing.templates import Rule, check_template, is_below, read_template
from batchkit.errors import BatchError
from batchkit.model import Batch

__all__ = ["CostHook", "Plugin", "Settings"]

logger = logging.getLogger("batchkit")

RESULT_HEADERS = frozenset(
    b"location content-location etag last-modified retry-after link allow www-authenticate content-disposition "
    b"content-language deprecation sunset x-total-count x-request-id".split()
)
# What "*" leaves out: hop-by-hop fields, and what the parent response or the JSON around the body already says.
NEVER_HEADERS = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade "
    b"content-length content-encoding content-type date server set-cookie".split()
)

LIMITER_ERRORS = ("refuse", "allow")
CHOICES: dict[str, Collection[str]] = {"dialect": DIALECTS.keys(), "policy": ("marked", "all"), "limiter_errors": LIMITER_ERRORS}

# Besides that, a hook may be told of the endpoint (``free(endpoint)``), say at the start which routes it means that are not there
# (``unmet(entries)``), be a context itself, entered for the life of the app that the endpoint is mounted to, and give contexts
# that say ``waits = False``: those are entered without a clock.
CostHook = Callable[[Batch], Awaitable[None] | AbstractAsyncContextManager[object]]


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


# Those that batchkit and the frameworks make up, as they go.
_OWN_PREFIXES = ("batchkit", "starlette.", "fastapi")

_FIELD_NAME = re.compile(r"[\w!#$%&'+.^`|~-]+", re.ASCII)


@suggesting
@dataclass(kw_only=True, eq=False, repr=False)
class Settings:
    """The keywords of ``BatchEndpoint``. Raises TypeError or ValueError naming the keyword and saying what would do."""

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
    shown: frozenset[bytes] | None = field(init=False, default=RESULT_HEADERS)
    withheld: frozenset[bytes] = field(init=False, default=WITHHELD)
    inherited: tuple[str, ...] = field(init=False, default=SCOPE_KEYS)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], **overrides: Any) -> Self:
        """The endpoint whose keywords stand in a TOML file: in ``[tool.batchkit]``, as in a pyproject.toml, or in ``[batchkit]``.

        ``host``, ``cost_hook`` and each of the ``plugins`` are named there as ``"module:name"``. What is given here as well wins,
        and is not looked up. A relative ``path`` begins in the working directory.

        Raises OSError, ImportError, TypeError or ValueError, naming the file, the table and the key.
        """
        table = Table(path, [each.name for each in fields(cls) if each.init])
        keywords = {key: table.value(key) for key in table.values if key not in overrides}
        try:
            return cls(**keywords, **overrides)
        except (TypeError, ValueError) as error:
            # Each begins with the keyword that is wrong.
            if re.split(r"\W", str(error))[0] in keywords:
                raise type(error)(f"{table.place}: {error}") from None
            raise

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in ("max_actions", "max_concurrency", "max_body_size", "max_result_size"):
            value = getattr(self, name)
            if value is None and name == "max_concurrency":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: give a whole number, at least 1{', or None' * (name == 'max_concurrency')}")
        for name in ("action_timeout", "limiter_timeout"):
            check_seconds(name, getattr(self, name))
        # What is another unit somewhere else.
        for name, meant, unusual in (
            ("max_body_size", "bytes: for 10 MiB give 10 * 2**20", self.max_body_size < 100),
            ("max_result_size", "bytes: for 10 MiB give 10 * 2**20", self.max_result_size < 100),
            ("action_timeout", "seconds: for half a minute give 30", self.action_timeout > 3600),
            ("limiter_timeout", "seconds: for a tenth of one give 0.1", self.limiter_timeout > 60),
        ):
            if unusual:
                logger.warning("%s=%r: it is counted in %s", name, getattr(self, name), meant)
        for name in ("host", "cost_hook"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise TypeError(f"{name}={getattr(self, name)!r}: give a callable, or None")
        if isinstance(self.host, type):
            raise TypeError(f"host={self.host!r}: it is a class: give the app itself")
        if self.host is not None:
            check_app("host", self.host)
        if self.cost_hook is not None:
            check_hook("cost_hook", self.cost_hook)
        check_base_path(self.base_path)
        for name in ("require_json", "console", "client_js"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}={getattr(self, name)!r}: give True or False")
        if not isinstance(self.server_timing, bool | None):
            raise TypeError(f"server_timing={self.server_timing!r}: give True or False, or None: as console")
        if self.server_timing is None:
            self.server_timing = self.console
        if self.help is not None and not isinstance(self.help, str):
            raise TypeError(f"help={self.help!r}: give a text, or None")
        self._check_plugins()
        self.rules = tuple(Rule.read("exclude", text) for text in strings("exclude", self.exclude))
        self.allowed = tuple(read_template("allow", text) for text in strings("allow", self.allow))
        for _, template in self.allowed:
            if template.endswith("/*"):
                raise ValueError(f"allow: {template!r}: spell out each path; '/*' would let through what nobody has looked at")
            check_template("allow", template)
            if self.base_path is not None and not is_below(self.base_path, template):
                raise ValueError(f"allow: {template!r}: it is not below base_path={self.base_path!r}: give whole paths")
        if self.allowed and (self.host is None or isinstance(self.host, Starlette | Router)):
            raise ValueError(
                f"allow={self.allow!r}: it is for a host= whose routes cannot be read; mark those of others @batchable"
            )
        self._check_crossing()

    def _check_crossing(self) -> None:
        names = () if self.result_headers == "*" else strings("result_headers", self.result_headers)
        for name in names:
            if not _FIELD_NAME.fullmatch(name):
                raise ValueError(f"result_headers: {name!r}: give names of header fields, or the string '*' alone")
            if name.lower().encode() in NEVER_HEADERS:
                raise ValueError(f"result_headers: {name!r} is never shown: the parent answer or the result's body says it")
        self.shown = None if self.result_headers == "*" else RESULT_HEADERS | {name.lower().encode() for name in names}
        kept = strings("withhold", self.withhold)
        for name in kept:
            if not _FIELD_NAME.fullmatch(name) or "*" in name:
                raise ValueError(f"withhold: {name!r}: give whole names of header fields")
            if name.lower() == "host":
                raise ValueError(
                    f"withhold: {name!r}: apps route by it, so without it an action would be another one: leave it out"
                )
        self.withheld = WITHHELD | {name.lower().replace("_", "-").encode() for name in kept}
        keys = strings("scope_keys", self.scope_keys)
        for key in keys:
            if key in OWN_KEYS or key.startswith(_OWN_PREFIXES):
                raise ValueError(
                    f"scope_keys: {key!r}: each action has its own, from its request, your middleware or its route: leave it "
                    "out; name what only your server sets, 'aws.event' say"
                )
        self.inherited = tuple(dict.fromkeys((*SCOPE_KEYS, *keys)))

    def _check_plugins(self) -> None:
        if not isinstance(self.plugins, Iterable):
            raise TypeError(f"plugins={self.plugins!r}: give a list of plugins")
        self.plugins = tuple(self.plugins)
        for plugin in self.plugins:
            check_plugin(plugin)
            if not any(hasattr(plugin, method) for method in ("batch", "action", "refused")):
                raise TypeError(f"plugins: {plugin!r} has none of the methods 'batch', 'action' and 'refused'")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ValueError where the value of keyword ``name`` is none of ``choices``."""
    if value not in [*choices]:
        raise ValueError(f"{name}={value!r}: give one of {', '.join(map(repr, choices))}")


def check_base_path(value: object) -> None:
    """Raise ValueError where the value of keyword ``base_path`` is neither None nor a path that others can be below."""
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"(?:/[^/?#\s]+)*/?", value)):
        raise ValueError(f"base_path={value!r}: give a path like '/api/1.0', or None for the parent of the batch URL")


def check_seconds(name: str, value: object, *, zero: bool = False) -> None:
    """Raise TypeError or ValueError where the value of keyword ``name`` is no length of time; ``zero`` is whether 0 is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}={value!r}: give a number of seconds")
    if not 0 < value < math.inf and not (zero and value == 0):
        raise ValueError(f"{name}={value!r}: give a number of seconds{', at least 0' if zero else ' above 0'}")


def strings(name: str, value: object) -> tuple[str, ...]:
    """The values of keyword ``name``. Raises TypeError where they are not a sequence of strings."""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"{name}={value!r}: give a sequence of strings")
    values = tuple(value)
    for item in values:
        if not isinstance(item, str):
            raise TypeError(f"{name}: {item!r} is not a string")
    return values
