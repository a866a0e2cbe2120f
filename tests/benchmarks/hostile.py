"""What it costs to refuse: bodies of just under 1 MiB, each made to be dear in its own way."""

from __future__ import annotations

import time

from tests.benchmarks.hosts import HEADERS, call, trivial

MIB = 2**20


def bodies() -> dict[str, bytes]:
    """Bodies of just under 1 MiB, each made to be dear in its own way."""

    def fill(start: str, item: str, end: str) -> bytes:
        return (start + item * ((MIB - len(start) - len(end)) // len(item)) + end).encode()

    def ten(more: str, method: str = "get", path: str = "/tasks/1") -> bytes:
        one = f'{{"relative_path":"{path}","method":"{method}",{more}}}'
        return ('{"data":{"actions":[' + ",".join([one] * 10) + "]}}").encode()

    keys = ",".join(f'"k{index:06}":1' for index in range(80_000))
    action = '{"data":{"actions":[{"relative_path":"/tasks/1","method":"get",'
    return {
        "empty actions": fill('{"data":{"actions":[0', ",0", "]}}"),
        "empty objects as actions": fill('{"data":{"actions":[{}', ",{}", "]}}"),
        "deep arrays": fill("", "[", ""),
        "deep arrays in data": fill(action + '"data":{"a":', "[", ""),
        "deep arrays, closed": (action + '"data":{"a":' + "[" * 900 + "]" * 900 + "}}]}}").encode(),
        "unknown keys at the top": ("{" + keys + "}").encode(),
        "unknown keys in an action": (action + keys + "}]}}").encode(),
        "wrong fields": fill(action + '"options":{"fields":[0', ",0", "]}}]}}"),
        "wrong fields, nested": fill(action + '"options":{"fields":[{}', ",[]", "]}}]}}"),
        "ten actions, each wrong at its end": ten('"options":{"fields":[' + '"",' * 21_000 + "1]}"),
        "ten actions, each just short enough to explain": ten('"options":{"fields":[' + '"",' * 600 + "1]}"),
        "ten long queries": ten('"data":{' + ",".join(f'"{index}":"/"' for index in range(1_400)) + "}"),
        "ten long lists of options": ten('"options":{"fields":[' + ",".join(['"/////////////"'] * 1000) + "]}"),
        "ten bodies for a schema": ten('"data":{"tags":[' + ",".join(["{}"] * 1000) + "]}", "post", "/checked"),
        "ten large bodies for a schema": ten('"data":{"tags":[' + ",".join(["{}"] * 30_000) + "]}", "post", "/checked"),
        "a method of a megabyte": fill('{"data":{"actions":[{"relative_path":"/","method":"', "x", '"}]}}'),
        "a path of a megabyte": fill('{"data":{"actions":[{"method":"get","relative_path":"', "/..", '"}]}}'),
        "a path that is an array": fill('{"data":{"actions":[{"method":"get","relative_path":[0', ",0", "]}]}}"),
        "a query of a megabyte": (action + '"data":{' + keys + "}}]}}").encode(),
        "a query array": fill(action + '"data":{"a":[0', ",0", "]}}]}}"),
        "escapes": fill(action + '"data":{"a":"', "\\u00e9", '"}}]}}'),
        "digits": fill(action + '"data":{"a":', "9", "}}]}}"),
        "digits in options": fill(action + '"options":{"limit":', "9", "}}]}}"),
        "an exponent": fill(action + '"data":{"a":1e', "9", "}}]}}"),
        "white space": fill("", " ", ""),
        "not UTF-8": b"\xff" * (MIB - 1),
    }


async def dearest() -> list[tuple[float, int, str]]:
    """The CPU time of each in milliseconds, the best of three, with the batch's status; the dearest first."""
    rows = []
    for name, body in bodies().items():
        assert len(body) <= MIB, name
        times = []
        for _ in range(3):
            before = time.process_time()
            status, _ = await call(trivial, "POST", "/batch", [*HEADERS, (b"content-type", b"application/json")], body)
            times.append(time.process_time() - before)
        rows.append((min(times) * 1000, status, name))
    return sorted(rows, reverse=True)
