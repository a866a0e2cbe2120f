"""Header fields: which of them cross, on the way in and on the way out, and what those of the POST say.

Each is read within a bound: a client can make any of them long.
"""

from __future__ import annotations

import re
from collections.abc import Set

from starlette.types import Scope

__all__ = [
    "LONGEST_FIELD",
    "NEVER_SHOWN",
    "SHOWN",
    "WITHHELD",
    "WITHHELD_PREFIXES",
    "accepts",
    "fields",
    "host_header",
    "is_withheld",
    "less_lines",
    "line_type",
]

Fields = list[tuple[bytes, bytes]]

# Header fields that actions do not get: the one deny-list of the library, because a host may need any other.
# What describes the batch's own message or connection, and what could change what an action is.
WITHHELD = frozenset(
    b"transfer-encoding accept-encoding connection keep-alive te trailer upgrade expect range idempotency-key x-idempotency-key "
    b"x-http-method x-http-method-override x-method-override x-original-url x-rewrite-url".split()
)
WITHHELD_PREFIXES = (b"content-", b"proxy-", b"if-", b"access-control-request-")


# Header fields of an action's answer that its result shows.
SHOWN = frozenset(
    b"location content-location etag last-modified retry-after link allow www-authenticate content-disposition "
    b"content-language deprecation sunset x-total-count x-request-id".split()
)
# What "*" leaves out: hop-by-hop fields, and what the parent response or the JSON around the body already says.
NEVER_SHOWN = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade "
    b"content-length content-encoding content-type date server set-cookie".split()
)

# In bytes. What browsers and libraries send is a tenth of this.
LONGEST_FIELD = 4096

_LINE_TYPES = (b"application/jsonl", b"application/x-ndjson")
_WEIGHT = re.compile(rb"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)").fullmatch


def is_withheld(name: bytes, withheld: Set[bytes] = WITHHELD) -> bool:
    """Whether actions do not get the field of this name, in lower case, of their batch. WSGI apps read ``_`` as ``-``."""
    name = name.replace(b"_", b"-")
    return name in withheld or name.startswith(WITHHELD_PREFIXES)


def host_header(scope: Scope) -> bytes | None:
    """The first ``Host`` field of a request: the one that Starlette routes by."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"host":
            return value
    return None


def fields(scope: Scope, *names: bytes) -> list[bytes]:
    """The values of the fields of these names, empty where there is none.

    Those of one name are joined, so that what comes twice is no media type, coding or length any more. What is longer than
    ``LONGEST_FIELD`` is a lone comma, which is none of these either, and prefers nothing.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        if name in names:
            if name in found:
                found[name].append(value)
            else:
                found[name] = [value]
    return [value if len(value := b", ".join(found.get(name, ()))) <= LONGEST_FIELD else b"," for name in names]


def accepts(scope: Scope, media_type: bytes) -> float:
    """How much the ``Accept`` of a request likes a media type that it names, from 0 to 1; 0 where it does not name it."""
    (accept,) = fields(scope, b"accept")
    return _qualities(accept.lower()).get(media_type, 0.0)


def line_type(scope: Scope) -> bytes | None:
    """The media type in which this client prefers one line per result, None for the plain answer.

    See protocol.md#results-as-they-come.
    """
    for name, value in scope["headers"]:
        if name == b"accept" and b"json" in value.lower():
            break
    else:
        # As mostly: there is nothing to weigh.
        return None
    (accept,) = fields(scope, b"accept")
    qualities = _qualities(accept.lower())
    quality, media_type = max((qualities.get(name, 0.0), name) for name in _LINE_TYPES)
    return media_type if quality > 0 and quality >= qualities.get(b"application/json", 0.0) else None


def less_lines(headers: Fields) -> Fields:
    """These header fields with an ``Accept`` less the line types, and ``*/*`` if nothing is left.

    See protocol.md#results-as-they-come.
    """
    kept: Fields = []
    accepting = False
    for name, value in headers:
        if name == b"accept":
            value = _less_lines(value)
            if not value.strip(b", \t"):
                continue
            accepting = True
        kept.append((name, value))
    return kept if accepting else [*kept, (b"accept", b"*/*")]


def _less_lines(accept: bytes) -> bytes:
    entries = _entries(accept)
    kept = [entry for entry in entries if _parts(entry)[0].strip().lower() not in _LINE_TYPES]
    return accept if len(kept) == len(entries) else b",".join(kept).strip()


def _qualities(accept: bytes) -> dict[bytes, float]:
    """How much an ``Accept`` in lower case likes each media type that it names; of two of a name, the first counts."""
    qualities: dict[bytes, float] = {}
    for entry in _entries(accept):
        essence, *parameters = [part.strip() for part in _parts(entry)]
        if essence not in qualities:
            qualities[essence] = next((float(match[1]) for part in parameters if (match := _WEIGHT(part))), 1.0)
    return qualities


# As bytes.split, but for separators within quotes.
_entries = re.compile(rb'(?s)(?:\A|,)((?:[^,"]++|"(?:[^"\\]++|\\.)*+"?+)*+)').findall
_parts = re.compile(rb'(?s)(?:\A|;)((?:[^;"]++|"(?:[^"\\]++|\\.)*+"?+)*+)').findall
