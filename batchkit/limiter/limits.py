"""What is limited: rates and concurrency, and which requests they count."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote

from batchkit._arguments import check_seconds, strings
from batchkit._routing.templates import Rule
from batchkit.limiter.keys import Key, by_client

__all__ = ["Concurrency", "Limit", "Rate"]

SECOND = 1_000_000
# A Redis script counts in doubles, which are exact up to 2**53 microseconds, in the year 2255.
LONGEST = 366 * 24 * 3600

# What some frameworks write for all methods is none.
_METHOD = re.compile(r"(?!(?:ALL|ANY)$)[\w!#$%&'+.^`|~-]+", re.ASCII)


@dataclass(frozen=True, eq=False)
class Limit:
    """What rates and concurrency have in common: ``amount``, a name, whom they count, and which requests.

    ``name`` stands in the 429. ``key(request)`` says who is counted, by a string; a request whose key is None is not counted;
    default: ``by_client``. ``methods``: only these, GET standing for HEAD too; ``routes``: only these templates, as for
    ``exclude``: ``[METHOD ]template``, ``/*`` at the end for all below; ``limit``: only routes marked with this name,
    ``@batchable(limit=…)``. A request must meet all that are given; an action without a usable method meets only a limit that
    gives none of them (protocol.md#admission). What may meet them, as nobody can tell its route, counts.

    Raises TypeError or ValueError, naming the argument.
    """

    amount: int
    name: str = field(kw_only=True)
    key: Key = field(kw_only=True, default=by_client)
    methods: Iterable[str] | None = field(kw_only=True, default=None)
    routes: Iterable[str] | None = field(kw_only=True, default=None)
    limit: str | None = field(kw_only=True, default=None)
    rules: tuple[Rule, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if isinstance(self.amount, bool) or not isinstance(self.amount, int) or self.amount < 1:
            raise ValueError(f"{kind}({self.amount!r}): give a whole number, at least 1")
        for argument in ("name", "limit"):
            value = getattr(self, argument)
            if not (isinstance(value, str) and value) and not (argument == "limit" and value is None):
                raise TypeError(f"{kind}({argument}={value!r}): give a name")
        if self.methods is not None:
            methods = {method.upper() for method in strings(f"{self.name}: methods", self.methods)}
            for method in methods:
                if not _METHOD.fullmatch(method):
                    raise ValueError(f"{self.name}: methods: {method!r}: give each, like 'GET', or None for all")
            object.__setattr__(self, "methods", frozenset(methods | ({"HEAD"} if "GET" in methods else set())))
        if self.routes is not None:
            rules = tuple(Rule.read(f"{self.name}: routes", text) for text in strings(f"{self.name}: routes", self.routes))
            object.__setattr__(self, "rules", rules)
        for argument, given in (("methods", self.methods), ("routes", self.rules)):
            if getattr(self, argument) is not None and not given:
                raise ValueError(f"{self.name}: {argument} is empty, and counts nothing: give None for all")

    @functools.cached_property
    def encoded_name(self) -> str:
        """The name percent-encoded: nothing in it separates it from what follows."""
        return quote(self.name, safe="", errors="surrogatepass")

    def covers(self, method: str, route: str | None, limit: str | None, below: bool = False) -> bool:
        """Whether a request with this method, route template and mark counts.

        ``below``: whether one may count that ends there or below, nobody can tell where; with None as ``route``, anywhere.
        """
        if self.methods is not None and method not in self.methods:
            return False
        if below:
            meant = self.routes is None or any(rule.may_match(method, route or "") for rule in self.rules)
            return meant and (limit is None or self.limit in (None, limit))
        meant = self.routes is None or (route is not None and any(rule.matches(method, route) for rule in self.rules))
        return meant and self.limit in (None, limit)


@dataclass(frozen=True, eq=False)
class Rate(Limit):
    """So many requests in ``per`` seconds: ``Rate(1500, per=60, name="requests")``. For the keywords see ``Limit``.

    It is counted by GCRA: up to ``amount`` at once, and from then on one more every ``per / amount`` seconds, so there is no
    window at whose edge twice as many would pass. A ``cost`` of ``@batchable`` above 1 weighs that much.
    """

    per: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seconds(f"{self.name}: per", self.per)
        if self.per > LONGEST:
            raise ValueError(f"{self.name}: per={self.per!r}: give at most {LONGEST:,} seconds, a year")
        if self.amount > self.per * SECOND:
            raise ValueError(f"{self.name}: {self.amount} per {self.per} s: give less than one per microsecond")

    @functools.cached_property
    def interval(self) -> int:
        """The time that one unit takes to come back, in whole microseconds, rounded up."""
        return -(-round(self.per * SECOND) // self.amount)

    @functools.cached_property
    def burst(self) -> int:
        """The time that all units take to come back, in microseconds."""
        return self.interval * self.amount


@dataclass(frozen=True, eq=False)
class Concurrency(Limit):
    """So many requests at work at the same time: ``Concurrency(50, name="reads", methods=["GET"])``. See ``Limit``.

    All slots of a batch are taken at once or none, without waiting, and each is given back when its action's work has really
    ended. In a Redis they are leases of ``lease`` seconds, renewed while the work runs: so long after the death of a process
    are its slots taken. An action takes one slot, whatever its cost.
    """

    lease: float = field(kw_only=True, default=30.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seconds(f"{self.name}: lease", self.lease)
        if self.lease > LONGEST:
            raise ValueError(f"{self.name}: lease={self.lease!r}: give at most {LONGEST:,} seconds, a year")
