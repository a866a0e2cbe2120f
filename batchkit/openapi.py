"""The batch endpoint in OpenAPI 3.1: its operation and schemas, for any tool that reads a description.

What a batch and its answer may hold, the dialect says; here is what all dialects share, from protocol.md#the-batch-request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from http import HTTPStatus
from typing import Any, Protocol

from batchkit._protocol.dialects import DIALECTS
from batchkit.settings import Settings, settings_of

__all__ = ["document", "operation", "schemas"]

# In these cases batchkit itself answers; in the others the server around it does.
_REFUSALS = {
    400: "The batch cannot be read, has no action, or too many. No action was run.",
    413: "The request body is too large. No action was run.",
    415: "The request body is not declared as JSON, or is for another dialect. No action was run.",
    429: "The actions together would exceed a limit. No action was run, and none was counted.",
    503: "The limits cannot be checked just now. No action was run.",
}
_OF_THE_SERVER = (401, 403, 500)


class Endpoint(Protocol):
    """A ``BatchEndpoint``."""

    @property
    def settings(self) -> Settings: ...


Described = Endpoint | Settings


def schemas(endpoint: Described) -> dict[str, dict[str, Any]]:
    """The schemas of a ``BatchEndpoint`` by their names, for ``components``: ``BatchRequest``, ``BatchRequestAction``,
    ``BatchAnswer``, ``BatchResponse`` (one result) and ``BatchErrors``. ``maxItems`` is its ``max_actions``.

    Raises TypeError for what is no endpoint.
    """
    settings = _settings(endpoint)
    dialect = DIALECTS[settings.dialect]
    actions = {"type": "array", "minItems": 1, "maxItems": settings.max_actions, "items": _reference("BatchRequestAction")}
    results = {"type": "array", "items": _reference("BatchResponse"), "description": "One for each action, in their order."}
    named = {
        "BatchRequest": {**dialect.batch_schema(actions), "examples": [dialect.example]},
        "BatchRequestAction": dialect.action_schema,
        "BatchAnswer": dialect.answer_schema(results),
        "BatchResponse": dialect.result_schema,
        "BatchErrors": dialect.error_schema,
    }
    # A host may well write into them, and batches are judged by the originals.
    return deepcopy(named)


def operation(endpoint: Described) -> dict[str, Any]:
    """The ``post`` operation of a ``BatchEndpoint``, with references to its ``schemas``.

    It has no ``security`` of its own, so that of the whole description holds for it. Raises TypeError for what is no endpoint.
    """
    settings = _settings(endpoint)
    base = settings.base_path or "the parent of the URL of this operation"
    responses: dict[str, Any] = {
        "200": {"description": "One result for each action, whatever became of it.", "content": _json("BatchAnswer")},
        **{str(status): {"description": HTTPStatus(status).phrase + "."} for status in _OF_THE_SERVER},
        **{str(status): {"description": why, "content": _json("BatchErrors")} for status, why in _REFUSALS.items()},
        "default": {"description": "Any other answer is the server's, not the batch endpoint's."},
    }
    responses["429"]["headers"] = {
        "Retry-After": {
            "description": "Seconds until the same batch could pass; left out where it never can, or nobody knows.",
            "schema": {"type": "integer", "minimum": 1},
        }
    }
    return {
        "operationId": "createBatchRequest",
        "tags": ["Batch API"],
        "summary": "Submit parallel requests",
        "description": (
            "Make multiple API requests in a single call. The maximum number of actions allowed in a single batch request is "
            f"{settings.max_actions}. They run at the same time, each as a request of its own with the header fields of this "
            f"one, its relative_path below {base}. {DIALECTS[settings.dialect].guide} A client that prefers "
            "application/x-ndjson gets one line per result, as soon as the action has it, with a first key index."
        ),
        "requestBody": {"required": True, "content": _json("BatchRequest")},
        "responses": dict(sorted(responses.items())),
    }


def document(endpoint: Described, path: str = "/batch", *, title: str = "Batch API", version: str = "1.0") -> dict[str, Any]:
    """A whole OpenAPI 3.1 description with a ``BatchEndpoint`` at ``path`` and nothing else, to be used or merged.

    ``title`` and ``version`` are those of its ``info``. Raises TypeError or ValueError for what they cannot be.
    """
    if not (isinstance(path, str) and path.startswith("/")):
        raise ValueError(f"path={path!r}: give a path like '/batch'")
    for name, value in (("title", title), ("version", version)):
        if not isinstance(value, str):
            raise TypeError(f"{name}={value!r}: give a text")
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": {path: {"post": operation(endpoint)}},
        "components": {"schemas": schemas(endpoint)},
    }


def in_one_piece(settings: Settings) -> dict[str, Any]:
    """The ``operation`` with each schema in its place, the name of it as its title: for tools that take no components."""
    named = schemas(settings)

    def of(name: str) -> dict[str, Any]:
        return {"title": name, **replaced(named[name], of)}

    described: dict[str, Any] = replaced(operation(settings), of)
    return described


def _settings(endpoint: object) -> Settings:
    settings = endpoint if isinstance(endpoint, Settings) else settings_of(endpoint)
    if settings is None:
        raise TypeError(f"endpoint={endpoint!r}: give a BatchEndpoint, as BatchEndpoint(…) makes one")
    return settings


def replaced(node: Any, of: Callable[[str], Any]) -> Any:
    """``node`` with ``of(name)`` in place of each reference to the schema of that name."""
    if isinstance(node, dict):
        return of(_target(node)) if "$ref" in node else {key: replaced(value, of) for key, value in node.items()}
    return [replaced(item, of) for item in node] if isinstance(node, list) else node


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _reference(name)}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _target(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


def name_of(content: Mapping[str, Any]) -> str:
    """The name of the schema that the content of a request or response refers to."""
    return _target(content["application/json"]["schema"])
