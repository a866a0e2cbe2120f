"""The codes of errors, on the protocol's page and in the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from batchkit import BatchEndpoint, BatchError, batchable, errors
from tests.batches import action, batch, envelope, post

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text().partition("## Error codes")[2]
ON_THE_PAGE = {code: int(status) for code, status in re.findall(r"^\| [a-z ]+ \| `(\w+)` \| (\d{3}) \|", PAGE, re.MULTILINE)}


def kinds(error: type[BatchError] = BatchError) -> Iterator[type[BatchError]]:
    for kind in error.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from kinds(kind)


def test_the_page_has_the_codes_that_the_code_has() -> None:
    assert {kind.code: kind.status_code for kind in kinds()} == ON_THE_PAGE
    assert len({kind.code for kind in kinds()}) == len(list(kinds()))


async def unmarked(request: Request) -> Response:
    return Response()


@batchable(schema={"required": ["name"]})
async def checked(request: Request) -> Response:
    return Response()


@batchable
async def fails(request: Request) -> Response:
    raise ZeroDivisionError


@batchable
async def is_large(request: Request) -> Response:
    return Response(b"x" * 2000)


def host() -> Starlette:
    routes = [
        Route("/unmarked", unmarked),
        Route("/checked", checked, methods=["POST"]),
        Route("/fails", fails),
        Route("/large", is_large),
    ]
    return BatchEndpoint(max_actions=2, max_body_size=1000, max_result_size=1000).mount_to(Starlette(routes=routes))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b'{"data":{"actions":[}}', "invalid_json"),
        (b"5", "invalid_batch"),
        (b'{"data":{"actions":{}}}', "invalid_batch"),
        (envelope(), "empty_batch"),
        (envelope(*[action("/large")] * 3), "too_many_actions"),
        (b" " * 1001, "batch_too_large"),
    ],
)
async def test_of_a_whole_batch(body: bytes, code: str) -> None:
    """“Each entry of `errors` has `message` and `code`”."""
    answer = await post(host(), body)
    assert [answer.status, *[error["code"] for error in answer.json()["errors"]]] == [ON_THE_PAGE[code], code]


@pytest.mark.parametrize(
    ("acted", "code"),
    [
        (action("/large", "unknown"), "invalid_action"),
        (action("//x"), "invalid_action"),
        (action("/unmarked"), "not_batchable"),
        (action("/batch", "post"), "not_batchable"),
        (action("/checked", "post"), "schema_violation"),
        (action("/large"), "result_too_large"),
    ],
)
async def test_of_one_action(acted: dict[str, object], code: str) -> None:
    [result] = await batch(host(), acted)
    assert [result["status_code"], *[error["code"] for error in result["body"]["errors"]]] == [ON_THE_PAGE[code], code]
