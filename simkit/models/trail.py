"""What is kept of a request: the bytes that were sent, or digests of its parts that tell later what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import orjson

from simkit.messages import JsonObject, ToolSpec, parse_message
from simkit.models.base import ChatRequest


class JsonText(Mapping[str, Any]):
    """A JSON object that is kept as the text it was written as, and parsed when somebody looks inside."""

    __slots__ = ("_parsed", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._parsed: dict[str, Any] | None = None

    def json_text(self) -> bytes:
        """The text, for whoever writes it somewhere as it is."""
        return self.text

    @property
    def _value(self) -> dict[str, Any]:
        if self._parsed is None:
            self._parsed = cast("dict[str, Any]", orjson.loads(self.text))
        return self._parsed

    def __getitem__(self, key: str) -> Any:
        return self._value[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return f"JsonText({self.text[:80]!r})"


def whole_request(request: ChatRequest, model: str) -> JsonObject:
    """The request as JSON, as the store keeps it when bodies are wanted."""
    return JsonText(request.to_json(model, request.settings()))


def request_digest(request: ChatRequest, model: str, settings: JsonObject | None = None) -> JsonObject:
    """The request in few bytes: 8 hex digits for each message and each tool, and its settings as they are.

    Args:
        settings: the request's own, where they are at hand already.
    """
    kept = {
        "model": model,
        "messages": b"".join([message.digest()[:4] for message in request.messages]).hex(),
        "tools": b"".join([tool.digest()[:4] for tool in request.tools]).hex(),
        "settings": request.settings() if settings is None else settings,
    }
    return {"digest": kept}


def difference(recorded: JsonObject | None, request: ChatRequest, model: str) -> str:
    """In words, the first thing in which a request differs from the recorded one.

    Args:
        recorded: what `whole_request` or `request_digest` kept, None when nothing was.
    """
    if recorded is None:
        return "the recorded request is not known"
    old, new = digest_of(recorded), request_digest(request, model)["digest"]
    if old["model"] != new["model"]:
        return f"the model was `{old['model']}` and is `{new['model']}`"
    return (
        _settings_difference(old["settings"], new["settings"])
        or _list_difference("message", old["messages"], new["messages"])
        or _list_difference("tool", old["tools"], new["tools"])
        or "the requests are equal"
    )


def digest_of(recorded: JsonObject) -> JsonObject:
    """The digests of a recorded request, whichever way it was kept; see `request_digest`."""
    if "digest" in recorded:
        return recorded["digest"]
    settings = {key: value for key, value in recorded.items() if key not in ("model", "messages", "tools")}
    return {
        "model": recorded.get("model"),
        "messages": "".join(parse_message(each).digest()[:4].hex() for each in recorded["messages"]),
        "tools": "".join(ToolSpec.model_validate(each).digest()[:4].hex() for each in recorded.get("tools", ())),
        "settings": settings,
    }


def _settings_difference(old: JsonObject, new: JsonObject) -> str:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if orjson.dumps(before, option=orjson.OPT_SORT_KEYS) != orjson.dumps(after, option=orjson.OPT_SORT_KEYS):
            return f"`{name}` was {before!r} and is {after!r}"
    return ""


def _list_difference(noun: str, old: str, new: str) -> str:
    for start in range(0, min(len(old), len(new)), 8):
        if old[start : start + 8] != new[start : start + 8]:
            return f"{noun} {start // 8} (counted from 0) is another one"
    return "" if len(old) == len(new) else f"there were {len(old) // 8} {noun}s and are {len(new) // 8}"
