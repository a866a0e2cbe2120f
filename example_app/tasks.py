"""Tasks and subtasks, and the search for them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import partial
from typing import Annotated, Any

from msgspec import Meta, Struct
from sqlalchemy import or_
from starlette.requests import Request
from starlette.routing import Route

from batchkit import batchable
from example_app.errors import ApiError, Json
from example_app.inputs import UNSET, Gid, Text, UnsetType, data, given, query
from example_app.models import Project, Task, Workspace
from example_app.objects import added, changed, delete, find, listed, show
from example_app.users import user_of


class TaskData(Struct):
    name: Text | UnsetType = UNSET
    notes: Text | UnsetType = UNSET
    completed: bool | UnsetType = UNSET
    due_on: date | UnsetType | None = UNSET
    assignee: Gid | UnsetType | None = UNSET


class NewTask(TaskData):
    workspace: Gid | None = None
    parent: Gid | None = None
    projects: Annotated[list[Gid], Meta(max_length=20)] = []


class Filter(Struct):
    project: str | None = None
    assignee: str | None = None
    workspace: str | None = None
    completed_since: str | None = None


class Search(Struct, rename={"assignee": "assignee.any", "project": "projects.any"}):
    text: Text = ""
    completed: bool | None = None
    assignee: str | None = None
    project: str | None = None


async def list_tasks(request: Request) -> Json:
    """The tasks of a project, or those of somebody in a workspace."""
    wanted = query(request, Filter)
    project = request.path_params.get("gid", wanted.project)
    conditions = []
    if project is not None and wanted.assignee is None and wanted.workspace is None:
        project_id = (await find(request, Project, project)).gid
        conditions += [Task.projects.any(Project.gid == project_id), Task.parent_id.is_(None)]
    elif project is None and wanted.assignee is not None and wanted.workspace is not None:
        conditions.append(Task.workspace_id == (await find(request, Workspace, wanted.workspace)).gid)
        conditions.append(Task.assignee_id == (await user_of(request, wanted.assignee, "assignee")).gid)
    else:
        raise ApiError(400, "Must specify exactly one of project, tag, section, user task list, or assignee + workspace")
    if wanted.completed_since is not None:
        since = moment("completed_since", wanted.completed_since)
        conditions.append(or_(Task.completed_at.is_(None), Task.completed_at >= since))
    return await listed(request, Task, *conditions)


async def list_subtasks(request: Request) -> Json:
    parent = await find(request, Task, request.path_params["gid"])
    return await listed(request, Task, Task.parent_id == parent.gid)


# Asana lets its clients search less often than anything else: see asana_limits.
@batchable(limit="search")
async def search_tasks(request: Request) -> Json:
    workspace, wanted = await find(request, Workspace, request.path_params["gid"]), query(request, Search)
    conditions = [Task.workspace_id == workspace.gid]
    if wanted.text:
        conditions.append(
            or_(Task.name.icontains(wanted.text, autoescape=True), Task.notes.icontains(wanted.text, autoescape=True))
        )
    if wanted.completed is not None:
        conditions.append(Task.completed_at.is_not(None) if wanted.completed else Task.completed_at.is_(None))
    if wanted.assignee is not None:
        conditions.append(Task.assignee_id == (await user_of(request, wanted.assignee, "assignee")).gid)
    if wanted.project is not None:
        conditions.append(Task.projects.any(Project.gid == (await find(request, Project, wanted.project)).gid))
    return await listed(request, Task, *conditions)


async def create_task(request: Request) -> Json:
    sent = await data(request, NewTask)
    gid = request.path_params.get("gid", sent.parent)
    parent = None if gid is None else await find(request, Task, gid)
    projects = [] if parent is None else list(await parent.awaitable_attrs.projects)
    projects += [await find(request, Project, gid) for gid in sent.projects]
    workspaces = [await find(request, Workspace, sent.workspace)] if sent.workspace is not None else []
    homes = {thing.workspace_id for thing in (parent, *projects) if thing} | {workspace.gid for workspace in workspaces}
    if not homes:
        raise ApiError(400, "You should specify one of workspace, parent, projects")
    if len(homes) > 1:
        raise ApiError(400, "workspace: Parent and projects must be in the same workspace")
    task = Task(parent=parent, projects=list(dict.fromkeys(projects)), workspace_id=homes.pop(), creator_id=request.user.gid)
    for name, value in (await values(request, sent)).items():
        setattr(task, name, value)
    return await added(request, task)


async def update_task(request: Request) -> Json:
    sent = await data(request, TaskData)
    task = await find(request, Task, request.path_params["gid"], change=True)
    return await changed(request, task, await values(request, sent))


async def values(request: Request, sent: TaskData) -> dict[str, Any]:
    """What a task is to have."""
    set_to = given(sent, "name", "notes", "completed", "due_on", "assignee")
    if set_to.get("assignee") is not None:
        set_to["assignee"] = await user_of(request, set_to["assignee"], "assignee")
    return set_to


def moment(name: str, text: str) -> datetime:
    """The time that a query parameter says; ``now`` is one."""
    try:
        time = datetime.now(UTC) if text == "now" else datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ApiError(400, f"{name}: Give a date, or a time like 2030-12-31T23:59:59Z, or now") from None


ROUTES = (
    Route("/tasks", list_tasks),
    Route("/tasks", create_task, methods=["POST"]),
    Route("/tasks/{gid}", partial(show, Task)),
    Route("/tasks/{gid}", update_task, methods=["PUT"]),
    Route("/tasks/{gid}", partial(delete, Task), methods=["DELETE"]),
    Route("/tasks/{gid}/subtasks", list_subtasks),
    Route("/tasks/{gid}/subtasks", create_task, methods=["POST"]),
    Route("/projects/{gid}/tasks", list_tasks),
    Route("/workspaces/{gid}/tasks/search", search_tasks),
)
