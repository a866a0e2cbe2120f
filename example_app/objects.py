"""What the routes do with objects of any kind: find, show, add, list and delete them."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload
from starlette.requests import Request

from example_app.errors import ApiError, Json
from example_app.inputs import query
from example_app.models import Attachment, Object
from example_app.records import fields_of, record, shown

Kind = TypeVar("Kind", bound=Object)

WITHOUT_LIMIT = 1000


class Page(Struct):
    limit: Annotated[int, Meta(ge=1, le=100)] | None = None
    offset: str = ""


async def find(request: Request, kind: type[Kind], gid: object, name: str | None = None, *, change: bool = False) -> Kind:
    """The object of this kind with this gid, or a 404 that calls it ``name``, or a 403.

    Where the request is going to write, nobody can delete it until that is done; with ``change`` nobody else can change it.
    """
    session: AsyncSession = request.state.session
    row = None
    if re.fullmatch("[1-9][0-9]{0,17}", str(gid)):
        statement = select(kind, kind.visible_to(request.user)).where(kind.gid == int(str(gid)))
        if request.method not in ("GET", "HEAD"):
            statement = statement.with_for_update(read=not change, key_share=not change)
        row = (await session.execute(statement)).one_or_none()
    name = name or str(kind.__mapper__.polymorphic_identity)
    if row is None:
        raise ApiError(404, f"{name}: Not a recognized ID: {gid}")
    thing, visible = row
    if not visible:
        raise ApiError(403, f"You do not have access to this {name}.")
    return thing


async def show(kind: type[Object], request: Request) -> Json:
    return Json({"data": await record(request, await find(request, kind, request.path_params["gid"]))})


async def added(request: Request, thing: Object) -> Json:
    """Add an object: the answer to its POST."""
    session: AsyncSession = request.state.session
    session.add(thing)
    await session.flush()
    location = f"{request.scope['root_path']}{thing.permalink_url}"
    return Json({"data": await record(request, thing)}, 201, {"location": location})


async def changed(request: Request, thing: Object, values: dict[str, Any]) -> Json:
    """Change an object: the answer to its PUT."""
    session: AsyncSession = request.state.session
    for name, value in values.items():
        setattr(thing, name, value)
    await session.flush()
    return Json({"data": await record(request, thing)})


async def delete(kind: type[Object], request: Request) -> Json:
    return await deleted(request, await find(request, kind, request.path_params["gid"], change=True))


async def deleted(request: Request, *things: Object) -> Json:
    """Delete objects and what hangs on them, files included: the answer to a DELETE."""
    session: AsyncSession = request.state.session
    for thing in things:
        await session.delete(thing)
    files = [thing.file for thing in session.deleted if isinstance(thing, Attachment) and thing.file]
    request.app.state.files.discard(session, *files)
    return Json({"data": {}})


async def listed(request: Request, kind: type[Object], *conditions: ColumnElement[bool]) -> Json:
    """Those objects of a kind that meet the conditions and that the user may see; with ``limit``, a page of them."""
    session: AsyncSession = request.state.session
    page, fields = query(request, Page), fields_of(request, kind.compact)
    related = [selectinload(getattr(kind, name)) for name in fields if name in kind.__mapper__.relationships]
    statement = select(kind).where(kind.visible_to(request.user), kind.gid > last_of(page), *conditions)
    statement = statement.order_by(kind.gid).limit((page.limit or WITHOUT_LIMIT) + 1).options(*related)
    things = list(await session.scalars(statement))
    rest = things[page.limit or WITHOUT_LIMIT :]
    if rest and not page.limit:
        raise ApiError(400, "The result is too large. You should use pagination (may require specifying a workspace)!")
    things = things[: page.limit]
    content: dict[str, Any] = {"data": await session.run_sync(lambda _: [shown(request, thing, fields) for thing in things])}
    if page.limit:
        content["next_page"] = next_page(request, things[-1]) if rest else None
    return Json(content)


def next_page(request: Request, last: Object) -> dict[str, str]:
    """Where the page after ``last`` is."""
    offset = urlsafe_b64encode(str(last.gid).encode()).decode()
    url = request.url.include_query_params(offset=offset)
    path = url.path.removeprefix(request.scope["root_path"])
    return {"offset": offset, "path": f"{path}?{url.query}", "uri": str(url)}


def last_of(page: Page) -> int:
    """The gid after which a page begins."""
    try:
        return int(urlsafe_b64decode(page.offset)[:18] or 0)
    except ValueError:
        raise ApiError(400, "offset: Your pagination token is invalid.") from None
