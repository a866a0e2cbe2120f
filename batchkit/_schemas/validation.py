"""JSON Schema 2020-12, judged within a budget of steps (protocol.md#the-schema-of-a-route).

jsonschema says what a schema means, and a property test holds these verdicts equal to its own. Its validator cannot be held to
a budget: it takes every branch of a union to its end, at each level of a recursion anew, and puts whole values into messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import thread_time
from typing import Any, NamedTuple

import regex

__all__ = ["NAMES", "Demand", "Demands", "Judgement", "Node", "Path", "TooComplex", "Violation"]

# A step is a schema that meets a value, a keyword of it, or as much other work: a quarter of a microsecond, in text a third.
STEPS = 15_000
# Names that are looked up in a step.
NAMES = 8
# Steps that a pattern takes to begin, and seconds of CPU for what all of them do beyond that: a search cannot be counted.
SEARCH = 4
SECONDS = 0.005

# Where a value stands: the path of what holds it, and its key or index in that.
Path = tuple["Path | None", "str | int"]
# That the value, or what stands below it at a key or index, meets a schema.
Demand = tuple["str | int | None", Any, "Node"]
# What a keyword demands, by the judgement, the keyword's rule, the value and the schema; False is what no value meets.
Demands = Callable[["Judgement", Any, Any, "Node"], bool | Iterable[Demand]]


class TooComplex(Exception):
    """All steps are spent."""


class Violation(NamedTuple):
    """A value that breaks a keyword of a schema."""

    keyword: str
    value: Any
    schema: Any
    path: Path | None


class Node:
    """A schema, ready to judge."""

    __slots__ = ("checks", "rules", "schema")

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        # What stands at its keywords, with nodes for schemas.
        self.rules: dict[str, Any] = {}
        # By type of value: what its checks cost by themselves, in steps, and each keyword with its rule and demands.
        self.checks: dict[type, tuple[int, list[tuple[str, Any, Demands]]]] = {}


class Judgement:
    """One value before one schema: the steps that are left, and what is known of its parts."""

    def __init__(self) -> None:
        self.left = STEPS
        self._seconds = SECONDS
        self._met: dict[tuple[int, int], bool] = {}

    def spend(self, steps: int) -> None:
        """Raises TooComplex where no more are left."""
        self.left -= steps
        if self.left < 0:
            raise TooComplex

    def violations(self, value: Any, node: Node, path: Path | None = None) -> Iterator[Violation]:
        """The violations of ``node`` by ``value``, each as it is found, in the order of the schema. Raises TooComplex."""
        cost, checks = node.checks[type(value)]
        self.spend(cost)
        for keyword, rule, demands in checks:
            demanded = demands(self, rule, value, node)
            if demanded is False:
                yield Violation(keyword, value, node.schema, path)
            for part, inner, below in demanded if not isinstance(demanded, bool) else ():
                place = path if part is None else (path, part)
                if below.schema is False:
                    yield Violation(keyword, inner, node.schema, place)
                else:
                    yield from self.violations(inner, below, place)

    def meets(self, value: Any, node: Node) -> bool:
        """Whether ``value`` meets ``node``. Raises TooComplex."""
        # What is known is not judged again, or the branches of a recursive union would take twice as long with each level.
        key = (id(value), id(node))
        self.spend(1)
        if key not in self._met:
            self._met[key] = next(self.violations(value, node), None) is None
        return self._met[key]

    def finds(self, pattern: regex.Pattern[str], text: str) -> bool:
        """Whether ``pattern`` is found in ``text``. Raises TooComplex.

        Python's own re tries every way through a pattern, with some patterns twice as many for each character of the text, and
        nothing stops it. The library regex reads the same patterns, and can be given a time, of which it takes CPU alone.
        """
        self.spend(SEARCH)
        began = thread_time()
        try:
            found = pattern.search(text, timeout=max(self._seconds, 0)) is not None
        except TimeoutError:
            raise TooComplex from None
        self._seconds -= thread_time() - began
        return found
