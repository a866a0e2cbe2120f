"""relative_path → the path of the action's request, decoded exactly as an HTTP server decodes a request target.

Own parser, no ``urlsplit``: that one drops tabs and line feeds and so turns ``/a<TAB>dmin`` into ``/admin``.
"""

from __future__ import annotations

import re
from typing import AnyStr
from urllib.parse import quote, unquote_to_bytes

from batchkit.errors import InvalidAction

__all__ = ["LONGEST_PATH", "ORDINARY", "parent", "parse_path", "parse_query"]

# In characters; of a relative_path with its query, where it may have one.
LONGEST_PATH = 2000

# What a path usually holds: nothing in it can mean another path than it spells, so that there is nothing to parse.
ORDINARY = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9_~:@!$&'()*+,;=-]*)+/?").fullmatch
_SCHEME = re.compile(r"[A-Za-z][\w+.-]*:")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_BROKEN_ENCODING = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOT_SEGMENT = re.compile(r"(?:^|/)\.\.?(?:;[^/]*)?(?:/|$)")


def parse_path(relative_path: str) -> tuple[str, bytes]:
    """The decoded path and the ``raw_path`` of a request for ``relative_path`` (protocol.md#an-action).

    Raises InvalidAction for whatever could be read as another request than the one it spells.
    """
    if not relative_path or len(relative_path) > LONGEST_PATH:
        raise InvalidAction(f"Must be 1 to {LONGEST_PATH:,} characters long")
    if relative_path[0] != "/":
        if _SCHEME.match(relative_path):
            raise InvalidAction("Must be a path relative to the API's base URL, without a scheme")
        relative_path = "/" + relative_path
    elif relative_path.startswith("//"):
        raise InvalidAction("Must be a path relative to the API's base URL, without an authority")
    if "?" in relative_path or "#" in relative_path:
        raise InvalidAction("Query parameters and fragments are not accepted here; put parameters in data instead")
    path = relative_path
    if "%" in relative_path:
        if _BROKEN_ENCODING.search(relative_path):
            raise InvalidAction("Broken percent-encoding")
        try:
            path = unquote_to_bytes(relative_path).decode()
        except UnicodeDecodeError:
            raise InvalidAction("The percent-encoded bytes are not UTF-8") from None
    # The decoded path holds what came raw as well; only a space may come encoded.
    if " " in relative_path or _FORBIDDEN.search(path):
        raise InvalidAction("White space, control characters and backslashes are not accepted")
    if "." in path and _DOT_SEGMENT.search(path):
        raise InvalidAction("The segments . and .. are not accepted")
    return path, raw(relative_path)


def parent(path: AnyStr) -> AnyStr:
    """The path that this one is directly below, without a slash at its end."""
    slash: AnyStr = "/" if isinstance(path, str) else b"/"
    return path.rstrip(slash).rpartition(slash)[0]


def parse_query(query: str) -> bytes:
    """The query string that stands in a ``relative_path`` of the plain dialect, in bytes. Raises InvalidAction."""
    if "#" in query:
        raise InvalidAction("A fragment is not accepted")
    if " " in query or _FORBIDDEN.search(query):
        raise InvalidAction("White space, control characters and backslashes are not accepted")
    return raw(query)


def raw(text: str) -> bytes:
    """``text`` with what is not ASCII percent-encoded."""
    return text.encode() if text.isascii() else quote(text, safe=_ASCII).encode()


_ASCII = "".join(map(chr, range(0x21, 0x7F)))
