"""A result of a batch → the response that its request would have had alone, as far as it tells (protocol.md#the-answer)."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

import httpx2
import msgspec

from batchkit._protocol.content import is_charset, media_type
from batchkit._protocol.dialects import Dialect, ReadResult
from batchkit.client.drafts import Draft
from batchkit.errors import MAY_NOT_RUN

__all__ = ["copy", "is_refusal", "read_line", "read_results", "response_of"]

Fields = list[tuple[bytes, bytes]]

# The parent response says these for all of its results.
_COMMON = ("date", "server")
# They describe the parent's own message, which has been decoded.
_OF_THE_MESSAGE = frozenset({"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"})

_TOO_LARGE = re.compile(r"The result is larger than [0-9,]+ bytes(?: as it stands in a batch)?").match

_string = msgspec.json.Decoder(str)


def read_results(content: bytes, count: int, dialect: Dialect) -> Sequence[ReadResult]:
    """The results that a plain answer holds. Raises httpx2.RemoteProtocolError where they are not ``count`` results."""
    try:
        results = dialect.read_results(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise httpx2.RemoteProtocolError(f"The answer to a batch is not what a batch endpoint sends: {error}") from error
    if len(results) != count:
        raise httpx2.RemoteProtocolError(f"The answer to a batch of {count} holds {len(results)} results")
    return results


def read_line(line: bytes, count: int, dialect: Dialect) -> ReadResult:
    """The result in a line of a streamed answer. Raises httpx2.RemoteProtocolError where it is none of ``count``."""
    try:
        result = dialect.read_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise httpx2.RemoteProtocolError(f"A line of the answer to a batch is no result: {error}") from error
    if not 0 <= result.index < count:
        raise httpx2.RemoteProtocolError(f"A result of the answer to a batch of {count} has the index {result.index}")
    return result


def is_refusal(result: ReadResult, index: int, method: str, dialect: Dialect) -> bool:
    """Whether the batch is what kept the request at ``index`` from its answer, and it may be sent alone.

    It is where the action did not run, as it may not in a batch; and where a GET or HEAD ran, whose answer is too large for one.
    """
    refused = result.status_code == 400
    if not refused and not (result.status_code == 502 and method in ("GET", "HEAD")):
        return False
    said = next(iter(dialect.messages(bytes(result.body))), "")
    # A handler may say nearly the same, of a value of its own.
    return said.startswith(f"{dialect.place(index)}: {MAY_NOT_RUN}") if refused else _TOO_LARGE(said) is not None


def response_of(result: ReadResult, draft: Draft, parent: httpx2.Response, cookies: Fields) -> httpx2.Response:
    """The response to ``draft``; ``cookies`` are ``Set-Cookie`` fields that it shall have.

    Raises httpx2.RemoteProtocolError where the result contradicts itself.
    """
    status, method = result.status_code, draft.request.method
    try:
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in result.headers.items()]
        empty = method == "HEAD" or status in (204, 304) or (300 <= status < 400 and bytes(result.body) == b"{}")
        content = b"" if empty else _content(result)
    except (LookupError, ValueError) as error:
        raise httpx2.RemoteProtocolError(f"A result of a batch cannot be read: {error}") from error
    if not empty and "content-type" not in result.headers:
        fields.append((b"content-type", b"application/json"))
    if method != "HEAD" and status not in (204, 304):
        fields.append((b"content-length", b"%d" % len(content)))
    fields += [(name.encode(), parent.headers[name].encode("latin-1")) for name in _COMMON if name in parent.headers]
    return _response(status, fields + cookies, content, parent)


def copy(parent: httpx2.Response, content: bytes, method: str) -> httpx2.Response:
    """What the batch was answered as a whole, as the response to one of its requests."""
    fields = [field for field in parent.headers.raw if field[0].lower().decode("latin-1") not in _OF_THE_MESSAGE]
    fields.append((b"content-length", b"%d" % len(content)))
    return _response(parent.status_code, fields, b"" if method == "HEAD" else content, parent)


def _response(status: int, fields: Fields, content: bytes, parent: httpx2.Response) -> httpx2.Response:
    extensions = {"http_version": parent.extensions.get("http_version", b"HTTP/1.1")}
    return httpx2.Response(status, headers=fields, stream=httpx2.ByteStream(content), extensions=extensions)


def _content(result: ReadResult) -> bytes:
    raw = bytes(result.body)
    if result.body_encoding == "base64":
        return base64.b64decode(_string.decode(raw), validate=True)
    # A string without a type is JSON: that of JSON is left out, as that is how it stands there.
    if "content-type" in result.headers and raw[:1] == b'"':
        charset = media_type(result.headers["content-type"].encode("latin-1"))[1].get("charset") or "utf-8"
        if not is_charset(charset):
            raise LookupError("it is text in a charset that no batch endpoint decodes")
        return _string.decode(raw).encode(charset)
    return raw
