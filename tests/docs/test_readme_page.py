"""The README's page runs in a real Chromium: in a module of its own, as no event loop runs beside Playwright's."""

from __future__ import annotations

from playwright.sync_api import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from batchkit import BatchEndpoint, batchable
from tests.docs.test_readme import blocks
from tests.servers import serving


@batchable
async def get_task(request: Request) -> JSONResponse:
    return JSONResponse({"data": {"gid": request.path_params["gid"]}})


async def show(request: Request) -> HTMLResponse:
    [html] = blocks("html")
    return HTMLResponse(html.replace("</script>", "window.statuses = tasks.map(({ status }) => status);</script>"))


def test_thirty_calls_are_three_requests(browser: Browser) -> None:
    app = Starlette(routes=[Route("/tasks/{gid}", get_task), Route("/", show)])
    BatchEndpoint(client_js=True).mount_to(app)
    with serving(app) as url, browser.new_page() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.removeprefix(url)))
        page.goto(url)
        assert page.wait_for_function("window.statuses").json_value() == [200] * 30
        assert asked.count("/batch") == 3
        assert not [path for path in asked if path.startswith("/tasks/")]
