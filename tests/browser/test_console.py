"""The console on the wire: who gets the page, what goes with it, and the field that its timeline is drawn from."""

from __future__ import annotations

import json
import re
import subprocess
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint, TooManyRequests, batchable, not_batchable
from tests.asgi import Answer, request
from tests.batches import action, batch, envelope, messages, post

pytestmark = pytest.mark.anyio

# What browsers send when a person opens a URL.
BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@batchable
async def task(request: Request) -> Response:
    return JSONResponse({"data": {"gid": request.path_params.get("gid")}})


@batchable
async def slow(request: Request) -> Response:
    await anyio.sleep(0.05)
    return Response()


async def unmarked(request: Request) -> Response:
    return Response()


@not_batchable
async def closed(request: Request) -> Response:
    return Response()


def host(**keywords: Any) -> Starlette:
    routes = [
        Route("/tasks", task, methods=["GET", "POST"]),
        Route("/tasks/{gid:int}", task),
        Route("/slow", slow),
        Route("/unmarked", unmarked),
        Route("/closed", closed),
    ]
    app = Starlette(routes=[Mount("/api", routes=routes), Route("/outside", slow)])
    return BatchEndpoint(**keywords).mount_to(app, "/api/batch")


async def get(
    app: ASGIApp, accept: bytes = BROWSER, *, method: str = "GET", path: str = "/api/batch", root_path: str = ""
) -> Answer:
    headers = [(b"host", b"testserver"), (b"accept", accept)]
    return await request(app, method, path, headers=headers, root_path=root_path)


def known(answer: Answer) -> Any:
    """What the page knows of the host."""
    assert answer.status == 200, answer.body
    [text] = re.findall(rb'<script type="application/json" id="known">(.*?)</script>', answer.body, re.DOTALL)
    return json.loads(text)


async def test_a_browser_gets_the_page_in_one_answer_under_60_kib() -> None:
    answer = await get(host(console=True))
    assert answer.status == 200
    assert answer.all(b"content-type") == [b"text/html; charset=utf-8"]
    assert answer.all(b"content-length") == [b"%d" % len(answer.body)]
    assert answer.all(b"cache-control") == [b"no-store"]
    assert answer.all(b"x-content-type-options") == [b"nosniff"]
    assert answer.all(b"x-frame-options") == [b"DENY"]
    assert answer.all(b"referrer-policy") == [b"no-referrer"]
    assert answer.all(b"vary") == [b"accept"]
    assert len(answer.body) < 60 * 1024
    # Nothing else is asked for: no address stands in it but the name of an XML namespace.
    assert set(re.findall(rb"https?://[\w.]+", answer.body)) == {b"http://www.w3.org"}


async def test_the_policy_lets_run_just_the_style_and_the_script_of_the_page() -> None:
    answer = await get(host(console=True))
    [style] = re.findall(r"<style>(.*?)</style>", answer.body.decode(), re.DOTALL)
    [script] = re.findall(r'<script type="module">(.*?)</script>', answer.body.decode(), re.DOTALL)
    hashes = [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in (script, style)]
    [policy] = answer.all(b"content-security-policy")
    assert policy.decode().split("; ") == [
        "default-src 'none'",
        f"script-src {hashes[0]}",
        f"style-src {hashes[1]}",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]


async def test_a_head_gets_what_goes_with_the_page() -> None:
    app = host(console=True)
    head, whole = await get(app, method="HEAD"), await get(app)
    assert (head.status, head.headers, head.body) == (200, whole.headers, b"")


@pytest.mark.parametrize(
    "accept",
    [
        b"application/json",
        b"",
        b"*/*",
        b"application/json, text/plain, */*",
        b"application/json, text/html;q=0.5",
        b"text/html;q=0",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_any_other_client_is_told_405(method: str, accept: bytes) -> None:
    answer = await get(host(console=True), accept, method=method)
    assert answer.status == 405
    assert answer.all(b"allow") == [b"GET, HEAD, POST"]
    if method == "GET":
        assert messages(answer.json()) == ["The batch endpoint answers POST, and with its console a GET that accepts text/html"]


async def test_another_method_is_405() -> None:
    answer = await get(host(console=True), method="PUT")
    assert (answer.status, answer.all(b"allow")) == (405, [b"GET, HEAD, POST"])


async def test_off_by_default() -> None:
    answer = await get(host())
    assert (answer.status, answer.all(b"allow")) == (405, [b"POST"])
    assert messages(answer.json()) == ["The batch endpoint answers POST only"]


async def test_an_action_of_a_batch_never_gets_the_page() -> None:
    app = host(console=True, policy="all")
    [result] = await batch(app, action("/batch"), path="/api/batch", headers=[(b"accept", BROWSER)])
    assert result["status_code"] == 400


async def test_the_page_knows_what_may_run_below_the_base_path_and_no_more() -> None:
    assert known(await get(host(console=True, max_actions=7))) == {
        "base": "/api",
        "dialect": "asana",
        "limit": 7,
        "routes": {"/tasks": ["GET", "HEAD", "POST"], "/tasks/{gid:int}": ["GET", "HEAD"], "/slow": ["GET", "HEAD"]},
    }
    everywhere = known(await get(host(console=True, base_path="/", dialect="plain")))
    assert (everywhere["base"], everywhere["dialect"]) == ("", "plain")
    assert list(everywhere["routes"]) == ["/api/tasks", "/api/tasks/{gid:int}", "/api/slow", "/outside"]


async def test_routes_that_are_added_later_are_known() -> None:
    app = host(console=True)
    assert "/late" not in known(await get(app))["routes"]
    app.router.routes.append(Route("/api/late", task))
    assert "/late" in known(await get(app))["routes"]


async def test_below_a_root_path_and_below_a_mount_with_parameters() -> None:
    assert "/tasks" in known(await get(host(console=True), root_path="/proxied"))["routes"]
    inner = Starlette(routes=[Route("/tasks", task)])
    outer = Starlette(routes=[Mount("/teams/{team}", inner)])
    BatchEndpoint(console=True, host=outer).mount_to(inner, "/batch")
    told = known(await get(outer, path="/teams/7/batch"))
    assert (told["base"], told["routes"]) == ("/teams/7", {"/tasks": ["GET", "HEAD"]})


async def test_mounted_by_hand_and_on_a_host_of_another_kind() -> None:
    endpoint = BatchEndpoint(console=True, host=host(), base_path="/api")
    assert "/tasks" in known(await get(endpoint))["routes"]

    async def another_app(scope: Scope, receive: Receive, send: Send) -> None: ...

    told = known(
        await get(BatchEndpoint(console=True, host=another_app, base_path="/x", allow=["GET /x/{gid}"]), path="/x/batch")
    )
    assert told["routes"] == {"/{gid}": ["GET", "HEAD"]}


async def test_no_template_of_the_host_ends_the_script_it_stands_in() -> None:
    app = Starlette(routes=[Route("/</script><img src=x>", task)])
    answer = await get(BatchEndpoint(console=True).mount_to(app), path="/batch")
    assert list(known(answer)["routes"]) == ["/</script><img src=x>"]


# Server-Timing


def metrics(answer: Answer) -> list[str]:
    [field] = answer.all(b"server-timing")
    return field.decode().split(", ")


METRIC = re.compile(r"a(\d+);start=(\d+\.\d);dur=(\d+\.\d)")


@pytest.mark.parametrize("keywords", [{"console": True}, {"server_timing": True}])
async def test_the_answer_tells_when_each_action_started_and_how_long_it_took(keywords: dict[str, Any]) -> None:
    actions = [
        action("/slow"),
        action("/tasks"),
        action("/nowhere"),
        7,
        action("/tasks", "teleport"),
        action("/slow"),
    ]
    answer = await post(host(**keywords), envelope(*actions), path="/api/batch")
    told = metrics(answer)
    # What did not run has no times: the fourth and the fifth are malformed.
    assert told[3:5] == ["a3", "a4"]
    times = [METRIC.fullmatch(told[index]) for index in (0, 1, 2, 5)]
    assert [match and match[1] for match in times] == ["0", "1", "2", "5"]
    (start, took), *_, (other_start, other_took) = [(float(match[2]), float(match[3])) for match in times if match]
    assert took >= 49
    assert other_took >= 49
    # They ran at the same time.
    assert other_start < start + took


@pytest.mark.parametrize("keywords", [{}, {"server_timing": False, "console": True}])
async def test_without_it_the_answer_does_not_tell(keywords: dict[str, Any]) -> None:
    answer = await post(host(**keywords), envelope(action("/tasks")), path="/api/batch")
    assert answer.all(b"server-timing") == []


async def test_it_stays_short_and_holds_nothing_of_the_client() -> None:
    app = host(server_timing=True)
    answer = await post(app, envelope(*[action("/tasks", data={'"; desc="': "\r\nx: y"})] * 10), path="/api/batch")
    [field] = answer.all(b"server-timing")
    assert len(field) < 1024
    assert all(METRIC.fullmatch(metric) for metric in metrics(answer))


async def test_an_action_cut_off_by_its_deadline_lasts_until_then() -> None:
    # Time enough to begin, however busy the machine is: what has not begun has no times.
    @batchable(timeout=0.25)
    async def never(request: Request) -> Response:
        await anyio.sleep_forever()
        raise AssertionError

    app = BatchEndpoint(server_timing=True).mount_to(Starlette(routes=[Route("/never", never)]))
    answer = await post(app, envelope(action("/never")))
    match = METRIC.fullmatch(metrics(answer)[0])
    assert match is not None
    # The deadline is the batch's, and counts from its start.
    assert 249 <= float(match[2]) + float(match[3]) < 20_000


async def test_a_batch_that_did_not_run_has_no_times() -> None:
    async def refuse(batch: object) -> None:
        raise TooManyRequests

    answer = await post(host(server_timing=True, cost_hook=refuse), envelope(action("/tasks")), path="/api/batch")
    assert (answer.status, answer.all(b"server-timing")) == (429, [])


@pytest.mark.parametrize("sign", ["a", '\\"', "\\\n", " ", "{"])
def test_a_string_without_its_end_is_one_token(node: str, sign: str) -> None:
    """What a person has typed so far is no JSON yet. To look for the end from within such a string would take quadratic time."""
    text = '[1,"' + sign * 3
    source = files("batchkit.console").joinpath("json.js").read_text()
    script = f"{source}; console.log(JSON.stringify(Array.from(tokensOf({json.dumps(text)}), ([, token]) => token)))"
    done = subprocess.run([node, "-e", script], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == ["[", "1", ",", '"' + sign * 3]
