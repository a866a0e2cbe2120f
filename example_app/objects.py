"""What routes do with objects of any kind: find, show, add, change, delete and list them."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Annotated, Any, TypedDict, TypeVar

from msgspec import Meta
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload
from starlette.requests import Request

from example_app.auth import visible
from example_app.errors import ApiError, Json
from example_app.forms import query
from example_app.models import Attachment, Object, User, Workspace
from example_app.records import fields_of, record

Kind = TypeVar("Kind", bound=Object)

MAX_LIST = 1000


class Page(TypedDict, total=False):
    limit: Annotated[int, Meta(ge=1, le=100)]
    offset: str


async def find(request: Request, kind: type[Kind], gid: object, name: str | None = None) -> Kind:
    """The object of this kind with this gid, or a 404 that calls it ``name``, or a 403."""
    session: AsyncSession = request.state.session
    if request.method not in ("GET", "HEAD") and not session.in_transaction():
        await enter(session, request.user, alone=request.method == "DELETE")
    key = int(str(gid)) if re.fullmatch("[1-9][0-9]{0,17}", str(gid)) else 0
    row = (await session.execute(select(kind, visible(kind, request.user)).where(kind.gid == key))).one_or_none()
    name = name or str(kind.__mapper__.polymorphic_identity)
    if row is None:
        raise ApiError(404, f"{name}: Not a recognized ID: {gid}")
    thing, may_see = row
    if not may_see:
        raise ApiError(403, f"You do not have access to this {name}.")
    return thing


async def enter(session: AsyncSession, user: User, *, alone: bool) -> None:
    """Lock the workspaces of ``user`` until the transaction ends: who deletes does it alone, all others write side by side.

    So nobody writes on what is being deleted, and no two wait for each other forever. SQLite has but one writer anyway.
    """
    gid = Workspace.__table__.c.gid
    workspaces = select(gid).where(gid.in_([workspace.gid for workspace in user.workspaces])).order_by(gid)
    await session.execute(workspaces.with_for_update(read=not alone, key_share=not alone))


async def answer(request: Request, thing: Object, status: int = 200, fields: Iterable[str] | None = None) -> Json:
    """The record of an object, which may be new or changed; with 201 it says where the object is."""
    session: AsyncSession = request.state.session
    session.add(thing)
    await session.flush()
    [content] = await record(request, thing, fields=fields)
    headers = {"location": request.scope["root_path"] + thing.permalink_url} if status == 201 else None
    return Json({"data": content}, status, headers)


async def show(kind: type[Object], request: Request) -> Json:
    return await answer(request, await find(request, kind, request.path_params["gid"]))


async def delete(kind: type[Object], request: Request) -> Json:
    return await deleted(request, await find(request, kind, request.path_params["gid"]))


async def deleted(request: Request, *things: Object) -> Json:
    """The answer to a DELETE of objects and all that hangs on them, files included."""
    session: AsyncSession = request.state.session
    with session.no_autoflush:  # what is flushed is no longer among the deleted
        for thing in things:
            await session.delete(thing)
    files = [thing.file for thing in session.deleted if isinstance(thing, Attachment) and thing.file]
    request.app.state.files.discard(session, *files)
    return Json({"data": {}})


async def listed(request: Request, kind: type[Object], *conditions: ColumnElement[bool]) -> Json:
    """The objects of a kind that meet the conditions and that the user may see; with ``limit`` a page of them."""
    session: AsyncSession = request.state.session
    page = query(request, Page)
    most = page.get("limit", MAX_LIST)
    related = [name for name in fields_of(request, kind.compact) if name in kind.__mapper__.relationships]
    statement = select(kind).where(visible(kind, request.user), kind.gid > last_of(page.get("offset", "")), *conditions)
    statement = statement.options(*(selectinload(getattr(kind, name)) for name in related))
    things = list(await session.scalars(statement.order_by(kind.gid).limit(most + 1)))
    if len(things) > MAX_LIST:
        raise ApiError(400, "The result is too large. You should use pagination (may require specifying a workspace)!")
    content: dict[str, Any] = {"data": await record(request, *things[:most], fields=kind.compact)}
    if "limit" in page:
        content["next_page"] = after(request, things[most - 1]) if len(things) > most else None
    return Json(content)


def after(request: Request, last: Object) -> dict[str, str]:
    """Where the page after the object ``last`` is."""
    offset = urlsafe_b64encode(str(last.gid).encode()).decode()
    url = request.url.include_query_params(offset=offset)
    return {"offset": offset, "path": f"{url.path.removeprefix(request.scope['root_path'])}?{url.query}", "uri": str(url)}


def last_of(offset: str) -> int:
    """The gid of the object that a page comes after."""
    try:
        return int(urlsafe_b64decode(offset)[:18] or 0)
    except ValueError:
        raise ApiError(400, "offset: Your pagination token is invalid.") from None
