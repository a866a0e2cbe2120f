"""What clients send, read into the types that say what it may be: a dict of what is there, or a 400."""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw
from starlette.requests import Request

from example_app.errors import ApiError

# PostgreSQL has no place for U+0000.
Text = Annotated[str, Meta(pattern=r"\A[^\x00]*\Z", max_length=65535)]
Gid = int | str


async def body(request: Request, form: Any) -> Any:
    """The body, as JSON."""
    return parsed(await request.body(), form, "body")


async def data(request: Request, form: Any) -> Any:
    """The ``data`` of the body."""
    content = await body(request, dict[str, Raw])
    for name in content.keys() - {"data", "options"}:
        raise ApiError(
            400,
            f"Unrecognized request field {name} . The only allowed keys at the top level are: data, options. "
            "Is it possible you did not wrap object properties in a data object?",
        )
    return parsed(content.get("data", b"{}"), form, "data")


def query(request: Request, form: Any) -> Any:
    """The query parameters."""
    return converted(dict(request.query_params), form)


def parsed(content: bytes | Raw, form: Any, name: str) -> Any:
    try:
        return msgspec.json.decode(content, type=form)
    except msgspec.ValidationError as error:
        raise mistake(error, name) from None
    except (msgspec.DecodeError, RecursionError):
        raise ApiError(400, "Could not parse request data, invalid JSON") from None


def converted(texts: dict[str, Any], form: Any) -> Any:
    """What is a text each, as in a query."""
    try:
        return msgspec.convert(texts, form, strict=False)
    except msgspec.ValidationError as error:
        raise mistake(error, "query") from None


def mistake(error: msgspec.ValidationError, whole: str) -> ApiError:
    """What is wrong, with the name of the field in front, or that of the ``whole``."""
    what, _, where = str(error).partition(" - at `$.")
    if missing := re.fullmatch("Object missing required field `(.*)`", what):
        return ApiError(400, f"{missing[1]}: Missing input")
    return ApiError(400, f"{where.removesuffix('`') or whole}: {what}")
