"""The batches of the example app against a published OpenAPI description of Asana's Batch API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from schemathesis.checks import negative_data_rejection, positive_data_acceptance
from schemathesis.python.asgi import shutdown_lifespans
from starlette.types import ASGIApp

from example_app.app import create_app
from example_app.demo_data import TOKEN
from tests.calls import CALLS, in_batch, prepared
from tests.trackers import UNLIMITED, Tracker

# As it was published, byte for byte.
DESCRIPTION = Path(__file__).parents[1] / "data" / "asana-batch-api-openapi.yml"
DOCUMENT = yaml.safe_load(DESCRIPTION.read_text())


def named(schema: str) -> Draft202012Validator:
    """The validator of one of the description's schemas."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]})


ACTION, RESULT = named("BatchRequestAction"), named("BatchResponse")


def test_the_whole_api_is_used_and_answered_as_described(tracker: Tracker) -> None:
    with tracker.client() as client:
        gids = prepared(client, "Described")
        for start in range(0, len(CALLS), 10):
            calls = CALLS[start : start + 10]
            actions = [call.action(gids) for call in calls]
            for call, sent, result in zip(calls, actions, in_batch(client, *actions), strict=True):
                # This description lacks head, which Asana's own has.
                assert ACTION.is_valid(sent) == (call.method != "head"), sent
                if call.route.endswith("/download") and call.method == "get":
                    # No call of Asana's: it answers a file, for which the description has no place.
                    assert result["body_encoding"] == "base64"
                else:
                    RESULT.validate(result)
                    assert list(result) == ["status_code", "headers", "body"]


class DemoUser:
    """What schemathesis puts on its requests. It then also sends some without, which must be refused."""

    def get(self, _case: schemathesis.Case[Any], _context: schemathesis.AuthContext) -> str:
        return TOKEN

    def set(self, case: schemathesis.Case[Any], data: str, _context: schemathesis.AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {data}"


def answered_as_the_prose_says(response: Any, case: schemathesis.Case[Any]) -> None:
    """What the description says of actions only in words, and protocol.md#the-batch-request: 200 with one result for each."""
    body: Any = case.body
    actions = body["data"].get("actions") if isinstance(body, dict) and isinstance(body.get("data"), dict) else None
    if response.status_code == 200:
        assert isinstance(actions, list)
        results = response.json()["data"]
        assert len(results) == len(actions)
        for sent, result in zip(actions, results, strict=True):
            assert list(result) == ["status_code", "headers", "body"]
            assert result["status_code"] < 500
            if not isinstance(sent, dict) or not {"method", "relative_path"} <= sent.keys():
                assert result["status_code"] == 400
    elif isinstance(actions, list) and 1 <= len(actions) <= 10:
        assert body.keys() - {"data", "options"} or body["data"].keys() - {"actions"}, response.content


def answered_as_described(case: schemathesis.Case[Any]) -> None:
    response = case.call()
    if response.status_code == 415:
        # What it answers to another media type than its own, the description leaves open.
        assert response.request.headers.get("content-type") != "application/json"
        return
    # A bad action is refused in its own place and not with the batch; a batch without actions is refused, though valid.
    case.validate_response(response, excluded_checks=[negative_data_rejection, positive_data_acceptance])
    if case.method == "POST" and response.status_code != 401:
        answered_as_the_prose_says(response, case)


# A schema keeps how its app was reached at first, so each way has one of its own.
IN_PROCESS, OVER_HTTP = (schemathesis.openapi.from_path(DESCRIPTION) for _ in range(2))
for schema in (IN_PROCESS, OVER_HTTP):
    schema.auth()(DemoUser)
made_up = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.fixture
def app(database: str, tmp_path: Path) -> Iterator[ASGIApp]:
    try:
        yield create_app(database, files=tmp_path, limits=UNLIMITED)
    finally:
        # Schemathesis has begun the app's.
        shutdown_lifespans()


@IN_PROCESS.parametrize()
@made_up
def test_what_schemathesis_makes_up_in_process(case: schemathesis.Case[Any], app: ASGIApp) -> None:
    case.operation.app = case.operation.schema.app = app
    answered_as_described(case)


@OVER_HTTP.parametrize()
@made_up
def test_what_schemathesis_makes_up_over_http(case: schemathesis.Case[Any], tracker: Tracker) -> None:
    case.operation.base_url = tracker.url
    answered_as_described(case)
