"""``python -m example_app`` serves the app on this machine; ``--demo`` shows what a batch does.

In the environment, ``DATABASE_URL=postgresql://…`` names a database other than a SQLite file in this directory, and
``REDIS_URL=redis://…`` a server where all processes count their limits.
"""

import argparse
import json
import os
import shlex
import socket
import sys
from contextlib import suppress
from tempfile import TemporaryDirectory

import uvicorn

from example_app.app import DATABASE, FILES, TOKEN, create_app
from example_app.demo import ACTIONS, demo


def main() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m example_app", description="A small task manager with a batch endpoint.")
    parser.add_argument("--port", type=int, default=8000, help="the port on 127.0.0.1; 0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--demo", action="store_true", help="on a free port, in a new database: show what a batch does, and leave"
    )
    arguments = parser.parse_args()
    try:
        # It listens from here on: who connects before the server has started waits for it.
        listener = socket.create_server(("127.0.0.1", 0 if arguments.demo else arguments.port))
    except (OSError, OverflowError) as error:
        parser.error(f"port {arguments.port}: {error}")
    database, store = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    with listener, suppress(KeyboardInterrupt):
        if not arguments.demo:
            return serve(listener, database or DATABASE, store)
        with TemporaryDirectory() as folder:
            return demo(listener, database or f"sqlite:///{folder}/example_app.db", folder, store)
    return 130


def serve(listener: socket.socket, database: str, store: str | None) -> int:
    """Serve until Ctrl-C, and say how to send a batch."""
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/1.0/batch"
    fields = ["-H", f"Authorization: Bearer {TOKEN}", "-H", "Content-Type: application/json"]
    content = json.dumps({"data": {"actions": [action for action, _ in ACTIONS[:3]]}})
    print("The task manager runs until you press Ctrl-C. In another terminal, this sends it a batch of three actions:\n")
    print(shlex.join(["curl", url, *fields, "-d", content]), flush=True)
    app = create_app(database, files=FILES, store=store)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
