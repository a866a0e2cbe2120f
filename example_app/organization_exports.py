"""Organization exports, which Asana keeps out of batches."""

from __future__ import annotations

from functools import partial

from msgspec import Struct
from starlette.requests import Request
from starlette.routing import Route

from example_app.errors import Json
from example_app.inputs import Gid, data
from example_app.models import OrganizationExport, Workspace
from example_app.objects import added, delete, find, show


class NewExport(Struct):
    organization: Gid


async def create_export(request: Request) -> Json:
    sent = await data(request, NewExport)
    organization = await find(request, Workspace, sent.organization, "organization")
    return await added(request, OrganizationExport(organization=organization))


ROUTES = (
    Route("/organization_exports", create_export, methods=["POST"]),
    Route("/organization_exports/{gid}", partial(show, OrganizationExport)),
    Route("/organization_exports/{gid}", partial(delete, OrganizationExport), methods=["DELETE"]),
)
