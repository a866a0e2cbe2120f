"""The conventions of the API: JSON, errors in Asana's words, and what clients send, read into types that say what it may be."""

import logging
import re
import secrets
from typing import Annotated, Any, TypedDict

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

DOCS = "https://developers.asana.com/docs/errors"
HELP = f"For more information on API status codes and how to handle them, read the docs on errors: {DOCS}"
# PostgreSQL has no place for U+0000.
Text = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00]*\Z", max_length=65535)]
Gid = int | str


class Json(JSONResponse):
    media_type = "application/json; charset=UTF-8"  # as Asana spells it


def not_authorized(connection: HTTPConnection, error: Exception) -> Json:
    return Json({"errors": [{"message": str(error)}]}, 401)


async def refused(request: Request, error: Any) -> Json:
    """The answer to a client's mistake. Where Starlette finds no route, or none with the method, Asana has other words."""
    lost = error.detail in ("Not Found", "Method Not Allowed")
    status, message = (404, "No matching route for request") if lost else (error.status_code, error.detail)
    return Json({"errors": [{"message": message, "help": HELP}]}, status)


async def failed(request: Request, error: Exception) -> Json:
    """The answer where the app itself is at fault, with a phrase that finds its line in the log."""
    phrase = secrets.token_hex(8)
    logging.getLogger("example_app").error("%s %s failed: %s", request.method, request.url.path, phrase)
    return Json({"errors": [{"message": "Server Error", "help": HELP, "phrase": phrase}]}, 500)


def form(*others: Any, **fields: Any) -> Any:
    """The names and types of what may be sent, after those of ``others``. What is not ``Required`` may be missing."""
    kind: Any = TypedDict
    return kind("form", {name: field for other in others for name, field in other.__annotations__.items()} | fields, total=False)


async def data(request: Request, form: Any) -> Any:
    """The ``data`` of the body, and what the path says."""
    try:
        content = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, RecursionError):
        raise HTTPException(400, "Could not parse request data, invalid JSON") from None
    for name in converted(content, dict[str, Any], "body").keys() - {"data", "options"}:
        message = f"Unrecognized request field {name} . The only allowed keys at the top level are: data, options. "
        raise HTTPException(400, message + "Is it possible you did not wrap object properties in a data object?")
    return converted(converted(content.get("data", {}), dict[str, Any], "data") | request.path_params, form, "data")


def query(request: Request, form: Any) -> Any:
    """The query parameters, and what the path says."""
    return converted({**request.query_params, **request.path_params}, form, "query", strict=False)


def converted(values: Any, form: Any, whole: str, *, strict: bool = True) -> Any:
    """``values`` in the shape of ``form``, or a 400 with the name of the field in front, or that of the ``whole``."""
    try:
        return msgspec.convert(values, form, strict=strict)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
    if missing := re.fullmatch("Object missing required field `(.*)`", what):
        raise HTTPException(400, f"{missing[1]}: Missing input")
    raise HTTPException(400, f"{where.removesuffix('`') or whole}: {what}")
