"""Reads the literals of tau-bench's source files: tasks and tool schemas. Nothing is imported or executed."""

from __future__ import annotations

import ast
from typing import Any, cast

from simkit.errors import DataCorrupt

_CONSTRUCTORS = ("Task", "Action")


def read_tasks(source: bytes, label: str) -> list[dict[str, Any]]:
    """The tasks of a file: the only list of `Task(...)` in it, each as a dict of its arguments.

    Raises:
        DataCorrupt: the file is not Python, or the list holds anything but literals.
    """
    for node in _parsed(source, label).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            return cast("list[dict[str, Any]]", _value(node.value, label))
    raise DataCorrupt(f"{label} holds no list of tasks; {_AGAIN}")


def read_schema(source: bytes, label: str) -> dict[str, Any]:
    """The schema of the tool in a file, the literal that its `get_info` returns.

    Raises:
        DataCorrupt: the file is not Python, or has no such literal.
    """
    for node in ast.walk(_parsed(source, label)):
        if isinstance(node, ast.FunctionDef) and node.name == "get_info":
            returned = next((line for line in node.body if isinstance(line, ast.Return)), None)
            if returned is not None and isinstance(returned.value, ast.Dict):
                return cast("dict[str, Any]", _value(returned.value, label))
    raise DataCorrupt(f"{label} holds no schema of a tool; {_AGAIN}")


def read_tool_files(source: bytes, label: str) -> list[str]:
    """The file names of the tools, in the order in which models see the tools.

    Raises:
        DataCorrupt: the file is not Python, or does not list the tools.
    """
    tree = _parsed(source, label)
    files = {
        name.name: f"{node.module}.py"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for name in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            names = [item.id for item in node.value.elts if isinstance(item, ast.Name) and item.id in files]
            if names and len(names) == len(node.value.elts):
                return [files[name] for name in names]
    raise DataCorrupt(f"{label} does not list the tools; {_AGAIN}")


_AGAIN = "it is not the file of the release; get it again"


def _parsed(source: bytes, label: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise DataCorrupt(f"{label} is not Python source ({error}); {_AGAIN}") from error


def _value(node: ast.expr, label: str) -> Any:
    """A JSON value; `Task` and `Action` are dicts of their arguments."""
    match node:
        case ast.Constant(value=str() | int() | float() | None):
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List():
            return [_value(item, label) for item in node.elts]
        case ast.Dict():
            return {_key(key, label): _value(item, label) for key, item in zip(node.keys, node.values, strict=True)}
        case ast.Call(func=ast.Name(id=name), args=[]) if name in _CONSTRUCTORS:
            return {_name(word, label): _value(word.value, label) for word in node.keywords}
        case ast.BinOp(op=ast.Add()):
            left, right = _value(node.left, label), _value(node.right, label)
            if isinstance(left, str) and isinstance(right, str):
                return left + right
        case _:
            pass
    raise _other(node, label)


def _key(node: ast.expr | None, label: str) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise _other(node, label)


def _name(word: ast.keyword, label: str) -> str:
    if word.arg is None:
        raise _other(word.value, label)
    return word.arg


def _other(node: ast.expr | None, label: str) -> DataCorrupt:
    place = f"line {node.lineno} of {label}" if node is not None else label
    return DataCorrupt(f"{place} holds something other than a literal; {_AGAIN}")
