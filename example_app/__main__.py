"""``python -m example_app`` serves the app on this machine; ``--demo`` sends it a batch and shows what comes back.

With ``REDIS_URL=redis://…`` in the environment all its processes share their limits.
"""

import argparse
import json
import os
import shlex
import socket
import sys
from contextlib import suppress
from tempfile import TemporaryDirectory
from textwrap import shorten
from threading import Thread
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import uvicorn

from example_app.app import DATABASE, FILES, TOKEN, create_app

Action = dict[str, Any]

# With the status that each should get. The gids are those of the demo data: the same at every start.
DEMO: list[tuple[Action, int]] = [
    ({"method": "get", "relative_path": "/users/me"}, 200),
    ({"method": "get", "relative_path": "/tasks/1008", "options": {"fields": ["name", "completed"]}}, 200),
    ({"method": "get", "relative_path": "/projects", "options": {"limit": 1, "fields": ["name"]}}, 200),
    ({"method": "post", "relative_path": "/tasks", "data": {"name": "Water the beans", "projects": ["1006"]}}, 201),
    ({"method": "put", "relative_path": "/tasks/1009", "data": {"completed": True}}, 200),
    ({"method": "delete", "relative_path": "/tasks/1012"}, 200),
    ({"method": "head", "relative_path": "/tasks/1010"}, 200),
    ({"method": "get", "relative_path": "/tasks/999"}, 404),
    ({"method": "post", "relative_path": "/organization_exports", "data": {"organization": "1001"}}, 400),
    ({"method": "fetch", "relative_path": "/tasks/1010"}, 400),
]
BEFORE = """\
One POST to {url} carries ten actions. Each of them runs as a request of its own,
all at the same time, and the answer holds one result for each, in the order of the actions:
"""
AFTER = """
Results 1 to 8 are what the same requests get alone; 8 asks for a task that is not there. The last two did not run:
9 is one of the calls that Asana keeps out of batches, and 10 has no known method. Neither kept the others from running."""


def main() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m example_app", description="A small task manager with a batch endpoint.")
    parser.add_argument("--port", type=int, default=8000, help="the port on 127.0.0.1; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--demo", action="store_true", help="on a free port, send a batch of ten actions, show it, and leave")
    arguments = parser.parse_args()
    try:
        # It listens from here on: who connects before the server has started waits for it.
        listener = socket.create_server(("127.0.0.1", 0 if arguments.demo else arguments.port))
    except (OSError, OverflowError) as error:
        parser.error(f"port {arguments.port}: {error}")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/1.0/batch"
    with listener, TemporaryDirectory() as folder:
        database, files = (f"sqlite:///{folder}/example_app.db", folder) if arguments.demo else (DATABASE, FILES)
        database = os.environ.get("DATABASE_URL", database)
        app = create_app(database, files=files, store=os.environ.get("REDIS_URL"))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        try:
            return demo(server, listener, url) if arguments.demo else serve(server, listener, url)
        except KeyboardInterrupt:
            return 130


def serve(server: uvicorn.Server, listener: socket.socket, url: str) -> int:
    """Serve until Ctrl-C, and say how to send a batch."""
    fields = ["-H", f"Authorization: Bearer {TOKEN}", "-H", "Content-Type: application/json"]
    content = json.dumps({"data": {"actions": [action for action, _ in DEMO[:3]]}})
    print("The task manager runs until you press Ctrl-C. In another terminal, this sends it a batch of three actions:\n")
    print(shlex.join(["curl", url, *fields, "-d", content]), flush=True)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return 0


def demo(server: uvicorn.Server, listener: socket.socket, url: str) -> int:
    """Send a batch over a real connection and show its results: 0 if each has the status it should have, else 1."""
    print(BEFORE.format(url=url))
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        results = post(url, [action for action, _ in DEMO])
    finally:
        server.should_exit = True
        thread.join()
    print(f" #  {'action':<29}  status  body")
    as_expected = True
    for number, ((action, expected), result) in enumerate(zip(DEMO, results, strict=True), 1):
        status = str(result["status_code"])
        if result["status_code"] != expected:
            status, as_expected = f"{status}, not {expected}", False
        print(f"{number:>2}  {action['method']:<6} {action['relative_path']:<22}  {status:<6}  {glimpse(result['body'])}")
    print(AFTER)
    return 0 if as_expected else 1


def glimpse(body: Any) -> str:
    """The beginning of a result's body, or what it complains of."""
    return shorten(body["errors"][0]["message"] if "errors" in body else json.dumps(body), 72, placeholder=" ...")


def post(url: str, actions: list[Action]) -> list[Action]:
    """The results of a batch of ``actions``."""
    content = json.dumps({"data": {"actions": actions}}).encode()
    request = Request(url, content, {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=30) as response:
        results: list[Action] = json.load(response)["data"]
    return results


if __name__ == "__main__":
    sys.exit(main())
