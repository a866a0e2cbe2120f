"""The cookies that actions set, on the one header that their batch has (protocol.md#the-answer)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from batchkit._record import Record
from batchkit.model import Result

__all__ = ["cookies_of", "sets_cookies"]

_ATTRIBUTE = re.compile(rb";[ \t]*(domain|path|partitioned)[ \t]*(?:=([^;]*))?(?=;|\Z)", re.IGNORECASE)
# What would end the value of an attribute, or be no part of it. A path that a client sends has it percent-encoded, or means ";".
_NOT_IN_VALUE = re.compile(rb"[\x00-\x20;\x7f]")


def sets_cookies(result: Result) -> bool:
    """Whether there is a ``Set-Cookie`` field in a result."""
    return any(name == b"set-cookie" for name, _ in result.raw_headers)


def cookies_of(actions: Iterable[Record]) -> list[tuple[bytes, bytes]]:
    """The ``Set-Cookie`` fields of the results of these actions, in order, as they go to the header of the batch's answer.

    A browser would take the URL of the batch for that of a cookie without a ``Path``: it gets the one that it has alone. Of
    those with the same name, domain and path, the last one goes out; it is the one that a browser would keep. (It keeps one more
    for each top-level site: those are ``Partitioned``.)
    """
    last: dict[tuple[bytes, bytes, bytes, bool], bytes] = {}
    # Cookies of one kind differ in their values alone.
    known: dict[bytes, tuple[bytes, bytes, bool]] = {}
    for action in actions:
        assert action.result is not None
        for field, value in action.result.raw_headers:
            if field == b"set-cookie":
                pair, _, rest = value.partition(b";")
                name, equals, _ = pair.partition(b"=")
                domain, path, partitioned = known.get(rest) or known.setdefault(rest, _scope(rest))
                if not path:
                    path = _default_path(action.raw_path)
                    value = b"%b; Path=%b" % (value, path)
                key = name.strip(b" \t") if equals else b"", domain, path, partitioned
                last.pop(key, None)
                last[key] = value
    return [(b"set-cookie", value) for value in last.values()]


def _scope(attributes: bytes) -> tuple[bytes, bytes, bool]:
    """The domain and the path, empty where they are not given, and whether the cookie is partitioned.

    As a browser reads them (RFC 6265, 5.2): of an attribute that stands twice, the last counts, and a path begins with a slash.
    """
    domain = path = b""
    partitioned = False
    for attribute, text in _ATTRIBUTE.findall(b";" + attributes):
        match attribute.lower():
            case b"path":
                path = text.strip(b" \t")
            case b"domain":
                domain = text.strip(b" \t").lower().removeprefix(b".")
            case _:
                partitioned = True
    return domain, path if path.startswith(b"/") else b"", partitioned


def _default_path(raw_path: bytes) -> bytes:
    """The ``Path`` of a cookie from this path that names none (RFC 6265, 5.1.4)."""
    directory = raw_path[: raw_path.rfind(b"/")] if raw_path.startswith(b"/") else b""
    return _NOT_IN_VALUE.sub(lambda match: b"%%%02X" % match[0][0], directory) or b"/"
