"""The demo: a real server, real requests, and what comes back, told for somebody who has never seen a batch."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from queue import SimpleQueue
from textwrap import shorten
from threading import Thread
from time import perf_counter
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import uvicorn
from starlette.types import ASGIApp

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
A task manager in the shape of Asana's is up, at {url}.

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
    """A plugin for batches, which hears how many milliseconds each action took."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[list[float]] = SimpleQueue()

    @asynccontextmanager
    async def batch(self, batch: Batch) -> AsyncIterator[None]:
        yield
        self.queue.put([1000 * action.result.duration if action.result else 0.0 for action in batch.actions])


class Client:
    """Sends requests with a token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.fields = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def get(self, path: str) -> Any:
        return self._send(Request(self.url + path, headers=self.fields))[1]

    def post(self, path: str, **data: Any) -> tuple[int, Any, float, str | None]:
        """The status of the answer and its JSON, how many milliseconds it took, and after how many seconds to try again."""
        return self._send(Request(self.url + path, json.dumps({"data": data}).encode(), self.fields))

    def _send(self, request: Request) -> tuple[int, Any, float, str | None]:
        began = perf_counter()
        try:
            response = build_opener(ProxyHandler({})).open(request, timeout=30)
        except HTTPError as error:
            response = error
        with response:
            content = json.load(response)
            return response.status, content, 1000 * (perf_counter() - began), response.headers.get("Retry-After")


@contextmanager
def running(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    """Serve ``app`` in a thread. Should it not start, whoever has connected is sent away."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))

    def run() -> None:
        with listener:
            server.run(sockets=[listener])

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def demo(listener: socket.socket, database: str, files: str, store: str | None) -> int:
    """Tell the story: 0 if all went as it says, else 1."""
    url, durations = f"http://127.0.0.1:{listener.getsockname()[1]}/api/1.0", Durations()
    limits = asana_limits(per_minute=PER_MINUTE)
    with running(create_app(database, files=files, store=store, limits=limits, plugins=[durations]), listener):
        ada, grace = Client(url, TOKEN), Client(url, OTHER_TOKEN)
        return 0 if ten_at_once(ada, durations) and until_the_limit(ada, grace) else 1


def ten_at_once(client: Client, durations: Durations) -> bool:
    """Whether each action of one batch got the status that it should."""
    print(FIRST.format(url=client.url))
    status, content, whole, _ = client.post("/batch", actions=[action for action, _ in ACTIONS])
    if status != 200:
        print(f"The batch itself was answered {status}: {glimpse(content)}")
        return False
    took, as_expected = durations.queue.get(timeout=30), True
    for number, ((action, expected), result, ms) in enumerate(zip(ACTIONS, content["data"], took, strict=True), 1):
        got = str(result["status_code"])
        if result["status_code"] != expected:
            got, as_expected = f"{got}, not {expected}", False
        row = f"{number:>2}  {action['method']:<4} {action['relative_path']:<30}  {got:<6}  {ms:5.1f}"
        print(f"{row}  {glimpse(result['body'])}")
    print(SECOND.format(added=sum(took), whole=whole, limit=PER_MINUTE))
    return as_expected


def until_the_limit(client: Client, onlooker: Client) -> bool:
    """Whether a batch was refused in time, and left nothing behind. The ``onlooker`` has requests of their own left."""
    project = onlooker.post("/projects", name="Harvest", workspace=str(WORKSPACE))[1]["data"]["gid"]
    data = {"projects": [project], "name": "Pick the beans"}
    for number in count(1):
        status, content, ms, wait = client.post(
            "/batch", actions=[{"method": "post", "relative_path": "/tasks", "data": data}] * 10
        )
        tasks = len(onlooker.get(f"/projects/{project}/tasks")["data"])
        print(f"{number:>5}  {status:<6}  {ms:5.1f}  {tasks}")
        if status != 200 or number > PER_MINUTE:
            break
    print(THIRD.format(message=glimpse(content), wait=wait))
    return status == 429 and wait is not None and tasks == 10 * (number - 1)


def glimpse(body: Any) -> str:
    """The beginning of a body, or what it complains of."""
    return shorten(body["errors"][0]["message"] if "errors" in body else json.dumps(body), 62, placeholder=" ...")
