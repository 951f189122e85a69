"""`/openapi.json`: what FastAPI finds out by itself, and what our own body and token dependencies add."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import RouteContext
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from hub.access.permission import declared_action, routes_of
from hub.api.bodies import JsonBody
from hub.api.errors import MEDIA_TYPE
from hub.auth.policy import RULES

_REF = "#/components/schemas/{model}"
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "request_id", "retryable", "facts"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable: programs go by it."},
        "detail": {"type": "string", "description": "A sentence for people that ends with what to do."},
        "request_id": {"type": "string"},
        "retryable": {"type": "boolean"},
        "facts": {"type": "object"},
    },
}
_REFUSED = {
    "description": "Refused: `code` says why, `detail` what to do",
    "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
}


def install(app: FastAPI) -> None:
    """Makes the app describe itself with this module. The description is made once."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _description(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # FastAPI's documented way


def _description(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = schema["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):  # every refusal here is a Problem
        schemas.pop(unused, None)
    routes = [route for route in routes_of(app) if route.include_in_schema]
    bodies = [body for route in routes if (body := _json_body(route.dependant))]
    _, definitions = models_json_schema([(body.model, "validation") for body in bodies], ref_template=_REF)
    schemas.update({**definitions["$defs"], "Problem": _PROBLEM})
    schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for route in routes:
        for method in route.methods or ():
            _complete(schema["paths"][str(route.path_format)][method.lower()], route)
    return schema


def _complete(operation: dict[str, Any], route: RouteContext) -> None:
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = _REFUSED
    # What is public is read without a token, with one what is private too; and nobody has one before signing in.
    action = declared_action(route.dependant)
    is_open = action is not None and RULES[action].is_open
    operation["security"] = [*([{}] if is_open else []), {"token": []}]
    body = _json_body(route.dependant)
    if body is not None:
        reference = {"$ref": _REF.format(model=body.model.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}


def _json_body(dependant: Dependant) -> JsonBody[BaseModel] | None:
    if isinstance(dependant.call, JsonBody):
        return dependant.call
    found = (_json_body(each) for each in dependant.dependencies)
    return next((body for body in found if body is not None), None)
