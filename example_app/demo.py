"""The demo: what comes back from batches, told for somebody who has never seen one."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from textwrap import shorten
from time import perf_counter
from typing import Any

from starlette.testclient import TestClient

from batchkit import Batch
from batchkit.limiter import asana_limits
from example_app.app import create_app
from example_app.demo_data import BEANS, DEMO, GARDEN, OTHER_TOKEN, README, TAG, TOKEN, WORKSPACE

# With the status that each should get.
ACTIONS: list[tuple[dict[str, Any], int]] = [
    ({"method": "get", "relative_path": "/users/me"}, 200),
    ({"method": "get", "relative_path": f"/tasks/{README}", "options": {"fields": ["name", "projects.name"]}}, 200),
    ({"method": "get", "relative_path": f"/projects/{GARDEN}/tasks", "options": {"limit": 2, "fields": ["name"]}}, 200),
    ({"method": "get", "relative_path": f"/workspaces/{WORKSPACE}/tasks/search", "data": {"text": "fence"}}, 200),
    ({"method": "post", "relative_path": "/tasks", "data": {"name": "Water the beans", "projects": [str(GARDEN)]}}, 201),
    ({"method": "post", "relative_path": f"/tasks/{BEANS}/stories", "data": {"text": "They are up!"}}, 201),
    ({"method": "put", "relative_path": f"/tasks/{DEMO}", "data": {"completed": True}}, 200),
    ({"method": "head", "relative_path": f"/tasks/{TAG}"}, 200),
    ({"method": "get", "relative_path": "/tasks/999"}, 404),
    ({"method": "post", "relative_path": "/attachments", "data": {"parent": str(TAG)}}, 400),
]
PER_MINUTE = 150
FIRST = """\
Here is a task manager in the shape of Asana's.

1. One POST to /batch carries ten actions. Each runs as a request of its own, all at the same time, and has its own result:

 #  action                               status     ms  body"""
SECOND = """
Added up, the actions took {added:.0f} ms. The whole answer took {whole:.0f} ms, because they overlap. Number 9 asks for a task
that is not there, number 10 is a call that Asana keeps out of batches. Neither kept the others from running.

2. A batch of ten counts as ten requests, and this client has {limit} a minute, as in Asana's free plan. Ten of them are used.
Now it creates ten tasks in each batch, in a new project, until it is told to stop:

batch  status     ms  tasks in the project"""
THIRD = """
The last batch was refused as a whole, so that none of its ten tasks was created: "{message}".
It may come again in {wait} s."""


class Durations:
    """A plugin for batches, which keeps how many milliseconds each action of the last one took."""

    last: list[float]

    @asynccontextmanager
    async def batch(self, batch: Batch) -> AsyncIterator[None]:
        yield
        self.last = [1000 * action.result.duration if action.result else 0.0 for action in batch.actions]


def demo(database: str, files: str, store: str | None) -> int:
    """Tell the story: 0 if all went as it says, else 1."""
    durations = Durations()
    app = create_app(database, files=files, store=store, limits=asana_limits(per_minute=PER_MINUTE), plugins=[durations])
    with TestClient(app, base_url="http://tasks.example/api/1.0") as client:
        return 0 if ten_at_once(client, durations) and until_the_limit(client) else 1


def post(client: TestClient, actions: list[dict[str, Any]]) -> tuple[Any, float]:
    """The answer to a batch, and how many milliseconds it took."""
    began = perf_counter()
    answer = client.post("/batch", json={"data": {"actions": actions}}, headers={"Authorization": f"Bearer {TOKEN}"})
    return answer, 1000 * (perf_counter() - began)


def ten_at_once(client: TestClient, durations: Durations) -> bool:
    """Whether each action of one batch got the status that it should."""
    print(FIRST)
    answer, whole = post(client, [action for action, _ in ACTIONS])
    if answer.status_code != 200:
        print(f"The batch itself was answered {answer.status_code}: {glimpse(answer.json())}")
        return False
    results = answer.json()["data"]
    for number, ((action, _), result, ms) in enumerate(zip(ACTIONS, results, durations.last, strict=True), 1):
        row = f"{number:>2}  {action['method']:<4} {action['relative_path']:<30}  {result['status_code']:<6}  {ms:5.1f}"
        print(f"{row}  {glimpse(result['body'])}")
    print(SECOND.format(added=sum(durations.last), whole=whole, limit=PER_MINUTE))
    return [result["status_code"] for result in results] == [expected for _, expected in ACTIONS]


def until_the_limit(client: TestClient) -> bool:
    """Whether a batch was refused in time, and left nothing behind. Another user, with requests of her own left, looks on."""
    other = {"Authorization": f"Bearer {OTHER_TOKEN}"}
    made = client.post("/projects", json={"data": {"name": "Harvest", "workspace": WORKSPACE}}, headers=other)
    project = made.json()["data"]["gid"]
    creation = {"method": "post", "relative_path": "/tasks", "data": {"projects": [project], "name": "Pick the beans"}}
    for number in count(1):
        answer, ms = post(client, [creation] * 10)
        tasks = len(client.get(f"/projects/{project}/tasks", headers=other).json()["data"])
        print(f"{number:>5}  {answer.status_code:<6}  {ms:5.1f}  {tasks}")
        if answer.status_code != 200 or number > PER_MINUTE:
            break
    print(THIRD.format(message=glimpse(answer.json()), wait=answer.headers.get("Retry-After")))
    return bool(answer.status_code == 429 and tasks == 10 * (number - 1))


def glimpse(body: Any) -> str:
    """The beginning of a body, or what it complains of."""
    return shorten(body["errors"][0]["message"] if "errors" in body else json.dumps(body), 62, placeholder=" ...")
