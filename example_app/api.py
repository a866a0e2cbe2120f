"""The conventions of the API: JSON, errors in Asana's words, and what clients send, read into types that say what it may be."""

import logging
import re
import secrets
from typing import Annotated, Any

import msgspec
from starlette.authentication import AuthenticationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

HELP = (
    "For more information on API status codes and how to handle them, "
    "read the docs on errors: https://developers.asana.com/docs/errors"
)
# PostgreSQL has no place for U+0000.
Text = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00]*\Z", max_length=65535)]
Gid = int | str

logger = logging.getLogger("example_app")


class Json(JSONResponse):
    """JSON with Asana's spelling of the media type."""

    media_type = "application/json; charset=UTF-8"


class ApiError(HTTPException):
    """A client's mistake: the status, and Asana's words for it."""


def not_authorized(connection: HTTPConnection, error: AuthenticationError) -> Json:
    return Json({"errors": [{"message": str(error)}]}, 401)


async def refused(request: Request, error: Exception) -> Json:
    """The answer to a mistake; to Asana a wrong method is a wrong route."""
    assert isinstance(error, HTTPException)
    status, message = error.status_code, error.detail
    if not isinstance(error, ApiError) and status in (404, 405):
        status, message = 404, "No matching route for request"
    return Json({"errors": [{"message": message, "help": HELP}]}, status)


async def failed(request: Request, error: Exception) -> Json:
    """The answer where the app itself is at fault, with a phrase that finds its line in the log."""
    phrase = secrets.token_hex(8)
    logger.error("%s %s failed: %s", request.method, request.url.path, phrase)
    return Json({"errors": [{"message": "Server Error", "help": HELP, "phrase": phrase}]}, 500)


async def data(request: Request, form: Any) -> Any:
    """The ``data`` of the body, and what the path says."""
    try:
        content = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, RecursionError):
        raise ApiError(400, "Could not parse request data, invalid JSON") from None
    for name in converted(content, dict[str, Any], "body").keys() - {"data", "options"}:
        raise ApiError(
            400,
            f"Unrecognized request field {name} . The only allowed keys at the top level are: data, options. "
            "Is it possible you did not wrap object properties in a data object?",
        )
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
        raise ApiError(400, f"{missing[1]}: Missing input")
    raise ApiError(400, f"{where.removesuffix('`') or whole}: {what}")
