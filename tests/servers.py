"""A real server for tests: uvicorn on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from starlette.types import ASGIApp


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
