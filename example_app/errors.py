"""Answers in JSON, and errors in Asana's form."""

import logging
import secrets

from starlette.authentication import AuthenticationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

HELP = (
    "For more information on API status codes and how to handle them, "
    "read the docs on errors: https://developers.asana.com/docs/errors"
)

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
