"""The browser's side: a JavaScript module whose ``fetch`` batches, and how the batch URL serves it.

``batchkit.js`` is the module as it stands, for browsers and Node; ``batchkit.d.ts`` tells TypeScript of it.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files

from starlette.responses import Response
from starlette.types import Scope

from batchkit._protocol.headers import fields
from batchkit._record import record_of

__all__ = ["asks_for_client", "client", "client_version", "wire_part"]

_QUERY = b"client.js"


def client_version() -> str:
    """The hash of the module: served as ``/batch?client.js=<hash>``, browsers keep it for a year and never ask again."""
    return sha256(_source()).hexdigest()[:16]


def asks_for_client(scope: Scope) -> bool:
    """Whether this is a GET or HEAD of the module, and no action of a batch."""
    return scope["method"] in ("GET", "HEAD") and scope["query_string"].partition(b"=")[0] == _QUERY and record_of(scope) is None


def client(scope: Scope) -> Response:
    """The module, or 304 to who has it.

    Under its own hash it may be kept for ever; under none, or that of another version, it must be asked for each time. For while
    a new version is rolled out, pages of the old one ask for it here.
    """
    version = client_version()
    current = scope["query_string"] == _QUERY + b"=" + version.encode()
    headers = {
        "etag": f'"{version}"',
        "cache-control": "public, max-age=31536000, immutable" if current else "no-cache",
        "x-content-type-options": "nosniff",
    }
    (known,) = fields(scope, b"if-none-match")
    if any(tag.strip().removeprefix("W/") in (headers["etag"], "*") for tag in known.decode("latin-1").split(",")):
        return Response(status_code=304, headers=headers)
    return Response(_source(), headers=headers, media_type="text/javascript")


def wire_part() -> str:
    """The first part of the module, which sends a batch and reads its answer: the console stands on it."""
    return _source().decode().partition("// # The fetch\n")[0]


@cache
def _source() -> bytes:
    return files(__name__).joinpath("batchkit.js").read_bytes()
