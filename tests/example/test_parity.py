"""A result is what the same call gets alone: over the whole API, on each kind of database, also with many clients at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx2
import pytest

from batchkit.testing import action
from example_app.app import create_app
from tests.calls import CALLS, Call, alone, in_batch, normalised, prepared, routes
from tests.trackers import Tracker, serving_tracker

CLIENTS = 20


def test_no_route_is_left_out(tmp_path: Path) -> None:
    app = create_app(f"sqlite:///{tmp_path / 'tracker.db'}", files=tmp_path)
    assert {(call.method, call.route) for call in CALLS if call.route} == set(routes(app))


@dataclass
class Side:
    """One of two equal apps: the calls are made alone on the one, and in batches on the other."""

    tracker: Tracker
    client: httpx2.Client
    gids: dict[str, str]


@pytest.fixture
def sides(new_database: Callable[[], str], tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    with ExitStack() as stack:

        def side(name: str) -> Side:
            tracker = stack.enter_context(serving_tracker(new_database(), tmp_path / name))
            client = stack.enter_context(tracker.client(host="tasks.example"))
            return Side(tracker, client, prepared(client, "Equal"))

        yield side("alone"), side("batches")


def compare(call: Call, expected: dict[str, Any], result: dict[str, Any]) -> str | None:
    """What is wrong with the result of a call, if anything."""
    if call.excluded:
        refused = result["status_code"] == 400 and "cannot be used in a batch" in str(result["body"])
        return None if refused and expected["status_code"] == call.status else f"{call}: {expected} alone, {result}"
    same = result == expected and expected["status_code"] == call.status
    return None if same else f"{call}:\n  alone    {expected}\n  in batch {result}"


def test_each_result_is_the_answer_to_the_same_call_alone(sides: tuple[Side, Side]) -> None:
    one, other = sides
    differences = []
    for call in CALLS:
        expected = normalised(alone(one.client, call.action(one.gids)), one.gids)
        [result] = in_batch(other.client, call.action(other.gids))
        differences.append(compare(call, expected, normalised(result, other.gids)))
    wrong = [difference for difference in differences if difference]
    assert not wrong, "\n".join(wrong)


def test_so_it_is_with_many_clients_at_once(sides: tuple[Side, Side]) -> None:
    one, other = sides
    before = one.tracker.objects()
    gids = prepared(one.client, "Equal")
    made = one.tracker.objects() - before
    expected = [normalised(alone(one.client, call.action(gids)), gids) for call in CALLS]
    before = other.tracker.objects()
    begin = Barrier(CLIENTS)

    def run(number: int) -> tuple[list[str | None], int]:
        """The whole API in batches of ten, each client from another place on: what is wrong, and how many objects it added."""
        with other.tracker.client(host="tasks.example") as client:
            gids = prepared(client, "Equal")
            begin.wait(300)
            differences, more = [], made
            first = number * len(CALLS) // CLIENTS
            places = [*range(first, len(CALLS)), *range(first)]
            while places:
                ten, places = places[:10], places[10:]
                for place, result in zip(ten, in_batch(client, *(CALLS[place].action(gids) for place in ten)), strict=True):
                    differences.append(compare(CALLS[place], expected[place], normalised(result, gids)))
                    more += (result["status_code"] == 201) - (result["status_code"] == 200 and CALLS[place].method == "delete")
            assert len(differences) == len(CALLS)
            return differences, more

    with ThreadPoolExecutor(CLIENTS) as pool:
        ran = list(pool.map(run, range(CLIENTS)))
    found = [difference for differences, _ in ran for difference in differences if difference]
    assert not found, "\n".join(found[:10])
    assert other.tracker.objects() == before + sum(more for _, more in ran)


def test_ten_creations_in_a_batch_make_ten_rows_once(tracker: Tracker) -> None:
    with tracker.client() as client:
        workspace = client.get("/workspaces").json()["data"][0]["gid"]
        before = tracker.rows()
        names = [f"Row {number}" for number in range(10)]
        results = in_batch(client, *(action("post", "/tasks", data={"name": name, "workspace": workspace}) for name in names))
        assert [(result["status_code"], result["body"]["data"]["name"]) for result in results] == [(201, name) for name in names]
        gids = [result["body"]["data"]["gid"] for result in results]
        assert len(set(gids)) == 10
        after = tracker.rows()
        assert {table: after[table] - before[table] for table in after if after[table] != before[table]} == {"tasks": 10}
        read = in_batch(client, *(action("get", f"/tasks/{gid}", options={"fields": ["name"]}) for gid in gids))
        assert [result["body"]["data"]["name"] for result in read] == names
