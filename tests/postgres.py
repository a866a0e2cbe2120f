"""A real PostgreSQL server for tests, on a free loopback port."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.servers import free_port


def binaries() -> Path | None:
    """Where the server's binaries are: Debian keeps them off the PATH."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: float(place.parent.name), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)


BINARIES = binaries()


class PostgresServer:
    """One server, which can be killed and started again. Nothing in it outlives a crash of the machine: it never syncs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.databases = 0
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
        self._run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        self.start()

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "off",
            "full_page_writes": "off",
        }
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._run("pg_ctl", "start", "--wait", "--log", str(self.directory / "log"), "--options", options)

    def kill(self) -> None:
        """End it without a word to those who are connected; what is committed is there when it starts again."""
        self._run("pg_ctl", "stop", "--wait", "--mode", "immediate")

    def new_database(self) -> str:
        """The URL of an empty database of its own."""
        self.databases += 1
        self.ask(f"CREATE DATABASE tracker_{self.databases}")
        return self.url(f"tracker_{self.databases}")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def ask(self, statement: str, url: str | None = None) -> list[str]:
        """The lines of the answer."""
        with self.talk(url) as conversation:
            answer, _ = conversation.communicate(statement, timeout=60)
        assert conversation.returncode == 0, statement
        lines: list[str] = answer.splitlines()
        return lines

    @contextmanager
    def talk(self, url: str | None = None) -> Iterator[subprocess.Popen[str]]:
        """A connection that reads statements and writes answers, until it is left."""
        command = ["psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", url or self.url()]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as conversation:
            try:
                yield conversation
            finally:
                if conversation.poll() is None:
                    conversation.kill()

    def _run(self, binary: str, *arguments: str) -> None:
        """Run one of the server's own binaries, none of which works for root."""
        assert BINARIES is not None
        # Not to inherit a pipe that would stay open as long as the server runs.
        output = self.directory.parent / f"{binary}.out"
        user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        with output.open("w+") as out:
            command = [str(BINARIES / binary), "--pgdata", str(self.directory), *arguments]
            done = subprocess.run(command, cwd="/", stdout=out, stderr=out, timeout=120, check=False, **user)
        if done.returncode:
            raise RuntimeError(f"{binary} failed: {output.read_text()}")


@contextmanager
def serving_postgres() -> Iterator[PostgresServer]:
    """A server; without the binaries the test is skipped, but on CI it fails."""
    if BINARIES is None:
        message = "PostgreSQL is not installed: apt-get install postgresql"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with TemporaryDirectory(prefix="postgres-") as parent:
        # The server's user must reach its own directory in here.
        Path(parent).chmod(0o711)
        directory = Path(parent) / "data"
        directory.mkdir(mode=0o700)
        server = PostgresServer(directory)
        try:
            yield server
        finally:
            if (directory / "postmaster.pid").exists():
                server.kill()
