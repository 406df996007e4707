"""Messages of files in the forms that people have: OpenAI's, TRL's, the older function calls, and ShareGPT's.

Messages are kept as written, with changes that lose nothing: arguments given as objects become JSON text, null fields
(files of structs have them) are dropped, except a null content, ids that are missing are filled in by order, and the
older forms become messages with `tool_calls`, as do calls in text that a result follows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, cast

from pydantic import ValidationError

from simkit.core.messages import Message, ToolSpec, parse_message
from simkit.core.reasoning import FIELD, split_reasoning
from simkit.core.text_calls import marked_calls
from simkit.data.row_files import as_list, as_object, unpacked
from simkit.errors import DataCorrupt

Row = Mapping[str, Any]

_ROLES = {
    **dict.fromkeys(("human",), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bot", "model", "ai"), "assistant"),
    **dict.fromkeys(("function", "observation", "ipython", "tool_response", "tool_result"), "tool"),
}
_CALLING = ("function_call", "tool_call")
"""Roles of ShareGPT whose text is one call, or a list of calls, in JSON."""

_RESPONSE = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)
_ALL_RESPONSES = re.compile(r"\s*(?:<tool_response>(?:(?!</?tool_response>).)*</tool_response>\s*)+", re.DOTALL)
"""Results in text, as in the notation of Hermes: each between marks."""

TEXT_CALLS = "text_calls"
"""The finding that calls written as text were read."""

_WEIGHTS = ("weight", "train", "loss")
"""Fields that say whether an answer is learned: OpenAI's number, and the booleans of other trainers."""


@dataclass(slots=True)
class MessageReader:
    """Reader of the messages of one row; results without an id answer the open calls in their order.

    Attributes:
        place: location of the row, for error messages.
        open: ids and names of calls that have no result yet.
        count: number of calls read.
        tools: tools of the row; if there are any, calls in the text of the last message are read, too.
        noticed: names of findings about the row.
    """

    place: str
    open: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    count: int = 0
    tools: tuple[ToolSpec, ...] = ()
    noticed: set[str] = field(default_factory=set[str])

    def after(self) -> MessageReader:
        """A reader that continues here; several answers can follow one prompt."""
        return MessageReader(self.place, list(self.open), self.count, self.tools, self.noticed)

    def messages(self, value: Any, column: str) -> tuple[tuple[Message, ...], tuple[bool | None, ...]]:
        """Messages of a column, and for each whether it is learned (None: the row does not say).

        Raises:
            DataCorrupt: the column holds no messages, or a message has a weight other than 0 and 1, an unknown role, or
                a field of the wrong type.
        """
        value = unpacked(value, f"`{column}` of {self.place}", "[")
        if isinstance(value, Mapping):
            value = [value]
        if not isinstance(value, list | tuple):
            what = "text" if isinstance(value, str) else "missing or not a list of messages"
            expected = 'write a list of messages like [{"role": "user", "content": "..."}]'
            raise DataCorrupt(f"{self.place}: `{column}` is {what}; {expected}")
        given = [self._plain(each) for each in _items(cast("Sequence[Any]", value), self.place)]
        found: list[tuple[Message, bool | None]] = []
        with _located(self.place):
            for message, after in zip_longest(given, given[1:]):
                followed = bool(self.tools) if after is None else after["role"] == "tool" or _responses(after)
                if message["role"] == "assistant" and followed:
                    self._read_calls(message)
                found += [self._message(each) for each in self._results(message)]
        return tuple(message for message, _ in found), tuple(learned for _, learned in found)

    def _plain(self, given: Any) -> dict[str, Any]:
        """A message in the form {role, content, ...}: ShareGPT writes {from, value}."""
        if not isinstance(given, Mapping):
            raise DataCorrupt(f"{self.place}: a message is {given!r:.60}; it must be an object with role and content")
        fields = cast("Row", given).items()
        message = {name: value for name, value in fields if value is not None or name == "content"}
        if "role" not in message and "from" in message:
            message = {"role": message.pop("from"), "content": message.pop("value", None), **message}
        role = message.get("role", "")
        message["role"] = _ROLES.get(role, role) if isinstance(role, str) else role
        if message["role"] == "assistant":
            _gather_reasoning(message)
        return message

    def _read_calls(self, message: dict[str, Any]) -> None:
        """Turn calls that an answer holds as text into calls, all of them or none.

        The next message is a result, or there is none.
        """
        text = message.get("content")
        if message.get("tool_calls") or not isinstance(text, str):
            return
        thought, words = split_reasoning(text)
        found = marked_calls(words, self.tools)
        if found is None or not found.calls or found.unread:
            return
        message["tool_calls"] = [{"function": {"name": each.name, "arguments": each.arguments}} for each in found.calls]
        message["content"] = found.rest or None
        if thought and not message.get(FIELD):
            message[FIELD] = thought
        self.noticed.add(TEXT_CALLS)

    def _results(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """A message, or the results that it holds in marks, one for each open call."""
        found = _responses(message) if self.open else []
        if not found or (message["role"] == "user" and len(found) > len(self.open)):
            return [message]
        return [{**message, "role": "tool", **result} for result in found]

    def _message(self, message: dict[str, Any]) -> tuple[Message, bool | None]:
        role = str(message["role"])
        learned = self._learned(message, role)
        if (legacy := message.pop("function_call", None)) is not None:
            message["tool_calls"] = [legacy]
        if role in _CALLING:
            message |= {"role": "assistant", "tool_calls": message.get("content") or [None], "content": None}
        if "content" in message:
            message["content"] = _content(message["content"], role)
        if "tool_calls" in message:
            calls = unpacked(message.pop("tool_calls"), f"a call of {self.place}")
            if calls:  # endpoints refuse an empty list
                message["tool_calls"] = list(cast("list[Any]", calls)) if isinstance(calls, list | tuple) else [calls]
        if message["role"] == "tool":
            message["tool_call_id"] = self._answered(message)
        elif message["role"] == "assistant" and message.get("tool_calls"):
            message["tool_calls"] = [self._call(call) for call in message["tool_calls"]]
            self.open = [(call["id"], str(call["function"].get("name"))) for call in message["tool_calls"]]
        return parse_message(message), learned

    def _learned(self, message: dict[str, Any], role: str) -> bool | None:
        """Take the weights of a message out of it; the first one counts."""
        if message.keys().isdisjoint(_WEIGHTS):
            return None
        weights = {name: message.pop(name) for name in _WEIGHTS if name in message}
        for name, weight in weights.items():
            if weight not in (0, 1):
                raise DataCorrupt(
                    f"{self.place}: the {name} of a message is {weight!r:.40}; write 0 (context) or 1 (learned)"
                )
        return bool(next(iter(weights.values()))) if role in ("assistant", *_CALLING) else None

    def _call(self, given: Any) -> dict[str, Any]:
        """A call in the OpenAI form; TRL's examples omit its id and type, and give arguments as an object."""
        given = unpacked(given, f"a call of {self.place}")
        if not isinstance(given, Mapping):
            raise DataCorrupt(f"{self.place}: a call is {given!r:.60}; it must be an object with a function")
        call = {name: value for name, value in cast("Row", given).items() if value is not None}
        bare = {name: call.pop(name) for name in ("name", "arguments") if name in call}
        function = dict(as_object(call.get("function")) or bare)
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            function["arguments"] = "{}" if arguments is None else json.dumps(arguments, ensure_ascii=False)
        self.count += 1
        return {"id": f"call_{self.count}", "type": "function", **call, "function": function}

    def _answered(self, message: dict[str, Any]) -> str:
        """The id of the call that a result answers; empty if no call is open."""
        name, known = message.get("name"), message.get("tool_call_id")
        if known is not None:
            self.open = [one for one in self.open if one[0] != known]
            return str(known)
        place = next((n for n, one in enumerate(self.open) if one[1] == name), 0)
        return self.open.pop(place)[0] if self.open else ""


def _responses(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The results in a message of the tool or the user that consists of results in marks."""
    text = message.get("content")
    if message["role"] not in ("tool", "user") or not isinstance(text, str) or not _ALL_RESPONSES.fullmatch(text):
        return []
    return [_response(each.strip()) for each in _RESPONSE.findall(text)]


def _response(text: str) -> dict[str, Any]:
    """Content and name of a result, which may be an object of both."""
    value: Row = {}
    with suppress(ValueError, RecursionError):
        value = as_object(json.loads(text))
    if "content" not in value or not value.keys() <= {"content", "name", "tool_call_id"}:
        return {"content": text}
    content = value["content"]
    named = {"name": value["name"]} if isinstance(value.get("name"), str) else {}
    return {"content": content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), **named}


def _gather_reasoning(message: dict[str, Any]) -> None:
    """Make the reasoning of a message its field `reasoning_content`, from other fields and from parts."""
    thoughts: list[str] = [
        message.pop(name) for name in ("reasoning", "thinking") if isinstance(message.get(name), str)
    ]
    parts = as_list(message.get("content"))
    thinking = [part for part in parts if _is_part(part) and part["type"] in ("thinking", "reasoning")]
    if thinking:
        message["content"] = [part for part in parts if part not in thinking] or None
        found = (part.get("thinking") or part.get("reasoning") or part.get("text") for part in thinking)
        thoughts.append("\n\n".join(str(each) for each in found if each))
    if not message.get(FIELD) and (thought := next(filter(None, thoughts), None)):
        message[FIELD] = thought


def _content(content: Any, role: str) -> Any:
    """Text or parts; a tool's result that is a JSON value becomes its text, and null becomes empty text."""
    match content:
        case None:
            return None if role in ("assistant", *_CALLING) else ""
        case list() if role != "tool" or all(map(_is_part, cast("list[Any]", content))):
            return [_part(each) for each in cast("list[Any]", content)]
        case dict() | list() | int() | float() if role == "tool":
            return json.dumps(content, ensure_ascii=False)
        case _:
            return content


def _is_part(value: Any) -> bool:
    return isinstance(value, Mapping) and "type" in value


def _part(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {name: value for name, value in cast("Row", part).items() if value is not None}
    return {"type": "text", "text": part} if isinstance(part, str) else part


def _items(items: Sequence[Any], place: str) -> list[Any]:
    what = f"an item of {place}"
    return [unpacked(item, what) for item in items]


@contextmanager
def _located(place: str) -> Generator[None]:
    try:
        yield
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        field = ".".join(map(str, wrong["loc"])) or "a message"
        raise DataCorrupt(f"{place}: {field} is wrong and cannot be read ({wrong['msg']}); correct it") from error


def tools_of(value: Any, place: str) -> tuple[ToolSpec, ...]:
    """Tools of a row: a list or its JSON text, of tools in the OpenAI form or of bare functions.

    Raises:
        DataCorrupt: it is neither, or a tool has no name, or a field of the wrong type.
    """
    value = unpacked(value, f"the tools of {place}") if value else ()
    if value and not isinstance(value, list | tuple):
        raise DataCorrupt(f"{place}: `tools` is {value!r:.60}; write a list of tools")
    with _located(place):
        return tuple(ToolSpec.model_validate(_tool(tool)) for tool in _items(cast("Sequence[Any]", value or ()), place))


def _tool(tool: Any) -> Any:
    if not isinstance(tool, Mapping):
        return tool
    kept = {name: value for name, value in cast("Row", tool).items() if value is not None}
    if "function" in kept:
        return {"type": "function", **kept, "function": _schema(kept["function"])}
    bare = {name: value for name, value in kept.items() if name != "type"}
    return {"type": "function", "function": _schema(bare)}


_MAY_BE_NULL = ("default", "const", "example")
_VALUES = (*_MAY_BE_NULL, "enum", "examples")


def _schema(value: Any) -> Any:
    """A JSON schema without the nulls that a file of structs adds for keywords that it lacks."""
    if isinstance(value, Mapping):
        return {
            name: each if name in _VALUES else _schema(each)
            for name, each in cast("Row", value).items()
            if each is not None or name in _MAY_BE_NULL
        }
    return [_schema(each) for each in as_list(value)] if isinstance(value, list | tuple) else value
