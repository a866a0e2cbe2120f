"""Whom a limit counts: functions of a request."""

from __future__ import annotations

from hashlib import blake2b

from starlette.requests import Request

__all__ = ["COMMON", "by_address", "by_token", "digest"]


def by_token(request: Request) -> str:
    """The bearer token, as a digest, so that no store ever holds a secret; without one, the client's address.

    Whoever may make up tokens makes up keys: it belongs behind what checks them, as the batch endpoint is.
    """
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return "token:" + digest(token.strip())
            break
    return by_address(request)


def by_address(request: Request) -> str:
    """The address of the client, as the server gives it. Behind a proxy the server must be told to trust the proxy's header."""
    client = request.scope.get("client")
    return "address:" + (client[0] if client else "")


def digest(secret: bytes) -> str:
    """Bytes of any length, in 32 characters that do not give them away."""
    return blake2b(secret, digest_size=16).hexdigest()


# The same for a batch and all its actions, so they are asked but once for a batch.
COMMON = frozenset({by_token, by_address})
