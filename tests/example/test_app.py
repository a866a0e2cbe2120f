"""The example app, used with Asana's own Python client over real connections, and its command line."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asana
import httpx2
import pytest
from asana.rest import ApiException
from starlette.datastructures import UploadFile
from starlette.testclient import TestClient
from starlette.types import ASGIApp

import example_app.__main__ as command_line
from batchkit.testing import action
from example_app import demo_data
from example_app.app import create_app
from example_app.demo_data import OTHER_TOKEN, TOKEN
from tests.redises import RedisServer
from tests.servers import TLS, free_port, serving
from tests.trackers import official_client

ROOT = Path(__file__).parents[2]

# Of the demo data: a project with three tasks, and those; another project; one that only its owner sees, and its task.
LAUNCH, README, DEMO, TAG = map(str, (demo_data.LAUNCH, demo_data.README, demo_data.DEMO, demo_data.TAG))
GARDEN, PRIVATE, CAKE, WORKSPACE = map(str, (demo_data.GARDEN, demo_data.PRIVATE, demo_data.CAKE, demo_data.WORKSPACE))


def app_in(folder: Path, name: str = "app") -> ASGIApp:
    """An app with a database of its own."""
    return create_app(f"sqlite:///{folder}/{name}.db", files=folder / f"{name}.files")


@contextmanager
def serving_api(app: ASGIApp) -> Iterator[str]:
    """Serve ``app``; gives the base URL of its API."""
    with serving(app) as url:
        yield f"{url}/api/1.0"


@contextmanager
def plain_client(url: str, **headers: str) -> Iterator[httpx2.Client]:
    """A client for requests of their own."""
    fields = {"authorization": f"Bearer {TOKEN}", **headers}
    with httpx2.Client(base_url=url, headers=fields, trust_env=False, verify=TLS, timeout=60) as client:
        yield client


@pytest.fixture
def in_process(tmp_path: Path) -> Iterator[TestClient]:
    """A client of an app, without a connection in between."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(app_in(tmp_path, "in_process"), base_url="http://testserver/api/1.0", headers=headers) as client:
        yield client


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serving_api(app_in(tmp_path)) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with official_client(url) as client:
        yield client


@pytest.fixture
def alone(url: str) -> Iterator[httpx2.Client]:
    with plain_client(url) as client:
        yield client


def post_batch(client: Any, *actions: dict[str, Any], **keywords: Any) -> Any:
    """What the official client makes of a batch."""
    return asana.BatchAPIApi(client).create_batch_request({"data": {"actions": list(actions)}}, {}, **keywords)


def results_of(client: Any, *actions: dict[str, Any]) -> list[dict[str, Any]]:
    return list(post_batch(client, *actions))


def refusal_of(client: Any, *actions: dict[str, Any]) -> Any:
    """The official client's exception for a batch that is refused as a whole."""
    with pytest.raises(ApiException) as caught:
        results_of(client, *actions)
    return caught.value


def messages(body: Any) -> list[str]:
    return [error["message"] for error in (json.loads(body) if isinstance(body, bytes) else body)["errors"]]


def task_names(alone: httpx2.Client) -> list[str]:
    return [task["name"] for task in alone.get(f"/workspaces/{WORKSPACE}/tasks/search").json()["data"]]


def test_the_client_reads_a_list_page_by_page_to_its_end(client: Any) -> None:
    tasks = asana.TasksApi(client).get_tasks({"project": LAUNCH, "limit": 2, "opt_fields": "name"})
    assert list(tasks) == [
        {"gid": README, "name": "Write the README"},
        {"gid": DEMO, "name": "Record a demo"},
        {"gid": TAG, "name": "Tag the release"},
    ]


def test_the_client_creates_reads_updates_and_deletes_a_task(client: Any) -> None:
    tasks = asana.TasksApi(client)
    created = tasks.create_task({"data": {"name": "Tell everyone", "projects": [LAUNCH]}}, {})
    assert created["projects"] == [{"gid": LAUNCH, "resource_type": "project", "name": "Launch"}]
    gid = created["gid"]
    assert tasks.get_task(gid, {"opt_fields": "name,completed"}) == {"gid": gid, "name": "Tell everyone", "completed": False}
    updated = tasks.update_task({"data": {"completed": True}}, gid, {})
    assert {name for name in created if updated[name] != created[name]} == {"completed", "completed_at", "modified_at"}
    assert tasks.delete_task(gid) == {}
    with pytest.raises(ApiException) as caught:
        tasks.get_task(gid, {})
    assert caught.value.status == 404


def test_a_page_says_where_the_next_one_begins(alone: httpx2.Client) -> None:
    first = alone.get("/tasks", params={"project": LAUNCH, "limit": 2}).json()
    offset = first["next_page"]["offset"]
    path = f"/tasks?project={LAUNCH}&limit=2&offset={offset.replace('=', '%3D')}"
    assert first["next_page"] == {"offset": offset, "path": path, "uri": f"{str(alone.base_url).rstrip('/')}{path}"}
    alone.delete(f"/tasks/{DEMO}")
    last = alone.get(first["next_page"]["uri"]).json()
    task = {"gid": TAG, "resource_type": "task", "name": "Tag the release", "resource_subtype": "default_task"}
    assert last == {"data": [task], "next_page": None}
    assert "next_page" not in alone.get(f"/projects/{LAUNCH}/tasks").json()


MIXED = (
    action("get", f"/tasks/{README}", options={"fields": ["name"]}),
    action("post", "/tasks", data={"name": "Tell everyone", "projects": [LAUNCH]}, options={"fields": ["name"]}),
    action("put", f"/tasks/{DEMO}", data={"completed": True}, options={"fields": ["completed"]}),
    action("delete", f"/tasks/{TAG}"),
)
MIXED_RESULTS = [
    {"status_code": 200, "headers": {}, "body": {"data": {"gid": README, "name": "Write the README"}}},
    {
        "status_code": 201,
        "headers": {"location": "/api/1.0/tasks/<new>"},
        "body": {"data": {"gid": "<new>", "name": "Tell everyone"}},
    },
    {"status_code": 200, "headers": {}, "body": {"data": {"gid": DEMO, "completed": True}}},
    {"status_code": 200, "headers": {}, "body": {"data": {}}},
]


def anew(content: Any) -> Any:
    """``content`` without the gids that are new: those are of their time, the demo data's have four digits."""
    return json.loads(re.sub(r"\b\d{18}\b", "<new>", json.dumps(content)))


def test_the_client_sends_a_batch_when_its_results_are_read(client: Any, alone: httpx2.Client) -> None:
    before = task_names(alone)
    results = post_batch(client, *MIXED)
    assert task_names(alone) == before
    assert anew(list(results)) == MIXED_RESULTS
    assert task_names(alone) == ["Write the README", "Record a demo", "Plant beans", "Mend the fence", "Tell everyone"]


def test_the_client_takes_the_whole_answer_with_full_payload(client: Any) -> None:
    assert anew(post_batch(client, *MIXED, full_payload=True)) == {"data": MIXED_RESULTS}


def test_the_client_takes_the_whole_answer_without_its_page_iterator(client: Any) -> None:
    client.configuration.return_page_iterator = False
    assert anew(post_batch(client, *MIXED)) == {"data": MIXED_RESULTS}


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (0, "Batch requests must contain at least one action"),
        (11, "Batch requests must contain no more than 10 actions"),
    ],
)
def test_no_action_and_eleven_actions_are_refused_as_a_whole(client: Any, alone: httpx2.Client, count: int, message: str) -> None:
    refusal = refusal_of(client, *[action("delete", f"/tasks/{README}")] * count)
    assert refusal.status == 400
    assert messages(refusal.body) == [message]
    assert "Write the README" in task_names(alone)


def test_a_wrong_token_is_refused_before_any_action(url: str, alone: httpx2.Client) -> None:
    with official_client(url, "another-token") as client:
        refusal = refusal_of(client, action("delete", f"/tasks/{README}"))
    assert refusal.status == 401
    assert json.loads(refusal.body) == {"errors": [{"message": "Not Authorized"}]}
    assert "Write the README" in task_names(alone)


@pytest.mark.parametrize("header", ["", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \u00e9"])
def test_every_request_must_show_the_token(in_process: TestClient, header: str) -> None:
    answer = in_process.get("/users/me", headers=[(b"authorization", header.encode())])
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert answer.json() == {"errors": [{"message": "Not Authorized"}]}


def test_what_is_private_is_seen_by_its_owner_alone(in_process: TestClient) -> None:
    for path, kind in [
        (f"/projects/{PRIVATE}", "project"),
        (f"/projects/{PRIVATE}/tasks", "project"),
        (f"/tasks/{CAKE}", "task"),
    ]:
        refusal = in_process.get(path)
        assert (refusal.status_code, messages(refusal.content)) == (403, [f"You do not have access to this {kind}."])
        assert in_process.get(path, headers={"authorization": f"Bearer {OTHER_TOKEN}"}).status_code == 200
    assert "Surprise party" not in in_process.get("/projects").text
    assert "Order a cake" not in task_names(in_process)
    assert in_process.post("/tasks", json={"data": {"projects": [PRIVATE]}}).status_code == 403
    # In a public project as well, it would show its private one to all.
    for mixed in ({"projects": [PRIVATE, LAUNCH]}, {"parent": CAKE, "projects": [LAUNCH]}):
        refusal = in_process.post("/tasks", json={"data": mixed}, headers={"authorization": f"Bearer {OTHER_TOKEN}"})
        assert refusal.status_code == 400
        assert messages(refusal.content) == [
            "projects: All must be in the workspace of the parent, and all public or all private"
        ]


def test_an_upload_that_breaks_off_leaves_neither_a_row_nor_half_a_file(
    in_process: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = UploadFile.read

    async def broken(self: UploadFile, size: int = -1) -> bytes:
        if self.file.tell():
            raise OSError("the disk is full")
        return await read(self, size)

    with monkeypatch.context() as patched:
        patched.setattr(UploadFile, "read", broken)
        with pytest.raises(OSError, match="the disk is full"):
            in_process.post("/attachments", data={"parent": README}, files={"file": ("notes.txt", b"notes")})
    assert in_process.get("/attachments", params={"parent": README}).json() == {"data": []}
    assert list((tmp_path / "in_process.files").iterdir()) == []


def test_the_name_that_a_file_comes_with_is_checked_as_any_text(in_process: TestClient) -> None:
    part = f'--b\r\nContent-Disposition: form-data; name="parent"\r\n\r\n{README}\r\n'
    file = '--b\r\nContent-Disposition: form-data; name="file"; filename="a\0b"\r\n\r\nnotes\r\n--b--\r\n'
    form = {"content-type": "multipart/form-data; boundary=b"}
    refusal = in_process.post("/attachments", content=part + file, headers=form)
    assert refusal.status_code == 400
    assert messages(refusal.content)[0].startswith("name: Expected `str`")
    assert in_process.post("/attachments", content=part + file.replace("\0", "_"), headers=form).status_code == 200


def test_deleting_a_project_deletes_all_that_hangs_on_it(in_process: TestClient, tmp_path: Path) -> None:
    subtask = in_process.post(f"/tasks/{README}/subtasks", json={"data": {"name": "Proofread"}}).json()["data"]
    story = in_process.post(f"/tasks/{subtask['gid']}/stories", json={"data": {"text": "Done"}}).json()["data"]
    upload = in_process.post("/attachments", data={"parent": subtask["gid"]}, files={"file": ("../notes.txt", b"notes")})
    attachment = upload.json()["data"]
    assert (upload.status_code, attachment["name"]) == (200, "../notes.txt")
    path = in_process.get(f"/attachments/{attachment['gid']}").json()["data"]["download_url"]
    assert in_process.get(path).content == b"notes"
    assert len(list((tmp_path / "in_process.files").iterdir())) == 1
    both = in_process.post("/tasks", json={"data": {"name": "Both", "projects": [LAUNCH, GARDEN]}}).json()["data"]
    assert in_process.delete(f"/projects/{LAUNCH}").json() == {"data": {}}
    for path in (f"/tasks/{README}", f"/tasks/{subtask['gid']}", f"/stories/{story['gid']}", f"/attachments/{attachment['gid']}"):
        assert in_process.get(path).status_code == 404
    assert list((tmp_path / "in_process.files").iterdir()) == []
    assert [project["gid"] for project in in_process.get(f"/tasks/{both['gid']}").json()["data"]["projects"]] == [GARDEN]


def test_of_ten_deletions_of_one_task_just_one_succeeds(client: Any) -> None:
    results = results_of(client, *[action("delete", f"/tasks/{README}")] * 10)
    assert sorted(result["status_code"] for result in results) == [200] + [404] * 9


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ("name", {"gid": README, "name": "Write the README"}),
        ("this.name,nothing", {"gid": README, "name": "Write the README"}),
        ("projects", {"gid": README, "projects": [{"gid": LAUNCH, "resource_type": "project", "name": "Launch"}]}),
        ("projects.(name|public)", {"gid": README, "projects": [{"gid": LAUNCH, "name": "Launch", "public": True}]}),
        ("memberships.project.name", {"gid": README, "memberships": [{"project": {"gid": LAUNCH, "name": "Launch"}}]}),
        ("followers.workspaces.name", None),
    ],
)
def test_opt_fields_say_what_is_shown(in_process: TestClient, fields: str, data: Any) -> None:
    answer = in_process.get(f"/tasks/{README}", params={"opt_fields": fields}).json()["data"]
    followers = [{"gid": "1003", "workspaces": [{"gid": WORKSPACE, "name": "Analytical Engines"}]}]
    assert answer == (data or {"gid": README, "followers": followers})
    assert in_process.get(f"/projects/{LAUNCH}/tasks", params={"opt_fields": fields}).json()["data"][0] == answer


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (",".join("a" * 200), 200),
        (",".join("a" * 201), 400),
        (".".join("a" * 201), 400),
        ("|".join("a" * 201), 400),
        (".".join(["(a|b)"] * 6), 200),
        (".".join(["(a|b)"] * 7), 400),
        ("(" * 1000, 200),
        ("a)(b" * 5, 200),
    ],
)
def test_opt_fields_are_bounded(in_process: TestClient, fields: str, status: int) -> None:
    assert in_process.get(f"/tasks/{README}", params={"opt_fields": fields}).status_code == status
    assert in_process.get(f"/projects/{LAUNCH}/tasks", params={"opt_fields": fields}).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "data", "status"),
    [
        ("post", "/attachments", {}, 400),
        ("post", "/organization_exports", {"organization": WORKSPACE}, 201),
        ("get", "/organization_exports/{export}", {}, 200),
        ("delete", "/organization_exports/{export}", {}, 200),
        ("get", "/scim/Users", {}, 200),
        ("post", "/batch", {"actions": [action("get", "/users/me")]}, 200),
    ],
)
def test_what_asana_excludes_works_alone_but_not_in_a_batch(
    client: Any, alone: httpx2.Client, method: str, path: str, data: dict[str, Any], status: int
) -> None:
    export = alone.post("/organization_exports", json={"data": {"organization": WORKSPACE}})
    gid = export.json()["data"]["gid"]
    assert export.headers["location"] == f"/api/1.0/organization_exports/{gid}"
    path = path.replace("{export}", gid)
    before, excluded, after = results_of(
        client, action("get", "/users/me"), action(method, path, data=data), action("get", f"/tasks/{README}")
    )
    assert (before["status_code"], excluded["status_code"], after["status_code"]) == (200, 400, 200)
    assert messages(excluded["body"]) == ["data.actions[1]: This action cannot be used in a batch request"]
    assert alone.request(method, path, json={"data": data} if method == "post" else None).status_code == status


# Each action, and the request of its own that it stands for.
SAME: list[tuple[dict[str, Any], tuple[str, str, Any]]] = [
    (action("get", "/users/me"), ("GET", "/users/me", None)),
    (
        action("get", "/tasks", data={"project": LAUNCH}, options={"limit": 2, "fields": ["name", "completed"]}),
        ("GET", f"/tasks?project={LAUNCH}&limit=2&opt_fields=name,completed", None),
    ),
    (
        action("post", "/tasks", data={"name": "é", "parent": TAG}),
        ("POST", "/tasks", {"data": {"name": "é", "parent": TAG}}),
    ),
    (action("get", f"/projects/{PRIVATE}"), ("GET", f"/projects/{PRIVATE}", None)),
    (action("post", "/tasks"), ("POST", "/tasks", {"data": {}})),
    (action("put", f"/tasks/{DEMO}", data={"completed": True}), ("PUT", f"/tasks/{DEMO}", {"data": {"completed": True}})),
    (action("delete", f"/tasks/{TAG}"), ("DELETE", f"/tasks/{TAG}", None)),
    (action("head", f"/tasks/{DEMO}"), ("HEAD", f"/tasks/{DEMO}", None)),
    (action("get", f"/tasks/{TAG}"), ("GET", f"/tasks/{TAG}", None)),
    (action("get", "/tasks/"), ("GET", "/tasks/", None)),
    (action("patch", f"/tasks/{DEMO}"), ("PATCH", f"/tasks/{DEMO}", {"data": {}})),
    (action("get", "/not_found"), ("GET", "/not_found", None)),
]


def timeless(body: str) -> Any:
    """The content of a body without the times and the new gids in it."""
    return anew(json.loads(re.sub(r'"\d{4}-\d\d-\d\dT[^"]+Z"', '"a time"', body or "{}")))


def test_the_result_of_an_action_is_the_answer_to_the_same_request_alone(tmp_path: Path) -> None:
    with serving_api(app_in(tmp_path, "alone")) as url, plain_client(url, host="tasks.example") as client:
        answers = [client.request(method, path, json=body) for _, (method, path, body) in SAME]
    with serving_api(app_in(tmp_path, "batch")) as url, official_client(url) as official:
        official.set_default_header("Host", "tasks.example")
        results = [result for sent, _ in SAME for result in results_of(official, sent)]
    assert [
        (result["status_code"], timeless(json.dumps(result["body"])), anew(result["headers"].get("location")))
        for result in results
    ] == [(answer.status_code, timeless(answer.text), anew(answer.headers.get("location"))) for answer in answers]
    assert [answer.status_code for answer in answers] == [200, 200, 201, 403, 400, 200, 200, 200, 404, 307, 404, 404]


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "message"),
    [
        ("GET", "/nowhere", "", 404, "No matching route for request"),
        ("PATCH", f"/tasks/{README}", "", 404, "No matching route for request"),
        ("GET", f"/tasks/{LAUNCH}", "", 404, f"task: Not a recognized ID: {LAUNCH}"),
        ("GET", "/projects/0/tasks", "", 404, "project: Not a recognized ID: 0"),
        ("GET", "/projects/9999999999999999999999/tasks", "", 404, "project: Not a recognized ID: 9999999999999999999999"),
        ("GET", "/tasks/%00", "", 404, "task: Not a recognized ID: \0"),
        ("POST", "/tasks", '{"data": {"name": "a", "projects": [0]}}', 404, "project: Not a recognized ID: 0"),
        ("PUT", f"/tasks/{README}", '{"data": {"assignee": "12"}}', 404, "assignee: Not a recognized ID: 12"),
        ("POST", "/projects", '{"data": {}}', 400, "workspace: Missing input"),
        ("POST", f"/tasks/{README}/stories", '{"data": {}}', 400, "text: Missing input"),
        ("POST", "/tasks", '{"data": {}}', 400, "You should specify one of workspace, parent, projects"),
        ("POST", "/tasks", '{"data": {"name": 1}}', 400, "name: Expected `str`, got `int`"),
        ("POST", "/tasks", '{"data": {"projects": [{}]}}', 400, "projects[0]: Expected `int | str`, got `object`"),
        ("POST", "/tasks", '{"data": {"due_on": "2030-02-30"}}', 400, "due_on: Invalid RFC3339 encoded date"),
        ("POST", "/tasks", '{"data": {"name": "\\ud800"}}', 400, "Could not parse request data, invalid JSON"),
        ("POST", "/tasks", "{", 400, "Could not parse request data, invalid JSON"),
        ("POST", "/tasks", "[]", 400, "body: Expected `object`, got `array`"),
        ("PUT", f"/tasks/{README}", '{"data": ' + "[" * 100_000, 400, "Could not parse request data, invalid JSON"),
        (
            "PUT",
            f"/tasks/{README}",
            '{"name": "a"}',
            400,
            "Unrecognized request field name . The only allowed keys at the top level are: data, options. "
            "Is it possible you did not wrap object properties in a data object?",
        ),
        ("PUT", f"/tasks/{README}", '{"data": "name"}', 400, "data: Expected `object`, got `str`"),
        (
            "GET",
            "/tasks",
            "",
            400,
            "Must specify exactly one of project, tag, section, user task list, or assignee + workspace",
        ),
        ("GET", "/projects?limit=0", "", 400, "limit: Expected `int` >= 1"),
        ("GET", "/projects?limit=101", "", 400, "limit: Expected `int` <= 100"),
        ("GET", "/projects?limit=1&offset=two", "", 400, "offset: Your pagination token is invalid."),
        (
            "GET",
            f"/tasks?project={LAUNCH}&completed_since=0001-01-01T00:00%2B14:00",
            "",
            400,
            "completed_since: Give a date, a time like 2030-12-31T23:59:59Z, or now",
        ),
        ("POST", "/attachments", "", 400, "parent: Missing input"),
    ],
)
def test_a_mistake_is_answered_as_asana_answers_it(
    in_process: TestClient, method: str, path: str, content: str, status: int, message: str
) -> None:
    before = task_names(in_process)
    answer = in_process.request(method, path, content=content)
    assert answer.status_code == status
    assert messages(answer.content) == [message]
    assert answer.json()["errors"][0]["help"].endswith("https://developers.asana.com/docs/errors")
    assert task_names(in_process) == before


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    for expected in (200, 404):
        with serving_api(app_in(tmp_path)) as url, plain_client(url) as alone:
            assert alone.delete(f"/tasks/{README}").status_code == expected


def test_the_demo_shows_ten_results_and_succeeds() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "example_app", "--demo"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (demo.returncode, demo.stderr) == (0, "")
    rows = re.findall(r"^ ?(\d+)  (?:get|post|put|head) +/\S+ +(\d+) +\d+\.\d  \S", demo.stdout, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 11))
    assert [int(status) for _, status in rows] == [200, 200, 200, 200, 201, 201, 200, 200, 404, 400]
    *passed, (_, refused, tasks) = batches_of(demo.stdout)
    assert passed == [(number, 200, 10 * number) for number in range(1, len(passed) + 1)]
    assert (refused, tasks) == (429, 10 * len(passed))
    assert len(passed) >= 14


def batches_of(story: str) -> list[tuple[int, ...]]:
    """Number, status and tasks of each batch in the second part of the demo."""
    return [tuple(map(int, batch)) for batch in re.findall(r"^ +(\d+)  (200|429) +\d+\.\d  (\d+)$", story, re.MULTILINE)]


def test_two_processes_with_one_redis_share_their_limits(redis: RedisServer) -> None:
    command = [sys.executable, "-m", "example_app", "--demo"]
    environment = {**os.environ, "REDIS_URL": redis.url}
    first, second = (
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False) for _ in "12"
    )
    assert (first.returncode, first.stderr) == (0, "")
    # The first has used up what both may do in a minute; what has come back since is not much.
    assert len(batches_of(second.stdout)) < len(batches_of(first.stdout)) // 2
    counters = {key.rsplit(":", 1)[0] for key in redis.keys("rate")}
    assert "{example_app}:rate:requests:token" in counters
    assert redis.taken() == 0


def test_the_demo_fails_where_a_status_is_not_the_expected_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line, "ACTIONS", [(action("get", "/users/me"), 404)])
    monkeypatch.setattr(sys, "argv", ["example_app", "--demo"])
    assert command_line.main() == 1
    assert " 1  get  /users/me                       200 " in capsys.readouterr().out


def test_the_printed_curl_line_works_as_pasted_and_ctrl_c_ends_the_server_quietly(tmp_path: Path) -> None:
    # What curl is configured to do besides is this test's affair, not the line's.
    (tmp_path / ".curlrc").write_text(
        'silent\nnoproxy = "*"\nwrite-out = "\\n%{http_code}"\nretry = 60\nretry-delay = 1\nretry-connrefused\n'
    )
    command = [sys.executable, "-m", "example_app", "--port", str(free_port())]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes) as server:
        assert server.stdout is not None
        try:
            line = next(line for line in server.stdout if line.startswith("curl "))
            environment = {**os.environ, "CURL_HOME": str(tmp_path)}
            answer = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, timeout=60, check=True)
        finally:
            server.send_signal(signal.SIGINT)
            _, errors = server.communicate(timeout=60)
    body, status = answer.stdout.rsplit("\n", 1)
    assert status == "200"
    assert [result["status_code"] for result in json.loads(body)["data"]] == [200, 200, 200]
    assert (server.returncode, errors) == (0, "")


def test_a_port_that_cannot_be_had_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The app has started by then, with its database in the working directory.
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["example_app", "--port", str(port)])
        with pytest.raises(SystemExit, match="3"):
            command_line.main()
    assert "address already in use" in capsys.readouterr().err
