"""Objects as clients see them: all their fields, the compact ones, or those that ``opt_fields`` asks for."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from itertools import chain, islice
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from example_app.errors import ApiError
from example_app.models import Link, Object

# The names of fields, each with what is asked for below it: if nothing, the compact record.
Fields = dict[str, Any]

GROUP = re.compile(r"\(([^()]*)\)")
MAX_LENGTH, MAX_PATHS, MAX_DEPTH = 8000, 400, 10


def fields_of(request: Request, default: Iterable[str]) -> Fields:
    """What to show: ``opt_fields``, paths like ``this.assignee.name`` or ``(parent|assignee).name``, else ``default``."""
    text = request.query_params.get("opt_fields")
    if not text:
        return {name: {} for name in default}
    asked = text.split(",") if len(text) <= MAX_LENGTH and text.count("(") <= MAX_DEPTH else []
    paths = list(islice(chain.from_iterable(map(expanded, asked)), MAX_PATHS + 1))
    if not 0 < len(paths) <= MAX_PATHS or any(path.count(".") > MAX_DEPTH for path in paths):
        raise ApiError(400, f"opt_fields: Ask for at most {MAX_PATHS} fields, {MAX_DEPTH} deep, in {MAX_LENGTH} characters")
    fields: Fields = {}
    for path in paths:
        below = fields
        for name in path.strip().removeprefix("this.").split("."):
            below = below.setdefault(name, {})
    return fields


def expanded(path: str) -> Iterator[str]:
    """The paths that one with groups stands for."""
    if (group := GROUP.search(path)) is None:
        yield path
        return
    for choice in group[1].split("|"):
        yield from expanded(path[: group.start()] + choice + path[group.end() :])


async def record(request: Request, *things: Object, fields: Iterable[str] | None = None) -> list[Fields]:
    """Objects as JSON, with ``fields`` where the client does not say which; by default with all."""
    session: AsyncSession = request.state.session
    asked = [fields_of(request, type(thing).full if fields is None else fields) for thing in things[:1]]
    # What they refer to is loaded when it is reached.
    return await session.run_sync(lambda _: [shown(request, thing, *asked) for thing in things])


def shown(request: Request, thing: Object, fields: Fields) -> Fields:
    """The gid of an object, and those of ``fields`` that it has."""
    names = (name for name in fields if name in thing.full and name != "gid")
    return {"gid": str(thing.gid)} | {name: plain(request, getattr(thing, name), fields[name]) for name in names}


def plain(request: Request, value: Any, below: Fields) -> Any:
    """The value of a field as JSON."""
    match value:
        case Object():
            return shown(request, value, below or {name: {} for name in value.compact})
        case list() | tuple():
            return [plain(request, item, below) for item in value]
        case dict():
            return {name: plain(request, value[name], below.get(name, {})) for name in value if name in (below or value)}
        case Link():
            return str(request.url.replace(path=request.scope["root_path"] + value, query=""))
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case date():
            return value.isoformat()
    return value
