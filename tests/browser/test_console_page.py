"""The console in a real Chromium: composed, run, looked at, copied and shared as a person does it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from ast import literal_eval
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import anyio
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, Response, expect
from starlette.applications import Starlette
from starlette.requests import Request as HostRequest
from starlette.responses import HTMLResponse, JSONResponse
from starlette.responses import Response as HostResponse
from starlette.routing import Mount, Route

from batchkit import Batch, BatchEndpoint, TooManyRequests
from tests.servers import serving

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


async def echo(request: HostRequest) -> HostResponse:
    """What arrived of the request."""
    body = (await request.body()).decode()
    content = {"query": str(request.query_params), "body": body, "authorization": request.headers.get("authorization")}
    return JSONResponse({"data": content | dict(request.path_params)})


class Meeting:
    """Two requests that wait for each other: neither can end before both have begun."""

    def __init__(self) -> None:
        self.there = 0
        self.complete = anyio.Event()

    async def __call__(self, request: HostRequest) -> HostResponse:
        self.there += 1
        if self.there % 2 == 0:
            self.complete.set()
            self.complete = anyio.Event()
        else:
            await self.complete.wait()
        await anyio.sleep(0.02)
        return JSONResponse({"data": "met"})


async def created(request: HostRequest) -> HostResponse:
    return JSONResponse({"data": {"number": 0}}, 201, {"location": "/api/tasks/1"})


async def fails(request: HostRequest) -> HostResponse:
    raise ValueError("secret")


async def hostile(request: HostRequest) -> HostResponse:
    return HTMLResponse(HOSTILE) if request.path_params["kind"] == "html" else JSONResponse({HOSTILE: HOSTILE})


async def spelled(request: HostRequest) -> HostResponse:
    return HostResponse(b'{"big":12345678901234567890,"one":1.00,"none":[],"list":[true,{}]}', media_type="application/json")


async def binary(request: HostRequest) -> HostResponse:
    return HostResponse(bytes(range(256)), media_type="image/png")


async def big(request: HostRequest) -> HostResponse:
    return JSONResponse({"data": [{"gid": str(number), "name": "x" * 80} for number in range(1000)]})


async def forever(request: HostRequest) -> HostResponse:
    await anyio.sleep_forever()
    raise AssertionError


def host(**keywords: Any) -> Starlette:
    routes = [
        Route("/echo", echo, methods=["GET", "POST"]),
        Route("/tasks", created, methods=["POST"]),
        Route("/tasks/{gid}", echo, methods=["GET", "DELETE"]),
        Route("/files/{file:path}", echo),
        Route("/meet", Meeting().__call__),
        Route("/fails", fails),
        Route("/hostile/{kind}", hostile),
        Route("/spelled", spelled),
        Route("/binary", binary),
        Route("/big", big),
        Route("/forever", forever),
        Route("/closed", echo),
    ]
    app = Starlette(routes=[Mount("/api", routes=routes)])
    settings = {"policy": "all", "exclude": ["/api/closed"], "console": True, **keywords}
    return BatchEndpoint(**settings).mount_to(app, "/api/batch")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a batch endpoint with a console."""
    with serving(host()) as server:
        yield f"{server}/api/batch"


Open = Callable[..., Page]

# What Chromium says of any answer of 400 and above, and of a server that is gone: no fault of the page.
NETWORK = "Failed to load resource:"


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens pages in fresh profiles; in the end nothing may stand in their consoles, nothing of the security policy either."""
    complaints: list[str] = []
    contexts = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(NETWORK):
            complaints.append(message.text)

    def opened(url: str, **options: Any) -> Page:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(open_page: Open, url: str) -> Page:
    """The console, just opened."""
    return open_page(url)


def act(page: Page, number: int) -> Locator:
    """The card of an action, from 1."""
    return page.get_by_role("group", name=f"Action {number}", exact=True)


def compose(page: Page, *actions: tuple[str, ...]) -> None:
    """Make the batch these actions: method, path, data and options."""
    while act(page, 1).count():
        act(page, 1).get_by_role("button", name="Remove").click()
    for number, (method, path, *texts) in enumerate(actions, 1):
        page.get_by_role("button", name="Add action").click()
        act(page, number).get_by_label("Method").select_option(method)
        act(page, number).get_by_label("Path").fill(path)
        for name, text in zip(("data", "options"), texts, strict=False):
            act(page, number).get_by_label(name).fill(text)


def run_button(page: Page) -> Locator:
    return page.get_by_role("button", name=re.compile("^Run"))


def run(page: Page) -> Response:
    """Run the batch; gives its answer."""
    with page.expect_response(lambda response: response.request.method == "POST") as answer:
        run_button(page).click()
    return answer.value


def results(page: Page) -> Locator:
    return page.get_by_role("article")


def told(page: Page, pattern: str) -> None:
    """A screen reader is told this."""
    expect(page.get_by_role("status")).to_have_text(re.compile(pattern))


# Compose and run


def test_compose_run_and_see_each_result_in_its_place(page: Page) -> None:
    compose(
        page,
        ("GET", "/echo", '{"q": "bean"}', '{"limit": 2}'),
        ("POST", "/tasks", '{"name": "Water"}'),
        ("GET", "/fails"),
        ("GET", "/closed"),
    )
    answer = run(page)
    assert json.loads(answer.request.post_data or "") == {
        "data": {
            "actions": [
                {"method": "get", "relative_path": "/echo", "data": {"q": "bean"}, "options": {"limit": 2}},
                {"method": "post", "relative_path": "/tasks", "data": {"name": "Water"}},
                {"method": "get", "relative_path": "/fails"},
                {"method": "get", "relative_path": "/closed"},
            ]
        }
    }
    expect(results(page)).to_have_count(4)
    headings = results(page).get_by_role("heading")
    expect(headings).to_have_text(
        [
            "Result 1 200 OK GET /echo",
            "Result 2 201 Created POST /tasks",
            "Result 3 500 Internal Server Error GET /fails",
            "Result 4 400 Bad Request GET /closed",
        ]
    )
    expect(results(page).nth(0)).to_contain_text('"query": "q=bean&limit=2"')
    expect(results(page).nth(1)).to_contain_text("location: /api/tasks/1")
    expect(results(page).nth(1)).to_contain_text('{\n  "data": {\n    "number": 0\n  }\n}', use_inner_text=True)
    expect(results(page).nth(3)).to_contain_text("cannot be used in a batch request")
    expect(page.get_by_role("region", name="Answer", exact=True)).to_contain_text("2 of 4 actions succeeded")
    told(page, "^2 of 4 actions succeeded")


def test_a_body_is_shown_as_the_handler_wrote_it_and_binary_as_what_it_is(page: Page) -> None:
    compose(page, ("GET", "/spelled"), ("GET", "/binary"), ("HEAD", "/echo"))
    run(page)
    expect(results(page)).to_have_count(3)
    expect(results(page).nth(0)).to_contain_text(
        '{\n  "big": 12345678901234567890,\n  "one": 1.00,\n  "none": [],\n  "list": [\n    true,\n    {}\n  ]\n}',
        use_inner_text=True,
    )
    expect(results(page).nth(1)).to_contain_text("content-type: image/png")
    expect(results(page).nth(1)).to_contain_text("Binary, 256 B; in base64:")
    expect(results(page).nth(2)).to_contain_text("{}")


def test_the_page_starts_with_reads_that_can_be_run_at_once(page: Page) -> None:
    for number, path in enumerate(["/echo", "/meet", "/fails"], 1):
        expect(act(page, number).get_by_label("Path")).to_have_value(path)
    expect(page.get_by_text("Up to 10 requests in one")).to_be_visible()
    expect(page.get_by_text("3 of 10 actions")).to_be_visible()


def test_a_path_is_completed_from_the_routes_and_its_parameters_filled_in(page: Page) -> None:
    compose(page, ("GET", ""))
    path = act(page, 1).get_by_label("Path")
    path.press_sequentially("del ta")
    expect(page.get_by_role("listbox").get_by_role("option")).to_have_text(["DELETE/tasks/{gid}"])
    path.press("ArrowDown")
    expect(page.get_by_role("listbox").get_by_role("option", selected=True)).to_have_text("DELETE/tasks/{gid}")
    path.press("Enter")
    expect(act(page, 1).get_by_label("Method")).to_have_value("DELETE")
    gid = act(page, 1).get_by_label("gid")
    expect(gid).to_be_focused()
    gid.fill("a/b ü?")
    act(page, 1).get_by_role("button", name="Duplicate").click()
    act(page, 2).get_by_label("Path").fill("")
    expect(page.get_by_role("listbox").get_by_role("option", name="/closed")).to_have_count(0)
    page.get_by_role("listbox").get_by_role("option", name="GET /files/{file:path}").click()
    act(page, 2).get_by_label("file").fill("a b/c")
    posted = json.loads(run(page).request.post_data or "")["data"]["actions"]
    assert [entry["relative_path"] for entry in posted] == ["/tasks/a%2Fb%20%C3%BC%3F", "/files/a%20b/c"]
    expect(results(page).nth(1)).to_contain_text('"file": "a b/c"')


def test_what_no_server_could_read_is_said_in_place_and_not_sent(page: Page) -> None:
    compose(page, ("GET", "/tasks/{gid}"), ("POST", "/echo", '{"a": 1,}', "[]"), ("GET", ""))
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    run_button(page).click()
    told(page, "^Not run: 4 fields need your attention")
    expect(act(page, 1).get_by_label("gid")).to_be_focused()
    for number, label, words in [
        (1, "gid", "Fill in gid"),
        (2, "data", "line 1 column 9"),
        (2, "options", "Give an object"),
        (3, "Path", "Give a path"),
    ]:
        field = act(page, number).get_by_label(label)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile(words))
    act(page, 2).get_by_label("data").fill('{"a": 1}')
    expect(act(page, 2).get_by_label("data")).not_to_have_attribute("aria-invalid", "true")
    assert sent == []


def test_actions_are_added_duplicated_reordered_and_removed_up_to_the_limit(open_page: Open) -> None:
    with serving(host(max_actions=3)) as server:
        page = open_page(f"{server}/api/batch")
        compose(page, ("GET", "/a"), ("GET", "/b"))
        act(page, 1).get_by_role("button", name="Duplicate").click()
        paths = page.get_by_label("Path")
        assert [path.input_value() for path in paths.all()] == ["/a", "/a", "/b"]
        expect(page.get_by_text("3 of 3 actions")).to_be_visible()
        expect(page.get_by_role("button", name="Add action")).to_be_disabled()
        expect(page.get_by_text("as many as one batch takes")).to_be_visible()
        act(page, 3).get_by_role("button", name="Move up").click()
        told(page, "^Now action 2$")
        assert [path.input_value() for path in paths.all()] == ["/a", "/b", "/a"]
        expect(act(page, 2).get_by_role("button", name="Move up")).to_be_focused()
        act(page, 1).get_by_role("button", name="Remove").click()
        assert [path.input_value() for path in paths.all()] == ["/b", "/a"]
        expect(act(page, 1).get_by_role("button", name="Remove")).to_be_focused()
        expect(page.get_by_role("button", name="Add action")).to_be_enabled()
        page.close()


def test_waiting_can_be_stopped(page: Page) -> None:
    compose(page, ("GET", "/forever"))
    run_button(page).click()
    page.get_by_role("button", name="Stop waiting").click()
    expect(page.get_by_role("region", name="The whole batch")).to_contain_text("run to their end on the server")
    expect(run_button(page)).to_be_visible()


# The timeline


def test_the_bars_of_concurrent_actions_overlap_and_match_the_field(page: Page) -> None:
    compose(page, ("GET", "/meet"), ("GET", "/closed"), ("GET", "/meet"))
    field = run(page).headers["server-timing"]
    spans = {
        int(index): (float(start), float(start) + float(took))
        for index, start, took in re.findall(r"a(\d);start=([\d.]+);dur=([\d.]+)", field)
    }
    # What a guard refuses goes through the host like all else.
    assert list(spans) == [0, 1, 2]
    lanes = page.get_by_role("region", name="Timeline").get_by_role("listitem")
    expect(lanes).to_have_count(3)
    end = max(end for _, end in spans.values())
    drawn = {}
    for index in (0, 2):
        span = spans[index]
        bar, track = lanes.nth(index).locator(".bar").bounding_box(), lanes.nth(index).locator(".track").bounding_box()
        assert bar is not None
        assert track is not None
        drawn[index] = (bar["x"], bar["x"] + bar["width"])
        for edge, time in zip(drawn[index], span, strict=True):
            assert edge == pytest.approx(track["x"] + track["width"] * time / end, abs=1.5)
        [took] = re.findall(r"took ([\d.]+) ms", lanes.nth(index).inner_text())
        assert float(took) == pytest.approx(span[1] - span[0], abs=0.6)
    assert drawn[0][0] < drawn[2][1]
    assert drawn[2][0] < drawn[0][1]
    expect(lanes.nth(1).locator(".bar")).to_have_count(1)
    expect(page.get_by_text("slowest", exact=True)).to_have_count(1)
    expect(page.get_by_text("× faster")).to_be_visible()


def test_a_lane_leads_to_its_result(page: Page) -> None:
    compose(page, ("GET", "/big"), ("GET", "/big"), ("GET", "/echo"))
    run(page)
    page.get_by_role("button", name="Action 3: GET /echo: 200").click()
    expect(page.get_by_role("heading", name="Result 3")).to_be_focused()
    expect(page.get_by_role("heading", name="Result 3")).to_be_in_viewport()


def test_without_the_field_there_is_no_timeline_and_the_page_says_so(open_page: Open) -> None:
    with serving(host(server_timing=False)) as server:
        page = open_page(f"{server}/api/batch")
        compose(page, ("GET", "/echo"))
        run(page)
        expect(results(page)).to_have_count(1)
        expect(page.get_by_text("No timeline: the answer has no Server-Timing field")).to_be_visible()
        page.close()


# The batch as a whole


async def refuse(batch: Batch) -> None:
    raise TooManyRequests(f"searches: asked for {batch.cost}, 1 left", retry_after=5)


def test_a_429_is_shown_with_its_wait(open_page: Open) -> None:
    with serving(host(cost_hook=refuse, help="See the limits")) as server:
        page = open_page(f"{server}/api/batch")
        page.clock.install()
        compose(page, ("GET", "/echo"), ("GET", "/echo"))
        assert run(page).status == 429
        whole = page.get_by_role("region", name="The whole batch")
        for words in (
            "429 Too Many Requests",
            "searches: asked for 2, 1 left",
            "See the limits",
            "Nothing ran, and nothing was charged",
        ):
            expect(whole).to_contain_text(words)
        expect(whole).to_contain_text("Run it again in 5 s.")
        page.clock.run_for(3000)
        expect(whole).to_contain_text("Run it again in 2 s.")
        page.clock.run_for(2500)
        expect(whole).to_contain_text("You can run it again now.")
        told(page, "You can run it again now")
        expect(results(page)).to_have_count(0)
        page.close()


def test_a_413_is_shown_with_what_to_do(open_page: Open) -> None:
    with serving(host(max_body_size=200)) as server:
        page = open_page(f"{server}/api/batch")
        compose(page, ("POST", "/echo", json.dumps({"text": "x" * 300})))
        assert run(page).status == 413
        whole = page.get_by_role("region", name="The whole batch")
        expect(whole).to_contain_text("The request body is larger than 200 bytes")
        expect(whole).to_contain_text("take out actions, or send less data")
        page.close()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, '{"errors":[{"message":"Missing input"}]}', ["Missing input", "put right what it names"]),
        (401, '{"errors":[{"message":"Not Authorized"}]}', ["401 Unauthorized", "Not Authorized", "Fill in Authorization"]),
        (403, "", ["403 Forbidden", "may not use the batch endpoint"]),
        (429, "slow down", ["slow down", "did not say when"]),
        (500, HOSTILE, [HOSTILE, "Whether anything ran is not known"]),
        (503, '{"errors":[{"message":"The rate limiter is unavailable."}]}', ["rate limiter is unavailable", "run again later"]),
        (200, "<h1>Sign in</h1>", ["<h1>Sign in</h1>", "did not come back with results"]),
        (200, '{"data":[', ["did not come back with results"]),
        (200, '{"data":[]}', ["did not come back with results"]),
    ],
)
def test_what_the_server_or_a_proxy_says_of_the_whole_batch(page: Page, status: int, body: str, words: Sequence[str]) -> None:
    page.route("**/batch", lambda route: route.fulfill(status=status, body=body))
    run(page)
    for word in words:
        expect(page.get_by_role("region", name="The whole batch")).to_contain_text(word)


def test_a_retry_after_may_be_a_date(page: Page) -> None:
    page.clock.install(time="2026-11-22T12:00:00Z")
    fields = {"retry-after": "Sun, 22 Nov 2026 12:01:00 GMT"}
    page.route("**/batch", lambda route: route.fulfill(status=429, headers=fields, body=""))
    run(page)
    expect(page.get_by_role("region", name="The whole batch")).to_contain_text(re.compile("Run it again in (60|5[0-9]) s"))


def test_a_server_out_of_reach_and_a_redirect(open_page: Open) -> None:
    with serving(host()) as server:
        page = open_page(f"{server}/api/batch")
        page.route("**/batch", lambda route: route.fulfill(status=302, headers={"location": "/login"}))
        run_button(page).click()
        expect(page.get_by_role("region", name="The whole batch")).to_contain_text("to a login perhaps")
        page.unroute("**/batch")
    run_button(page).click()
    expect(page.get_by_role("region", name="The whole batch")).to_contain_text("The server could not be reached")
    page.close()


# Copy and share

AWKWARD: dict[str, Any] = {"q": 'it\'s $HOME `id` $(id) "x" \\ \n % ! ü 😀 \u2028', "</script>": None, "on": True, "list": []}
SPELLED = '{"big": 12345678901234567890, "text": "\\ud83d\\ude00 \\/"}'


def copied(page: Page, name: str) -> str:
    """What the button puts onto the clipboard, and shows."""
    page.get_by_role("button", name=name, exact=True).click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    text: str = page.evaluate("navigator.clipboard.readText()")
    expect(page.locator("#snippet-text")).to_have_text(text, use_inner_text=True)
    return text


@pytest.fixture
def awkward(page: Page) -> Page:
    """A batch that is hard to quote, with a token."""
    compose(page, ("POST", "/echo", json.dumps(AWKWARD)), ("POST", "/echo", SPELLED), ("GET", "/it's"))
    page.get_by_label("Authorization stays").fill("s3cret-token")
    return page


def bodies(results: Any) -> list[str]:
    """What the echoing handler has got."""
    return [result["body"]["data"]["body"] for result in results[:2]]


def test_the_curl_line_sends_just_what_run_sends(awkward: Page) -> None:
    line = copied(awkward, "curl")
    assert "s3cret" not in line
    # -q and --noproxy: a .curlrc or a proxy of this machine's is no business of this test's.
    line = line.replace("curl ", "curl -q -sS --noproxy '*' ", 1)
    environment = os.environ | {"TOKEN": "s3cret-token"}
    output = subprocess.run(["bash", "-c", line], capture_output=True, check=True, env=environment).stdout
    by_curl = json.loads(output)["data"]
    by_page = run(awkward).json()["data"]
    assert by_curl == by_page
    assert json.loads(bodies(by_curl)[0]) == {"data": AWKWARD}
    assert bodies(by_curl)[1] == '{"data":{"big":12345678901234567890,"text":"\\ud83d\\ude00 \\/"}}'
    assert by_curl[0]["body"]["data"]["authorization"] == "Bearer s3cret-token"


def test_the_python_program_is_the_official_clients(awkward: Page) -> None:
    program = copied(awkward, "Python")
    assert "asana.BatchAPIApi" in program
    assert "s3cret" not in program
    assert statuses_and_bodies(program) == [(200, AWKWARD), (200, json.loads(SPELLED)), (404, None)]


def test_the_python_program_for_another_api(open_page: Open) -> None:
    with serving(host(dialect="plain")) as server:
        page = open_page(f"{server}/api/batch")
        compose(page, ("POST", "/echo", json.dumps(AWKWARD)))
        page.get_by_label("Authorization stays").fill("Basic s3cret-token")
        program = copied(page, "Python")
        assert "urllib" in program
        assert "s3cret" not in program
        [(status, body)] = statuses_and_bodies(program, plain=True)
        assert (status, body) == (200, AWKWARD)
        page.close()


def statuses_and_bodies(program: str, *, plain: bool = False) -> list[tuple[int, Any]]:
    """What the program prints when it runs in a Python of its own: each status, and the data that its handler got."""
    environment = os.environ | {"TOKEN": "s3cret-token", "PYTHONUTF8": "1", "NO_PROXY": "*"}
    command = [sys.executable, "-W", "ignore", "-c", program]
    output = subprocess.run(command, capture_output=True, check=True, text=True, env=environment).stdout
    told = []
    for line in output.splitlines():
        status, _, printed = line.partition(" ")
        if status != "200":
            told.append((int(status), None))
            continue
        body = literal_eval(printed)
        assert body["data"]["authorization"] == ("Basic s3cret-token" if plain else "Bearer s3cret-token")
        got = json.loads(body["data"]["body"])
        told.append((int(status), got if plain else got["data"]))
    return told


def test_the_fetch_call_runs_in_a_browser(awkward: Page) -> None:
    call = copied(awkward, "fetch")
    assert "s3cret" not in call
    assert "$TOKEN" not in call
    by_fetch = awkward.evaluate(f"async () => {{ {call}; return results; }}")
    assert json.loads(bodies(by_fetch)[0]) == {"data": AWKWARD}
    # Beyond what a JavaScript number can hold.
    assert "12345678901234567890" in bodies(by_fetch)[1]


def test_where_the_browser_does_not_let_it_copy_the_text_is_there_to_select(page: Page) -> None:
    # So it is on a page that came over plain HTTP from another machine.
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="curl").click()
    expect(page.get_by_text("Select and copy by hand:")).to_be_visible()
    expect(page.locator("#snippet-text")).to_contain_text("curl -g 'http://127.0.0.1")


def fragment(actions: Any) -> str:
    return urlsafe_b64encode(json.dumps({"actions": actions}).encode()).decode().rstrip("=")


def test_a_batch_is_shared_by_a_link_without_its_token_and_does_not_run_by_itself(awkward: Page, open_page: Open) -> None:
    link = copied(awkward, "link")
    assert link == awkward.url
    shared = link.partition("#")[2]
    assert "s3cret" not in urlsafe_b64decode(shared + "=" * (-len(shared) % 4)).decode()
    sent: list[str] = []
    page = open_page("about:blank")
    page.on("request", lambda request: sent.append(request.method))
    page.goto(link)
    expect(page.get_by_role("note")).to_have_text("This batch came with the link. Look at it before you run it.")
    expect(act(page, 2).get_by_label("data")).to_have_value(SPELLED)
    expect(act(page, 3).get_by_label("Path")).to_have_value("/it's")
    expect(page.get_by_label("Authorization stays")).to_have_value("")
    assert sent == ["GET"]
    assert run(page).request.post_data == run(awkward).request.post_data


@pytest.mark.parametrize(
    "shared",
    [
        *("%%%", "bm9uZQ", fragment([{"method": "<b>", "path": "/"}]), fragment([{"method": "GET", "path": "/"}] * 11)),
        fragment([{"method": "GET", "path": "/{a}".ljust(2001, "/")}]),
    ],
)
def test_a_link_that_holds_no_batch_is_said_to(open_page: Open, url: str, shared: str) -> None:
    page = open_page(f"{url}#{shared}")
    expect(page.get_by_role("note")).to_have_text("The link holds no batch that this server could take.")
    expect(act(page, 1)).to_be_visible()


# Whoever uses it


def tab_to(page: Page, target: Locator, key: str = "Tab") -> None:
    """Go there by the keyboard, as far as it takes; what has the focus can be seen to have it."""
    for _ in range(200):
        if target.evaluate("element => element === document.activeElement"):
            assert target.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
            return
        page.keyboard.press(key)
    raise AssertionError(f"{target} cannot be reached by {key}")


def test_by_the_keyboard_alone(page: Page) -> None:
    keyboard = page.keyboard
    tab_to(page, act(page, 1).get_by_role("button", name="Remove"))
    keyboard.press("Enter")
    keyboard.press("Enter")
    keyboard.press("Enter")
    expect(page.get_by_role("button", name="Add action")).to_be_focused()
    keyboard.press("Enter")
    keyboard.type("post tasks")
    keyboard.press("ArrowDown")
    keyboard.press("Enter")
    tab_to(page, act(page, 1).get_by_label("data"))
    keyboard.type('{"name": "Water"}')
    tab_to(page, page.get_by_role("button", name="Add action"))
    keyboard.press("Space")
    keyboard.type("/tasks/{gid}")
    keyboard.press("Escape")
    expect(page.get_by_role("listbox")).to_have_count(0)
    tab_to(page, act(page, 2).get_by_label("gid"))
    keyboard.type("7")
    keyboard.press("Alt+ArrowUp")
    expect(act(page, 1).get_by_label("gid")).to_be_focused()
    keyboard.press("Control+Enter")
    expect(results(page)).to_have_count(2)
    expect(results(page).nth(0)).to_contain_text('"gid": "7"')
    expect(results(page).nth(1)).to_contain_text("201 Created")
    tab_to(page, page.get_by_role("button", name="Action 2: POST /tasks: 201"))
    keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Result 2")).to_be_focused()
    tab_to(page, page.get_by_role("button", name="curl"), "Shift+Tab")
    keyboard.press("Enter")
    expect(page.get_by_text("Copied.")).to_be_visible()


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing(open_page: Open, url: str, theme: str, width: int) -> None:
    page = open_page(url, color_scheme=theme, viewport={"width": width, "height": 900}, bypass_csp=True)
    axe = Axe()

    def check() -> None:
        found = axe.run(page)
        assert found.violations_count == 0, found.generate_report()

    check()
    compose(
        page,
        ("GET", "/meet"),
        ("GET", "/meet"),
        ("POST", "/tasks"),
        ("GET", "/fails"),
        ("GET", "/closed"),
        ("GET", "/big"),
        ("GET", ""),
    )
    check()
    run_button(page).click()
    told(page, "^Not run")
    check()
    act(page, 7).get_by_label("Path").fill("/files/{file:path}")
    act(page, 7).get_by_label("file").fill("a")
    run_button(page).click()
    expect(results(page)).to_have_count(7)
    page.get_by_role("button", name="Python").click()
    check()
    page.route(
        "**/batch", lambda route: route.fulfill(status=429, headers={"retry-after": "9"}, body='{"errors":[{"message":"Wait"}]}')
    )
    run_button(page).click()
    expect(page.get_by_role("region", name="The whole batch")).to_be_visible()
    check()


def test_the_theme_is_the_systems_until_it_is_switched(open_page: Open, url: str) -> None:
    page = open_page(url, color_scheme="dark")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_role("button", name="Switch to the light theme").click()
    light = page.evaluate(background)
    assert dark != light
    page.get_by_role("button", name="Switch to the dark theme").click()
    assert page.evaluate(background) == dark


# Whoever means ill


def test_a_hostile_result_is_text(page: Page) -> None:
    compose(page, ("GET", "/hostile/html"), ("GET", "/hostile/json"), ("GET", f"/{HOSTILE.replace('?', '')}"))
    run(page)
    expect(results(page)).to_have_count(3)
    expect(results(page).nth(0)).to_contain_text(HOSTILE)
    expect(results(page).nth(1)).to_contain_text(json.dumps(HOSTILE))
    expect(page.locator("img")).to_have_count(0)
    expect(page.locator("script")).to_have_count(2)
    assert page.title() == "/api/batch · batchkit"


def test_the_policy_refuses_markup_whatever_the_page_does(browser: Browser, url: str) -> None:
    page = browser.new_page()
    page.goto(url)
    with pytest.raises(Error, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")


def test_it_cannot_be_framed(browser: Browser, url: str) -> None:
    async def frame(request: HostRequest) -> HostResponse:
        return HTMLResponse(f'<iframe src="{url}"></iframe>')

    with serving(Starlette(routes=[Route("/", frame)])) as elsewhere:
        page = browser.new_page()
        page.goto(elsewhere)
        assert page.frames[1].url.startswith("chrome-error:")
        page.close()


def test_it_stores_nothing_and_sends_nothing_elsewhere(page: Page, url: str) -> None:
    sent: list[tuple[str, str]] = []
    page.on("request", lambda request: sent.append((request.method, request.url)))
    page.get_by_label("Authorization stays").fill("s3cret-token")
    page.reload()
    expect(page.get_by_label("Authorization stays")).to_have_value("")
    page.get_by_label("Authorization stays").fill("s3cret-token")
    compose(page, ("GET", "/echo"))
    answer = run(page)
    expect(results(page)).to_contain_text("Bearer s3cret-token")
    assert answer.request.headers["authorization"] == "Bearer s3cret-token"
    stored = page.evaluate(
        """async () => [localStorage.length, sessionStorage.length, document.cookie, history.state, location.hash,
        (await indexedDB.databases()).length, (await caches.keys()).length]"""
    )
    assert stored == [0, 0, "", None, "", 0, 0]
    assert sent == [("GET", url), ("POST", url)]


# Large batches


def test_two_hundred_results_of_100_kb_are_shown_by_and_by(open_page: Open) -> None:
    with serving(host(max_actions=200)) as server:
        page = open_page(f"{server}/api/batch#{fragment([{'method': 'GET', 'path': '/big'}] * 200)}")
        # How many results come with each turn of the page: between turns it draws, and answers to the person.
        page.evaluate(
            """() => {
                window.turns = [];
                new MutationObserver((records) => {
                    const added = records.flatMap((record) => [...record.addedNodes]);
                    const results = added.filter((node) => node.querySelector?.(":scope > article"));
                    if (results.length > 0) turns.push(results.length);
                }).observe(document.querySelector("#answer"), { childList: true, subtree: true });
            }"""
        )
        answer = run(page)
        page.get_by_role("button", name="Switch to").click()
        expect(results(page)).to_have_count(200)
        assert int(answer.headers["content-length"]) > 200 * 100_000
        turns = page.evaluate("turns")
        assert sum(turns) == 200
        assert max(turns) <= 10
        shown = page.evaluate("document.querySelector('#answer').textContent.length")
        assert shown < 200 * 4000
        # More on demand, in steps.
        last = results(page).nth(199)
        last.get_by_role("button", name="Show more of this body, 10").click()
        step = page.evaluate("document.querySelector('#answer').textContent.length") - shown
        assert 10_000 < step < 30_000
        while last.get_by_role("button").count():
            last.get_by_role("button").click()
        expect(last).to_contain_text('"gid": "999"')
        page.close()
