"""What administrators ask for, and Asana keeps out of batches: organization exports, and users as SCIM (RFC 7643) has them."""

from functools import partial
from typing import TypedDict

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from example_app.api import Gid
from example_app.auth import visible
from example_app.models import OrganizationExport, User
from example_app.objects import create, delete, show

SCHEMA, LIST = "urn:ietf:params:scim:schemas:core:2.0", "urn:ietf:params:scim:api:messages:2.0:ListResponse"


class NewExport(TypedDict):
    organization: Gid


class Scim(JSONResponse):
    media_type = "application/scim+json"


async def list_users(request: Request) -> Scim:
    users = await request.state.session.scalars(select(User).where(visible(User, request.user)).order_by(User.gid))
    resources = [
        {"schemas": [f"{SCHEMA}:User"], "id": str(user.gid), "userName": user.email, "displayName": user.name, "active": True}
        for user in users
    ]
    return Scim({"schemas": [LIST], "totalResults": len(resources), "Resources": resources})


async def service_provider_config(request: Request) -> Scim:
    features = {key: {"supported": False} for key in ("patch", "bulk", "filter", "changePassword", "sort", "etag")}
    scheme = {"type": "oauthbearertoken", "name": "Bearer token", "description": "The token of a user"}
    return Scim({"schemas": [f"{SCHEMA}:ServiceProviderConfig"], **features, "authenticationSchemes": [scheme]})


ROUTES = (
    Route("/organization_exports", partial(create, OrganizationExport, NewExport), methods=["POST"]),
    Route("/organization_exports/{gid}", partial(show, OrganizationExport)),
    Route("/organization_exports/{gid}", partial(delete, OrganizationExport), methods=["DELETE"]),
    Route("/scim/Users", list_users),
    Route("/scim/ServiceProviderConfig", service_provider_config),
)
