"""The tree of errors. Each class knows the status it is answered with (protocol.md#the-batch-request)."""

from __future__ import annotations

import json
import logging
import math
import secrets
from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "MAY_NOT_RUN",
    "ActionFailed",
    "ActionNotStarted",
    "ActionTimedOut",
    "BatchError",
    "BatchTooLarge",
    "EmptyBatch",
    "InvalidAction",
    "InvalidBatch",
    "InvalidJson",
    "LimiterUnavailable",
    "MethodNotAllowed",
    "NestedBatch",
    "NotBatchable",
    "ResultTooLarge",
    "SchemaViolation",
    "TooManyActions",
    "TooManyRequests",
    "UnsupportedMediaType",
]


logger = logging.getLogger("batchkit")

# What is said of an action that is not to run: a client knows by it that its request may be sent alone.
MAY_NOT_RUN = "This action cannot be used in a batch request"

# A year.
LONGEST_WAIT = 366 * 24 * 3600


class BatchError(Exception):
    """What batchkit answers instead of results, for a whole batch or for one action.

    ``messages`` are sentences for people: they never hold values of the request, exception texts or paths of the server.
    ``code`` is for programs: it stays what it is where a sentence gets a better wording (protocol.md#the-batch-request).
    """

    status_code: ClassVar[int] = 500
    code: ClassVar[str] = "server_error"

    def __init__(self, *messages: str) -> None:
        super().__init__(*messages)
        self.messages: Sequence[str] = messages

    @property
    def headers(self) -> dict[str, str]:
        """Header fields that go with the answer, by lower-case name."""
        return {}

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """``headers`` as ASGI has them."""
        return [(name.encode(), value.encode()) for name, value in self.headers.items()]

    def content(self, help: str | None = None) -> bytes:
        """The JSON of the answer, ``{"errors":[{"message": …, "code": …}]}``, with ``help`` where the host configured a text."""
        more = {"code": self.code} if help is None else {"code": self.code, "help": help}
        errors = [{"message": message, **more, **self.details} for message in self.messages]
        return json.dumps({"errors": errors}, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def details(self) -> dict[str, str]:
        """Further keys of each entry of ``errors``."""
        return {}


class InvalidBatch(BatchError):
    """The batch as a whole cannot be read: 400 (protocol.md#the-batch-request)."""

    status_code = 400
    code = "invalid_batch"


class InvalidJson(InvalidBatch):
    """The batch's body is no JSON: 400 (protocol.md#the-batch-request)."""

    code = "invalid_json"


class EmptyBatch(InvalidBatch):
    """The batch has no action: 400 (protocol.md#the-batch-request)."""

    code = "empty_batch"


class TooManyActions(InvalidBatch):
    """The batch has more than ``max_actions``: 400 (protocol.md#the-batch-request)."""

    code = "too_many_actions"


class NestedBatch(InvalidBatch):
    """The batch is itself an action of a batch: 400 (protocol.md#the-batch-request)."""

    code = "nested_batch"


class MethodNotAllowed(InvalidBatch):
    """The batch endpoint answers POST, and a GET of what it has to show: 405 with ``Allow`` (protocol.md#the-batch-request)."""

    status_code = 405
    code = "method_not_allowed"

    def __init__(self, *, console: bool, client_js: bool) -> None:
        gets = ["with its console a GET that accepts text/html"] * console + ["a GET with the query client.js"] * client_js
        super().__init__(f"The batch endpoint answers POST{', and '.join(['', *gets]) or ' only'}")
        self.shows = bool(gets)

    @property
    def headers(self) -> dict[str, str]:
        return {"allow": "GET, HEAD, POST" if self.shows else "POST"}


class BatchTooLarge(InvalidBatch):
    """The batch's body is larger than ``max_body_size``: 413 (protocol.md#the-batch-request)."""

    status_code = 413
    code = "batch_too_large"


class UnsupportedMediaType(InvalidBatch):
    """The batch's body is not declared as plain JSON, or is for another dialect: 415 (protocol.md#the-batch-request)."""

    status_code = 415
    code = "unsupported_media_type"


class TooManyRequests(BatchError):
    """Raised by a cost hook: the batch would exceed a limit, so nothing runs: 429 (protocol.md#admission).

    ``message`` says which limit, how much was asked and how much was left. ``retry_after`` is the time in seconds after
    which the same batch could pass, sent rounded up to a whole second, at least 1; None (or ``math.inf``) sends none.
    ``limit`` names the limit for plugins and metrics; it is no part of the answer. Raises TypeError for a ``retry_after`` that
    is no number, or a ``limit`` that is no text; ValueError for a ``retry_after`` of more than a year.
    """

    status_code = 429
    code = "rate_limited"

    def __init__(self, message: str | None = None, *, retry_after: float | None = None, limit: str | None = None) -> None:
        if not isinstance(retry_after, int | float | None):
            raise TypeError(f"retry_after={retry_after!r}: give a number of seconds, or None")
        if retry_after is not None and LONGEST_WAIT < retry_after < math.inf:
            raise ValueError(f"retry_after={retry_after!r}: give the seconds to wait, and not a point in time")
        if not isinstance(limit, str | None):
            raise TypeError(f"limit={limit!r}: give the name of the limit, or None")
        if not isinstance(message, str | None):
            raise TypeError(f"TooManyRequests({message!r}): give a text; a time in seconds is retry_after=")
        super().__init__(
            message
            or "You've made too many requests and hit a rate limit."
            + (" Please retry after the given amount of time." if retry_after is not None else "")
        )
        self.retry_after = retry_after
        self.limit = limit

    @property
    def headers(self) -> dict[str, str]:
        if self.retry_after is None or not math.isfinite(self.retry_after):
            return {}
        return {"retry-after": str(max(1, math.ceil(self.retry_after)))}


class LimiterUnavailable(BatchError):
    """The limiter could not be asked, so nothing runs: 503 (protocol.md#admission)."""

    status_code = 503
    code = "limiter_unavailable"

    def __init__(self, message: str = "The rate limiter is unavailable. Nothing was run; please try again.") -> None:
        super().__init__(message)


class InvalidAction(BatchError):
    """One action is malformed or may not run in a batch: a 400 result in its place (protocol.md#an-action)."""

    status_code = 400
    code = "invalid_action"


class NotBatchable(InvalidAction):
    """One action may not run in a batch, or nobody can tell: a 400 result in its place (protocol.md#an-action)."""

    code = "not_batchable"


class SchemaViolation(InvalidAction):
    """The data of one action does not meet the schema of its route: a 400 result in its place (protocol.md#an-action)."""

    code = "schema_violation"


class ActionFailed(BatchError):
    """One action ended without a usable answer: a 500 result in its place (protocol.md#running).

    ``phrase`` is an opaque id that stands in the result and in the server's log line.
    """

    code = "action_failed"

    def __init__(self, phrase: str) -> None:
        super().__init__("Server Error")
        self.phrase = phrase

    @classmethod
    def logged(cls, index: int, error: BaseException) -> ActionFailed:
        """Log the exception of the action at ``index``, and return what its client sees of it."""
        failed = cls(secrets.token_hex(8))
        logger.error("Unhandled exception in data.actions[%d], phrase %s", index, failed.phrase, exc_info=error)
        return failed

    @property
    def details(self) -> dict[str, str]:
        return {"phrase": self.phrase}


class ResultTooLarge(BatchError):
    """The answer of one action is larger than ``max_result_size``: a 502 result (protocol.md#running).

    ``encoded``: it is so as it would stand in the answer of the batch.
    """

    status_code = 502
    code = "result_too_large"

    def __init__(self, limit: int, *, encoded: bool = False) -> None:
        super().__init__(f"The result is larger than {limit:,} bytes{' as it stands in a batch' if encoded else ''}")


class ActionTimedOut(BatchError):
    """One action did not answer in time: a 504 result; whether it took effect is unknown (protocol.md#running)."""

    status_code = 504
    code = "timed_out"


class ActionNotStarted(BatchError):
    """One action had not begun at its deadline, or when the client left: a 503 result; it has no effect (protocol.md#running)."""

    status_code = 503
    code = "not_started"
