"""Reads the prompts of tau-bench from its source files, word for word. Nothing is imported or executed.

A prompt becomes a text with places: `{{instruction}}` of users, `{{transcript}}` and `{{response}}` of their judges,
`{{policy}}` and `{{tools}}` of agents.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from simkit.errors import DataCorrupt

Names: TypeAlias = Mapping[str, str]

USER_FILE: Final = "user.py"
AGENT_FILE: Final = "../agents/chat_react_agent.py"

_AGAIN: Final = "it is not the file of the release; get it again"
_NAMES: Final[Names] = {
    "wiki": "{{policy}}",
    "tools_info": "{{tools}}",
    "RESPOND_ACTION_NAME": "respond",
    "RESPOND_ACTION_FIELD_NAME": "content",
}
_JUDGES: Final = {"verify": "user_verify", "reflect": "user_reflection"}
_NEWER_PLACE: Final = re.compile(r'\{\("([^"]*)" \+ (\w+) \+ "([^"]*)"\) if \w+ is not None else ""\}')


def read_user_prompts(source: bytes, label: str) -> dict[str, str]:
    """The prompts of the simulated users: `user`, `cue` and, if there are such users, `user_react`, `user_verify` and
    `user_reflection`.

    Raises:
        DataCorrupt: the file is not Python, or lacks the plain user's prompt or cue.
    """
    tree, found = _parsed(source, label), dict[str, str]()
    for owner, function in _functions(tree):
        if function.name == "build_system_prompt":
            found["user_react" if owner.startswith("React") else "user"] = _written(function, label)
        elif function.name in _JUDGES:
            found[_JUDGES[function.name]] = _written(function, label)
    cue = next(filter(None, map(_cue, ast.walk(tree))), None)
    if cue is None or "user" not in found:
        raise DataCorrupt(f"{label} does not hold the prompt of a simulated user; {_AGAIN}")
    return {**found, "cue": cue}


def read_agent_prompts(source: bytes, label: str) -> dict[str, str]:
    """The system prompts of the agents that reply in text: `react` (with a thought) and `act`.

    Raises:
        DataCorrupt: the file is not Python, or lacks one of them.
    """
    tree = _parsed(source, label)
    texts = {
        target.id: _text(node.value, _NAMES, label)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    whole = next(filter(None, (_prompt_attribute(node, label) for node in ast.walk(tree))), None)
    if whole is None or not {"REACT_INSTRUCTION", "ACT_INSTRUCTION"} <= texts.keys():
        raise DataCorrupt(f"{label} does not hold the prompts of the agents `react` and `act`; {_AGAIN}")
    return {name: whole.replace("{{instruction}}", texts[f"{name.upper()}_INSTRUCTION"]) for name in ("react", "act")}


def _parsed(source: bytes, label: str) -> ast.Module:
    """The syntax tree. A place in a text that only Python 3.12 reads is written in the older form first."""
    try:
        text = source.decode()
        try:
            return ast.parse(text)
        except SyntaxError:
            return ast.parse(_NEWER_PLACE.sub(r"\1{\2}\3", text))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise DataCorrupt(f"{label} is not Python source ({error}); {_AGAIN}") from error


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions and methods of a file, each with the name of its class."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield "", node
        elif isinstance(node, ast.ClassDef):
            yield from ((node.name, part) for part in node.body if isinstance(part, ast.FunctionDef))


def _written(function: ast.FunctionDef, label: str) -> str:
    """The text that a function returns, or otherwise what it calls `prompt`."""
    names: dict[str, str] = {}
    for line in function.body:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.IfExp() | ast.JoinedStr() | ast.Constant()):
                names[name] = _text(line.value, names, label)
            case ast.Return(value=ast.JoinedStr() as value):
                return _text(value, names, label)
            case _:
                pass
    if "prompt" not in names:
        raise DataCorrupt(f"`{function.name}` in {label} holds no prompt; {_AGAIN}")
    return names["prompt"]


def _prompt_attribute(node: ast.AST, label: str) -> str | None:
    match node:
        case ast.Assign(targets=[ast.Attribute(attr="prompt")], value=ast.BinOp() as value):
            return _text(value, _NAMES, label)
        case _:
            return None


def _cue(node: ast.AST) -> str | None:
    """The content of a user's message whose text is written out."""
    if not isinstance(node, ast.Dict):
        return None
    values = {
        key.value: value.value
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
    }
    cue = values.get("content") if values.get("role") == "user" else None
    return cue if isinstance(cue, str) else None


def _text(node: ast.expr, names: Names, label: str) -> str:
    """A text with places for the values that are not known."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return names.get(name, f"{{{{{name}}}}}")
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, names, label) for part in parts)
        case ast.FormattedValue(value=value) | ast.IfExp(body=value) | ast.Call(args=[value]):
            return _text(value, names, label)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, names, label) + _text(right, names, label)
        case _:
            raise DataCorrupt(f"line {node.lineno} of {label} is no part of a prompt; {_AGAIN}")
