"""What routes do with objects of any kind: find, show, create, update, delete and list them, as records of JSON."""

import re
from collections.abc import Iterable
from datetime import date, datetime
from itertools import islice, product
from typing import Annotated, Any, TypedDict, TypeVar

import msgspec
from sqlalchemy import ColumnElement, select
from sqlalchemy import delete as deletion
from sqlalchemy.orm import selectinload
from starlette.requests import Request

from example_app.api import ApiError, Json, data, query
from example_app.auth import visible
from example_app.models import Link, Object, User, Workspace

Kind = TypeVar("Kind", bound=Object)
# The names of fields, each with what is asked for below it: if nothing, the compact record.
Fields = dict[str, Any]

MAX_LIST = 1000
MAX_LENGTH, MAX_PATHS, MAX_DEPTH = 8000, 400, 10


class Page(TypedDict, total=False):
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)]
    offset: str


async def find(request: Request, kind: type[Kind], gid: object, name: str | None = None) -> Kind:
    """The object of this kind with this gid, or a 404 that calls it ``name``, or a 403. The user ``me`` is who asks."""
    if request.method not in ("GET", "HEAD") and not request.state.session.in_transaction():
        await enter(request)
    key = int(str(gid)) if re.fullmatch("[1-9][0-9]{0,17}", str(gid)) else 0
    key = request.user.gid if kind is User and gid == "me" else key
    row = (await request.state.session.execute(select(kind, visible(kind, request.user)).where(kind.gid == key))).one_or_none()
    name = name or kind.resource_type
    if row is None:
        raise ApiError(404, f"{name}: Not a recognized ID: {gid}")
    if not row[1]:
        raise ApiError(403, f"You do not have access to this {name}.")
    thing: Kind = row[0]
    return thing


async def enter(request: Request) -> None:
    """Lock the user's workspaces until the transaction ends: who deletes does it alone, all others write side by side.

    So nobody writes on what is being deleted, and no two wait for each other forever. SQLite has but one writer anyway.
    """
    alone = request.method == "DELETE"
    workspaces = select(Workspace.gid).where(visible(Workspace, request.user)).order_by(Workspace.gid)
    await request.state.session.execute(workspaces.with_for_update(read=not alone, key_share=not alone))


async def found(request: Request, kind: type[Object], values: dict[str, Any]) -> dict[str, Any]:
    """``values`` for an object of this kind, with the objects that it refers to in the place of their gids."""
    kinds = {name: relation.mapper.class_ for name, relation in kind.__mapper__.relationships.items()}
    gids = {name: gid for name, gid in values.items() if name in kinds and gid is not None}
    return values | {name: await find(request, kinds[name], gid, name) for name, gid in gids.items()}


async def answer(request: Request, thing: Object, status: int = 200, fields: Iterable[str] | None = None) -> Json:
    """The record of an object, which may be new or changed; with 201 it says where the object is."""
    request.state.session.add(thing)
    await request.state.session.flush()
    [content] = await records(request, [thing], fields or thing.full)
    headers = {"location": request.scope["root_path"] + thing.permalink_url} if status == 201 else None
    return Json({"data": content}, status, headers)


async def show(kind: type[Object], request: Request) -> Json:
    return await answer(request, await find(request, kind, request.path_params["gid"]))


async def create(kind: type[Object], form: Any, request: Request) -> Json:
    values = await found(request, kind, await data(request, form))
    return await answer(request, kind(created_by_id=request.user.gid, **values), 201)


async def update(kind: type[Object], form: Any, request: Request) -> Json:
    values = await data(request, form)
    thing = await find(request, kind, request.path_params["gid"])
    for name, value in (await found(request, kind, values)).items():
        setattr(thing, name, value)
    return await answer(request, thing)


async def delete(kind: type[Object], request: Request) -> Json:
    thing = await find(request, kind, request.path_params["gid"])
    await request.state.session.execute(deletion(kind).where(kind.gid == thing.gid))
    return Json({"data": {}})


async def index(kind: type[Object], form: Any, request: Request) -> Json:
    """The objects of a kind that have the values which the path and, where there is a form, the query ask for."""
    values = await found(request, kind, query(request, form) if form else request.path_params)
    return await listed(request, kind, *(getattr(kind, name) == value for name, value in values.items()))


async def listed(request: Request, kind: type[Object], *conditions: ColumnElement[bool]) -> Json:
    """The objects of a kind that meet the conditions and that the user may see; with ``limit`` a page of them."""
    page = query(request, Page)
    most, offset = page.get("limit", MAX_LIST), page.get("offset", "0")
    if not re.fullmatch("[0-9a-f]{1,15}", offset):
        raise ApiError(400, "offset: Your pagination token is invalid.")
    related = [name for name in fields_of(request, kind.compact) if name in kind.__mapper__.relationships]
    statement = select(kind).where(visible(kind, request.user), kind.gid > int(offset, 16), *conditions)
    statement = statement.options(*(selectinload(getattr(kind, name)) for name in related))
    things = list(await request.state.session.scalars(statement.order_by(kind.gid).limit(most + 1)))
    if len(things) > MAX_LIST:
        raise ApiError(400, "The result is too large. You should use pagination (may require specifying a workspace)!")
    content: dict[str, Any] = {"data": await records(request, things[:most], kind.compact)}
    if "limit" in page:
        content["next_page"] = after(request, things[most - 1]) if len(things) > most else None
    return Json(content)


def after(request: Request, last: Object) -> dict[str, str]:
    """Where the page after the object ``last`` is."""
    offset = f"{last.gid:x}"
    url = request.url.include_query_params(offset=offset)
    return {"offset": offset, "path": f"{url.path.removeprefix(request.scope['root_path'])}?{url.query}", "uri": str(url)}


def fields_of(request: Request, default: Iterable[str]) -> Fields:
    """What to show: ``opt_fields``, paths like ``this.assignee.name`` or ``(parent|assignee).name``, else ``default``."""
    text = request.query_params.get("opt_fields")
    if not text:
        return {name: {} for name in default}
    # A path is cut at its parentheses, and a choice made of what lies between two.
    pieces = ([piece.split("|") for piece in re.split("[()]", path)] for path in text[: MAX_LENGTH + 1].split(","))
    paths = list(islice(("".join(choice) for choices in pieces for choice in product(*choices)), MAX_PATHS + 1))
    if len(text) > MAX_LENGTH or len(paths) > MAX_PATHS or any(path.count(".") > MAX_DEPTH for path in paths):
        raise ApiError(400, f"opt_fields: Ask for at most {MAX_PATHS} fields, {MAX_DEPTH} deep, in {MAX_LENGTH} characters")
    fields: Fields = {}
    for path in paths:
        below = fields
        for name in path.strip().removeprefix("this.").split("."):
            below = below.setdefault(name, {})
    return fields


async def records(request: Request, things: list[Kind], default: Iterable[str]) -> list[Fields]:
    """Objects as JSON, with the fields that the client asks for."""
    fields = fields_of(request, default)
    # What they refer to is loaded when it is reached.
    shown_all: list[Fields] = await request.state.session.run_sync(lambda _: [shown(request, thing, fields) for thing in things])
    return shown_all


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
            return f"{value.isoformat(timespec='milliseconds')}Z"
        case date():
            return value.isoformat()
    return value
