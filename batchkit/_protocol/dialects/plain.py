"""The dialect for hosts without Asana's conventions: ``data`` itself is the body, arrays become repeated keys."""

from __future__ import annotations

from typing import Any

from batchkit._protocol.dialects.dialect import Dialect, Parameters
from batchkit._protocol.paths import parse_query

__all__ = ["Plain"]


class Plain(Dialect):
    """The same envelope, and in it requests of any API (protocol.md#an-action)."""

    guide = (
        "The data of a post, put or patch is the body that its endpoint receives; that of a get, head or delete becomes its "
        "query, arrays as repeated keys, and so do all options. A relative_path may carry a query of its own."
    )

    def split(self, relative_path: str) -> tuple[str, bytes]:
        path, _, query = relative_path.partition("?")
        return path, parse_query(query)

    def parameters_of(self, name: str, values: list[str], place: str) -> Parameters:
        return [(name, value) for value in values]

    def option_parameters(self, options: Any) -> Parameters:
        return [
            (name, str(text))
            for name in ("limit", "offset", "fields", "expand")
            if (value := getattr(options, name)) is not None
            for text in (value if isinstance(value, list) else [value])
        ]

    def body_of(self, data: bytes) -> bytes:
        return data

    def target_of(self, path: str, query: str) -> dict[str, Any]:
        return {"relative_path": f"{path}?{query}" if query else path}

    def data_of(self, body: bytes) -> bytes:
        return body
