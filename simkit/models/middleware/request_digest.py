"""Recorded forms of a request: the whole body, or digests of its parts that later reveal differences."""

from __future__ import annotations

import orjson

from simkit.core.messages import JsonObject, JsonText, ToolSpec, parse_message
from simkit.core.persistent_list import JsonList, json_list
from simkit.models.base import ChatRequest, settings_json


def whole_request(request: ChatRequest, model: str) -> JsonObject:
    """The whole request as JSON, as stored with `record_requests`."""
    return JsonText(request.to_json(model, request.settings()))


def request_digest(request: ChatRequest, model: str, settings: bytes | None = None) -> JsonObject:
    """Compact form of a request: 8 hex digits for each message and each tool, and the settings unchanged.

    Args:
        settings: the request's own from `settings_json`, if the caller has them already.
    """
    return JsonText(
        b'{"digest":{"model":%s,"messages":"%s","tools":"%s","settings":%s}}'
        % (
            orjson.dumps(model),
            json_list(request.messages).marks().hex().encode(),
            json_list(request.tools).marks().hex().encode(),
            settings_json(request) if settings is None else settings,
        )
    )


def difference(recorded: JsonObject | None, request: ChatRequest, model: str) -> str:
    """Description of the first difference between a request and the recorded one.

    Args:
        recorded: the form from `whole_request` or `request_digest`; None if the request was not recorded.
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
    """The digests of a recorded request in either form; see `request_digest`."""
    if "digest" in recorded:
        return recorded["digest"]
    settings = {key: value for key, value in recorded.items() if key not in ("model", "messages", "tools")}
    return {
        "model": recorded.get("model"),
        "messages": JsonList(parse_message(each) for each in recorded["messages"]).marks().hex(),
        "tools": JsonList(ToolSpec.model_validate(each) for each in recorded.get("tools", ())).marks().hex(),
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
            return f"{noun} {start // 8} (counted from 0) is different"
    return "" if len(old) == len(new) else f"there were {len(old) // 8} {noun}s, now there are {len(new) // 8}"
