"""What is known of the server: where its batch endpoint is, how it reads actions, and what it refused so far."""

from __future__ import annotations

import logging
import re
from dataclasses import InitVar, dataclass, field
from typing import TypedDict

import httpx2

from batchkit._arguments import check_base_path, check_choice, check_count, check_seconds
from batchkit._protocol.dialects import DIALECTS, DialectName
from batchkit._protocol.paths import parent

__all__ = ["Options", "Server", "check_request", "read_url", "shown"]

logger = logging.getLogger("batchkit")

MOST_REFUSED = 1000

_DIGIT = re.compile(rb"[0-9]").search


class Options(TypedDict, total=False):
    """What the transports and the builder may be told of the server's batch endpoint, and how to use it.

    The first four as the server has them: ``base_path``, what actions are relative to (the parent of the batch URL);
    ``dialect``, ``"asana"`` (the default) or ``"plain"``; ``max_actions``, of one batch (10); ``max_body_size`` of one in bytes
    (1 MiB).

    ``max_wait``: seconds that requests wait in all where the server refuses their batch for now (429 with ``Retry-After``); they
    are answered with that 429 then (60). ``stream``: whether results of GETs and HEADs are asked for one by one as they come
    (True). With False all come with the slowest, and none is without its cookies: see ``BatchTransport``.
    """

    base_path: str | None
    dialect: DialectName
    max_actions: int
    max_body_size: int
    max_wait: float
    stream: bool


@dataclass(eq=False)
class Server:
    """One batch endpoint. Raises TypeError or ValueError for an option that it cannot be."""

    place: InitVar[httpx2.URL | str]
    base_path: str | None = None
    dialect: DialectName = "asana"
    max_actions: int = 10
    max_body_size: int = 2**20
    max_wait: float = 60.0
    stream: bool = True
    window: float = 0.002
    # There is no batch endpoint.
    absent: bool = field(init=False, default=False)
    url: httpx2.URL = field(init=False)
    base: bytes = field(init=False)
    # Whether any request was of its origin.
    _met: bool = field(init=False, default=False)
    _warned: set[object] = field(init=False, default_factory=set)
    _refused: dict[tuple[str, bytes], None] = field(init=False, default_factory=dict)

    def __post_init__(self, place: httpx2.URL | str) -> None:
        self.url = read_url("url", place, "the batch endpoint, like 'https://example.com/batch'")
        check_base_path(self.base_path)
        check_choice("dialect", self.dialect, DIALECTS)
        check_seconds("max_wait", self.max_wait, zero=True)
        check_seconds("window", self.window, zero=True)
        if self.window >= 1:
            logger.warning("window=%r: each request waits so many seconds for others: for 2 ms give 0.002", self.window)
        for name in ("max_actions", "max_body_size"):
            check_count(name, getattr(self, name))
        self.base = parent(self.url.raw_path) if self.base_path is None else httpx2.URL(path=self.base_path).raw_path.rstrip(b"/")
        # What a batch is besides its actions, in bytes.
        self.envelope = len(DIALECTS[self.dialect].batch([]))
        self.origin = (self.url.scheme, self.url.host, self.url.port)

    def check_base_url(self, base_url: httpx2.URL) -> None:
        """Raise ValueError where no path below ``base_url``, which ends with a slash, can be in a batch."""
        if (base_url.scheme, base_url.host, base_url.port) != self.origin:
            raise ValueError(f"url={shown(self.url)!r}: give one of the origin of base_url={shown(base_url)!r}")
        base, path = self.base + b"/", base_url.raw_path
        if not (path.startswith(base) or base.startswith(path)):
            raise ValueError(
                f"base_url={shown(base_url)!r}: actions are relative to {base.decode()!r}, which is elsewhere: "
                "give url and base_path as the server has them"
            )

    def is_origin(self, origin: tuple[str, str, int | None]) -> bool:
        """Whether requests to this scheme, host and port can be in a batch. Warns where the scheme alone keeps them out."""
        if origin == self.origin:
            self._met = True
        elif not self._met and origin[1:] == self.origin[1:]:
            # Had it been met, a redirect might lead there.
            message = "url='%s://%s…': a request to %s:// cannot be in a batch of it: give url the scheme of your requests"
            self.warn("scheme", message, *self.origin[:2], origin[0])
        return origin == self.origin

    def warn(self, kind: object, message: str, *args: object) -> None:
        """Warn, once of each ``kind``, of what keeps requests out of batches: all works without them, and nobody would notice."""
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning(message, *args)

    def refuses(self, method: str, path: bytes) -> bool:
        """Whether a request of this kind has been refused in a batch before."""
        return bool(self._refused) and _kind(method, path) in self._refused

    def refused(self, method: str, path: bytes) -> None:
        """Remember that the server does not let requests of this kind into a batch."""
        self._refused[_kind(method, path)] = None
        while len(self._refused) > MOST_REFUSED:
            # The oldest, in a copy: another thread may do the same.
            self._refused.pop(next(iter(self._refused.copy())), None)


def read_url(name: str, value: httpx2.URL | str, meant: str) -> httpx2.URL:
    """The value of ``name``: the URL of what is ``meant``. Raises ValueError where it is not whole: no request would be of it."""
    url = httpx2.URL(value)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{name}={shown(url)!r}: give the URL of {meant}")
    return url


def shown(url: httpx2.URL) -> str:
    """A URL for logs and errors: without a password, and without the query, which may hold what is as good as one."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def check_request(transport: object, request: object) -> None:
    """Raise TypeError where ``request`` is that of a client of httpx, which cannot read the responses of httpx2."""
    if not isinstance(request, httpx2.Request):
        raise TypeError(f"{type(transport).__name__} is for clients of httpx2, and this is a {type(request)!r}: import httpx2")


def _kind(method: str, path: bytes) -> tuple[str, bytes]:
    """The method and the shape of a path, with ``*`` for each segment that holds a digit, as identifiers do."""
    return method, b"/".join([b"*" if _DIGIT(segment) else segment for segment in path.split(b"/")])
