"""Users, the workspaces that they share, and what no batch may have of these: organization exports, and users as SCIM."""

from functools import partial
from typing import Required

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from example_app.api import Gid, form
from example_app.auth import visible
from example_app.models import OrganizationExport, User, Workspace
from example_app.objects import create, delete, index, show

USER, LIST = "urn:ietf:params:scim:schemas:core:2.0:User", "urn:ietf:params:scim:api:messages:2.0:ListResponse"


async def list_users(request: Request) -> JSONResponse:
    users = await request.state.session.scalars(select(User).where(visible(User, request.user)).order_by(User.gid))
    shown = [{"schemas": [USER], "id": str(user.gid), "userName": user.email, "displayName": user.name} for user in users]
    return JSONResponse({"schemas": [LIST], "totalResults": len(shown), "Resources": shown}, media_type="application/scim+json")


ROUTES = (
    Route("/users/{gid}", partial(show, User)),
    Route("/workspaces", partial(index, Workspace, None)),
    Route("/workspaces/{gid}", partial(show, Workspace)),
    Route("/organization_exports", partial(create, OrganizationExport, form(organization=Required[Gid])), methods=["POST"]),
    Route("/organization_exports/{gid}", partial(show, OrganizationExport)),
    Route("/organization_exports/{gid}", partial(delete, OrganizationExport), methods=["DELETE"]),
    Route("/scim/Users", list_users),
)
