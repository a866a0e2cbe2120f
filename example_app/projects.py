"""Projects, public in their workspace or private to their owner."""

from __future__ import annotations

from functools import partial

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.routing import Route

from example_app.errors import ApiError, Json
from example_app.inputs import UNSET, Gid, Text, UnsetType, data, given, query
from example_app.models import Project, Task, Workspace
from example_app.objects import added, changed, deleted, find, listed, show


class ProjectData(Struct):
    name: Text | UnsetType = UNSET
    notes: Text | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    public: bool | UnsetType = UNSET
    workspace: Gid | UnsetType = UNSET


FIELDS = ("name", "notes", "archived", "public")


class Filter(Struct):
    workspace: str | None = None
    archived: bool | None = None


async def list_projects(request: Request) -> Json:
    wanted = query(request, Filter)
    conditions = []
    workspace = request.path_params.get("gid", wanted.workspace)
    if workspace is not None:
        conditions.append(Project.workspace_id == (await find(request, Workspace, workspace)).gid)
    if wanted.archived is not None:
        conditions.append(Project.archived == wanted.archived)
    return await listed(request, Project, *conditions)


async def create_project(request: Request) -> Json:
    sent = await data(request, ProjectData)
    gid = request.path_params.get("gid", sent.workspace)
    if gid is UNSET:
        raise ApiError(400, "workspace: Missing input")
    workspace = await find(request, Workspace, gid)
    return await added(request, Project(workspace=workspace, owner_id=request.user.gid, **given(sent, *FIELDS)))


async def update_project(request: Request) -> Json:
    sent = await data(request, ProjectData)
    project = await find(request, Project, request.path_params["gid"], change=True)
    return await changed(request, project, given(sent, *FIELDS))


async def delete_project(request: Request) -> Json:
    """Delete a project, and the tasks that are in no other."""
    session: AsyncSession = request.state.session
    project = await find(request, Project, request.path_params["gid"], change=True)
    only_here = Task.projects.contains(project) & ~Task.projects.any(Project.gid != project.gid) & Task.parent_id.is_(None)
    return await deleted(request, *await session.scalars(select(Task).where(only_here)), project)


ROUTES = (
    Route("/projects", list_projects),
    Route("/projects", create_project, methods=["POST"]),
    Route("/projects/{gid}", partial(show, Project)),
    Route("/projects/{gid}", update_project, methods=["PUT"]),
    Route("/projects/{gid}", delete_project, methods=["DELETE"]),
    Route("/workspaces/{gid}/projects", list_projects),
    Route("/workspaces/{gid}/projects", create_project, methods=["POST"]),
)
