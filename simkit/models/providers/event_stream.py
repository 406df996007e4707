"""Answers that come as a stream of events although none was requested: the events are joined to one answer.

The format is that of server-sent events (WHATWG HTML, 9.2): lines `data: ...`, events separated by empty lines,
comments after a colon, and any kind of line end. The last event of OpenAI-compatible servers is `[DONE]`. Chunks may
also come as bare lines of JSON, and a whole answer after comments that keep the connection open.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import orjson

_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:(?:data|event|id|retry|):|\{[^\n]*\"delta\"[^\n]*\n)")
_LONG = re.compile(r"\d{19}")  # a number that may not fit into 64 bits: orjson would make a float of it
_ONCE = frozenset({"role", "id", "type", "name", "index", "object", "model", "created"})
"""Text fields that are not continued: a repeated one has the same value."""


def is_event_stream(body: bytes) -> bool:
    """Whether a body looks like a stream of events, whatever its content type says."""
    return _START.match(body) is not None


def joined(body: bytes) -> dict[str, Any] | None:
    """The answer in a stream of events, or the error in it; None if the stream is incomplete.

    The chunks of a chat completion become a completion, the events of the Messages API a message. The Responses API
    repeats the whole response in its last event. A stream of chunks is complete if it has a finish reason or ends with
    `[DONE]`.
    """
    chunks: list[dict[str, Any]] = []
    done = False
    for kind, data in _events(body):
        if data.strip() == "[DONE]":
            done = True
            break
        try:
            chunk: object = _parsed(data)
        except (ValueError, RecursionError):
            return {"error": {"message": data}} if kind == "error" else None
        if isinstance(chunk, list) and chunk:
            chunk = cast("list[object]", chunk)[0]
        if not isinstance(chunk, dict):
            return None
        fields = cast("dict[str, Any]", chunk)
        if (kind == "error" or fields.get("type") == "error") and not fields.get("error"):
            fields = {"error": fields}
        chunks.append(fields)
        if fields.get("error"):
            break
    kinds = {str(chunk.get("type")) for chunk in chunks}
    if "message_start" in kinds:
        return _message(chunks)
    if any(kind.startswith("response.") for kind in kinds):
        return _last_response(chunks)
    return _completion(chunks, done)


def _parsed(data: str) -> object:
    return json.loads(data) if _LONG.search(data) else orjson.loads(data)


def _completion(chunks: list[dict[str, Any]], done: bool) -> dict[str, Any] | None:
    """The chat completion in chunks of one."""
    whole: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    message: dict[str, Any] = {}
    begun = False
    for fields in chunks:
        if error := fields.get("error"):
            return {**whole, "choices": [], "error": error}
        for name, value in fields.items():
            if name != "choices" and value is not None:
                whole[name] = value
        begun = begun or "choices" in fields
        _add_choice(choice, message, fields.get("choices"))
    if not (done or choice.get("finish_reason")):
        return whole if whole and not begun else None
    if not choice:
        return {**whole, "choices": []}
    message["tool_calls"] = [call for _, call in sorted(message.pop("tool_calls", {}).items())]
    if not message["tool_calls"]:
        del message["tool_calls"]
    return {**whole, "choices": [{**choice, "message": {"role": "assistant", "content": None, **message}}]}


def _message(chunks: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The message of the Messages API in its events."""
    whole: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    for fields in chunks:
        if error := fields.get("error"):
            return {**whole, "error": error}
        index = fields.get("index")
        match fields.get("type"):
            case "message_start":
                whole = {**_object(fields, "message")}
            case "content_block_start" if isinstance(index, int):
                blocks[index] = {**_object(fields, "content_block")}
            case "content_block_delta" if isinstance(index, int):
                _add_to_block(blocks.setdefault(index, {}), _object(fields, "delta"))
            case "message_delta":
                counts = {name: value for name, value in _object(fields, "usage").items() if value is not None}
                whole = {**whole, **_object(fields, "delta"), "usage": {**_object(whole, "usage"), **counts}}
            case _:
                pass
    if not (whole.get("stop_reason") or any(fields.get("type") == "message_stop" for fields in chunks)):
        return None
    return {**whole, "content": [_whole_block(block) for _, block in sorted(blocks.items())]}


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _add_to_block(block: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "citation":
            block.setdefault("citations", []).append(value)
        elif name != "type":
            block[name] = _continued(block.get(name), value)


def _whole_block(block: dict[str, Any]) -> dict[str, Any]:
    """A block with its input, which came as pieces of JSON; the text itself if it is cut off."""
    if not (text := block.pop("partial_json", "")):
        return block
    try:
        return {**block, "input": _parsed(text)}
    except (ValueError, RecursionError):
        return {**block, "input": text}


def _last_response(chunks: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The response of the Responses API in the event that ends its stream."""
    last = chunks[-1]
    if last.get("error"):
        return last
    ended = last.get("type") in ("response.completed", "response.incomplete", "response.failed")
    return last.get("response") if ended else None


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
        if line.startswith("{"):
            yield kind, line
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
