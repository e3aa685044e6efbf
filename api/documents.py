"""The declarations as documents: Swagger 2.0 for flask-restx, OpenAPI 3.1 for everybody."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from flask_restx import Namespace
from flask_restx.model import SchemaModel
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from schemas.errors import kinds
from schemas.operation import Course, Operation

_MACHINE = {"description": "Name of the system", "type": "string"}
_FAILURES = {
    "400": "The call is malformed, or failed on the system; a header tells the kind",
    "401": "No valid token",
    "403": "The task is somebody else's",
    "404": "Not found, or not permitted",
    "413": "The request is too large",
    "414": "The request line is too long",
    "429": "Too much is under way",
    "431": "The headers are too long, or too many",
    "503": "The service cannot work just now",
}


class Wire(GenerateJsonSchema):
    """JSON schema of parameters: what is absent is not sent, and nobody can send null."""

    def nullable_schema(self, schema: Any) -> dict[str, Any]:
        """A value that may be left out."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> dict[str, Any]:
        """A value with a default, which is left out when it is null."""
        absent = schema.get("default", ...) is None
        return self.generate_inner(schema["schema"]) if absent else super().default_schema(schema)


class Swagger2(Wire):
    """JSON schema less what Swagger 2.0 lacks: values that may be null, alternatives, constants."""

    def nullable_schema(self, schema: Any) -> dict[str, Any]:
        """A value or null."""
        return {**super().nullable_schema(schema), "x-nullable": True}

    def union_schema(self, schema: Any) -> dict[str, Any]:
        """Alternatives: the first stands for all."""
        return self.generate_inner(schema["choices"][0])


@dataclass(frozen=True)
class Field:
    """A parameter of an operation: its name on the wire, its JSON schema and its place in the request."""

    name: str
    schema: dict[str, Any]
    place: str
    required: bool


def fields(operation: type[Operation], generator: type[GenerateJsonSchema] = Wire) -> Iterator[Field]:
    """The parameters of an operation."""
    schema = operation.model_json_schema(schema_generator=generator)
    for name, field in schema.get("properties", {}).items():
        field.pop("title", None)
        yield Field(name, field, _place(operation, name), name in schema.get("required", ()))


def describe(space: Namespace, method: Callable[..., Any], operation: type[Operation], *, alias: bool) -> None:
    """Document a resource's method with flask-restx."""
    route = operation.route
    params = {field.name: _swagger(field) for field in fields(operation, Swagger2)}
    if route.on_system:
        params["X-Machine-Name"] = {**_MACHINE, "in": "header", "required": True}
    space.doc(id=operation.task() + (".alias" if alias else ""), params=params)(method)
    if operation.route.verb in ("POST", "PUT", "DELETE"):
        space.doc(consumes=["multipart/form-data", "application/x-www-form-urlencoded"])(method)
    shown = None if route.output in (None, bytes) else _swagger_answer(space, operation)
    space.response(route.status, route.says or "Success", shown)(method)
    for status, text in _FAILURES.items():
        space.response(int(status), text)(method)


def _place(operation: type[Operation], name: str) -> str:
    if f"{{{name}}}" in operation.route.path:
        return "path"
    if name in operation.in_header:
        return "header"
    return "query" if operation.route.verb == "GET" else "formData"


def _swagger(field: Field) -> dict[str, Any]:
    place = {"in": field.place, "required": field.required}
    if "$ref" in field.schema:
        return {"type": "file", "description": field.schema.get("description", ""), **place}
    return {**field.schema, **place}


def _swagger_answer(space: Namespace, operation: type[Operation]) -> SchemaModel:
    schema = answer(operation, "#/definitions/{model}", Swagger2)
    for name, definition in schema.pop("$defs", {}).items():
        space.schema_model(name, definition)
    return space.schema_model(f"{operation.task()}Answer", schema)


def answer(operation: type[Operation], template: str, generator: type[GenerateJsonSchema] = GenerateJsonSchema) -> dict[str, Any]:
    """The JSON schema of the success answer, with the models it mentions under `$defs`."""
    route = operation.route
    text = {"type": "string"}
    if route.course is Course.DEFERRED:
        told = ("success", "task_id") if route.transfer_job else ("success", "task_id", "task_url")
        return {"type": "object", "properties": dict.fromkeys(told, text)}
    output = TypeAdapter(route.output).json_schema(mode="serialization", ref_template=template, schema_generator=generator)
    models = output.pop("$defs", {})
    if route.envelope is None:
        return {**output, "$defs": models}
    properties = {**({"description": text} if route.says else {}), route.envelope: output}
    return {"type": "object", "required": list(properties), "properties": properties, "$defs": models}


def openapi(operations: Iterable[type[Operation]], *, version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the operations."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Failure": _FAILURE}
    for operation in operations:
        for path in (operation.route.path, operation.route.also):
            if path:
                paths.setdefault(path, {})[operation.route.verb.lower()] = _openapi_operation(operation, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "FirecREST", "version": version, "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"}},
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}},
    }


_FAILURE = {
    "type": "object",
    "properties": {"description": {"type": "string"}, "error": {"type": "string"}},
}


def _openapi_operation(operation: type[Operation], path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    route, found = operation.route, list(fields(operation))
    placed = [_openapi_parameter(field) for field in found if field.place != "formData"]
    if route.on_system:
        placed.append({"name": "X-Machine-Name", "in": "header", "required": True, "schema": {"type": "string"}})
    form = [field for field in found if field.place == "formData"]
    return {
        "operationId": operation.task() + (".alias" if path == route.also else ""),
        "tags": [route.service],
        "summary": (operation.__doc__ or "").strip(),
        "parameters": placed,
        **({"requestBody": _openapi_form(form)} if form else {}),
        "responses": {str(route.status): _openapi_answer(operation, schemas), **_openapi_failures()},
    }


def _openapi_parameter(field: Field) -> dict[str, Any]:
    schema = dict(field.schema)
    return {
        "name": field.name,
        "in": field.place,
        "required": field.required,
        "description": schema.pop("description", ""),
        "schema": schema,
    }


def _openapi_form(form: list[Field]) -> dict[str, Any]:
    files = any("$ref" in field.schema for field in form)
    properties = {field.name: {"type": "string", "format": "binary"} if "$ref" in field.schema else field.schema for field in form}
    schema = {"type": "object", "properties": properties, "required": [field.name for field in form if field.required]}
    kinds = ("multipart/form-data",) if files else ("application/x-www-form-urlencoded", "multipart/form-data")
    return {"required": bool(schema["required"]), "content": {kind: {"schema": schema} for kind in kinds}}


def _openapi_answer(operation: type[Operation], schemas: dict[str, Any]) -> dict[str, Any]:
    route = operation.route
    text = route.says or "Success"
    if route.output is None:
        return {"description": text}
    if route.output is bytes:
        return {"description": text, "content": {"application/octet-stream": {}}}
    schema = answer(operation, "#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _openapi_failures() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
    return {status: {"description": text, "headers": _headers(int(status)), "content": content} for status, text in _FAILURES.items()}


def _headers(status: int) -> dict[str, Any]:
    found: dict[str, str] = {}
    for kind in kinds().values():
        if kind.status == status and kind.header:
            found.setdefault(kind.header, (kind.__doc__ or "").partition("\n")[0])
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in found.items()}
