"""Tasks and subtasks, and the search for them."""

from datetime import UTC, date, datetime
from functools import partial
from typing import Annotated, Any, TypedDict

from msgspec import Meta
from sqlalchemy import or_
from starlette.requests import Request
from starlette.routing import Route

from batchkit import batchable
from example_app.errors import ApiError, Json
from example_app.forms import Gid, Text, data, query
from example_app.models import Project, Task, Workspace
from example_app.objects import answer, delete, find, listed, show
from example_app.users import user_of


class TaskForm(TypedDict, total=False):
    name: Text
    notes: Text
    completed: bool
    due_on: date | None
    assignee: Gid | None


class NewTask(TaskForm, total=False):
    workspace: Gid | None
    parent: Gid | None
    projects: Annotated[list[Gid], Meta(max_length=20)]


class Filter(TypedDict, total=False):
    project: str
    assignee: str
    workspace: str
    completed_since: str


Search = TypedDict("Search", {"text": Text, "completed": bool, "assignee.any": str, "projects.any": str}, total=False)


async def list_tasks(request: Request) -> Json:
    """The tasks of a project, or those of somebody in a workspace."""
    wanted = query(request, Filter)
    if "gid" in request.path_params:
        wanted["project"] = request.path_params["gid"]
    conditions = []
    match wanted:
        case {"project": gid} if not wanted.keys() & {"assignee", "workspace"}:
            project = await find(request, Project, gid)
            conditions += [Task.projects.any(Project.gid == project.gid), Task.parent_id.is_(None)]
        case {"assignee": assignee, "workspace": workspace} if "project" not in wanted:
            conditions.append(Task.workspace_id == (await find(request, Workspace, workspace)).gid)
            conditions.append(Task.assignee_id == (await user_of(request, assignee, "assignee")).gid)
        case _:
            raise ApiError(400, "Must specify exactly one of project, tag, section, user task list, or assignee + workspace")
    if "completed_since" in wanted:
        since = moment("completed_since", wanted["completed_since"])
        conditions.append(or_(Task.completed_at.is_(None), Task.completed_at >= since))
    return await listed(request, Task, *conditions)


async def list_subtasks(request: Request) -> Json:
    parent = await find(request, Task, request.path_params["gid"])
    return await listed(request, Task, Task.parent_id == parent.gid)


# Asana allows fewer searches than other requests: see asana_limits.
@batchable(limit="search")
async def search_tasks(request: Request) -> Json:
    workspace, wanted = await find(request, Workspace, request.path_params["gid"]), query(request, Search)
    conditions = [Task.workspace_id == workspace.gid]
    if text := wanted.get("text"):
        conditions.append(or_(*(field.icontains(text, autoescape=True) for field in (Task.name, Task.notes))))
    if "completed" in wanted:
        conditions.append(Task.completed_at.is_not(None) == wanted["completed"])
    if "assignee.any" in wanted:
        conditions.append(Task.assignee_id == (await user_of(request, wanted["assignee.any"], "assignee")).gid)
    if "projects.any" in wanted:
        conditions.append(Task.projects.any(Project.gid == (await find(request, Project, wanted["projects.any"])).gid))
    return await listed(request, Task, *conditions)


async def create_task(request: Request) -> Json:
    values = await data(request, NewTask)
    parent_gid = request.path_params.get("gid", values.pop("parent", None))
    parent = None if parent_gid is None else await find(request, Task, parent_gid)
    projects = [] if parent is None else list(await parent.awaitable_attrs.projects)
    projects += [await find(request, Project, gid) for gid in values.pop("projects", ())]
    workspaces = {thing.workspace_id for thing in (parent, *projects) if thing}
    if (gid := values.pop("workspace", None)) is not None:
        workspaces.add((await find(request, Workspace, gid)).gid)
    if not workspaces:
        raise ApiError(400, "You should specify one of workspace, parent, projects")
    if len(workspaces) > 1:
        raise ApiError(400, "workspace: Parent and projects must be in the same workspace")
    task = Task(workspace_id=workspaces.pop(), creator_id=request.user.gid, parent=parent, projects=list(dict.fromkeys(projects)))
    await fill(request, task, values)
    return await answer(request, task, 201)


async def update_task(request: Request) -> Json:
    values = await data(request, TaskForm)
    task = await find(request, Task, request.path_params["gid"])
    await fill(request, task, values)
    return await answer(request, task)


async def fill(request: Request, task: Task, values: dict[str, Any]) -> None:
    """Give a task the values of a form."""
    if values.get("assignee") is not None:
        values["assignee"] = await user_of(request, values["assignee"], "assignee")
    for name, value in values.items():
        setattr(task, name, value)


def moment(name: str, text: str) -> datetime:
    """The time that a query parameter says; ``now`` is one."""
    try:
        time = datetime.now(UTC) if text == "now" else datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ApiError(400, f"{name}: Give a date, a time like 2030-12-31T23:59:59Z, or now") from None


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
