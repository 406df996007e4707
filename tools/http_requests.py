"""Requests of tool calls: arguments written into paths, queries, headers and bodies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

from simkit.apis.client import HttpRequest
from simkit.tools.http_endpoints import WHOLE_BODY, Endpoint

LONGEST = 16_000
"""Characters of the longest address, and of the longest header."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


class BadCall(Exception):
    """A mistake in the arguments of a call, for the agent to read."""


def request_of(endpoint: Endpoint, arguments: Mapping[str, Any]) -> HttpRequest:
    """The request of a call.

    Raises:
        BadCall: an argument is unknown, missing, or cannot be written where it belongs.
    """
    if unknown := [name for name in arguments if name not in endpoint.parameters]:
        known = ", ".join(endpoint.parameters) or "none"
        raise BadCall(f"`{endpoint.name}` has no parameter `{unknown[0][:100]}`; it has: {known}")
    if missing := [name for name in endpoint.needed if name not in arguments]:
        raise BadCall(f"`{endpoint.name}` needs the parameter `{missing[0]}`")
    by_place: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "header": {}, "body": {}}
    for name, value in arguments.items():
        by_place[endpoint.place(name)][name] = value
    path = endpoint.path
    for name, value in by_place["path"].items():
        path = path.replace(f"{{{name}}}", _segment(name, value))
    body: Any = by_place["body"].get(WHOLE_BODY) if endpoint.whole else by_place["body"]
    has_body = bool(by_place["body"])
    query = tuple((name, text) for name, value in by_place["query"].items() for text in _texts(value))
    if len(path) + sum(len(name) + 3 * len(text) for name, text in query) > LONGEST:
        raise BadCall(f"the arguments of `{endpoint.name}` are too long for an address")
    return HttpRequest(
        method=endpoint.method,
        path=path,
        query=query,
        headers={name: _header(name, value) for name, value in by_place["header"].items()},
        json=None if endpoint.form else body,
        form=_form(body) if endpoint.form else None,
        has_body=has_body,
    )


def _form(body: Any) -> dict[str, str]:
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {WHOLE_BODY: body}
    return {name: _text(value) for name, value in fields.items()}


def _segment(name: str, value: Any) -> str:
    """A value as a part of the path, which cannot lead out of it."""
    text = _text(value)
    if text in ("", ".", ".."):
        raise BadCall(f"the parameter `{name}` cannot be {text!r}")
    return quote(text, safe="")


def _header(name: str, value: Any) -> str:
    text = _text(value)
    if _UNSAFE.search(text) or not text.isascii() or len(text) > LONGEST or text != text.strip():
        raise BadCall(f"the parameter `{name}` is too long for a header, or has a character that none can hold")
    return text


def _texts(value: Any) -> list[str]:
    return [_text(each) for each in cast("list[Any]", value)] if isinstance(value, list) else [_text(value)]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)  # orjson has no long integers
    return text.encode("utf-8", "replace").decode()  # nor has UTF-8 half a character
