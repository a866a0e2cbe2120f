"""Users as SCIM (RFC 7644) has them, for a company's own directory. Asana keeps all of it out of batches."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from example_app.inputs import Text, parsed, query
from example_app.models import User, Workspace

CORE, MESSAGES = "urn:ietf:params:scim:schemas:core:2.0", "urn:ietf:params:scim:api:messages:2.0"


class Scim(JSONResponse):
    media_type = "application/scim+json"


class Name(Struct, frozen=True):
    formatted: Text = ""


class NewUser(Struct):
    userName: Text
    name: Name = Name()


class Page(Struct, rename="camel"):
    start_index: Annotated[int, Meta(ge=1, le=10**9)] = 1
    count: Annotated[int, Meta(ge=0, le=100)] = 100


def resource(user: User) -> dict[str, Any]:
    return {
        "schemas": [f"{CORE}:User"],
        "id": str(user.gid),
        "userName": user.email,
        "name": {"formatted": user.name},
        "emails": [{"value": user.email, "primary": True}],
        "active": True,
    }


async def list_users(request: Request) -> Scim:
    session: AsyncSession = request.state.session
    page, users = query(request, Page), select(User).where(User.visible_to(request.user))
    shown = await session.scalars(users.order_by(User.gid).offset(page.start_index - 1).limit(page.count))
    resources = [resource(user) for user in shown]
    total = await session.scalar(select(func.count()).select_from(users.subquery()))
    counts = {"totalResults": total, "startIndex": page.start_index, "itemsPerPage": len(resources)}
    return Scim({"schemas": [f"{MESSAGES}:ListResponse"], **counts, "Resources": resources})


async def create_user(request: Request) -> Scim:
    session: AsyncSession = request.state.session
    sent = parsed(await request.body(), NewUser)
    workspaces = list(await session.scalars(select(Workspace).where(Workspace.visible_to(request.user))))
    user = User(name=sent.name.formatted or sent.userName, email=sent.userName, workspaces=workspaces)
    session.add(user)
    await session.flush()
    location = f"{request.scope['root_path']}/scim/Users/{user.gid}"
    return Scim(resource(user), 201, {"location": location})


async def service_provider_config(request: Request) -> Scim:
    features = {key: {"supported": False} for key in ("patch", "bulk", "filter", "changePassword", "sort", "etag")}
    schemes = [{"type": "oauthbearertoken", "name": "Bearer token", "description": "The token of a user"}]
    return Scim({"schemas": [f"{CORE}:ServiceProviderConfig"], **features, "authenticationSchemes": schemes})


ROUTES = (
    Route("/scim/Users", list_users),
    Route("/scim/Users", create_user, methods=["POST"]),
    Route("/scim/ServiceProviderConfig", service_provider_config),
)
