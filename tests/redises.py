"""A real redis-server for tests, on a free loopback port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.servers import free_port

BINARY = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """One server, which can be stopped, started again, and hung."""

    def __init__(self, *options: str) -> None:
        self.options = options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        assert BINARY is not None
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *self.options]
        self.process = subprocess.Popen([BINARY, *options], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        told = []
        for line in self.process.stdout:
            if "Ready to accept connections" in line:
                return
            told.append(line)
        self.process.communicate()
        raise RuntimeError(f"redis-server did not start: {''.join(told)}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def ask(self, command: str) -> list[str]:
        """The lines of the answer to an inline command."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(f"{command}\r\nQUIT\r\n".encode())
            content = b""
            while chunk := connection.recv(65536):
                content += chunk
        return content.decode().split("\r\n")[:-2]

    def keys(self, kind: str = "") -> list[str]:
        return [line for line in self.ask("KEYS *") if line.startswith("{") and f":{kind}" in line]

    def taken(self) -> int:
        """The slots that are taken, of all limits."""
        return sum(int(self.ask(f"ZCARD {key}")[0][1:]) for key in self.keys("slots"))

    def calls(self, *commands: str) -> int:
        """How often these commands were called."""
        lines = [line for line in self.ask("INFO commandstats") if line.split(":")[0] in {f"cmdstat_{name}" for name in commands}]
        return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines)


@contextmanager
def serving_redis(*options: str) -> Iterator[RedisServer]:
    """A server; without the binary the test is skipped, but on CI it fails."""
    if BINARY is None:
        message = "redis-server is not installed: apt-get install redis-server"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    server = RedisServer(*options)
    try:
        yield server
    finally:
        server.stop()
