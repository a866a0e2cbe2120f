"""A check for a host's own tests: that its actions are what the same requests are alone (protocol.md#an-action)."""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Iterator, Mapping
from typing import Any, overload

from starlette.types import ASGIApp

from batchkit._arguments import strings
from batchkit._checks.settings import checked
from batchkit._protocol.answer import encode
from batchkit._protocol.content import undo_coding
from batchkit._protocol.dialects import DIALECTS, DialectName
from batchkit._protocol.paths import parent
from batchkit._protocol.request import decode
from batchkit._record import Record
from batchkit.model import Result
from batchkit.settings import Settings
from batchkit.testing.asgi import Answer
from batchkit.testing.batches import ActionResult, ask_batch, check_actions, check_path, envelope, read_result
from batchkit.testing.client import Ask, AsyncClient, Client, check_headers, converse

__all__ = ["assert_same_as_alone"]

MISSING = "(nothing)"
ENDLESS = 2**40


@overload
def assert_same_as_alone(
    client: Client,
    *actions: Mapping[str, Any],
    path: str = "/batch",
    base_path: str | None = None,
    dialect: DialectName = "asana",
    headers: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
) -> None: ...


@overload
def assert_same_as_alone(
    client: AsyncClient | ASGIApp,
    *actions: Mapping[str, Any],
    path: str = "/batch",
    base_path: str | None = None,
    dialect: DialectName = "asana",
    headers: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
) -> Coroutine[Any, Any, None]: ...


def assert_same_as_alone(
    client: Client | AsyncClient | ASGIApp,
    *actions: Mapping[str, Any],
    path: str = "/batch",
    base_path: str | None = None,
    dialect: DialectName = "asana",
    headers: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
) -> Any:
    """Send each action as a request of its own, one after another, then all in one batch, and compare status, headers and body.

    So each action happens twice: make them ones that are answered alike both times. ``ignore``: names of header fields, and of
    keys wherever they stand in a body, whose values differ from one time to the next: ``("gid", "created_at", "etag")``.
    Compared are the header fields that a result shows by default; cookies are not.

    ``base_path`` and ``dialect`` as the endpoint has them; ``client``, ``path`` and ``headers`` as for ``post_batch``. A
    ``TestClient`` should have ``raise_server_exceptions=False`` if an action is to be answered 500.

    Raises AssertionError, saying which action differs, where in its result, and both values; BatchRefused as ``post_batch``;
    ValueError for an action that is malformed, as it is no request at all; TypeError or ValueError for arguments that cannot be.
    """
    if not actions:
        raise ValueError("actions: there are none: give action(…) at least once")
    check_actions(actions)
    check_headers(headers)
    ignored = {name.lower() for name in strings("ignore", ignore)}
    check_path("path", path)
    if base_path is not None:
        check_path("base_path", base_path)
    settings = checked(Settings(dialect=dialect, max_actions=len(actions)))
    spoken = DIALECTS[dialect]
    base_path = parent(path) if base_path is None else base_path.rstrip("/")

    async def compare(ask: Ask) -> None:
        entries = decode(envelope(actions, spoken), settings)
        if malformed := [entry.result.body.decode() for entry in entries if entry.result is not None]:
            raise ValueError(f"These are no requests: {' '.join(malformed)}")
        alone = [_as_result(await _ask_alone(ask, base_path, headers or {}, entry), settings) for entry in entries]
        # So an endpoint of another dialect says that it is one.
        named = {**(headers or {}), "content-type": f"application/json; dialect={dialect}"}
        results = await ask_batch(ask, path, named, actions, spoken)
        differences = [
            f"{spoken.place(entry.index)}, {entry.method} {actions[entry.index][spoken.path_key]}: {difference}"
            for entry, one, other in zip(entries, alone, results, strict=True)
            for difference in _differences(one, other, ignored)
        ]
        if differences:
            raise AssertionError("\n".join(["In a batch it is not what it is alone:", *differences]))

    return converse(client, compare)


async def _ask_alone(ask: Ask, base_path: str, headers: Mapping[str, str], action: Record) -> Answer:
    query = f"?{action.query_string.decode()}" if action.query_string else ""
    return await ask(action.method, base_path + action.raw_path.decode() + query, headers, action.body)


def _as_result(answer: Answer, settings: Settings) -> ActionResult:
    coding = b", ".join(answer.all(b"content-encoding"))
    plain = undo_coding(coding, answer.body, ENDLESS) if coding else None
    headers, body = answer.headers, answer.body
    if plain is not None:
        headers, body = [header for header in headers if header[0] != b"content-encoding"], plain
    content, _ = encode([Record(0, result=Result(answer.status, headers, body))], settings)
    return read_result(DIALECTS[settings.dialect].read_results(content)[0])


def _differences(alone: ActionResult, batch: ActionResult, ignored: Collection[str]) -> Iterator[str]:
    for name in ("status_code", "headers", "body"):
        for place, one, other in _unequal(name, getattr(alone, name), getattr(batch, name), ignored):
            yield f"{place}\n  alone:      {one!r}\n  in a batch: {other!r}"


def _unequal(place: str, one: Any, other: Any, ignored: Collection[str]) -> Iterator[tuple[str, Any, Any]]:
    """The places at which two values differ, with what stands there in each."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one | other:
            if key.lower() not in ignored:
                yield from _unequal(f"{place}.{key}", one.get(key, MISSING), other.get(key, MISSING), ignored)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _unequal(f"{place}[{index}]", *pair, ignored)
    elif type(one) is not type(other) or one != other:
        yield place, one, other
