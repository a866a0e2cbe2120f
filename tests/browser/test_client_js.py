"""The browser's module on the wire: where the endpoint serves it, how it is cached, and who does not get it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import batchkit
from batchkit import BatchEndpoint, batchable
from batchkit._protocol.paths import LONGEST_PATH
from batchkit.client_js import client_version
from batchkit.model import BODYLESS, METHODS
from tests.asgi import Answer, request
from tests.batches import action, batch, messages

pytestmark = pytest.mark.anyio

SOURCE = (Path(batchkit.__file__).parent / "client_js" / "batchkit.js").read_bytes()
FOREVER = b"public, max-age=31536000, immutable"


@batchable
async def task(request: Request) -> Response:
    return JSONResponse(1)


def host(**keywords: Any) -> Starlette:
    return BatchEndpoint(**{"client_js": True, **keywords}).mount_to(Starlette(routes=[Route("/api/task", task)]), "/api/batch")


async def get(app: Starlette, query: str = "client.js", *, method: str = "GET", **fields: bytes) -> Answer:
    headers = [(b"host", b"testserver"), *((name.replace("_", "-").encode(), value) for name, value in fields.items())]
    return await request(app, method, "/api/batch", query=query.encode(), headers=headers)


async def test_the_module_is_served_as_it_stands_and_asked_for_again_each_time() -> None:
    answer = await get(host())
    assert (answer.status, answer.body) == (200, SOURCE)
    assert answer.all(b"content-type") == [b"text/javascript; charset=utf-8"]
    assert answer.all(b"content-length") == [b"%d" % len(SOURCE)]
    assert answer.all(b"x-content-type-options") == [b"nosniff"]
    assert answer.all(b"cache-control") == [b"no-cache"]
    assert answer.all(b"etag") == [b'"%s"' % client_version().encode()]


def test_it_knows_what_an_action_may_be() -> None:
    said = dict(re.findall(r"^const (METHODS|BODYLESS|LONGEST_PATH) = (.+);$", SOURCE.decode(), re.MULTILINE))
    methods, bodyless, longest = (json.loads(said[name]) for name in ("METHODS", "BODYLESS", "LONGEST_PATH"))
    assert (sorted(methods), sorted(bodyless), longest) == (sorted(METHODS), sorted(BODYLESS), LONGEST_PATH)


async def test_under_its_own_hash_it_is_kept_for_ever() -> None:
    answer = await get(host(), f"client.js={client_version()}")
    assert (answer.status, answer.body, answer.all(b"cache-control")) == (200, SOURCE, [FOREVER])


async def test_under_another_versions_hash_it_is_there_and_not_kept() -> None:
    answer = await get(host(), "client.js=0123456789abcdef")
    assert (answer.status, answer.body, answer.all(b"cache-control")) == (200, SOURCE, [b"no-cache"])


@pytest.mark.parametrize(("known", "status"), [('"{}"', 304), ('"x", W/"{}"', 304), ("*", 304), ('"x"', 200), ("{}", 200)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_has_it_is_told_so(method: str, known: str, status: int) -> None:
    answer = await get(host(), method=method, if_none_match=known.format(client_version()).encode())
    assert (answer.status, answer.all(b"etag")) == (status, [f'"{client_version()}"'.encode()])
    assert answer.body == (SOURCE if (status, method) == (200, "GET") else b"")


async def test_a_head_gets_what_goes_with_it() -> None:
    head, whole = await get(host(), method="HEAD"), await get(host())
    assert (head.status, head.headers, head.body) == (200, whole.headers, b"")


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"client_js": False}, "The batch endpoint answers POST only"),
        ({}, "The batch endpoint answers POST, and a GET with the query client.js"),
        (
            {"console": True},
            "The batch endpoint answers POST, and with its console a GET that accepts text/html, "
            "and a GET with the query client.js",
        ),
    ],
)
async def test_anything_else_is_405_and_says_what_is_answered(keywords: dict[str, Any], says: str) -> None:
    app = host(**keywords)
    allowed = b"GET, HEAD, POST" if keywords.get("client_js", True) else b"POST"
    answers = [await get(app, query) for query in ("", "client.jsx", "x=client.js")] + [await get(app, method="PUT")]
    if "client_js" in keywords:
        answers.append(await get(app))
    for answer in answers:
        assert (answer.status, answer.all(b"allow"), messages(answer.json())) == (405, [allowed], [says])


async def test_a_browser_that_opens_the_batch_url_sees_the_page_as_before() -> None:
    app = host(console=True)
    assert (await get(app, "", accept=b"text/html")).all(b"content-type") == [b"text/html; charset=utf-8"]
    assert (await get(app, accept=b"text/html")).body == SOURCE


async def test_an_action_of_a_batch_never_gets_it() -> None:
    app = host(policy="all", dialect="plain")
    assert [result["status_code"] for result in await batch(app, action("/batch?client.js"), path="/api/batch")] == [400]
