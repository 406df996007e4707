"""Answers that come as a stream of events although none was requested: the chunks are joined to one completion.

The format is that of server-sent events (WHATWG HTML, 9.2): lines `data: ...`, events separated by empty lines,
comments after a colon, and any kind of line end. The last event of OpenAI-compatible servers is `[DONE]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import orjson

_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry|):")
_LONG = re.compile(r"\d{19}")  # a number that may not fit into 64 bits: orjson would make a float of it
_ONCE = frozenset({"role", "id", "type", "name", "index", "object", "model", "created"})
"""Text fields that are not continued: a repeated one has the same value."""


def is_event_stream(body: bytes) -> bool:
    """Whether a body looks like a stream of events, whatever its content type says."""
    return _START.match(body) is not None


def joined(body: bytes) -> dict[str, Any] | None:
    """The completion in a stream of events, or the error in it; None if the stream is incomplete.

    A stream is complete if it has a finish reason or ends with `[DONE]`.
    """
    whole: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    message: dict[str, Any] = {}
    begun = complete = False
    for kind, data in _events(body):
        if data.strip() == "[DONE]":
            complete = True
            break
        try:
            chunk: object = json.loads(data) if _LONG.search(data) else orjson.loads(data)
        except (ValueError, RecursionError):
            return {"error": {"message": data}} if kind == "error" else None
        if isinstance(chunk, list) and chunk:
            chunk = cast("list[object]", chunk)[0]
        if not isinstance(chunk, dict):
            return None
        fields = cast("dict[str, Any]", chunk)
        if fields.get("error") or kind == "error":
            return {**whole, "choices": [], "error": fields.get("error") or fields}
        for name, value in fields.items():
            if name != "choices" and value is not None:
                whole[name] = value
        begun = begun or "choices" in fields
        _add_choice(choice, message, fields.get("choices"))
    if not (complete or choice.get("finish_reason")):
        return whole if whole and not begun else None
    if not choice:
        return {**whole, "choices": []}
    message["tool_calls"] = [call for _, call in sorted(message.pop("tool_calls", {}).items())]
    if not message["tool_calls"]:
        del message["tool_calls"]
    return {**whole, "choices": [{**choice, "message": {"role": "assistant", "content": None, **message}}]}


def _events(body: bytes) -> Iterator[tuple[str, str]]:
    """Type and data of each event; an event at the end need not be followed by an empty line."""
    kind, data = "", list[str]()
    text = body.decode("utf-8-sig", "replace")
    for line in (*re.split(r"\r\n|\n|\r", text), ""):
        if not line:
            if data:
                yield kind, "\n".join(data)
            kind, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name.strip() == "data":
            data.append(value)
        elif name.strip() == "event":
            kind = value.strip()


def _add_choice(choice: dict[str, Any], message: dict[str, Any], choices: object) -> None:
    """Add a chunk's first choice."""
    for each in cast("list[Any]", choices) if isinstance(choices, list) else []:
        if not isinstance(each, dict):
            continue
        fields = cast("dict[str, Any]", each)
        if fields.get("index") not in (None, 0):
            continue
        for name, value in fields.items():
            if name in ("delta", "message"):
                _add_message(message, value)
            elif value is not None:
                choice[name] = _continued(choice.get(name), value) if name == "logprobs" else value


def _add_message(message: dict[str, Any], delta: object) -> None:
    if not isinstance(delta, dict):
        return
    for name, value in cast("dict[str, Any]", delta).items():
        if name == "tool_calls":
            calls = message.setdefault("tool_calls", {})
            for place, call in enumerate(cast("list[Any]", value) if isinstance(value, list) else []):
                if isinstance(call, dict):
                    _add_call(calls, place, cast("dict[str, Any]", call))
        elif value is not None:
            message[name] = value if name in _ONCE else _continued(message.get(name), value)


def _add_call(calls: dict[int, dict[str, Any]], place: int, delta: dict[str, Any]) -> None:
    """Add a piece of a tool call. A piece without an index continues the last call unless it has an id of its own."""
    index = delta.get("index")
    if not isinstance(index, int):
        last = max(calls, default=-1)
        fresh = last < 0 or (delta.get("id") and delta["id"] != calls[last].get("id"))
        index = last + 1 if fresh else max(last, place)
    call = calls.setdefault(index, {})
    for name, value in delta.items():
        if name == "function" and isinstance(value, dict):
            function = call.setdefault("function", {})
            for key, piece in cast("dict[str, Any]", value).items():
                if piece is not None and (key not in _ONCE or not function.get(key)):
                    function[key] = _continued(function.get(key), piece)
        elif name != "index" and value not in (None, ""):
            call[name] = value if name in _ONCE else _continued(call.get(name), value)


def _continued(before: Any, more: Any) -> Any:
    """A value with another piece of it: texts and lists are appended, objects merged, anything else replaced.

    Lists and objects of `before` are changed: copies of them would take quadratic time.
    """
    match before, more:
        case str(), str():
            return before + more
        case list(), list():
            cast("list[Any]", before).extend(cast("list[Any]", more))
            return cast("list[Any]", before)
        case dict(), dict():
            whole = cast("dict[str, Any]", before)
            for name, value in cast("dict[str, Any]", more).items():
                whole[name] = _continued(whole.get(name), value)
            return whole
        case _, None:
            return before
        case _:
            return more
