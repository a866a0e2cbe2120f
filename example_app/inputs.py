"""What clients send, read into the types that say what it may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from starlette.requests import Request

from example_app.errors import ApiError

Form = TypeVar("Form", bound=Struct)

# PostgreSQL has no place for U+0000.
Text = Annotated[str, Meta(pattern=r"\A[^\x00]*\Z", max_length=65535)]
Gid = int | str


async def data(request: Request, form: type[Form]) -> Form:
    """The ``data`` of the body."""
    body = parsed(await request.body(), dict[str, Raw])
    for name in body:
        if name not in ("data", "options"):
            raise ApiError(
                400,
                f"Unrecognized request field {name} . The only allowed keys at the top level are: data, options. "
                "Is it possible you did not wrap object properties in a data object?",
            )
    return parsed(body.get("data", b""), form) if "data" in body else checked({}, form)


def query(request: Request, form: type[Form]) -> Form:
    """The query parameters."""
    return checked(dict(request.query_params), form)


def parsed(content: bytes | Raw, type_: type[Any]) -> Any:
    """JSON, as what it should be."""
    try:
        return msgspec.json.decode(content, type=type_)
    except msgspec.ValidationError as error:
        raise mistake(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError(400, "Could not parse request data, invalid JSON") from None


def checked(values: Mapping[str, Any], form: type[Form]) -> Form:
    """The form that texts make, as they stand in a query or in a multipart body."""
    try:
        return msgspec.convert(values, form, strict=False)
    except msgspec.ValidationError as error:
        raise mistake(error) from None


def mistake(error: msgspec.ValidationError) -> ApiError:
    """What was wrong, beginning with the name of the field."""
    what, _, where = str(error).partition(" - at `$")
    if missing := re.fullmatch("Object missing required field `(.*)`", what):
        return ApiError(400, f"{missing[1]}: Missing input")
    return ApiError(400, f"{where.strip('.`') or 'data'}: {what}")


def given(form: Struct, *names: str) -> dict[str, Any]:
    """Those of the named fields that the client has sent."""
    values = {name: getattr(form, name) for name in names}
    return {name: value for name, value in values.items() if value is not UNSET}


__all__ = ["UNSET", "Gid", "Text", "UnsetType", "checked", "data", "given", "parsed", "query"]
