"""The browser's module in a real Chromium, on a page of the example app's own origin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint
from batchkit.client_js import client_version
from example_app.demo_data import TOKEN
from tests.trackers import Tracker, serving_tracker

# What Chromium says of any answer of 400 and above to a request of its own.
NETWORK = "Failed to load resource:"

PAGE = f"""<!doctype html><title>A page</title><link rel="icon" href="data:,">
<script type="module">
import {{ createBatchFetch }} from "/client?client.js={client_version()}";
const native = window.fetch;
const batched = createBatchFetch({{ url: "/api/1.0/batch" }});
const headers = {{ Authorization: "Bearer {TOKEN}" }};
window.ask = (fetch, paths, init) => paths.map((path) => fetch("/api/1.0" + path, {{ headers, ...init }}));
// Of the JSON's type the parameters are not told, UTF-8 for one.
const kind = (response) => response.headers.get("Content-Type").split(";")[0];
window.told = async (response) => [response.url, response.status, kind(response), await response.text()];
Object.assign(window, {{ native, batched }});
</script>"""

# Objects that are there, those of other kinds, and gids that nothing has.
PATHS = [f"/tasks/{gid}?opt_fields=name,assignee.name" for gid in range(1001, 1021)] + [
    *(f"/projects/{gid}" for gid in range(1001, 1008)),
    "/users/me",
    "/workspaces?limit=1",
    "/nowhere",
]


def with_page(app: ASGIApp) -> ASGIApp:
    """The app, and beside it, as none of it is for whom it does not know, a page and the module."""
    endpoint = BatchEndpoint(client_js=True, host=app)

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        beside: dict[str, ASGIApp] = {"/page": HTMLResponse(PAGE), "/client": endpoint}
        await beside.get(scope.get("path", ""), app)(scope, receive, send)

    return around


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Tracker]:
    with serving_tracker(f"sqlite:///{tmp_path}/tracker.db", tmp_path, around=with_page) as tracker:
        yield tracker


@pytest.fixture
def complaints() -> list[str]:
    """What stands in the page's console."""
    return []


@pytest.fixture
def page(browser: Browser, served: Tracker, complaints: list[str]) -> Iterator[Page]:
    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{message.text} {message.location}")

    context = browser.new_context()
    page = context.new_page()
    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(served.url.removesuffix("/api/1.0") + "/page")
    page.wait_for_function("'batched' in window")
    served.wire.seen.clear()
    yield page
    context.close()


def test_thirty_calls_at_once_are_three_requests_with_the_same_thirty_responses(
    page: Page, served: Tracker, complaints: list[str]
) -> None:
    """Issue 10: "30 plain `fetch` calls at once through the module …: 3 HTTP requests, the same 30 responses"."""
    script = "async ([name, paths]) => Promise.all((await Promise.all(ask(window[name], paths))).map(told))"
    through = page.evaluate(script, ["batched", PATHS])
    assert served.wire.seen == ["POST /api/1.0/batch"] * 3
    assert complaints == []
    served.wire.seen.clear()
    alone = page.evaluate(script, ["native", PATHS])
    assert len(served.wire.seen) == len(alone) == 30
    assert through == alone
    assert {status for _, status, *_ in alone} == {200, 403, 404}
    assert all(complaint.startswith(NETWORK) for complaint in complaints)


def test_aborted_calls_reject_as_fetchs_do_and_do_not_disturb_the_others(
    page: Page, served: Tracker, complaints: list[str]
) -> None:
    """Issue 10: "aborted calls reject as fetch's do and do not disturb the others; no console errors"."""
    held: list[Route] = []
    page.route("**/batch", lambda route: held.append(route))
    with page.expect_request("**/batch"):
        page.evaluate(
            """(paths) => {
                window.soon = new AbortController();
                window.later = new AbortController();
                const reason = new TypeError("of the page's own");
                window.calls = [
                    ...ask(batched, paths.slice(0, 3)),
                    ...ask(batched, paths.slice(3, 5), { signal: soon.signal }),
                    ...ask(batched, paths.slice(5, 7), { signal: later.signal }),
                    ...ask(batched, paths.slice(7, 8), { signal: AbortSignal.abort(reason) }),
                ];
                window.settled = Promise.allSettled(calls);
                soon.abort();
            }""",
            PATHS,
        )
    aborted = page.evaluate("(later.abort(), calls[6].catch((error) => [error instanceof DOMException, error.name]))")
    assert aborted == [True, "AbortError"]
    assert len(held) == 1
    held[0].continue_()
    ends = page.evaluate("settled.then((all) => all.map(({ value, reason }) => value ? value.status : reason.name))")
    assert ends == [404, 404, 404, *["AbortError"] * 4, "TypeError"]
    assert served.wire.seen == ["POST /api/1.0/batch"]
    assert complaints == []


def test_the_request_itself_is_aborted_where_nobody_waits_any_more(page: Page, served: Tracker, complaints: list[str]) -> None:
    page.route("**/batch", lambda route: None)
    with page.expect_request("**/batch"):
        page.evaluate(
            """(paths) => {
                window.controller = new AbortController();
                window.settled = Promise.allSettled(ask(batched, paths.slice(0, 4), { signal: controller.signal }));
            }""",
            PATHS,
        )
    with page.expect_event("requestfailed", lambda request: request.failure == "net::ERR_ABORTED"):
        page.evaluate("controller.abort()")
    assert page.evaluate("settled.then((all) => all.map(({ reason }) => reason.name))") == ["AbortError"] * 4
    assert served.wire.seen == []
    assert complaints == []


def test_a_network_that_fails_rejects_each_with_a_type_error_and_nothing_is_sent_again(page: Page, served: Tracker) -> None:
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(request))
    page.route("**/batch", lambda route: route.abort())
    names: list[str] = page.evaluate(
        "(paths) => Promise.allSettled(ask(batched, paths)).then((all) => all.map(({ reason }) => reason.name))", PATHS[:10]
    )
    assert names == ["TypeError"] * 10
    assert len(sent) == 1
    assert served.wire.seen == []


def test_a_hidden_page_does_not_wait_for_its_timers(page: Page, served: Tracker) -> None:
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true }); window.setTimeout = () => {}")
    assert page.evaluate("(paths) => Promise.all(ask(batched, paths)).then((all) => all.length)", PATHS[:5]) == 5
    assert served.wire.seen == ["POST /api/1.0/batch"]


def test_a_batch_that_is_not_sent_is_told_of_in_the_console(page: Page, complaints: list[str]) -> None:
    page.clock.install()
    page.evaluate(
        """async () => {
            const { createBatch } = await import("/client?client.js");
            window.unsent = createBatch({ url: "/api/1.0/batch" });
            unsent.fetch("/api/1.0/tasks/1001");
        }"""
    )
    page.clock.fast_forward(4_000)
    assert complaints == []
    page.clock.fast_forward(2_000)
    [complaint] = complaints
    assert complaint.startswith("A batch still waits for its send(), and so do its calls")


def test_a_get_of_the_module_under_its_hash_is_made_once(browser: Browser, served: Tracker) -> None:
    context = browser.new_context()
    page = context.new_page()
    url = served.url.removesuffix("/api/1.0") + "/page"
    for _ in range(2):
        page.goto(url)
        page.wait_for_function("'batched' in window")
    assert [line for line in served.wire.seen if "/client" in line] == ["GET /client"]
    context.close()
