"""``python -m tests.benchmarks``: the figures of the README, as ratios measured side by side in one run.

Absolute times belong to the machine; the ratios are what to compare. What it needs is in the extra ``bench``; npm is for the
figures of Node's batch libraries. It exits with 1 where a figure is not what it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

from tests.benchmarks import clients, growth, hostile, in_process, over_http, pool, transport
from tests.benchmarks.pairs import Figure

PARTS: dict[str, Callable[[int], AsyncIterator[Figure]]] = {
    "http": over_http.figures,
    "client": clients.figures,
    "transport": transport.figures,
    "process": in_process.figures,
    "growth": growth.figures,
    "pool": pool.figures,
    "node": over_http.peers,
}
PACKAGES = ("starlette", "anyio", "msgspec", "uvicorn", "uvloop", "httptools")


def main() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="The figures of the README, as ratios.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "hostile", []], help="what to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=21, help="how often each pair is measured (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    arguments = parser.parse_args()
    return asyncio.run(measure(arguments.parts or [*PARTS, "hostile"], arguments.rounds, as_json=arguments.json))


async def measure(parts: list[str], rounds: int, *, as_json: bool) -> int:
    """Print the figures as they come, or all as JSON at the end; 1 where one is not what it should be."""
    out = sys.stderr if as_json else sys.stdout
    print(", ".join(f"{name} {number}" for name, number in versions().items()), file=out)
    figures: dict[str, list[Figure]] = {}
    for part in parts:
        if part in PARTS:
            print(f"\n{part}: {PARTS[part].__doc__} {rounds} rounds alternated, median (quartiles):", file=out)
            figures[part] = []
            async for figure in PARTS[part](rounds):
                figures[part].append(figure)
                print(figure, file=out, flush=True)
    requests = await hostile.dearest() if "hostile" in parts else []
    growth = await hostile.growth(requests) if requests else []
    if requests:
        print(f"\nhostile: CPU of requests of 1 MiB, in ms, with the batch's status; the dearest of {len(requests)}:", file=out)
        for milliseconds, status, name in requests[:5]:
            print(f"  {milliseconds:7.1f}  {status}  {name}{'' if milliseconds <= hostile.MOST else '  NOT'}", file=out)
        print("… and how many times as much they cost where max_actions is 100; the steepest:", file=out)
        for times, name in growth[:5]:
            print(f"  {times:7.1f}       {name}{'' if times <= hostile.MOST_GROWTH else '  NOT'}", file=out)
    if as_json:
        content = {part: [asdict(figure) | {"met": figure.met} for figure in rows] for part, rows in figures.items()}
        print(json.dumps({"versions": versions(), "figures": content, "hostile": requests, "growth": growth}, indent=2))
    missed = any(figure.met is False for rows in figures.values() for figure in rows)
    dear = any(milliseconds > hostile.MOST for milliseconds, _, _ in requests)
    return int(missed or dear or any(times > hostile.MOST_GROWTH for times, _ in growth))


def versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


if __name__ == "__main__":
    sys.exit(main())
