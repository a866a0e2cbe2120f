"""What is said between a batch and the server, without any networking: whoever drives it does the steps that it asks for."""

from __future__ import annotations

import enum
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import httpx2

from batchkit._protocol.content import media_type
from batchkit._protocol.dialects import DIALECTS, ReadResult
from batchkit.client.drafts import Draft
from batchkit.client.responses import copy, is_refusal, read_line, read_results, response_of
from batchkit.client.server import Server, shown

__all__ = ["Alone", "Call", "Chunk", "Conversation", "Send", "Wait", "conversation", "fail"]

# The batch endpoint is not there: another method or media type is asked for, or another place.
ABSENT = frozenset({301, 302, 303, 307, 308, 404, 405, 415, 501})
# The client has been told too little of the endpoint, its max_actions say.
ILL_TOLD = frozenset({400, 413})
LINES = frozenset({"application/x-ndjson", "application/jsonl"})
# Actions see this less the type of lines: what the caller says itself.
ACCEPT_LINES = b"application/x-ndjson, */*"


class Alone(enum.Enum):
    """The outcome of a call that is not to travel in a batch: nothing of it has run."""

    ALONE = enum.auto()


class Call:
    """A request that waits for its outcome: a response, the error to raise, or ``ALONE``. ``left`` is whether nobody waits any
    more.
    """

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.outcome: httpx2.Response | Exception | Alone | None = None
        self.left = False

    def settle(self, outcome: httpx2.Response | Exception | Alone) -> None:
        """Give the call its outcome; it keeps the first."""
        if self.outcome is None:
            self.outcome = outcome


@dataclass(frozen=True)
class Send:
    """Send this request; the reply is its response, not yet read."""

    request: httpx2.Request


@dataclass(frozen=True)
class Chunk:
    """Read on; the reply is more of the content of the response that was last sent for, or None at its end."""


@dataclass(frozen=True)
class Wait:
    """Wait for so many seconds."""

    seconds: float


Conversation = Generator[Send | Chunk | Wait, Any, None]


def conversation(calls: Sequence[Call], server: Server) -> Conversation:
    """Send ``calls`` as one batch, and settle each as soon as it has its outcome.

    Raises what the steps raise, and httpx2.RemoteProtocolError; what is not settled then has an unknown outcome: see ``fail``.
    """
    patience = server.max_wait
    while True:
        calls = [call for call in calls if not call.left]
        if len(calls) < 2 or server.absent:
            return _settle(calls, Alone.ALONE)
        response: httpx2.Response = yield Send(_request([call.draft for call in calls], server))
        wait = _retry_after(response) if response.status_code == 429 else None
        if wait is None or wait > patience:
            break
        yield from _content()
        patience -= wait
        yield Wait(wait)
    status = response.status_code
    if status == 200:
        yield from _results(calls, response, server)
    elif (status >= 500 and status not in ABSENT) or wait is not None:
        # A proxy may have given up on a batch that runs: no one repeats that.
        content = yield from _content()
        for call in calls:
            call.settle(copy(response, content, call.draft.request.method))
    elif status >= 300:
        # Nothing ran, and it was for the batch that nothing ran.
        server.absent = server.absent or status in ABSENT
        _settle(calls, Alone.ALONE)
        content = yield from _content()
        if status in ABSENT or status in ILL_TOLD:
            message = "POST %s was answered %d (%s): its requests go out one by one"
            server.warn(status, message, shown(server.url), status, _reason(response, content, server))
    else:
        raise httpx2.RemoteProtocolError(f"A batch was answered {status}, which no batch endpoint does")
    return None


def fail(calls: Sequence[Call], error: Exception) -> None:
    """Settle what is not settled: ``error`` broke off the conversation. Each call has an exception of its own, of its kind."""
    for call in calls:
        if call.outcome is None:
            kind = type(error) if isinstance(error, httpx2.RequestError) else httpx2.TransportError
            failure = kind(str(error) or type(error).__name__)
            failure.__cause__ = error
            call.settle(failure)


def _settle(calls: Sequence[Call], outcome: Alone) -> None:
    for call in calls:
        call.settle(outcome)


def _request(drafts: Sequence[Draft], server: Server) -> httpx2.Request:
    fields, extensions = list(drafts[0].fields), drafts[0].request.extensions
    # A stream has no place for the cookies of an action that ends after its header has gone out: what writes may well set some.
    reads = all(draft.request.method in ("GET", "HEAD") for draft in drafts)
    # Any other Accept stays as the caller wrote it.
    if reads and server.stream and [value for name, value in fields if name == b"accept"] == [b"*/*"]:
        fields = [(name, ACCEPT_LINES if name == b"accept" else value) for name, value in fields]
    # An endpoint of the other dialect would make other requests of these actions: so it refuses them.
    fields.append((b"content-type", b"application/json; dialect=" + server.dialect.encode()))
    body = DIALECTS[server.dialect].batch([draft.json for draft in drafts])
    return httpx2.Request("POST", server.url, headers=fields, content=body, extensions=extensions)


def _reason(response: httpx2.Response, content: bytes, server: Server) -> str:
    """What a server gives as its reason not to run a batch."""
    if response.has_redirect_location:
        try:
            return f"it redirects to {shorten(shown(httpx2.URL(response.headers['location'])), 300)}"
        except httpx2.InvalidURL:
            return "it redirects elsewhere"
    messages = DIALECTS[server.dialect].messages(content)
    # It stands in one line of a log.
    return shorten(messages[0][:1000], 300) if messages else response.reason_phrase


def _retry_after(response: httpx2.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return max(1.0, float(value)) if value.isascii() and value.isdecimal() else None


def _content() -> Generator[Chunk, bytes | None, bytes]:
    chunks = []
    while (chunk := (yield Chunk())) is not None:
        chunks.append(chunk)
    return b"".join(chunks)


def _results(calls: Sequence[Call], response: httpx2.Response, server: Server) -> Generator[Chunk, bytes | None, None]:
    dialect = DIALECTS[server.dialect]
    cookies = [field for field in response.headers.raw if field[0].lower() == b"set-cookie"]

    def settle(index: int, result: ReadResult) -> None:
        nonlocal cookies
        call = calls[index]
        draft = call.draft
        if is_refusal(result, index, draft.request.method, dialect):
            server.refused(draft.request.method, draft.path)
            call.settle(Alone.ALONE)
        else:
            try:
                call.settle(response_of(result, draft, response, cookies))
            except httpx2.RemoteProtocolError as error:
                call.settle(error)
            else:
                cookies = cookies if call.left else []

    if media_type(response.headers.get("content-type", "").encode("latin-1"))[0] not in LINES:
        content = yield from _content()
        for index, result in enumerate(read_results(content, len(calls), dialect)):
            settle(index, result)
        return
    # Joined once: a line may come in any number of chunks.
    line: list[bytes] = []
    while (chunk := (yield Chunk())) is not None:
        more, *others = chunk.split(b"\n")
        line.append(more)
        for start in others:
            result = read_line(b"".join(line), len(calls), dialect)
            line = [start]
            if calls[result.index].outcome is not None:
                raise httpx2.RemoteProtocolError(f"The answer to a batch holds the result {result.index} twice")
            settle(result.index, result)
    if any(call.outcome is None for call in calls):
        raise httpx2.RemoteProtocolError("The answer to a batch was broken off before this result: its outcome is unknown")
