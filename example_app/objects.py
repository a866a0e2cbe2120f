"""What routes do with objects of any kind: find, show, create, change, remove and list them, as records of JSON."""

import re
from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, Any

from msgspec import Meta
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import selectinload
from starlette.exceptions import HTTPException
from starlette.requests import Request

from example_app.api import Json, data, form, query
from example_app.auth import visible
from example_app.models import Link, Object, User, Workspace

MAX_LIST, MAX_FIELDS = 1000, 200
PAGE = form(limit=Annotated[int, Meta(ge=1, le=100)], offset=str)


async def find(request: Request, kind: type[Object], gid: object, name: str | None = None) -> Any:
    """The object of this kind with this gid, or a 404 that calls it ``name``, or a 403. The user ``me`` is who asks."""
    session, name = request.state.session, name or kind.resource_type
    if request.method not in ("GET", "HEAD") and not session.in_transaction():
        # Locks the user's workspaces until the transaction ends: who deletes does it alone, all others write side by side. So
        # nobody writes on what is going away, and no two wait for each other forever. SQLite has but one writer anyway.
        alone = request.method == "DELETE"
        workspaces = select(Workspace.gid).where(visible(Workspace, request.user)).order_by(Workspace.gid)
        await session.execute(workspaces.with_for_update(read=not alone, key_share=not alone))
    key = int(str(gid)) if re.fullmatch("[1-9][0-9]{0,17}", str(gid)) else 0
    key = request.user.gid if kind is User and gid == "me" else key
    row = (await session.execute(select(kind, visible(kind, request.user)).where(kind.gid == key))).one_or_none()
    if row is None:
        raise HTTPException(404, f"{name}: Not a recognized ID: {gid}")
    if not row[1]:
        raise HTTPException(403, f"You do not have access to this {name}.")
    return row[0]


async def found(request: Request, kind: type[Object], values: dict[str, Any]) -> dict[str, Any]:
    """``values`` for an object of this kind, with the objects that it refers to in the place of their gids."""
    kinds = {name: relation.mapper.class_ for name, relation in kind.__mapper__.relationships.items()}
    gids = {name: gid for name, gid in values.items() if name in kinds and gid is not None}
    return values | {name: await find(request, kinds[name], gid, name) for name, gid in gids.items()}


async def answer(request: Request, thing: Object, status: int = 200, fields: Iterable[str] | None = None) -> Json:
    """The record of an object, which may be new or changed; with 201 it says where the object is."""
    request.state.session.add(thing)
    await request.state.session.flush()
    headers = {"location": request.scope["root_path"] + thing.permalink_url} if status == 201 else None
    return Json({"data": await shown(request, thing, fields or thing.full)}, status, headers)


async def show(kind: type[Object], request: Request) -> Json:
    return await answer(request, await find(request, kind, request.path_params["gid"]))


async def create(kind: type[Object], form: Any, request: Request) -> Json:
    values = await found(request, kind, await data(request, form))
    return await answer(request, kind(created_by_id=request.user.gid, **values), 201)


async def update(kind: type[Object], form: Any, request: Request) -> Json:
    values = await found(request, kind, await data(request, form))
    thing = await find(request, kind, request.path_params["gid"])
    for name, value in values.items():
        setattr(thing, name, value)
    return await answer(request, thing)


async def delete(kind: type[Object], request: Request) -> Json:
    await request.state.session.delete(await find(request, kind, request.path_params["gid"]))
    return Json({"data": {}})


async def index(kind: type[Object], form: Any, request: Request) -> Json:
    """The objects of a kind that have the values which the path and, where there is a form, the query ask for."""
    values = await found(request, kind, query(request, form) if form else request.path_params)
    return await listed(request, kind, *(getattr(kind, name) == value for name, value in values.items()))


async def listed(request: Request, kind: type[Object], *conditions: ColumnElement[bool]) -> Json:
    """The objects of a kind that meet the conditions and that the user may see; with ``limit`` a page of them."""
    page = query(request, PAGE)
    most, offset = page.get("limit", MAX_LIST), page.get("offset", "0")
    if not re.fullmatch("[0-9a-f]{1,15}", offset):
        raise HTTPException(400, "offset: Your pagination token is invalid.")
    related = [name for name in fields_of(request, kind.compact) if name in kind.full and name in kind.__mapper__.relationships]
    statement = select(kind).where(visible(kind, request.user), kind.gid > int(offset, 16), *conditions)
    statement = statement.options(*(selectinload(getattr(kind, name)) for name in related))
    things = list(await request.state.session.scalars(statement.order_by(kind.gid).limit(most + 1)))
    if len(things) > MAX_LIST:
        raise HTTPException(400, "The result is too large. You should use pagination (may require specifying a workspace)!")
    content = {"data": await shown(request, things[:most], kind.compact)} | ({"next_page": None} if "limit" in page else {})
    if len(things) > most:
        offset = f"{things[most - 1].gid:x}"
        url = request.url.include_query_params(offset=offset)
        path = f"{url.path.removeprefix(request.scope['root_path'])}?{url.query}"
        content["next_page"] = {"offset": offset, "path": path, "uri": str(url)}
    return Json(content)


def fields_of(request: Request, default: Iterable[str]) -> dict[str, Any]:
    """What to show: ``opt_fields``, paths like ``this.assignee.name`` or ``(this|parent).name``, as a tree; else ``default``."""
    text = request.query_params.get("opt_fields")
    fields: dict[str, Any] = {} if text else {name: {} for name in default}
    left = MAX_FIELDS
    for path in text.split(",") if text else ():
        ends = [fields]
        for names in (step.strip("()").split("|") for step in path.strip().split(".")):
            left -= len(ends) * len(names)
            if left < 0:
                raise HTTPException(400, f"opt_fields: Ask for at most {MAX_FIELDS} fields")
            ends = [end if name == "this" else end.setdefault(name, {}) for end in ends for name in names]
    return fields


async def shown(request: Request, things: Object | list[Object], default: Iterable[str]) -> Any:
    """Objects as JSON, with the fields that the client asks for. What they refer to is loaded when it is reached."""
    fields = fields_of(request, default)
    return await request.state.session.run_sync(lambda _: plain(request, things, fields))


def plain(request: Request, value: Any, fields: dict[str, Any]) -> Any:
    """A value as JSON: of an object its gid, and those of ``fields`` that it has."""
    match value:
        case Object():
            fields = fields or {name: {} for name in value.compact}
            names = [name for name in fields if name in value.full and name != "gid"]
            return {"gid": str(value.gid)} | {name: plain(request, getattr(value, name), fields[name]) for name in names}
        case list() | tuple():
            return [plain(request, item, fields) for item in value]
        case dict():
            return {name: plain(request, value[name], fields.get(name, {})) for name in value if name in (fields or value)}
        case Link():
            return str(request.url.replace(path=request.scope["root_path"] + value, query=""))
        case datetime():
            return f"{value.isoformat(timespec='milliseconds')}Z"
        case date():
            return value.isoformat()
    return value
