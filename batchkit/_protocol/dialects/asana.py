"""The dialect of Asana: bodies in a ``data`` envelope, ``opt_fields``, arrays joined with commas."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from batchkit._protocol.dialects.dialect import Dialect, Parameters
from batchkit.errors import InvalidAction

__all__ = ["Asana"]

# Each option and its parameter.
_PARAMETERS = {"limit": "limit", "offset": "offset", "fields": "opt_fields", "expand": "opt_expand"}
_OPTIONS = {parameter: option for option, parameter in _PARAMETERS.items()}


class Asana(Dialect):
    """As Asana's own API has it (protocol.md#an-action)."""

    guide = (
        'The data of a post, put or patch is sent to its endpoint as {"data": …}; that of a get, head or delete becomes its '
        "query, arrays joined with commas, and so do limit and offset, and fields and expand as opt_fields and opt_expand."
    )

    def split(self, relative_path: str) -> tuple[str, bytes]:
        return relative_path, b""

    def parameters_of(self, name: str, values: list[str], place: str) -> Parameters:
        if name in ("limit", "offset") or name.startswith("opt_"):
            raise InvalidAction(f"{place}: Options and pagination are not accepted here; put them in options instead")
        return [(name, ",".join(values))] if values else []

    def option_parameters(self, options: Any) -> Parameters:
        return [
            (parameter, ",".join(value) if isinstance(value, list) else str(value))
            for option, parameter in _PARAMETERS.items()
            if (value := getattr(options, option)) is not None and value != []
        ]

    def body_of(self, data: bytes) -> bytes:
        return b'{"data":' + data + b"}"

    def target_of(self, path: str, query: str) -> dict[str, Any]:
        data: dict[str, str] = {}
        options: dict[str, str | int] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in _OPTIONS:
                data[name] = value
            elif name != "limit":
                options[_OPTIONS[name]] = value
            elif value.isascii() and value.isdecimal() and len(value) < 10:
                options["limit"] = int(value)
        return {"relative_path": path} | ({"data": data} if data else {}) | ({"options": options} if options else {})

    def data_of(self, body: bytes) -> bytes:
        return body[len(b'{"data":') : -1]
