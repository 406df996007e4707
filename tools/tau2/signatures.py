"""Reads the tools of tau2-bench's source files as models see them. Nothing is imported or executed.

The release makes the JSON schema of a tool from the types and the docstring of its method; this makes the same one from
the source text.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

from simkit.errors import DataCorrupt
from simkit.tools.tau2.docstrings import read_docstring

Schema = dict[str, Any]

_PLAIN: Final[Mapping[str, Schema]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "dict": {"additionalProperties": True, "type": "object"},
    "None": {"type": "null"},
}
_REQUIRED: Final = object()


def read_tools(source: bytes, label: str, models: Iterable[tuple[bytes, str]] = ()) -> list[Schema]:
    """The tools of a file in their order there, as they are sent to models.

    Args:
        source: the text of the file with the tools.
        label: its name, for errors.
        models: files with the types of parameters that are no plain types, and their names.

    Raises:
        DataCorrupt: a file is not Python, or has a type or a default that cannot be read.
    """
    types = {name: node for text, name_ in models for name, node in _types(_parsed(text, name_))}
    tools: list[Schema] = []
    for method in _methods(_parsed(source, label)):
        try:
            tools.append(_Reader(types).tool(method))
        except (KeyError, ValueError, TypeError) as error:
            raise DataCorrupt(f"the tool {method.name} in {label} cannot be read ({error}); {_AGAIN}") from error
    if not tools:
        raise DataCorrupt(f"{label} holds no tools; {_AGAIN}")
    return tools


def read_function(source: bytes, label: str, name: str) -> Schema:
    """A tool that is a function without parameters, anywhere in a file.

    Raises:
        DataCorrupt: the file is not Python, or has no such function.
    """
    for node in ast.walk(_parsed(source, label)):
        if isinstance(node, ast.FunctionDef) and node.name == name and not node.args.args:
            description = read_docstring(ast.get_docstring(node, clean=False) or "").description
            return {
                "type": "function",
                "function": {"name": name, "description": description, "parameters": _object("parameters", {}, [])},
            }
    raise DataCorrupt(f"{label} has no function {name}; {_AGAIN}")


_AGAIN = "it is not the file of the release; get it again"


def _parsed(source: bytes, label: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise DataCorrupt(f"{label} is not Python source ({error}); {_AGAIN}") from error


def _types(module: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node


def _methods(module: ast.Module) -> Iterator[ast.FunctionDef]:
    for outer in module.body:
        for node in outer.body if isinstance(outer, ast.ClassDef) else ():
            if isinstance(node, ast.FunctionDef) and any(_called(each, "is_tool") for each in node.decorator_list):
                yield node


def _called(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _title(name: str) -> str:
    return name.replace("_", " ").title()


class _Reader:
    """Reads one tool, and collects the definitions of the types that it uses."""

    def __init__(self, types: Mapping[str, ast.stmt]) -> None:
        self._types = types
        self._definitions: dict[str, Schema] = {}

    def tool(self, method: ast.FunctionDef) -> Schema:
        """The tool of a method."""
        documentation = read_docstring(ast.get_docstring(method, clean=False) or "")
        parameters = method.args.args[1:]
        defaults: list[Any] = [_REQUIRED] * (len(parameters) - len(method.args.defaults))
        defaults += [self._value(default) for default in method.args.defaults]
        fields = {
            parameter.arg: self._field(
                parameter.arg, parameter.annotation, default, documentation.parameters.get(parameter.arg)
            )
            for parameter, default in zip(parameters, defaults, strict=True)
        }
        required = [parameter.arg for parameter, default in zip(parameters, defaults, strict=True) if _is_due(default)]
        schema = _object("parameters", fields, required)
        if self._definitions:
            schema = {"$defs": dict(sorted(self._definitions.items())), **schema}
        description = documentation.description or method.name
        return {
            "type": "function",
            "function": {"name": method.name, "description": description, "parameters": schema},
        }

    def _field(self, name: str, annotation: ast.expr | None, default: Any, description: str | None) -> Schema:
        if annotation is None:
            raise ValueError(f"`{name}` has no type")
        schema = dict(self._schema(annotation))
        if "$ref" not in schema:
            schema["title"] = _title(name)
        if not _is_due(default):
            schema["default"] = default
        if description is not None:
            schema["description"] = description
        return dict(sorted(schema.items()))

    def _schema(self, node: ast.expr) -> Schema:
        match node:
            case ast.Constant(value=None):
                return _PLAIN["None"]
            case ast.Name(id=name) if name in _PLAIN:
                return _PLAIN[name]
            case ast.Name(id=name):
                return self._named(name)
            case ast.BinOp(op=ast.BitOr()):
                return self._either([node.left, node.right])
            case ast.Subscript(value=ast.Name(id="Optional")):
                return self._either([node.slice, ast.Constant(None)])
            case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
                return self._either(parts)
            case ast.Subscript(value=ast.Name(id="List" | "list")):
                return {"items": self._schema(node.slice), "type": "array"}
            case ast.Subscript(value=ast.Name(id="Literal")):
                parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                return {"enum": [self._value(part) for part in parts], "type": "string"}
            case _:
                raise ValueError(f"unknown type {ast.unparse(node)}")

    def _either(self, parts: list[ast.expr]) -> Schema:
        return {"anyOf": [self._schema(part) for part in parts]}

    def _named(self, name: str) -> Schema:
        node = self._types[name]
        if isinstance(node, ast.Assign):
            return self._schema(node.value)
        if name not in self._definitions:
            self._definitions[name] = {}  # a type may contain itself
            self._definitions[name] = self._class(cast("ast.ClassDef", node))
        return {"$ref": f"#/$defs/{name}"}

    def _class(self, node: ast.ClassDef) -> Schema:
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        documentation = ast.get_docstring(node)
        described = {"description": inspect.cleandoc(documentation)} if documentation else {}
        if "Enum" in bases:
            values = [self._value(line.value) for line in node.body if isinstance(line, ast.Assign)]
            return {**described, "enum": values, "title": node.name, "type": "string"}
        fields: dict[str, Schema] = {}
        required: list[str] = []
        for line in node.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                default, description = self._declared(line.value)
                fields[line.target.id] = self._field(line.target.id, line.annotation, default, description)
                required += [line.target.id] if _is_due(default) else []
        closed = {"additionalProperties": False} if "BaseModelNoExtra" in bases else {}
        return {**closed, **described, **_object(node.name, fields, required)}

    def _declared(self, value: ast.expr | None) -> tuple[Any, str | None]:
        """Default and description of a field."""
        if value is None:
            return _REQUIRED, None
        if not _called(value, "Field"):
            return self._value(value), None
        call = cast("ast.Call", value)
        words = {word.arg: self._value(word.value) for word in call.keywords}
        default = self._value(call.args[0]) if call.args else words.get("default", _REQUIRED)
        return default, cast("str | None", words.get("description"))

    def _value(self, node: ast.expr) -> Any:
        """A constant, or a member of an enumeration."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Attribute(value=ast.Name(id=name), attr=member):
                for line in cast("ast.ClassDef", self._types[name]).body:
                    if isinstance(line, ast.Assign) and cast("ast.Name", line.targets[0]).id == member:
                        return self._value(line.value)
                raise KeyError(member)
            case _:
                raise ValueError(f"unknown value {ast.unparse(node)}")


def _is_due(default: object) -> bool:
    return default is _REQUIRED


def _object(title: str, fields: dict[str, Schema], required: list[str]) -> Schema:
    due = {"required": required} if required else {}
    return {"properties": fields, **due, "title": title, "type": "object"}
