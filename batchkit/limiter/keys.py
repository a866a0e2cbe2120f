"""Whom a limit counts: functions of a request (protocol.md#admission)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request

from batchkit._running.charging import WrongHook
from batchkit.errors import BatchError

__all__ = ["COMMON", "Key", "Keys", "by_address", "by_client", "by_token", "key_of"]

logger = logging.getLogger("batchkit")

Key = Callable[[Request], str | None]

LONGEST_KEY = 64
# A key that begins with this is a digest, so that no other can be made to equal one.
DIGEST = "#"

# What says who a user is, the first of them that there is: Starlette's two names, those of databases, of a JWT, of forms.
IDENTITIES = ("identity", "display_name", "id", "pk", "user_id", "uid", "sub", "username", "email")


def by_client(request: Request) -> str:
    """Who the client is: the identity that the host has established; without one the bearer token; without that the address.

    The identity is ``scope["user"]`` as Starlette's ``AuthenticationMiddleware`` or middleware of yours leaves it there: a text
    or a number, or its ``identity``, else ``display_name`` (``id``, ``pk``, ``user_id``, ``uid``, ``sub``, ``username``,
    ``email``), as an attribute or a key. Who is not authenticated has none. Who is, but by nothing of this, is counted by
    address, and that is logged. For the other two see ``by_token`` and ``by_address``.
    """
    user = request.scope.get("user")
    if not _is_established(user):
        return by_token(request)
    identity = _identity(user)
    if identity is None:
        # Not by a token: anybody may add one to what the host knows them by.
        _tell_unreadable(type(user).__name__)
        return by_address(request)
    return "user:" + identity


def by_token(request: Request) -> str:
    """The bearer token, as a digest, so that no store ever holds a secret; without one, the client's address.

    Two ``Authorization`` fields are none, as nobody knows which one the host reads. What decoders of base64 pass over (padding,
    foreign characters, the last bits of a signature) makes no other token. Whoever may make up tokens makes up keys: it belongs
    behind what checks them, as the batch endpoint is.
    """
    fields = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if len(fields) == 1:
        parts = fields[0].split()
        if len(parts) == 2 and parts[0].lower() == b"bearer" and (token := _decoded(parts[1])):
            return "token:" + _digest(token)
    return by_address(request)


def by_address(request: Request) -> str:
    """The address of the client, as the server gives it; of an IPv6 address its /64, which is what one client is given.

    Behind a proxy the server must be told to trust the proxy's header.
    """
    client = request.scope.get("client")
    address = (client and client[0]) or ""
    return "address:" + (_network(address) if ":" in address else address)


def _digest(secret: bytes) -> str:
    """Bytes of any length, in 32 characters that do not give them away."""
    return blake2b(secret, digest_size=16).hexdigest()


# The same for a batch and all its actions, so they are asked but once for a batch.
COMMON = frozenset({by_client, by_token, by_address})


class Keys:
    """The keys of one request, each function of it asked but once."""

    def __init__(self, request: Request) -> None:
        self.request = request
        # By the identity of the function, which need not be hashable.
        self._keys: dict[int, str | None] = {}

    def of(self, function: Key, name: str) -> str | None:
        """The key for the limit with this name."""
        if id(function) not in self._keys:
            self._keys[id(function)] = key_of(function, self.request, name)
        return self._keys[id(function)]

    def of_upload(self, function: Key, name: str) -> str | None:
        """The same, of a request that is the POST of a batch."""
        try:
            return self.of(function, name)
        except WrongHook:
            # It may read what only an action has, its path for one.
            return by_address(self.request)


def key_of(function: Key, request: Request, name: str) -> str | None:
    """What ``function``, the key of the limit with this name, says of a request, made short. Raises WrongHook where it fails."""
    try:
        key = function(request)
    except BatchError:
        raise
    except HTTPException as error:
        raise WrongHook(f"the key of {name!r} raised {error!r}: return a string for everybody; None is not counted") from None
    except Exception as error:
        # No store is out of reach: to let it through would be to let through whoever knows what the key fails on.
        raise WrongHook(
            f"the key of {name!r} failed with {error!r}: what it reads must come from middleware outside of "
            "LimitMiddleware (the last that was added is the outermost); path_params are not known yet"
        ) from error
    if key is None:
        return None
    if not isinstance(key, str):
        # Nothing to fall back to: strangers who share a key share a limit.
        raise WrongHook(f"the key of {name!r} returned {type(key).__name__}: return a string for everybody; None is not counted")
    if len(key) <= LONGEST_KEY and key.isascii() and not key.startswith(DIGEST):
        return key
    # Of any length, and of what no store could write down, half of a surrogate pair for one; 32 characters in all.
    return DIGEST + _digest(key.encode("utf-8", "surrogatepass"))[1:]


def _is_established(user: object) -> bool:
    if user is None or user is False or (isinstance(user, str | bytes | Mapping) and not user):
        return False
    return bool(_of(user, "is_authenticated", True))


def _identity(user: object) -> str | None:
    text = _text(user)
    for name in IDENTITIES:
        if text is not None:
            break
        text = _text(_of(user, name))
    return text


def _of(user: object, name: str, default: object = None) -> object:
    try:
        return user.get(name, default) if isinstance(user, Mapping) else getattr(user, name, default)
    except NotImplementedError:
        # As Starlette's BaseUser has it, and SimpleUser its identity.
        return default


def _text(value: object) -> str | None:
    """A value as text, None for one that is empty, or whose text may be another each time."""
    if isinstance(value, bytes):
        return value.decode("latin-1") or None
    if isinstance(value, str | int | UUID) and not isinstance(value, bool):
        return str(value) or None
    return None


@lru_cache(maxsize=64)
def _tell_unreadable(name: str) -> None:
    logger.warning(
        "Limiter: scope['user'] is a %s without %s, so its clients are counted by their addresses: give each limit a key=",
        name,
        ", ".join(IDENTITIES),
    )


# Python's decoder of base64, and many others, skip what is not in the alphabet, and take either of two letters for one.
_ALIKE = bytes.maketrans(b"-_", b"+/")
_SKIPPED = re.sub(rb"[A-Za-z0-9+/=.,_-]", b"", bytes(range(256)))
# They stop behind the padding: what comes then may be anything. And lists of tokens are none.
_MORE = re.compile(rb"=[^=.]|,").search
# The last letter of a signature holds bits that are dropped. With a dot in it, or of such a length, a token is a signed one; in
# others, the UUIDs of somebody's tests for one, it may be all that differs.
_SIGNED, _SIGNED_WHOLE = 24, 64


def _decoded(token: bytes) -> bytes:
    """The token less what makes no difference to lax decoders of it; empty where it cannot be one token."""
    token = token.translate(_ALIKE, _SKIPPED)
    if _MORE(token):
        return b""
    letters = token.translate(None, b"=.")
    is_signed = len(letters) >= (_SIGNED if b"." in token else _SIGNED_WHOLE)
    return letters[:-1] if is_signed else letters


def _network(address: str) -> str:
    """What an address counts as that has a colon in it: an IPv6 address, or one with a port, as some proxies write it."""
    host = address[1:].partition("]")[0] if address.startswith("[") else address
    try:
        if host.count(":") == 1:
            return inet_ntop(AF_INET, inet_pton(AF_INET, host.partition(":")[0]))
        packed = inet_pton(AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):
        return address
    return inet_ntop(AF_INET, packed[12:]) if packed.startswith(_MAPPED) else packed[:8].hex(":", 2) + "::/64"


# What an IPv4 address begins with as an IPv6 one.
_MAPPED = bytes(10) + b"\xff\xff"
