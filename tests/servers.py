"""A real server for tests: uvicorn on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from random import SystemRandom
from threading import Thread

import httpx2
import uvicorn
from starlette.types import ASGIApp

# For clients, as verify=: to make one reads the certificates of all authorities, which takes longer than many a test.
TLS = httpx2.create_ssl_context()


def free_port() -> int:
    """A free port on loopback, for a server that binds it itself, perhaps more than once.

    Below those that systems give to connections: one of these may be somebody else's by the time that the server binds it, or
    starts again. So is the one 10,000 above, which a Redis in a cluster takes as well.
    """
    while True:
        try:
            with socket.create_server(("127.0.0.1", SystemRandom().randrange(11_000, 21_000))) as listener:
                port: int = listener.getsockname()[1]
                return port
        except OSError:
            continue


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve ``app``; gives its URL, without a slash at the end."""
    # It listens from here on: who connects before the server has started waits for it.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # asyncio does this only for sockets that are said to be TCP's; without it each answer on a kept connection waits 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))

        def run() -> None:
            # Where the server does not start, nobody is left to wait for it.
            with listener:
                server.run(sockets=[listener])

        thread = Thread(target=run)
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def asking_for_lines(url: str, body: bytes, *, buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection over which a batch with this body has been sent; ``buffer`` bounds what is received unread, in bytes."""
    with socket.socket() as connection:
        connection.settimeout(20)
        if buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        fields = ["Host: x", "Content-Type: application/json", "Accept: application/jsonl", f"Content-Length: {len(body)}"]
        connection.sendall("\r\n".join(["POST /batch HTTP/1.1", *fields, "", ""]).encode() + body)
        yield connection


def read_until(connection: socket.socket, end: bytes) -> None:
    """Read what comes until ``end`` has come."""
    received = b""
    while end not in received:
        content = connection.recv(4096)
        assert content, "the connection has ended"
        received += content
