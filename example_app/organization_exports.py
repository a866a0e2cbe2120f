"""Organization exports, which Asana keeps out of batches."""

from functools import partial
from typing import TypedDict

from starlette.requests import Request
from starlette.routing import Route

from example_app.errors import Json
from example_app.forms import Gid, data
from example_app.models import OrganizationExport, Workspace
from example_app.objects import answer, delete, find, show


class NewExport(TypedDict):
    organization: Gid


async def create_export(request: Request) -> Json:
    values = await data(request, NewExport)
    organization = await find(request, Workspace, values["organization"], "organization")
    return await answer(request, OrganizationExport(organization=organization), 201)


ROUTES = (
    Route("/organization_exports", create_export, methods=["POST"]),
    Route("/organization_exports/{gid}", partial(show, OrganizationExport)),
    Route("/organization_exports/{gid}", partial(delete, OrganizationExport), methods=["DELETE"]),
)
