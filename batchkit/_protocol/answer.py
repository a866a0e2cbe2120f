"""Results → bytes, and errors too (protocol.md#the-batch-request, protocol.md#the-answer, protocol.md#results-as-they-come)."""

from __future__ import annotations

from collections.abc import Sequence, Set

from batchkit._protocol.content import Form, on_one_line, render
from batchkit._protocol.cookies import cookies_of
from batchkit._protocol.dialects import DIALECTS, Dialect
from batchkit._protocol.headers import NEVER_SHOWN
from batchkit._record import Record
from batchkit.errors import BatchError
from batchkit.model import Result
from batchkit.settings import Settings

__all__ = ["encode", "encode_error", "encode_line", "error_result"]


def encode(actions: Sequence[Record], settings: Settings) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body of the batch's answer, and the ``Set-Cookie`` fields that its header has. Each action has its result."""
    dialect, shown = DIALECTS[settings.dialect], settings.shown
    before, after = dialect.around_results
    with_cookies: list[Record] = []
    # Joined once: a body that is JSON is never copied but into the whole.
    parts = [before]
    for action in actions:
        parts += _parts(action, dialect, shown, with_cookies)
        parts.append(b",")
    parts[-1] = after
    return b"".join(parts), cookies_of(with_cookies)


def encode_line(action: Record, settings: Settings) -> bytes:
    """The line of an action that has its result, line feed included; its ``Set-Cookie`` fields are another matter."""
    start, body, end = _parts(action, DIALECTS[settings.dialect], settings.shown, [])
    return b'{"index":%d,%b%b%b\n' % (action.index, start[1:], on_one_line(body), end)


def encode_error(error: BatchError, settings: Settings) -> bytes:
    """The body of an error, of a whole batch or of one action."""
    return DIALECTS[settings.dialect].error(error, settings.help)


def error_result(error: BatchError, settings: Settings, duration: float = 0.0) -> Result:
    """The result of an action that batchkit itself answers."""
    headers = [(b"content-type", b"application/json"), *error.raw_headers]
    return Result(error.status_code, headers, encode_error(error, settings), duration)


def _parts(action: Record, dialect: Dialect, shown: Set[bytes] | None, with_cookies: list[Record]) -> tuple[bytes, bytes, bytes]:
    """The JSON of a result: what stands before its body, the body, and what follows it. One with cookies joins those."""
    result = action.result
    assert result is not None
    if shown is not None:
        content_type = None
        for name, value in result.raw_headers:
            if name == b"content-type" and content_type is None:
                content_type = value
            elif name in shown or name in _MATTERING:
                break
        else:
            if action.is_json or render(content_type or b"", b"", result.body)[0] == "json":
                # As most: it shows no field at all.
                return dialect.result(action, _NO_FIELDS, "json", result.body or b"{}")
    fields = dict(result.raw_headers)
    if len(fields) != len(result.raw_headers):
        fields = _joined(result.raw_headers)
    if b"set-cookie" in fields:
        with_cookies.append(action)
    described = fields.get(b"content-type", b""), fields.get(b"content-encoding", b"")
    form: Form = "json"
    body = result.body
    if not action.is_json:
        form, body = render(*described, body)
    if shown is None:
        shown = fields.keys() - NEVER_SHOWN
    if form != "json":
        shown = shown | _DESCRIBING
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in fields.items() if name in shown}
    return dialect.result(action, headers, form, body)


_NO_FIELDS: dict[str, str] = {}


def _joined(raw_headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields: dict[bytes, list[bytes]] = {}
    for name, value in raw_headers:
        fields.setdefault(name, []).append(value)
    return {name: b", ".join(values) for name, values in fields.items()}


# What tells how to read a body that does not stand as JSON.
_DESCRIBING = frozenset({b"content-type", b"content-encoding"})
_MATTERING = _DESCRIBING | {b"set-cookie"}
