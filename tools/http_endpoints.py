"""Endpoints of an HTTP API as tools: given one by one, or read from an OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import orjson

from simkit.apis.client import JSON_TYPE
from simkit.core.messages import FunctionSpec, ToolSpec
from simkit.errors import UsageError
from simkit.tools.mcp_results import NAME

Place: TypeAlias = Literal["path", "query", "header", "body"]
Json: TypeAlias = Mapping[str, Any]

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
FORM = "application/x-www-form-urlencoded"
WHOLE_BODY = "body"
"""Name of the parameter for a body that is no object."""

_IN_PATH = re.compile(r"\{([^{}]+)\}")
_DEEPEST = 40


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One tool: a method and a path, and where its arguments go.

    Attributes:
        name: the tool's name for models.
        call: method and path: `GET /orders/{order}`.
        description: what the tool does, for models.
        parameters: JSON schema of each parameter.
        required: names of the parameters that every call has; those of the path always are.
        places: where a parameter goes, if not to the path (`{name}`), the query (GET, HEAD, DELETE) or the JSON body.
        form: the body is a form, not JSON.
        whole: the body is the value of the parameter `body`, not an object of parameters.

    Raises:
        UsageError: `call` is no method and path.
    """

    name: str
    call: str
    description: str = ""
    parameters: Json = field(default_factory=dict[str, Any])
    required: tuple[str, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict[str, Place])
    form: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        method, _, path = self.call.partition(" ")
        if method.lower() not in METHODS or not path.startswith("/"):
            raise UsageError(
                f"the endpoint `{self.name}` has the call {self.call!r}; write one like: GET /orders/{{id}}"
            )
        if unknown := [name for name in _IN_PATH.findall(path) if name not in self.parameters]:
            raise UsageError(f"the path of the endpoint `{self.name}` has `{unknown[0]}`, which is no parameter of it")

    @property
    def method(self) -> str:
        """The HTTP method in capitals."""
        return self.call.partition(" ")[0].upper()

    @property
    def path(self) -> str:
        """The path, with its parameters in braces."""
        return self.call.partition(" ")[2]

    @property
    def in_path(self) -> tuple[str, ...]:
        """Names of the parameters of the path."""
        return tuple(_IN_PATH.findall(self.path))

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of the parameters that every call has."""
        return tuple(dict.fromkeys((*self.in_path, *self.required)))

    def place(self, parameter: str) -> Place:
        """Where a parameter goes."""
        if parameter in self.in_path:
            return "path"
        return self.places.get(parameter, "query" if self.method in ("GET", "HEAD", "DELETE", "OPTIONS") else "body")

    def spec(self) -> ToolSpec:
        """The tool as models see it."""
        schema: dict[str, Any] = {"type": "object", "properties": dict(self.parameters), "additionalProperties": False}
        schema |= {"required": list(self.needed)} if self.needed else {}
        function = FunctionSpec(name=self.name, description=self.description or self.call, parameters=schema)
        return ToolSpec(type="function", function=function)


def read_openapi(source: str | Path | Json, without: Sequence[str] = ()) -> tuple[str, tuple[Endpoint, ...]]:
    """The address and the endpoints of an OpenAPI 3 document: a file (JSON, or YAML with PyYAML), or its content.

    The address is that of the first server; empty if the document names none. A tool is called by its `operationId`, or
    by method and path. Operations named in `without` are not read.

    Raises:
        UsageError: the document cannot be read, is of another version, or has an operation that cannot be a tool.
    """
    document = source if isinstance(source, Mapping) else _loaded(Path(source))
    version = str(document.get("openapi") or f"Swagger {document.get('swagger')}")
    if not version.startswith("3."):
        raise UsageError(f"the document is of OpenAPI {version}, and 3.x is read; convert it first")
    found = tuple(each for each in _operations(document) if each[0] not in without)
    servers = _list(document.get("servers"))
    address = str(_object(servers[0]).get("url") or "") if servers else ""
    return address, tuple(_endpoint(document, name, call, shared, operation) for name, call, shared, operation in found)


def _loaded(path: Path) -> Json:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the OpenAPI document {path} cannot be read: {error.strerror}") from error
    try:
        value: object = orjson.loads(text) if path.suffix == ".json" else _yaml(text, path)
    except ValueError as error:
        raise UsageError(f"the OpenAPI document {path} is not JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise UsageError(f"the OpenAPI document {path} is no object")
    return cast("Json", value)


def _yaml(text: bytes, path: Path) -> object:
    try:
        yaml = import_module("yaml")
    except ImportError as error:
        raise UsageError(f"{path} is read with PyYAML: pip install pyyaml, or give the document as .json") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"the OpenAPI document {path} is not YAML: {error}") from error


Operation: TypeAlias = tuple[str, str, Sequence[Any], Json]
"""Name, method and path, the parameters of the path, and the operation."""


def _operations(document: Json) -> Iterator[Operation]:
    for path, item in _object(document.get("paths")).items():
        known = _object(_resolved(document, item))
        for method in METHODS:
            if method in known:
                operation = _object(known[method])
                name = str(operation.get("operationId") or f"{method}{path}")
                yield (
                    NAME.sub("_", name).strip("_")[:64],
                    f"{method.upper()} {path}",
                    _list(known.get("parameters")),
                    operation,
                )


def _endpoint(document: Json, name: str, call: str, shared: Sequence[Any], operation: Json) -> Endpoint:
    schemas: dict[str, Any] = {}
    places: dict[str, Place] = {}
    required: list[str] = []
    for each in (*shared, *_list(operation.get("parameters"))):
        parameter = _object(_resolved(document, each))
        own, place = str(parameter.get("name")), str(parameter.get("in"))
        if place == "cookie" or (place == "header" and own.lower() in ("accept", "content-type", "authorization")):
            continue
        if (
            place not in ("path", "query", "header")
            or parameter.get("style") == "deepObject"
            or "schema" not in parameter
        ):
            raise _unfit(name, f"its parameter `{own}` is in the {place}, or has a form that is not written here")
        schemas[own] = _described(document, parameter)
        places[own] = cast("Place", place)
        required += [own] if parameter.get("required") else []
    form, whole = _add_body(document, name, operation, (schemas, places, required))
    words = [str(operation[key]).strip() for key in ("summary", "description") if operation.get(key)]
    return Endpoint(
        name, call, "\n".join(dict.fromkeys(words)), schemas, tuple(dict.fromkeys(required)), places, form, whole
    )


def _add_body(
    document: Json, name: str, operation: Json, known: tuple[dict[str, Any], dict[str, Place], list[str]]
) -> tuple[bool, bool]:
    """Add the parameters of the body; says whether it is a form, and whether it is one value."""
    schemas, places, required = known
    body = _object(_resolved(document, operation.get("requestBody")))
    content = _object(body.get("content"))
    if not content:
        return False, False
    kind = next((each for each in content if JSON_TYPE.match(each)), FORM if FORM in content else None)
    if kind is None:
        raise _unfit(name, f"its body is {', '.join(content)}")
    schema = _object(_plain(document, _object(content[kind]).get("schema") or {}))
    properties = _object(schema.get("properties"))
    if not properties or properties.keys() & schemas.keys():
        schemas[WHOLE_BODY], places[WHOLE_BODY] = dict(schema), "body"
        required += [WHOLE_BODY] if body.get("required") else []
        return kind == FORM, True
    schemas |= dict(properties)
    places |= dict.fromkeys(properties, "body")
    required += [str(each) for each in _list(schema.get("required"))]
    return kind == FORM, False


def _described(document: Json, parameter: Json) -> Any:
    schema = dict(_object(_plain(document, parameter["schema"])))
    words = parameter.get("description")
    return {**schema, "description": words} if words and "description" not in schema else schema


def _resolved(document: Json, value: Any) -> Any:
    """A value, or what its reference names."""
    for _ in range(_DEEPEST):
        reference = _object(value).get("$ref")
        if reference is None:
            return value
        if not str(reference).startswith("#/"):
            raise UsageError(f"the OpenAPI document refers to {reference}; write it into one document first")
        found: Any = document
        for part in str(reference)[2:].split("/"):
            found = _object(found).get(part.replace("~1", "/").replace("~0", "~"))
        if found is None:
            raise UsageError(f"the OpenAPI document refers to {reference}, which it does not hold")
        value = found
    raise UsageError("the OpenAPI document has a reference that leads to itself")


def _plain(document: Json, value: Any, seen: tuple[str, ...] = ()) -> Any:
    """A schema without references; one that contains itself allows anything there."""
    match value:
        case Mapping():
            fields = cast("Json", value)
            reference = fields.get("$ref")
            if reference is not None:
                repeated = reference in seen or len(seen) >= _DEEPEST
                return {} if repeated else _plain(document, _resolved(document, fields), (*seen, str(reference)))
            return {name: _plain(document, each, seen) for name, each in fields.items()}
        case list():
            return [_plain(document, each, seen) for each in cast("list[Any]", value)]
        case _:
            return value


def _unfit(name: str, why: str) -> UsageError:
    return UsageError(f"the operation `{name}` cannot be a tool: {why}; leave it out: without=['{name}']")


def _object(value: Any) -> Json:
    return cast("Json", value) if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return cast("Sequence[Any]", value) if isinstance(value, list | tuple) else ()
