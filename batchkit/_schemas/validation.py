"""JSON Schema 2020-12, judged within a budget of steps (contract section 2, "within a budget of steps").

jsonschema says what a schema means, and a property test holds these verdicts equal to its own. Its validator cannot be held to
a budget: it takes every branch of a union to its end, at each level of a recursion anew, and puts whole values into messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

__all__ = ["NAMES", "Check", "Demand", "Demands", "Judgement", "Node", "TooComplex", "Violation"]

# A step is a schema that meets a value, a keyword of it, or as much other work: a quarter of a microsecond, in text a third.
STEPS = 15_000
# Names that are looked up in a step.
NAMES = 8

_CONTAINERS = (dict, list)

# Where a value stands: the path of what holds it, and its key or index in that.
Path = tuple["Path | None", "str | int"]
# That the value, or what stands below it at a key or index, meets a schema.
Demand = tuple["str | int | None", Any, "Node"]
# What a keyword demands, by the judgement, the keyword's rule, the value and the schema.
Demands = Callable[["Judgement", Any, Any, "Node"], Iterable[Demand]]


class TooComplex(Exception):
    """All steps are spent."""


class Violation(NamedTuple):
    """A value that breaks a keyword of a schema."""

    keyword: str
    value: Any
    schema: Any
    path: Path | None


class Check(NamedTuple):
    """A keyword of a schema, the rule that stands there, and what it demands of a value."""

    keyword: str
    rule: Any
    demands: Demands


class Node:
    """A schema, ready to judge."""

    __slots__ = ("checks", "rules", "schema")

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        # What stands at its keywords, with nodes for schemas.
        self.rules: dict[str, Any] = {}
        # By type of value: what its checks cost by themselves, in steps, and the checks.
        self.checks: dict[type, tuple[int, list[Check]]] = {}


class Judgement:
    """One value before one schema: the steps that are left, and what is known of its parts."""

    def __init__(self) -> None:
        self.left = STEPS
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
            for part, inner, below in demands(self, rule, value, node):
                place = path if part is None else (path, part)
                if below.schema is False:
                    yield Violation(keyword, inner, node.schema, place)
                else:
                    yield from self.violations(inner, below, place)

    def meets(self, value: Any, node: Node) -> bool:
        """Whether ``value`` meets ``node``. Raises TooComplex."""
        # What is known is not judged again, or the branches of a recursive union would take twice as long with each level.
        key = (id(value), id(node)) if isinstance(value, _CONTAINERS) else None
        if key in self._met:
            self.spend(1)
            return self._met[key]
        cost, checks = node.checks[type(value)]
        self.spend(cost)
        for _, rule, demands in checks:
            for _, inner, below in demands(self, rule, value, node):
                if below.schema is False or not self.meets(inner, below):
                    if key is not None:
                        self._met[key] = False
                    return False
        if key is not None:
            self._met[key] = True
        return True

    def evaluated(self, value: Any, node: Node, *, with_own: bool = True) -> set[Any]:
        """The keys or indices of ``value`` that ``node`` evaluates, its own ``unevaluated…`` included or not."""
        self.spend(1 + len(value) // NAMES)
        rules = node.rules
        found: set[Any] = set()
        if isinstance(value, dict):
            if "additionalProperties" in rules or (with_own and "unevaluatedProperties" in rules):
                return set(value)
            properties, patterns = rules.get("properties", ()), rules.get("patternProperties", ())
            found.update(name for name in value if name in properties)
            found.update(name for pattern, _ in patterns for name in value if pattern.search(name, self.spend))
        else:
            if "items" in rules or (with_own and "unevaluatedItems" in rules):
                return set(range(len(value)))
            found.update(range(min(len(value), len(rules.get("prefixItems", ())))))
            if "contains" in rules:
                found.update(index for index, item in enumerate(value) if self.meets(item, rules["contains"]))
        return found.union(*[self.evaluated(value, each) for each in self._met_in_place(value, node)])

    def _met_in_place(self, value: Any, node: Node) -> Iterator[Node]:
        for keyword, rule in node.rules.items():
            match keyword:
                case "$ref" | "$dynamicRef":
                    yield rule
                case "allOf" | "anyOf" | "oneOf":
                    yield from (each for each in rule if self.meets(value, each))
                case "dependentSchemas" if isinstance(value, dict):
                    yield from (rule[name] for name in value if name in rule)
                case "if":
                    met = self.meets(value, rule)
                    if met:
                        yield rule
                    if (branch := node.rules.get("then" if met else "else")) is not None:
                        yield branch
