"""JSON Schema → the nodes that ``validation`` judges by; what has no meaning or no bound is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from batchkit._schemas.demands import ALL, KEYWORDS, TYPES, Constants, never
from batchkit._schemas.patterns import Pattern, Unbounded
from batchkit._schemas.validation import NAMES, Check, Node

__all__ = ["DRAFT", "compile_schema"]

DRAFT: str = Draft202012Validator.META_SCHEMA["$id"]

# Keywords at which a schema stands, an array of schemas, or an object of them.
_SCHEMA = {"not", "if", "then", "else", "items", "contains", "propertyNames", "additionalProperties", "contentSchema"} | {
    "unevaluatedItems",
    "unevaluatedProperties",
}
_SCHEMAS = {"allOf", "anyOf", "oneOf", "prefixItems"}
_NAMED_SCHEMAS = {"properties", "dependentSchemas", "$defs", "definitions"}
# Those of which a schema that everything meets demands nothing, of however many values.
_OF_THE_REST = {"items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties"}


def compile_schema(schema: Mapping[str, Any]) -> Node:
    """``schema`` (JSON Schema 2020-12), ready to judge.

    Raises jsonschema's SchemaError where it is none, refers to what is not in it, which is not fetched, or to itself for ever,
    or has a pattern that nothing bounds.
    """
    if isinstance(schema, Mapping):
        schema = dict(schema)
        _check_draft(schema)
    Draft202012Validator.check_schema(schema)
    compiler = _Compiler()
    node = compiler.node(schema, REGISTRY.resolver_with_root(DRAFT202012.create_resource(schema)))
    compiler.fill()
    return node


def _check_draft(schema: Mapping[str, Any]) -> None:
    if str(schema.get("$schema", DRAFT)).rstrip("#") != DRAFT:
        raise SchemaError(f"$schema {schema['$schema']!r}: write it for {DRAFT}, which says some things by other keywords")


class _Compiler:
    """The nodes of a schema, one for each schema in it and for each meaning that its dynamic references have."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, tuple[str, ...]], Node] = {}
        self._unfilled: list[tuple[Node, Any]] = []
        self._patterns: dict[str, Pattern] = {}

    def node(self, schema: Any, resolver: Any) -> Node:
        # Of the resources on the way here the outermost one that has an anchor gives it its meaning: each counts once.
        scope = tuple(dict.fromkeys(uri for uri, _ in reversed(list(resolver.dynamic_scope()))))
        node = self._nodes.get((id(schema), scope))
        if node is None:
            node = self._nodes[id(schema), scope] = Node(schema)
            self._unfilled.append((node, resolver))
        return node

    def fill(self) -> None:
        """Give all nodes, those among them that they lead to, their rules and checks. Raises SchemaError."""
        for node, resolver in self._unfilled:
            if isinstance(node.schema, dict):
                _check_draft(node.schema)
                for keyword, rule in node.schema.items():
                    node.rules[keyword] = self._rule(keyword, rule, resolver)
            node.checks.update((kind, _checks(node, kind)) for kind in ALL)
        try:
            TopologicalSorter({node: list(_in_place(node)) for node, _ in self._unfilled}).prepare()
        except CycleError:
            raise SchemaError("it refers to itself without end") from None

    def _rule(self, keyword: str, rule: Any, resolver: Any) -> Any:
        def below(schema: Any) -> Node:
            return self.node(schema, resolver.in_subresource(DRAFT202012.create_resource(schema)))

        if keyword in _SCHEMA:
            return below(rule)
        if keyword in _SCHEMAS:
            return [below(schema) for schema in rule]
        if keyword in _NAMED_SCHEMAS:
            return {name: below(schema) for name, schema in rule.items()}
        match keyword:
            case "$ref" | "$dynamicRef":
                return self._referred(keyword, rule, resolver)
            case "patternProperties":
                return [(self._pattern(pattern), below(schema)) for pattern, schema in rule.items()]
            case "pattern":
                return self._pattern(rule)
            case "enum":
                return Constants(rule)
            case "const":
                return Constants([rule])
            case _:
                return rule

    def _referred(self, keyword: str, reference: str, resolver: Any) -> Node:
        try:
            found = resolver.lookup(reference)
        except Unresolvable:
            raise SchemaError(f"{keyword} {reference!r} leads nowhere: put what it means below $defs") from None
        # What no keyword leads to has not been checked yet.
        Draft202012Validator.check_schema(found.contents)
        return self.node(found.contents, found.resolver)

    def _pattern(self, text: str) -> Pattern:
        if text not in self._patterns:
            try:
                self._patterns[text] = Pattern(text)
            except Unbounded as error:
                raise SchemaError(f"the pattern {text!r} can take exponential time: write it without {error}") from None
        return self._patterns[text]


def _checks(node: Node, kind: type) -> tuple[int, list[Check]]:
    if node.schema is False:
        return 1, [Check("false", None, never)]
    checks = []
    for keyword, rule in node.rules.items():
        if keyword == "type":
            if not any(kind in TYPES[name] for name in ([rule] if isinstance(rule, str) else rule)):
                checks.append(Check(keyword, rule, never))
        elif keyword in KEYWORDS and not (keyword in _OF_THE_REST and rule.schema in (True, {})):
            kinds, demands = KEYWORDS[keyword]
            if kind in kinds:
                checks.append(Check(keyword, rule, demands))
    return 1 + sum(1 + _size(rule) // NAMES for _, rule, _ in checks), checks


def _size(rule: Any) -> int:
    if not isinstance(rule, dict | list):
        return 0
    return len(rule) + sum(map(_size, rule.values() if isinstance(rule, dict) else rule))


def _in_place(node: Node) -> Iterator[Node]:
    """What judges the very value that ``node`` judges."""
    for keyword, rule in node.rules.items():
        match keyword:
            case "$ref" | "$dynamicRef" | "not" | "if" | "then" | "else":
                yield rule
            case "allOf" | "anyOf" | "oneOf":
                yield from rule
            case "dependentSchemas":
                yield from rule.values()
