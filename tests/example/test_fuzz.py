"""Whatever a client makes up for the example app, it is never told of an error that is the server's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchkit.testing import action
from tests.calls import CALLS, Call, alone, filled, in_batch, prepared
from tests.trackers import Tracker, serving_tracker

# Large, negative, of other scripts, with what databases and paths treat in their own way.
SHAPES = [
    *(
        "",
        "0",
        "-1",
        "1.5",
        "9" * 18,
        "9" * 19,
        "9" * 400,
        "１",
        "٣",
        "null",
        "me",
        "\0",
        "a\0b",
        "%",
        "_",
        "'",
        '"',
        "\\",
        "'; --",
    ),
    *(
        "\N{RED APPLE}",
        "\N{COMBINING ACUTE ACCENT}",
        "\x7f",
        "\N{RIGHT-TO-LEFT OVERRIDE}",
        "x" * 10_000,
        "name",
        "name,",
        ".",
        "..a",
    ),
    *(
        "this.",
        "projects.(name|",
        "((((",
        "a.b.c.d",
        "2030-02-30",
        "0000-00-00",
        "now",
        "2030-01-01T00:00:00Z",
        "MTAwMQ==",
        "LTE=",
    ),
]
TEXT = st.sampled_from(SHAPES) | st.text(max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=3)
CHANGED = st.dictionaries(
    st.sampled_from(
        [
            *(
                "name",
                "notes",
                "text",
                "workspace",
                "projects",
                "parent",
                "assignee",
                "completed",
                "due_on",
                "public",
                "archived",
            ),
            *("completed_since", "project", "organization", "resource_subtype", "modified_since", "due_at", "start_on", "gid"),
        ]
    ),
    VALUES,
    max_size=4,
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def tracker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    """One for all that is made up: nobody looks at what it leaves behind."""
    directory = tmp_path_factory.mktemp("fuzz")
    if request.param == "postgresql":
        database = request.getfixturevalue("postgres").new_database()
    else:
        database = f"sqlite:///{directory / 'tracker.db'}"
    with serving_tracker(database, directory) as tracker:
        yield tracker


@pytest.fixture(scope="module")
def client(tracker: Tracker) -> Iterator[httpx2.Client]:
    with tracker.client() as client:
        yield client


@pytest.fixture(scope="module")
def gids(client: httpx2.Client) -> dict[str, str]:
    return prepared(client, "Fuzz")


@st.composite
def actions(draw: st.DrawFn, methods: tuple[str, ...] = ("get", "head", "post", "put", "delete")) -> dict[str, Any]:
    """An action on a route of the app, with some of what it says replaced. Names in braces stand for prepared objects."""
    call: Call = draw(st.sampled_from([call for call in CALLS if call.method in methods and call.route != "/batch"]))
    path = "/".join(quote(draw(TEXT), safe="") if draw(st.booleans()) else part for part in call.path.split("/"))
    path = path if draw(st.booleans()) else call.path
    query = st.fixed_dictionaries(
        {},
        optional={
            "limit": st.integers(-1, 101),
            "offset": TEXT,
            "fields": st.lists(TEXT | st.sampled_from(["name", "projects.name", "assignee"]), max_size=3),
        },
    )
    changes = draw(CHANGED)
    if call.method in ("get", "head"):
        changes = {name: value for name, value in changes.items() if isinstance(value, bool | int | str)}
    return {"method": call.method, "relative_path": path, "data": call.data | changes, "options": draw(query)}


def sane(result: dict[str, Any]) -> bool:
    """Whether it is an answer of the app's, and if it refuses, in Asana's words."""
    status, body = result["status_code"], result["body"]
    if status >= 400 and body and "scimType" not in body and "schemas" not in body:
        return status < 500 and set(body["errors"][0]) <= {"message", "code", "help"}
    return bool(200 <= status < 500)


made_up = settings(max_examples=20, suppress_health_check=list(HealthCheck))


@given(actions())
@made_up
def test_alone(client: httpx2.Client, gids: dict[str, str], sent: dict[str, Any]) -> None:
    sent = filled(sent, gids)
    result = alone(client, sent)
    assert sane(result), (sent, result)


@given(st.lists(actions(), min_size=1, max_size=10))
@made_up
def test_in_batches(client: httpx2.Client, gids: dict[str, str], sent: list[dict[str, Any]]) -> None:
    sent = filled(sent, gids)
    for one, result in zip(sent, in_batch(client, *sent), strict=True):
        assert sane(result), (one, result)


@given(actions(methods=("get", "head")))
@made_up
def test_alone_and_in_batches_it_is_the_same(client: httpx2.Client, gids: dict[str, str], sent: dict[str, Any]) -> None:
    sent = filled(sent, gids)
    [result] = in_batch(client, sent)
    # What a batch does not take at all, such as a path of thousands of characters.
    if "data.actions[0]" not in str(result["body"]):
        assert result == alone(client, sent), sent


@given(st.sampled_from([call for call in CALLS if call.method in ("post", "put")]), VALUES | st.binary(max_size=50))
@made_up
def test_any_body(client: httpx2.Client, gids: dict[str, str], call: Call, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.request(call.method, filled(call.path, gids), content=content, headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    assert answer.json()


PLACES: list[Callable[[str], dict[str, Any]]] = [
    lambda shape: action("get", f"/tasks/{quote(shape, safe='')}"),
    lambda shape: action("post", f"/tasks/{quote(shape, safe='')}/subtasks", data={"name": shape, "notes": shape}),
    lambda shape: action("post", "/projects", data={"name": shape, "workspace": "{workspace}"}),
    lambda shape: action("post", "/tasks", data={"workspace": shape, "name": "Shape"}),
    lambda shape: action("post", "/tasks", data={"projects": [shape], "name": "Shape"}),
    lambda shape: action("put", "/tasks/{changed}", data={"name": shape, "notes": shape}),
    lambda shape: action("put", "/tasks/{changed}", data={"assignee": shape}),
    lambda shape: action("put", "/tasks/{changed}", data={"due_on": shape}),
    lambda shape: action("post", "/tasks/{told}/stories", data={"text": shape}),
    lambda shape: action("get", "/tasks", data={"project": shape}),
    lambda shape: action("get", "/projects/{listed}/tasks", data={"completed_since": shape}),
    lambda shape: action("get", "/projects/{listed}/tasks", options={"limit": 1, "offset": shape, "fields": [shape]}),
    lambda shape: action("get", "/workspaces/{workspace}/tasks/search", data={"text": shape}),
    lambda shape: action("get", "/projects", data={"archived": shape}, options={"limit": 1}),
    lambda shape: action("get", "/attachments", data={"parent": shape}),
]


@pytest.mark.parametrize("place", range(len(PLACES)))
def test_each_shape_in_each_place(client: httpx2.Client, gids: dict[str, str], place: int) -> None:
    sent = [filled(PLACES[place](shape), gids) for shape in SHAPES]
    for start in range(0, len(sent), 10):
        for one, result in zip(sent[start:], in_batch(client, *sent[start : start + 10]), strict=False):
            assert sane(result), (one, result)
