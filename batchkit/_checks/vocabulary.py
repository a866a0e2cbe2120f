"""Keywords in the schema of a route that JSON Schema does not have, and which therefore check nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema_specifications import REGISTRY
from referencing.jsonschema import DRAFT202012

__all__ = ["misspelled"]

# What judges a value. An extension may have a word like "examples" of its own, and no harm is done by it.
_RULES = Draft202012Validator.VALIDATORS
_META = Draft202012Validator.META_SCHEMA


def misspelled(schema: Mapping[str, Any] | bool | None) -> Iterator[str]:
    """What to say of keywords by which the author of ``schema``, which is valid or None, must have meant others."""
    if not isinstance(schema, Mapping):
        return
    if schema and not any(name in _known() or _own(name) for name in schema):
        yield (
            f"{', '.join(map(repr, schema))}: no keyword of JSON Schema, so nothing is checked: "
            "write {'type': 'object', 'properties': {…}}"
        )
        return
    resources = [DRAFT202012.create_resource(dict(schema))]
    for resource in resources:
        resources += resource.subresources()
        for name, value in resource.contents.items() if isinstance(resource.contents, dict) else ():
            meant = [] if name in _RULES or _own(name) else get_close_matches(name, _RULES, n=1, cutoff=0.8)
            # Where the value could not stand there, the word is an extension's.
            if meant and Draft202012Validator(_META).is_valid({meant[0]: value}):
                yield f"{name!r} is no keyword of JSON Schema, and checks nothing: did you mean {meant[0]!r}?"


def _own(name: object) -> bool:
    """Whether a name can be nothing but its author's own; Python has keys that JSON has not."""
    return not isinstance(name, str) or name.startswith("x-")


def _known() -> set[str]:
    """All that the meta-schema and those of its vocabularies have."""
    resolver = REGISTRY.resolver(_META["$id"])
    parts = [resolver.lookup(part["$ref"]).contents for part in _META["allOf"]]
    return {name for part in (_META, *parts) for name in part["properties"]}
