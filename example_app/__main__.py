"""``python -m example_app`` serves the app on this machine; ``--demo`` shows what a batch does.

In the environment, ``DATABASE_URL=postgresql://…`` names a database other than a SQLite file in this directory, and
``REDIS_URL=redis://…`` a server where all processes count their limits.
"""

import argparse
import json
import os
import shlex
import sys
from tempfile import TemporaryDirectory

INSTALL = "in the directory of setup.cfg, pip install -e '.[example]', with postgres or redis in the brackets where you use that"

try:
    import uvicorn

    from example_app.app import DATABASE, create_app
    from example_app.demo import ACTIONS, demo
    from example_app.demo_data import TOKEN
except ImportError as error:
    sys.exit(f"{error}: {INSTALL}")


def main() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m example_app", description="A small task manager with a batch endpoint.")
    parser.add_argument("--port", type=int, default=8000, help="the port on 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--demo", action="store_true", help="in a new database: show what a batch does, and leave")
    arguments = parser.parse_args()
    database, store = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    if arguments.demo:
        with TemporaryDirectory() as folder:
            return demo(database or f"sqlite:///{folder}/example_app.db", folder, store)
    app = create_app(database or DATABASE, store=store)
    fields = ["-H", f"Authorization: Bearer {TOKEN}", "-H", "Content-Type: application/json"]
    content = json.dumps({"data": {"actions": [action for action, _ in ACTIONS[:3]]}})
    print("The task manager runs until you press Ctrl-C. In another terminal, this sends it a batch of three actions:\n")
    print(shlex.join(["curl", f"http://127.0.0.1:{arguments.port}/api/1.0/batch", *fields, "-d", content]), flush=True)
    uvicorn.run(app, port=arguments.port, log_level="warning")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ImportError as error:
        # A driver is imported with the first use of its database.
        sys.exit(f"{error}: {INSTALL}")
