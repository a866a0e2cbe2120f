"""JSON Schema → the nodes that ``validation`` judges by; what has no meaning is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import regex
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from batchkit._schemas.demands import ALL, KEYWORDS, REFUSED, TYPES, key
from batchkit._schemas.validation import NAMES, Demands, Node

__all__ = ["DRAFT", "compile_schema"]

DRAFT: str = Draft202012Validator.META_SCHEMA["$id"]

# Keywords of which a schema that everything meets demands nothing, of however many values.
_OF_THE_REST = {"items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties"}
# Those at which a schema stands, an array of schemas, or an object of them.
_SCHEMA = _OF_THE_REST | {"not", "if", "then", "else", "contains", "propertyNames"}
_SCHEMAS = {"allOf", "anyOf", "oneOf", "prefixItems"}
_NAMED_SCHEMAS = {"properties", "dependentSchemas"}
# Those whose schemas judge the very value that the whole one judges.
_IN_PLACE = {"$ref", "$dynamicRef", "not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas"}
# To regex a brace may also begin how much a text may differ; to JSON Schema it is itself where it begins no count.
_BRACE = re.compile(r"(\\.)|\{(?!\d*,?\d*\})", re.DOTALL)


def compile_schema(schema: Mapping[str, Any]) -> Node:
    """``schema`` (JSON Schema 2020-12), ready to judge.

    Raises jsonschema's SchemaError where it is none, or refers to what is not in it, which is not fetched, or to itself for ever.
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
        in_place: TopologicalSorter[Node] = TopologicalSorter()
        for node, resolver in self._unfilled:
            if isinstance(node.schema, dict):
                _check_draft(node.schema)
                for keyword, rule in node.schema.items():
                    node.rules[keyword] = filled = self._rule(keyword, rule, resolver)
                    if keyword in _IN_PLACE:
                        in_place.add(node, *([filled] if isinstance(filled, Node) else _parts(filled)))
            node.checks.update((kind, _checks(node, kind)) for kind in ALL)
        try:
            in_place.prepare()
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
                return [(_pattern(pattern), below(schema)) for pattern, schema in rule.items()]
            case "pattern":
                return _pattern(rule)
            case "type":
                return {kind for name in ([rule] if isinstance(rule, str) else rule) for kind in TYPES[name]}
            case "enum" | "const":
                return {key(value, lambda steps: None) for value in (rule if keyword == "enum" else [rule])}
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


def _pattern(text: str) -> regex.Pattern[str]:
    return regex.compile(_BRACE.sub(lambda found: found[1] or r"\{", text))


def _checks(node: Node, kind: type) -> tuple[int, list[tuple[str, Any, Demands]]]:
    checks: list[tuple[str, Any, Demands]] = [REFUSED] if node.schema is False else []
    for keyword, rule in node.rules.items():
        kinds, demands = KEYWORDS.get(keyword, ((), None))
        met = rule.schema in (True, {}) if keyword in _OF_THE_REST else keyword == "type" and kind in rule
        if demands is not None and kind in kinds and not met:
            checks.append((keyword, rule, demands))
    return 1 + sum(1 + _size(rule) // NAMES for _, rule, _ in checks), checks


def _size(rule: Any) -> int:
    return len(rule) + sum(map(_size, _parts(rule))) if isinstance(rule, dict | list | set) else 0


def _parts(rule: Any) -> Any:
    return rule.values() if isinstance(rule, dict) else rule
