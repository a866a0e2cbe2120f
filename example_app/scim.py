"""Users as SCIM (RFC 7643) has them, for a company's own directory. Asana keeps all of it out of batches."""

from typing import Annotated, Any, TypedDict

from msgspec import Meta
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from example_app.auth import visible
from example_app.forms import Text, body, query
from example_app.models import User, Workspace

SCHEMA, LIST = "urn:ietf:params:scim:schemas:core:2.0", "urn:ietf:params:scim:api:messages:2.0:ListResponse"


class Scim(JSONResponse):
    media_type = "application/scim+json"


class NewUser(TypedDict):
    userName: Text


class Page(TypedDict, total=False):
    startIndex: Annotated[int, Meta(ge=1, le=10**9)]
    count: Annotated[int, Meta(ge=0, le=100)]


def resource(user: User) -> dict[str, Any]:
    names = {"userName": user.email, "displayName": user.name, "emails": [{"value": user.email, "primary": True}]}
    return {"schemas": [f"{SCHEMA}:User"], "id": str(user.gid), **names, "active": True}


async def list_users(request: Request) -> Scim:
    session: AsyncSession = request.state.session
    page, users = query(request, Page), select(User).where(visible(User, request.user))
    start, count = page.get("startIndex", 1), page.get("count", 100)
    resources = [resource(user) for user in await session.scalars(users.order_by(User.gid).offset(start - 1).limit(count))]
    total = await session.scalar(select(func.count()).select_from(users.subquery()))
    counts = {"totalResults": total, "startIndex": start, "itemsPerPage": len(resources)}
    return Scim({"schemas": [LIST], **counts, "Resources": resources})


async def create_user(request: Request) -> Scim:
    session: AsyncSession = request.state.session
    name = (await body(request, NewUser))["userName"]
    workspaces = await session.scalars(select(Workspace).where(visible(Workspace, request.user)))
    session.add(user := User(name=name, email=name, workspaces=list(workspaces)))
    await session.flush()
    return Scim(resource(user), 201, {"location": f"{request.scope['root_path']}/scim/Users/{user.gid}"})


async def service_provider_config(request: Request) -> Scim:
    features = {key: {"supported": False} for key in ("patch", "bulk", "filter", "changePassword", "sort", "etag")}
    scheme = {"type": "oauthbearertoken", "name": "Bearer token", "description": "The token of a user"}
    return Scim({"schemas": [f"{SCHEMA}:ServiceProviderConfig"], **features, "authenticationSchemes": [scheme]})


ROUTES = (
    Route("/scim/Users", list_users),
    Route("/scim/Users", create_user, methods=["POST"]),
    Route("/scim/ServiceProviderConfig", service_provider_config),
)
