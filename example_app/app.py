"""Tasks and projects in memory, in the shape of Asana's API: its bearer token, field selection, pages and errors.

``create_app`` is where the batch endpoint comes in; nothing else here knows of batches.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import partial
from itertools import count
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint
from batchkit.limiter import Limiter, LimitMiddleware, asana_limits
from batchkit.settings import CostHook

__all__ = ["TOKEN", "create_app"]

TOKEN = "demo-token"
# Projects and their tasks.
DEMO_DATA = {"Launch": ["Write the README", "Record a demo", "Tag the release"], "Garden": ["Plant beans", "Mend the fence"]}
# What a client may set.
FIELDS = {"name": str, "notes": str, "completed": bool, "projects": list, "organization": str}
HELP = (
    "For more information on API status codes and how to handle them, "
    "read the docs on errors: https://developers.asana.com/docs/errors"
)
# What Asana's guide keeps out of batches: uploads, organization exports, SCIM. A batch in a batch needs no saying.
EXCLUDE = ("POST /api/1.0/attachments", "/api/1.0/organization_exports", "/api/1.0/organization_exports/*", "/api/1.0/scim/*")

Object = dict[str, Any]


def create_app(*, store: str | None = None, cost_hook: CostHook | None = None) -> Starlette:
    """An app with demo data of its own and Asana's limits, which are counted in ``store``: see ``Limiter``.

    ``cost_hook`` is asked before each batch in place of the limiter.
    """
    api = Api()
    limiter = Limiter(asana_limits(), store, prefix="example_app")
    routes = [
        Route("/users/{gid}", partial(api.one, "user")),
        Route("/tasks", partial(api.many, "task")),
        Route("/tasks", partial(api.create, "task", "name", notes="", completed=False), methods=["POST"]),
        Route("/tasks/{gid}", partial(api.one, "task"), methods=["GET", "PUT", "DELETE"]),
        Route("/projects", partial(api.many, "project")),
        Route("/projects", partial(api.create, "project", "name", notes=""), methods=["POST"]),
        Route("/projects/{gid}", partial(api.one, "project")),
        Route("/projects/{project}/tasks", partial(api.many, "task")),
        Route("/attachments", api.upload, methods=["POST"]),
        Route("/organization_exports", partial(api.create, "organization_export", "organization"), methods=["POST"]),
        Route("/organization_exports/{gid}", partial(api.one, "organization_export"), methods=["GET", "DELETE"]),
        Route("/scim/Users", api.scim_users),
    ]
    app = Starlette(
        routes=[Mount("/api/1.0", routes=routes)],
        middleware=[Middleware(BearerToken), Middleware(LimitMiddleware, limiter=limiter, help=HELP)],
        exception_handlers={ApiError: failed, HTTPException: failed},
    )
    batch = BatchEndpoint(policy="all", exclude=EXCLUDE, cost_hook=cost_hook or limiter, help=HELP)
    return batch.mount_to(app, "/api/1.0/batch")


class BearerToken:
    """Lets in who shows the token. A batch comes through here, and so does each of its actions."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and Headers(scope=scope).get("authorization") != f"Bearer {TOKEN}":
            await Json({"errors": [{"message": "Not Authorized"}]}, 401)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class Json(JSONResponse):
    """JSON with Asana's spelling of the media type."""

    media_type = "application/json; charset=UTF-8"


class ApiError(Exception):
    """A client's mistake: the status, and Asana's words for it."""


async def failed(request: Request, error: Exception) -> Json:
    """The answer to a mistake; to Asana a wrong method is a wrong route."""
    status, message = error.args if isinstance(error, ApiError) else (404, "No matching route for request")
    return Json({"errors": [{"message": message, "help": HELP}]}, status)


class Api:
    """The objects by gid, and what the routes do with them."""

    def __init__(self) -> None:
        self.gids = count(1001)
        self.objects: dict[str, Object] = {}
        self.objects["me"] = self.add("user", name="Ada Lovelace", email="ada@example.com")
        for name, tasks in DEMO_DATA.items():
            project = self.add("project", name=name, notes="")
            for task in tasks:
                self.add("task", name=task, notes="", completed=False, projects=[compact(project)])

    def add(self, kind: str, **fields: Any) -> Object:
        gid = str(next(self.gids))
        self.objects[gid] = {"gid": gid, "resource_type": kind, **fields}
        return self.objects[gid]

    def find(self, kind: str, gid: Any) -> Object:
        """The object of this kind with this gid, or a 404."""
        found = self.objects.get(str(gid), {})
        if found.get("resource_type") != kind:
            raise ApiError(404, f"{kind}: Not a recognized ID: {gid}")
        return found

    async def read(self, request: Request, defaults: Object) -> Object:
        """What the body sets, over ``defaults``, or a 400."""
        try:
            data = defaults | (await request.json())["data"]
        except (ValueError, TypeError, LookupError, RecursionError):
            raise ApiError(400, "Could not parse request data, invalid JSON") from None
        fields = {name: data[name] for name in FIELDS if name in data}
        for name, value in fields.items():
            if not isinstance(value, FIELDS[name]):
                raise ApiError(400, f"{name}: Not a valid value")
        if "projects" in fields:
            fields["projects"] = [compact(self.find("project", gid)) for gid in fields["projects"]]
        return fields

    async def create(self, kind: str, required: str, request: Request, **defaults: Any) -> Json:
        """Add an object that has at least the field ``required``."""
        fields = await self.read(request, defaults)
        if required not in fields:
            raise ApiError(400, f"{required}: Missing input")
        thing = self.add(kind, **fields)
        return Json({"data": selected(request, thing, thing)}, 201, {"location": f"{request.url.path}/{thing['gid']}"})

    async def one(self, kind: str, request: Request) -> Json:
        """Show, change or delete an object."""
        thing = self.find(kind, request.path_params["gid"])
        if request.method == "DELETE":
            del self.objects[thing["gid"]]
            return Json({"data": {}})
        if request.method == "PUT":
            thing |= await self.read(request, {})
        return Json({"data": selected(request, thing, thing)})

    async def many(self, kind: str, request: Request) -> Json:
        """List the objects of a kind, or those of one project."""
        things = [thing for thing in self.objects.values() if thing["resource_type"] == kind]
        gid = request.path_params.get("project") or request.query_params.get("project")
        if gid:
            project = compact(self.find("project", gid))
            things = [thing for thing in things if project in thing.get("projects", [])]
        return Json(page(request, things))

    async def upload(self, request: Request) -> Json:
        return Json({"data": self.add("attachment", size=len(await request.body()))})

    async def scim_users(self, request: Request) -> Json:
        return Json({"totalResults": 1, "Resources": [{"id": self.objects["me"]["gid"], "active": True}]})


def compact(thing: Object) -> Object:
    """An object as it stands in lists and in other objects."""
    return {name: thing[name] for name in ("gid", "resource_type", "name")}


def selected(request: Request, thing: Object, default: Object) -> Object:
    """The gid and the ``opt_fields`` of an object; of a dotted path its first name counts."""
    paths = request.query_params.get("opt_fields")
    if not paths:
        return default
    return {name: thing[name] for name in ("gid", *re.findall(r"(?:^|,)(\w+)", paths)) if name in thing}


def page(request: Request, things: list[Object]) -> Object:
    """The list, or with ``limit`` as much of it as follows ``offset``, and where the next page begins."""
    limit, offset = request.query_params.get("limit"), request.query_params.get("offset", "")
    if limit is not None and not re.fullmatch("[1-9][0-9]?|100", limit):
        raise ApiError(400, "limit: Must be a number from 1 to 100")
    try:
        last = int(urlsafe_b64decode(offset) or 0)
    except ValueError:
        raise ApiError(400, "offset: Your pagination token is invalid.") from None
    rest = [thing for thing in things if int(thing["gid"]) > last]
    shown = rest[: int(limit)] if limit else rest
    content: Object = {"data": [selected(request, thing, compact(thing)) for thing in shown]}
    if limit:
        content["next_page"] = None
        if len(rest) > len(shown):
            token = urlsafe_b64encode(shown[-1]["gid"].encode()).decode()
            url = request.url.include_query_params(offset=token)
            path = url.path.removeprefix("/api/1.0")
            content["next_page"] = {"offset": token, "path": f"{path}?{url.query}", "uri": str(url)}
    return content
