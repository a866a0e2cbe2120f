"""The whole API of the example app, call by call: as actions of a batch, and as the same requests alone.

The calls do not touch each other's objects, so each gets the same answer in whatever order they come, and at the same time.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
from starlette.routing import Mount, Route

from batchkit.testing import action
from example_app.demo_data import OTHER_WORKSPACE, PRIVATE

# What protocol.md#the-answer lets a result show.
SHOWN = (
    *("location", "content-location", "etag", "last-modified", "retry-after", "link", "allow", "www-authenticate"),
    *("content-disposition", "content-language", "deprecation", "sunset", "x-total-count", "x-request-id"),
)


@dataclass
class Call:
    """One call: names in braces in its path and data are objects of ``prepared``."""

    # The route that answers it, as the app has it, or none.
    route: str
    method: str
    path: str
    data: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    # Asana keeps it out of batches.
    excluded: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status} {' '.join([*self.data, *self.options])}".strip()

    def action(self, gids: dict[str, str]) -> dict[str, Any]:
        more = {name: filled(value, gids) for name, value in (("data", self.data), ("options", self.options)) if value}
        return action(self.method, filled(self.path, gids), **more)


def filled(value: Any, gids: dict[str, str]) -> Any:
    """``value`` with the gids in the place of the names."""
    if isinstance(value, dict):
        return {name: filled(item, gids) for name, item in value.items()}
    if isinstance(value, list):
        return [filled(item, gids) for item in value]
    return re.sub(r"\{(\w+)\}", lambda match: gids[match[1]], value) if isinstance(value, str) else value


def routes(app: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and template of all that the app answers."""
    for route in app.routes:
        if isinstance(route, Mount):
            yield from routes(route, prefix + route.path)
        else:
            assert isinstance(route, Route), route
            # A batch takes any method itself.
            methods = route.methods or (("POST",) if prefix + route.path == "/api/1.0/batch" else ())
            assert methods, route
            for method in methods:
                yield method.lower(), (prefix + route.path).removeprefix("/api/1.0")


def alone(client: httpx2.Client, sent: dict[str, Any]) -> dict[str, Any]:
    """The answer to the request of its own that an action stands for, in the shape of a result."""
    method, data, options = sent["method"], sent.get("data", {}), sent.get("options", {})
    bodyless = method in ("get", "head", "delete")
    content = None if bodyless else json.dumps({"data": data})
    query = data if bodyless else {}
    query = query | {{"fields": "opt_fields"}.get(name, name): value for name, value in options.items()}
    answer = client.request(
        method.upper(),
        sent["relative_path"],
        params={name: in_query(value) for name, value in query.items()},
        content=content,
        headers={"content-type": "application/json"} if content else {},
    )
    headers = {name: answer.headers[name] for name in SHOWN if name in answer.headers}
    media_type = answer.headers.get("content-type", "")
    result: dict[str, Any] = {"status_code": answer.status_code, "headers": headers}
    if not answer.content:
        return result | {"body": {}}
    if re.match(r"application/(\w+\+)?json\b", media_type):
        return result | {"body": answer.json()}
    headers["content-type"] = media_type
    if media_type.startswith("text/"):
        return result | {"body": answer.text}
    return result | {"body": b64encode(answer.content).decode(), "body_encoding": "base64"}


def in_query(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return json.dumps(value) if isinstance(value, bool) else str(value)


def in_batch(client: httpx2.Client, *actions: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/batch", json={"data": {"actions": actions}})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["data"]
    return results


def normalised(result: dict[str, Any], gids: dict[str, str]) -> dict[str, Any]:
    """A result without what differs from one database to the next: gids, times, and tokens made of them."""
    body = result["body"]
    if isinstance(body, dict) and body.get("next_page"):
        # Wherever it stands.
        token = body["next_page"]["offset"]
        text = json.dumps(result).replace(token, "<offset>").replace(token.replace("=", "%3D"), "<offset>")
    else:
        text = json.dumps(result)
    names = {gid: name for name, gid in gids.items()}
    if result["status_code"] in (200, 201) and isinstance(body, dict) and isinstance(body.get("data"), dict):
        names.setdefault(body["data"].get("gid", "none"), "new")
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "<time>", text)
    text = re.sub(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "<time>", text)
    text = re.sub(r'"etag": "(\\"|[^"])*"', '"etag": "<of the time>"', text)
    # A gid stands alone, or in a path or a sentence; it is no part of a date.
    text = re.sub(r"(?<![\w.:-])\d+(?![\w.:-])", lambda match: f"<{names[match[0]]}>" if match[0] in names else match[0], text)
    document: dict[str, Any] = json.loads(text)
    return document


def prepared(client: httpx2.Client, name: str) -> dict[str, str]:
    """The gids of the objects that the calls are about, by name; ``name`` is in the names of some."""

    def created(path: str, data: dict[str, Any]) -> str:
        answer = client.post(path, json={"data": data})
        assert answer.status_code == 201, answer.text
        gid: str = answer.json()["data"]["gid"]
        return gid

    def uploaded(parent: str) -> str:
        answer = client.post("/attachments", data={"parent": parent}, files={"file": ("a.txt", b"Seen")})
        gid: str = answer.raise_for_status().json()["data"]["gid"]
        return gid

    me = client.get("/users/me").json()["data"]
    gids = {"me": me["gid"], "workspace": me["workspaces"][0]["gid"]}
    gids |= {"theirs": str(PRIVATE), "elsewhere": str(OTHER_WORKSPACE)}
    workspace = gids["workspace"]
    for project in ("listed", "project", "renamed", "ended"):
        gids[project] = created("/projects", {"name": f"{name} {project}", "workspace": workspace})
    for task in ("one", "two", "three"):
        gids[task] = created("/tasks", {"name": f"{name} {task} apple", "projects": [gids["listed"]]})
    for task in ("changed", "gone", "told", "split", "holder"):
        gids[task] = created("/tasks", {"name": f"{name} {task}", "workspace": workspace})
    for _ in range(2):
        created("/tasks", {"name": f"{name} mine", "workspace": workspace, "assignee": "me"})
    mine = client.get("/tasks", params={"workspace": workspace, "assignee": "me", "limit": 1}).json()
    # Perhaps one of another client's.
    gids["first"] = mine["data"][0]["gid"]
    gids["below"] = created(f"/tasks/{gids['one']}/subtasks", {"name": "Below"})
    gids["story"] = created(f"/tasks/{gids['one']}/stories", {"text": "Said"})
    gids["attachment"], gids["detached"] = uploaded(gids["one"]), uploaded(gids["holder"])
    gids["export"] = created("/organization_exports", {"organization": workspace})
    return gids


FIELDS = {"fields": ["name", "workspace.name", "projects.name", "assignee.email"]}
SEARCH = "/workspaces/{workspace}/tasks/search"
NOWHERE = "99999999999999999999"

CALLS = [
    Call("/users/{gid}", "get", "/users/me"),
    Call("/users/{gid}", "get", "/users/{me}", options=FIELDS),
    Call("/users/{gid}", "head", "/users/me"),
    Call("/users/{gid}", "get", f"/users/{NOWHERE}", status=404),
    Call("/workspaces", "get", "/workspaces"),
    Call("/workspaces", "get", "/workspaces", options={"limit": 1}),
    Call("/workspaces", "head", "/workspaces"),
    Call("/workspaces/{gid}", "get", "/workspaces/{workspace}"),
    Call("/workspaces/{gid}", "get", "/workspaces/{elsewhere}", status=403),
    Call("/workspaces/{gid}", "head", "/workspaces/{workspace}"),
    Call("/workspaces/{gid}/tasks/search", "get", SEARCH, {"text": "Record a demo"}, FIELDS),
    Call("/workspaces/{gid}/tasks/search", "get", SEARCH, {"text": "no such task"}),
    Call("/workspaces/{gid}/tasks/search", "get", SEARCH, {"text": "a\0b"}, status=400),
    Call("/workspaces/{gid}/tasks/search", "head", SEARCH, {"text": "apple"}),
    Call("/projects", "get", "/projects", {"workspace": "{workspace}"}, {"limit": 1}),
    Call("/projects", "get", "/projects", {"workspace": "{workspace}", "archived": False}, {"limit": 1, **FIELDS}),
    Call("/projects", "get", "/projects", {"archived": "maybe"}, status=400),
    Call("/projects", "get", "/projects", options={"limit": 101}, status=400),
    Call("/projects", "get", "/projects", options={"limit": 1, "offset": "nonsense"}, status=400),
    Call("/projects", "head", "/projects", options={"limit": 1}),
    Call("/projects", "post", "/projects", {"name": "Made", "workspace": "{workspace}"}, status=201),
    Call("/projects", "post", "/projects", {"name": "Made"}, status=400),
    Call("/projects", "post", "/projects", {"name": 7, "workspace": "{workspace}"}, status=400),
    Call("/workspaces/{workspace}/projects", "get", "/workspaces/{workspace}/projects", options={"limit": 1}),
    Call("/workspaces/{workspace}/projects", "head", "/workspaces/{workspace}/projects", options={"limit": 1}),
    Call("/workspaces/{workspace}/projects", "post", "/workspaces/{workspace}/projects", {"name": "Made"}, FIELDS, status=201),
    Call("/projects/{gid}", "get", "/projects/{project}"),
    Call("/projects/{gid}", "get", "/projects/{project}", options=FIELDS),
    Call("/projects/{gid}", "get", "/projects/{theirs}", status=403),
    Call("/projects/{gid}", "get", "/projects/x", status=404),
    Call("/projects/{gid}", "head", "/projects/{project}"),
    Call("/projects/{gid}", "put", "/projects/{renamed}", {"name": "Renamed", "notes": "é"}),
    Call("/projects/{gid}", "put", "/projects/{theirs}", {"name": "Renamed"}, status=403),
    Call("/projects/{gid}", "delete", "/projects/{ended}"),
    Call("/projects/{gid}", "delete", "/projects/{theirs}", status=403),
    Call("/projects/{project}/tasks", "get", "/projects/{listed}/tasks"),
    Call("/projects/{project}/tasks", "get", "/projects/{listed}/tasks", {"completed_since": "now"}, {"limit": 2}),
    Call("/projects/{project}/tasks", "get", "/projects/{theirs}/tasks", status=403),
    Call("/projects/{project}/tasks", "head", "/projects/{listed}/tasks"),
    Call("/tasks", "get", "/tasks", {"project": "{listed}"}, {"limit": 2, **FIELDS}),
    Call("/tasks", "get", "/tasks", {"project": "{listed}"}, {"limit": 3}),
    Call("/tasks", "get", "/tasks", {"assignee": "me", "workspace": "{workspace}"}, {"limit": 1, "fields": ["assignee"]}),
    Call("/tasks", "get", "/tasks", status=400),
    Call("/tasks", "head", "/tasks", {"project": "{listed}"}),
    Call("/tasks", "post", "/tasks", {"name": "Made", "workspace": "{workspace}", "assignee": "me"}, status=201),
    Call("/tasks", "post", "/tasks", {"name": "Made", "projects": ["{project}"], "due_on": "2030-01-31"}, FIELDS, status=201),
    Call("/tasks", "post", "/tasks", {"name": "Made"}, status=400),
    Call("/tasks", "post", "/tasks", {"name": "Made", "projects": ["{theirs}"]}, status=403),
    Call("/tasks", "post", "/tasks", {"name": "Made", "workspace": "{workspace}", "due_on": "soon"}, status=400),
    Call("/tasks/{gid}", "get", "/tasks/{one}"),
    Call("/tasks/{gid}", "get", "/tasks/{two}", options=FIELDS),
    Call("/tasks/{gid}", "get", f"/tasks/{NOWHERE}", status=404),
    Call("/tasks/{gid}", "get", "/tasks/{listed}", status=404),
    Call("/tasks/{gid}", "head", "/tasks/{one}"),
    Call("/tasks/{gid}", "put", "/tasks/{changed}", {"completed": True, "notes": "Done"}),
    Call("/tasks/{gid}", "put", "/tasks/{one}", {"completed": "yes"}, status=400),
    Call("/tasks/{gid}", "delete", "/tasks/{gone}"),
    Call("/tasks/{gid}", "delete", f"/tasks/{NOWHERE}", status=404),
    Call("/tasks/{parent}/subtasks", "get", "/tasks/{one}/subtasks"),
    Call("/tasks/{parent}/subtasks", "head", "/tasks/{one}/subtasks"),
    Call("/tasks/{parent}/subtasks", "post", "/tasks/{split}/subtasks", {"name": "Part"}, status=201),
    Call("/tasks/{parent}/subtasks", "post", "/tasks/{split}/subtasks", {"name": []}, status=400),
    Call("/tasks/{target}/stories", "get", "/tasks/{one}/stories", options={"fields": ["text", "created_by.name"]}),
    Call("/tasks/{target}/stories", "head", "/tasks/{one}/stories"),
    Call("/tasks/{target}/stories", "post", "/tasks/{told}/stories", {"text": "Told"}, status=201),
    Call("/tasks/{target}/stories", "post", "/tasks/{told}/stories", status=400),
    Call("/stories/{gid}", "get", "/stories/{story}"),
    Call("/stories/{gid}", "get", "/stories/{one}", status=404),
    Call("/stories/{gid}", "head", "/stories/{story}"),
    Call("/attachments", "get", "/attachments", {"parent": "{one}"}),
    Call("/attachments", "get", "/attachments", status=400),
    Call("/attachments", "head", "/attachments", {"parent": "{one}"}),
    Call("/attachments", "post", "/attachments", {"parent": "{one}"}, status=400, excluded=True),
    Call("/attachments/{gid}", "get", "/attachments/{attachment}"),
    Call("/attachments/{gid}", "head", "/attachments/{attachment}"),
    Call("/attachments/{gid}", "delete", "/attachments/{detached}"),
    Call("/attachments/{gid}/download", "get", "/attachments/{attachment}/download"),
    Call("/attachments/{gid}/download", "head", "/attachments/{attachment}/download"),
    Call("/organization_exports", "post", "/organization_exports", {"organization": "{workspace}"}, status=201, excluded=True),
    Call("/organization_exports/{gid}", "get", "/organization_exports/{export}", excluded=True),
    Call("/organization_exports/{gid}", "head", "/organization_exports/{export}", excluded=True),
    Call("/organization_exports/{gid}", "delete", "/organization_exports/{export}", excluded=True),
    Call("/scim/Users", "get", "/scim/Users", excluded=True),
    Call("/scim/Users", "head", "/scim/Users", excluded=True),
    Call("/batch", "post", "/batch", {"actions": [action("get", "/users/me")]}, excluded=True),
    # What no route answers, and what one answers with another address.
    Call("", "get", "/nowhere", status=404),
    Call("", "patch", "/tasks/{one}", {"name": "Patched"}, status=404),
    Call("", "get", "/tasks/", status=307),
]
