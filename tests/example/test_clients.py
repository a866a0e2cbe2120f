"""Asana's own Python client lives on the example app as on the original, on each kind of database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asana
import pytest
from asana.rest import ApiException

from batchkit.limiter import Concurrency, Rate
from batchkit.testing import action
from example_app.demo_data import OTHER_TOKEN, PRIVATE, TAG, WORKSPACE
from tests.trackers import Tracker, serving_tracker

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def client(tracker: Tracker) -> Iterator[Any]:
    with tracker.official_client() as client:
        yield client


@pytest.fixture
def workspace(client: Any) -> str:
    """The gid of the one workspace that the demo user has."""
    gid: str = next(asana.WorkspacesApi(client).get_workspaces({}))["gid"]
    return gid


@pytest.fixture
def project(client: Any, workspace: str) -> str:
    """The gid of an empty project."""
    created = asana.ProjectsApi(client).create_project({"data": {"name": "Harvest", "workspace": workspace}}, {})
    gid: str = created["gid"]
    return gid


@pytest.fixture
def task(client: Any, project: str) -> str:
    """The gid of a task in the project."""
    gid: str = asana.TasksApi(client).create_task({"data": {"name": "Pick apples", "projects": [project]}}, {})["gid"]
    return gid


def refused(call: Callable[..., Any], *arguments: Any) -> tuple[int, str]:
    """The status of a refusal, and what it says."""
    with pytest.raises(ApiException) as caught:
        call(*arguments)
    return caught.value.status, json.loads(caught.value.body)["errors"][0]["message"]


def test_me_and_my_workspaces(client: Any) -> None:
    me = asana.UsersApi(client).get_user("me", {})
    assert (me["name"], me["resource_type"]) == ("Ada Lovelace", "user")
    workspaces = list(asana.WorkspacesApi(client).get_workspaces({}))
    assert me["workspaces"] == workspaces
    assert {type(workspace["gid"]) for workspace in workspaces} == {str}
    assert asana.UsersApi(client).get_user(me["gid"], {}) == me


def test_a_project_from_its_creation_to_its_end(client: Any, workspace: str) -> None:
    projects = asana.ProjectsApi(client)
    before = [project["gid"] for project in projects.get_projects({"workspace": workspace})]
    created = projects.create_project({"data": {"name": "Harvest", "workspace": workspace, "notes": "In autumn"}}, {})
    gid = created["gid"]
    assert created["workspace"]["gid"] == workspace
    assert TIME.fullmatch(created["created_at"])
    assert projects.get_project(gid, {}) == created
    assert projects.get_project(gid, {"opt_fields": "name,workspace.name"}) == {
        "gid": gid,
        "name": "Harvest",
        "workspace": {"gid": workspace, "name": created["workspace"]["name"]},
    }
    assert [project["gid"] for project in projects.get_projects_for_workspace(workspace, {"limit": 1})] == [*before, gid]
    assert projects.update_project({"data": {"name": "Late harvest"}}, gid, {})["name"] == "Late harvest"
    assert projects.get_project(gid, {"opt_fields": "name,notes"}) == {"gid": gid, "name": "Late harvest", "notes": "In autumn"}
    assert projects.delete_project(gid) == {}
    assert refused(projects.get_project, gid, {}) == (404, f"project: Not a recognized ID: {gid}")
    assert [project["gid"] for project in projects.get_projects({"workspace": workspace})] == before


def test_a_task_from_its_creation_to_its_end(client: Any, workspace: str, project: str) -> None:
    tasks = asana.TasksApi(client)
    fields = {"name": "Pick apples \N{RED APPLE}", "notes": "The red ones", "projects": [project], "due_on": "2030-09-01"}
    created = tasks.create_task({"data": {**fields, "assignee": "me"}}, {})
    gid = created["gid"]
    assert {name: created[name] for name in ("name", "notes", "due_on")} == {
        "name": fields["name"],
        "notes": "The red ones",
        "due_on": "2030-09-01",
    }
    assert (created["completed"], created["completed_at"], created["parent"]) == (False, None, None)
    assert (created["workspace"]["gid"], created["projects"][0]["gid"]) == (workspace, project)
    assert created["assignee"]["name"] == "Ada Lovelace"
    assert TIME.fullmatch(created["created_at"])
    assert tasks.get_task(gid, {}) == created
    wanted = {"opt_fields": "this.name,assignee.name,projects.(name|resource_type)"}
    assert tasks.get_task(gid, wanted) == {
        "gid": gid,
        "name": fields["name"],
        "assignee": {"gid": created["assignee"]["gid"], "name": "Ada Lovelace"},
        "projects": [{"gid": project, "name": "Harvest", "resource_type": "project"}],
    }
    changed = tasks.update_task({"data": {"completed": True, "assignee": None}}, gid, {})
    assert (changed["completed"], changed["assignee"]) == (True, None)
    assert TIME.fullmatch(changed["completed_at"])
    assert tasks.get_task(gid, {}) == changed
    assert tasks.delete_task(gid) == {}
    assert refused(tasks.get_task, gid, {}) == (404, f"task: Not a recognized ID: {gid}")


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_list_is_read_page_by_page_to_its_end(client: Any, tracker: Tracker, project: str, limit: int) -> None:
    tasks = asana.TasksApi(client)
    gids = [tasks.create_task({"data": {"name": f"Row {row}", "projects": [project]}}, {})["gid"] for row in range(5)]
    tracker.wire.seen.clear()
    read = list(tasks.get_tasks({"project": project, "limit": limit}))
    assert [task["gid"] for task in read] == gids
    assert len(tracker.wire.seen) == -(-5 // limit)
    assert list(tasks.get_tasks_for_project(project, {"limit": limit})) == read


def test_subtasks(client: Any, task: str) -> None:
    tasks = asana.TasksApi(client)
    names = ["Find a ladder", "Find a basket"]
    created = [tasks.create_subtask_for_task({"data": {"name": name}}, task, {}) for name in names]
    assert [subtask["parent"]["gid"] for subtask in created] == [task, task]
    assert [subtask["name"] for subtask in tasks.get_subtasks_for_task(task, {"limit": 1})] == names


def test_a_story(client: Any, task: str) -> None:
    stories = asana.StoriesApi(client)
    created = stories.create_story_for_task({"data": {"text": "They are ripe"}}, task, {})
    assert (created["text"], created["resource_type"]) == ("They are ripe", "story")
    assert created["created_by"]["name"] == "Ada Lovelace"
    assert stories.get_story(created["gid"], {}) == created
    assert [story["gid"] for story in stories.get_stories_for_task(task, {})][-1] == created["gid"]


def test_an_attachment_is_uploaded_read_and_deleted(client: Any, task: str, tmp_path: Path, tracker: Tracker) -> None:
    attachments = asana.AttachmentsApi(client)
    content = bytes(range(256)) * 1000
    file = tmp_path / "apples.bin"
    file.write_bytes(content)
    created = attachments.create_attachment_for_object({"parent": task, "file": str(file)})
    assert {name: created[name] for name in ("resource_type", "name")} == {"resource_type": "attachment", "name": "apples.bin"}
    gid = created["gid"]
    assert [attachment["gid"] for attachment in attachments.get_attachments_for_object(task, {})] == [gid]
    full = attachments.get_attachment(gid, {})
    assert (full["name"], full["parent"]["gid"], full["size"]) == ("apples.bin", task, len(content))
    with tracker.client() as plain:
        assert plain.get(full["download_url"]).raise_for_status().content == content
        assert plain.get(full["download_url"], headers={"authorization": "Bearer x"}).status_code == 401
    assert attachments.delete_attachment(gid) == {}
    assert refused(attachments.get_attachment, gid, {}) == (404, f"attachment: Not a recognized ID: {gid}")
    assert not [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


def test_what_belongs_to_others(tracker: Tracker, client: Any) -> None:
    theirs = str(PRIVATE)
    assert refused(asana.ProjectsApi(client).get_project, theirs, {}) == (403, "You do not have access to this project.")
    assert theirs not in [project["gid"] for project in asana.ProjectsApi(client).get_projects({})]
    with tracker.official_client(OTHER_TOKEN) as other:
        assert asana.ProjectsApi(other).get_project(theirs, {"opt_fields": "public"}) == {"gid": theirs, "public": False}


def lazily(batches: Any, body: Any) -> Any:
    return list(batches.create_batch_request(body, {}))


def as_published(batches: Any, body: Any) -> Any:
    return list(batches.create_batch_request(body, {"opt_fields": "body,headers,status_code", "opt_pretty": True}))


def in_full(batches: Any, body: Any) -> Any:
    return batches.create_batch_request(body, {}, full_payload=True)["data"]


def later(batches: Any, body: Any) -> Any:
    return batches.create_batch_request(body, {}, async_req=True).get()["data"]


def with_http_info(batches: Any, body: Any) -> Any:
    answer, status, headers = batches.create_batch_request_with_http_info(body, {}, full_payload=True)
    assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
    return answer["data"]


def later_with_http_info(batches: Any, body: Any) -> Any:
    answer, status, _ = batches.create_batch_request_with_http_info(body, {}, async_req=True).get()
    assert status == 200
    return answer["data"]


def without_iterator(batches: Any, body: Any) -> Any:
    configuration = batches.api_client.configuration
    configuration.return_page_iterator = False
    try:
        return batches.create_batch_request(body, {})["data"]
    finally:
        configuration.return_page_iterator = True


MODES = [lazily, as_published, in_full, later, with_http_info, later_with_http_info, without_iterator]


@pytest.mark.parametrize("mode", MODES)
def test_a_mixed_batch_in_every_mode(mode: Callable[[Any, Any], Any], client: Any, tracker: Tracker, project: str) -> None:
    tasks = asana.TasksApi(client)
    kept, changed, gone = (
        tasks.create_task({"data": {"name": name, "projects": [project]}}, {})["gid"] for name in ("Kept", "Changed", "Gone")
    )
    before = tracker.rows()
    tracker.wire.seen.clear()
    actions = [
        action("get", "/users/me", options={"fields": ["name"]}),
        action("get", "/tasks", data={"project": project}, options={"limit": 2, "fields": ["name"]}),
        action("post", f"/tasks/{kept}/subtasks", data={"name": "Below"}, options={"fields": ["name"]}),
        action("put", f"/tasks/{changed}", data={"completed": True}, options={"fields": ["completed"]}),
        action("delete", f"/tasks/{gone}"),
        action("post", f"/tasks/{kept}/stories", data={"text": "Said"}, options={"fields": ["text"]}),
        action("get", "/not_found"),
        action("post", "/attachments", data={"parent": kept}),
    ]
    results = mode(asana.BatchAPIApi(client), {"data": {"actions": actions}})
    assert tracker.wire.seen == ["POST /api/1.0/batch"]
    assert [result["status_code"] for result in results] == [200, 200, 201, 200, 200, 201, 404, 400]
    me, listed, subtask, updated, deleted, story, *_ = [result["body"].get("data") for result in results]
    assert me["name"] == "Ada Lovelace"
    assert [task["name"] for task in listed] == ["Kept", "Changed"]
    assert subtask == {"gid": subtask["gid"], "name": "Below"}
    assert results[2]["headers"] == {"location": f"/api/1.0/tasks/{subtask['gid']}"}
    assert updated == {"gid": changed, "completed": True}
    assert deleted == {}
    assert story == {"gid": story["gid"], "text": "Said"}
    after = tracker.rows()
    assert (after["tasks"], after["stories"]) == (before["tasks"], before["stories"] + 1)


CREATION = action("post", "/tasks", data={"name": "Never", "workspace": str(WORKSPACE)})


def test_a_batch_is_not_sent_before_its_results_are_read(client: Any, tracker: Tracker) -> None:
    results = asana.BatchAPIApi(client).create_batch_request({"data": {"actions": [action("get", "/users/me")]}}, {})
    assert tracker.wire.seen == []
    assert [result["status_code"] for result in results] == [200]
    assert tracker.wire.seen == ["POST /api/1.0/batch"]


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (0, "Batch requests must contain at least one action"),
        (11, "Batch requests must contain no more than 10 actions"),
    ],
)
def test_no_action_and_eleven_are_refused_as_a_whole(client: Any, tracker: Tracker, count: int, message: str) -> None:
    before = tracker.rows()
    for mode in MODES:
        tracker.wire.seen.clear()
        assert refused(mode, asana.BatchAPIApi(client), {"data": {"actions": [CREATION] * count}}) == (400, message)
        assert tracker.wire.seen == ["POST /api/1.0/batch"]
    assert tracker.rows() == before


def test_a_wrong_token_is_refused_before_any_action(tracker: Tracker) -> None:
    before = tracker.rows()
    with tracker.official_client("another-token") as client:
        for mode in MODES:
            tracker.wire.seen.clear()
            actions = [CREATION, action("delete", f"/tasks/{TAG}")]
            assert refused(mode, asana.BatchAPIApi(client), {"data": {"actions": actions}}) == (401, "Not Authorized")
            assert tracker.wire.seen == ["POST /api/1.0/batch"]
    assert tracker.rows() == before


@pytest.mark.parametrize("limit", [Rate(5, 3600, name="requests"), Concurrency(5, name="writes", methods=["POST"])])
def test_an_exhausted_limit_refuses_the_whole_batch_with_one_request_on_the_wire(
    database: str, tmp_path: Path, limit: Rate | Concurrency
) -> None:
    with serving_tracker(database, tmp_path, limits=[limit]) as tracker, tracker.official_client() as client:
        before = tracker.rows()
        for mode in MODES:
            tracker.wire.seen.clear()
            status, message = refused(mode, asana.BatchAPIApi(client), {"data": {"actions": [CREATION] * 6}})
            assert (status, message.split(":")[0]) == (429, limit.name)
            assert tracker.wire.seen == ["POST /api/1.0/batch"]
        assert tracker.rows() == before
        # It would have made rows: what was refused was not at fault, and is not counted.
        results = lazily(asana.BatchAPIApi(client), {"data": {"actions": [CREATION] * 5}})
        assert [result["status_code"] for result in results] == [201] * 5
        assert tracker.rows() == before | {"tasks": before["tasks"] + 5}


def test_a_limit_that_is_used_up_says_when_to_come_again(database: str, tmp_path: Path) -> None:
    limit = Rate(5, 3600, name="requests")
    with serving_tracker(database, tmp_path, limits=[limit]) as tracker, tracker.official_client() as client:
        batches = asana.BatchAPIApi(client)
        reads = [action("get", "/users/me")]
        assert [result["status_code"] for result in lazily(batches, {"data": {"actions": reads * 3}})] == [200] * 3
        with pytest.raises(ApiException) as caught:
            lazily(batches, {"data": {"actions": reads * 3}})
        assert caught.value.status == 429
        # The third unit is back after a fifth of the hour.
        assert 0 < int(caught.value.headers["Retry-After"]) <= 720
        assert [result["status_code"] for result in lazily(batches, {"data": {"actions": reads * 2}})] == [200] * 2
