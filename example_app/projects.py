"""Projects."""

from functools import partial
from typing import TypedDict

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.routing import Route

from example_app.errors import ApiError, Json
from example_app.forms import Gid, Text, data, query
from example_app.models import Project, Task, Workspace
from example_app.objects import answer, deleted, find, listed, show


class ProjectForm(TypedDict, total=False):
    name: Text
    notes: Text
    archived: bool
    public: bool


class NewProject(ProjectForm, total=False):
    workspace: Gid


class Filter(TypedDict, total=False):
    workspace: str
    archived: bool


async def list_projects(request: Request) -> Json:
    wanted = {**query(request, Filter), **request.path_params}
    conditions = []
    if (gid := wanted.get("gid", wanted.get("workspace"))) is not None:
        conditions.append(Project.workspace_id == (await find(request, Workspace, gid)).gid)
    if "archived" in wanted:
        conditions.append(Project.archived == wanted["archived"])
    return await listed(request, Project, *conditions)


async def create_project(request: Request) -> Json:
    values = await data(request, NewProject)
    gid = request.path_params.get("gid", values.pop("workspace", None))
    if gid is None:
        raise ApiError(400, "workspace: Missing input")
    workspace = await find(request, Workspace, gid)
    return await answer(request, Project(workspace=workspace, owner_id=request.user.gid, **values), 201)


async def update_project(request: Request) -> Json:
    values = await data(request, ProjectForm)
    project = await find(request, Project, request.path_params["gid"])
    for name, value in values.items():
        setattr(project, name, value)
    return await answer(request, project)


async def delete_project(request: Request) -> Json:
    """Delete a project, and the tasks that are in no other."""
    session: AsyncSession = request.state.session
    project = await find(request, Project, request.path_params["gid"])
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
