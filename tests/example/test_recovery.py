"""A database that dies in mid-batch takes down what asked it, and nothing else; when it is back, so is the app."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchkit.testing import action
from tests.calls import in_batch
from tests.postgres import PostgresServer, serving_postgres
from tests.trackers import serving_tracker

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that the test may kill."""
    with serving_postgres() as server:
        yield server


@contextmanager
def locked(server: PostgresServer, url: str, table: str) -> Iterator[None]:
    """Nobody else reads or writes this table."""
    with server.talk(url) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;\n\\echo locked\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "locked\n"
        yield


def test_a_database_killed_in_mid_batch(own_postgres: PostgresServer, tmp_path: Path) -> None:
    server, database = own_postgres, own_postgres.new_database()
    with serving_tracker(database, tmp_path) as tracker, tracker.client() as client, ThreadPoolExecutor() as pool:
        workspace = client.get("/workspaces").json()["data"][0]["gid"]
        creations = [action("post", "/tasks", data={"name": f"{number}", "workspace": workspace}) for number in range(8)]
        actions = [action("get", "/users/me"), *creations, action("get", "/nowhere")]
        before = tracker.rows()
        with locked(server, database, "tasks"):
            running = pool.submit(in_batch, client, *actions)
            # Until the database says that each of them waits in it.
            while server.ask(WAITING) != ["8"]:
                assert not running.done(), running.result()
            server.kill()
        results = running.result(60)
        first, *written, last = [result["status_code"] for result in results]
        assert written == [500] * 8
        # Who asks is looked up in the database as well: before it was killed, or after.
        assert (first in (200, 500), last in (404, 500)) == (True, True)
        assert "Traceback" not in str(results)

        # Not even the token can be looked up now.
        assert client.post("/batch", json={"data": {"actions": actions}}).status_code == 500

        server.start()
        assert tracker.rows() == before
        assert [result["status_code"] for result in in_batch(client, *actions)] == [200, *[201] * 8, 404]
        assert tracker.rows() == before | {"tasks": before["tasks"] + 8}

        # While nobody asks it anything, nobody notices that it was away.
        server.kill()
        server.start()
        assert [result["status_code"] for result in in_batch(client, *actions)] == [200, *[201] * 8, 404]
