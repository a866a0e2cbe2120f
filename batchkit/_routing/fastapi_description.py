"""What FastAPI, which looks into what it serves, is told of a batch endpoint; FastAPI itself is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, NoReturn

from batchkit._routing.marks import not_batchable
from batchkit.openapi import name_of, operation, replaced, schemas
from batchkit.settings import Settings

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["SIGNATURE", "show_in_fastapi"]


class NoParameter:
    """What an endpoint's signature has in place of types: FastAPI, which would take the three for parameters of the request where
    somebody writes ``app.post("/batch")(endpoint)``, asks Pydantic what this is.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> NoReturn:
        raise TypeError("A BatchEndpoint is an ASGI app, and no path operation: write endpoint.mount_to(app, '/batch')")


SIGNATURE = Signature(
    [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=NoParameter) for name in ("scope", "receive", "send")]
)


def show_in_fastapi(router: Any, path: str, settings: Settings, *, whole: bool) -> None:
    """Put the batch endpoint at ``path`` of a FastAPI router into every description made of its routes, the host's own included.

    FastAPI describes only routes of its own kind. This one stands behind the endpoint's, so no request comes to it. ``whole`` is
    whether the router is that of an app; one that may be included, more than once even, has a name made by FastAPI.
    """
    named = schemas(settings)

    @not_batchable
    async def batch(request: BaseModel) -> None:
        raise NotImplementedError("stands for the batch endpoint in FastAPI's description")

    responses: dict[int | str, dict[str, Any]] = {}
    described = operation(settings)
    for status, response in described["responses"].items():
        content = response.pop("content", None)
        responses[status] = response if content is None else {**response, "model": _model(name_of(content), named)}
    batch.__annotations__["request"] = _model(name_of(described["requestBody"]["content"]), named)
    taken = not whole or any(getattr(route, "operation_id", None) == described["operationId"] for route in router.routes)
    router.add_api_route(
        path,
        batch,
        methods=["POST"],
        operation_id=None if taken else described["operationId"],
        tags=described["tags"],
        summary=described["summary"],
        description=described["description"],
        response_description=described["responses"]["200"]["description"],
        responses=responses,
    )


def _model(name: str, named: Mapping[str, dict[str, Any]]) -> type[BaseModel]:
    """A model for FastAPI, which finds a place, and a name that is free, for it and for what it refers to."""
    from pydantic import BaseModel, GetJsonSchemaHandler, create_model

    parts: dict[str, Any] = {}
    replaced(named[name], lambda part: parts.setdefault(part, (_model(part, named), ...)))

    class Described(BaseModel):
        @classmethod
        def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
            described = handler(schema)
            whole = handler.resolve_ref_schema(described)
            references = whole.pop("properties", {})
            whole.clear()
            whole.update(replaced(named[name], references.__getitem__))
            return described

    model: type[BaseModel] = create_model(name, __base__=Described, __module__=__name__, **parts)
    return model
