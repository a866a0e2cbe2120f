"""``python -m example_app`` serves the app on this machine; ``--demo`` tells what a batch does to who has never seen one.

``DATABASE_URL=postgresql://…`` in the environment names another database, ``REDIS_URL=redis://…`` where limits are counted.
"""

import argparse
import json
import os
import sys
from datetime import timedelta
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

INSTALL = "in the directory of setup.cfg, pip install -e '.[example]', with postgres or redis in the brackets where you use that"

try:
    import uvicorn
    from starlette.testclient import TestClient

    from batchkit.limiter import asana_limits, by_token
    from example_app.app import DATABASE, create_app
    from example_app.demo_data import BEANS, DEMO, GARDEN, OTHER_TOKEN, README, TAG, TOKEN, WORKSPACE
except ImportError as error:
    sys.exit(f"{error}: {INSTALL}")

ACTIONS: list[tuple[dict[str, Any], int]] = [  # with the status that each should get
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
PER_MINUTE, MILLISECOND = 150, timedelta(milliseconds=1)
SERVED = """\
The task manager runs until you press Ctrl-C. In another terminal, this sends it a batch of three actions:

curl {url} -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{content}'"""
FIRST = """\
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


def main() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m example_app", description="A small task manager with a batch endpoint.")
    parser.add_argument("--port", type=int, default=8000, help="the port on 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--demo", action="store_true", help="in a new database: show what a batch does, and leave")
    arguments = parser.parse_args()
    database, store = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    if arguments.demo:
        with TemporaryDirectory() as folder:
            database = database or f"sqlite:///{folder}/example_app.db"
            app = create_app(database, files=folder, store=store, limits=asana_limits(per_minute=PER_MINUTE, key=by_token))
            with TestClient(app, base_url="http://tasks.example/api/1.0", headers={"Authorization": f"Bearer {TOKEN}"}) as client:
                return 0 if demo(client) else 1
    content = json.dumps({"data": {"actions": [action for action, _ in ACTIONS[:3]]}})
    print(SERVED.format(url=f"http://127.0.0.1:{arguments.port}/api/1.0/batch", token=TOKEN, content=content), flush=True)
    uvicorn.run(create_app(database or DATABASE, store=store), port=arguments.port, log_level="warning")
    return 0


def demo(client: TestClient) -> bool:
    """Tell the story; whether all went as it says."""
    print(FIRST)
    answer = client.post("/batch", json={"data": {"actions": [action for action, _ in ACTIONS]}})
    if answer.status_code != 200:
        print(f"The batch itself was answered {answer.status_code}: {glimpse(answer.json())}")
        return False
    results = answer.json()["data"]
    # An action that did not run has no duration there.
    durations = [float(timing.partition("dur=")[2] or 0) for timing in answer.headers["Server-Timing"].split(", ")]
    for number, ((action, _), result, ms) in enumerate(zip(ACTIONS, results, durations, strict=True), 1):
        row = f"{number:>2}  {action['method']:<4} {action['relative_path']:<30}  {result['status_code']:<6}  {ms:5.1f}"
        print(f"{row}  {glimpse(result['body'])}")
    print(SECOND.format(added=sum(durations), whole=answer.elapsed / MILLISECOND, limit=PER_MINUTE))
    other = {"Authorization": f"Bearer {OTHER_TOKEN}"}  # another user, with requests of her own left, looks on
    answer = client.post("/projects", json={"data": {"name": "Harvest", "workspace": WORKSPACE}}, headers=other)
    project = answer.json()["data"]["gid"]
    creation = {"method": "post", "relative_path": "/tasks", "data": {"projects": [project], "name": "Pick the beans"}}
    for number in range(1, PER_MINUTE):
        answer = client.post("/batch", json={"data": {"actions": [creation] * 10}})
        tasks = len(client.get(f"/projects/{project}/tasks", headers=other).json()["data"])
        print(f"{number:>5}  {answer.status_code:<6}  {answer.elapsed / MILLISECOND:5.1f}  {tasks}")
        if answer.status_code != 200:
            break
    print(THIRD.format(message=glimpse(answer.json()), wait=answer.headers.get("Retry-After")))
    statuses = [result["status_code"] for result in results]
    return statuses == [status for _, status in ACTIONS] and (answer.status_code, tasks) == (429, 10 * (number - 1))


def glimpse(body: Any) -> str:
    """The first of what a body says, or what it complains of."""
    return shorten(body["errors"][0]["message"] if "errors" in body else json.dumps(body), 62, placeholder=" ...")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ImportError as error:  # a driver is imported with the first use of its database
        sys.exit(f"{error}: {INSTALL}")
