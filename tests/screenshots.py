"""Pictures of the console, in both themes, as they stand in the README: ``python -m tests.screenshots``.

A small host in Asana's shape, with handlers that wait as real ones do for their database.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import anyio
from PIL import Image
from playwright.sync_api import Browser, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from batchkit import BatchEndpoint
from tests.chromium import browsing
from tests.servers import serving

PICTURES = Path(__file__).parent.parent / ".github"
ColorScheme = Literal["light", "dark"]
THEMES: tuple[ColorScheme, ...] = ("light", "dark")

ADA = {"gid": "1001", "resource_type": "user", "name": "Ada Lovelace", "email": "ada@example.com"}


async def user(request: Request) -> Response:
    await anyio.sleep(0.024)
    return JSONResponse({"data": ADA})


async def projects(request: Request) -> Response:
    await anyio.sleep(0.061)
    return JSONResponse({"data": [{"gid": "1002", "name": "Launch"}, {"gid": "1007", "name": "Garden"}]})


async def tasks(request: Request) -> Response:
    if request.method == "POST":
        await anyio.sleep(0.088)
        task = (await request.json())["data"] | {"gid": "1012", "completed": False}
        return JSONResponse({"data": task}, 201, {"location": "/api/1.0/tasks/1012"})
    await anyio.sleep(0.203)
    return JSONResponse({"data": [{"gid": "1003", "name": "Write the announcement"}]})


async def task(request: Request) -> Response:
    await anyio.sleep(0.037)
    message = f"task: Not a recognized ID: {request.path_params['gid']}"
    return JSONResponse({"errors": [{"message": message}]}, 404)


def host() -> Starlette:
    """A task tracker, slow enough to be seen at work."""
    routes = [
        Route("/users/{gid}", user),
        Route("/projects", projects),
        Route("/tasks", tasks, methods=["GET", "POST"]),
        Route("/tasks/{gid}", task, methods=["GET", "PUT", "DELETE"]),
        Route("/attachments", tasks, methods=["POST"]),
    ]
    app = Starlette(routes=[Mount("/api/1.0", routes=routes)])
    endpoint = BatchEndpoint(policy="all", exclude=["POST /api/1.0/attachments"], console=True)
    return endpoint.mount_to(app, "/api/1.0/batch")


ACTIONS = [
    ("GET", "/users/me", ""),
    ("GET", "/projects", ""),
    ("GET", "/tasks", '{"project": "1002"}'),
    ("POST", "/tasks", '{"name": "Water the beans"}'),
    ("GET", "/tasks/42", ""),
    ("POST", "/attachments", ""),
]


def picture(browser: Browser, url: str, theme: ColorScheme) -> bytes:
    """The page after a run, as a PNG."""
    page = browser.new_page(color_scheme=theme, viewport={"width": 1280, "height": 1010}, reduced_motion="reduce")
    page.goto(f"{url}/api/1.0/batch")
    actions = page.get_by_role("group", name="Action")
    while actions.count() < len(ACTIONS):
        page.get_by_role("button", name="Add action").click()
    for index, (method, path, data) in enumerate(ACTIONS):
        action = actions.nth(index)
        action.get_by_label("Method").select_option(method)
        action.get_by_label("Path").fill(path)
        action.get_by_label("data").fill(data)
    page.get_by_role("button", name="Run").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_have_count(len(ACTIONS))
    page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
    return page.screenshot()


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with serving(host()) as url, browsing() as browser:
        for theme in THEMES:
            image = Image.open(io.BytesIO(picture(browser, url, theme)))
            # Few colours make the file small, and none is missed in flat areas and text.
            path = PICTURES / f"console-{theme}.png"
            image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
            print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
