"""JSON Schema → msgspec types, so that one description of an envelope both decides at once and explains what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Union

from msgspec import Meta, Raw, defstruct

__all__ = ["Schema", "type_of"]

Schema = dict[str, Any]

_SCALARS = {"string": str, "integer": int, "null": None}


def type_of(schema: Schema, items: Any = Raw, *, attributes: Mapping[str, str] = MappingProxyType({})) -> Any:
    """The type of what meets ``schema``: it checks all but patterns and lengths of strings, and what it says nothing of is raw.

    ``items`` is the type of what stands in an array of which the schema says no more. What may be absent is empty then, or None.
    ``attributes`` are the names that keys of an object have as attributes, where those are others.
    """
    kinds = schema.get("type", [])
    if isinstance(kinds, str):
        kinds = [kinds]
    if "properties" in schema:
        struct = _struct(schema, items, attributes)
        return struct | None if "null" in kinds else struct
    if not kinds or "object" in kinds:
        return Raw
    return Union[tuple(_array(schema, items) if kind == "array" else _SCALARS[kind] for kind in kinds)]  # noqa: UP007


def _array(schema: Schema, items: Any) -> Any:
    if "items" in schema:
        items = type_of(schema["items"])
    return Annotated[list[items], Meta(max_length=schema.get("maxItems"))]


def _struct(schema: Schema, items: Any, attributes: Mapping[str, str]) -> Any:
    fields: list[Any] = []
    keys = {attribute: key for key, attribute in attributes.items()}
    for key, property_schema in schema["properties"].items():
        kind = type_of(property_schema, items)
        name, required = attributes.get(key, key), key in schema.get("required", ())
        fields.append((name, kind) if required else (name, kind, Raw() if kind is Raw else None))
    # Without what is absent, it is written as it was read.
    closed = schema.get("additionalProperties") is False
    return defstruct("Envelope", fields, kw_only=True, omit_defaults=True, forbid_unknown_fields=closed, rename=keys)
