"""Facts in an endpoint's error reply: codes, texts, refused fields, and how long to wait.

Servers nest errors in many ways: objects, lists, JSON inside of texts. All reading is bounded in depth and size.
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import orjson

from simkit.core.values import without_surrogates
from simkit.models.providers.event_stream import is_event_stream, joined
from simkit.models.transport.http1 import HttpReply

LOOKED_AT = 64 << 10
"""Maximum bytes of a server's text that are examined."""

_READ_AGAIN = 1 << 20
"""Maximum size, in bytes, of an invalid JSON answer that is parsed again by a slower, more lenient parser."""

_DEPTH, _OBJECTS = 10, 200
"""Bounds on the nested objects of an error that are examined."""

_CODE_FIELDS = ("code", "type", "status", "reason", "error", "error_code", "errorCode", "error_type", "__type", "Code")
_TEXT_FIELDS = (
    *("message", "msg", "detail", "error", "raw", "error_description", "description", "cause", "Message"),
    *("error_message", "error_msg", "status_msg"),
)
_STATUS_FIELDS = ("status", "status_code", "code", "http_code", "error_code")
_REPEATED_FIELDS = frozenset({"input", "ctx", "body", "request", "messages", "failed_generation"})
"""Fields in which servers repeat the request, or what the model wrote."""

_HEADERS_WITH_CODES = ("x-amzn-errortype", "x-ms-error-code", "x-error-code")
_LONGEST_WAIT = 7 * 86400.0
"""Seconds above which a stated wait is not believed."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(ms|milliseconds?|s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)(?![a-z])")
_IN = re.compile(r"(?:try again|retry|wait|available|resets?|reset) (?:after|in|for)[: ]{1,3}(?:about |~)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RESET = re.compile(r"(?:x-|anthropic-)?ratelimit-(?:reset(-[a-z-]+)?|([a-z-]+)-reset)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetails:
    """Contents of an error reply.

    Attributes:
        status: the HTTP status; for an error under status 200, the one that its codes name, else 0.
        message: the server's description, for people.
        words: all of its texts in lower case, for searches.
        codes: all codes in it, reduced to lower-case letters and digits (`insufficient_quota`: `insufficientquota`).
        fields: names of request fields that it refuses, as the server wrote them.
        quotas: names of violated quotas, in lower case.
        wait: seconds that the server asks to wait.
        page: whether the body is a web page.
        generated: what the model wrote, if the server could not parse it.
        usage: the usage that it reports.
    """

    status: int
    message: str = ""
    words: str = ""
    codes: frozenset[str] = frozenset()
    fields: tuple[str, ...] = ()
    quotas: tuple[str, ...] = ()
    wait: float | None = None
    page: bool = False
    generated: str | None = None
    usage: object = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, reply: HttpReply, now: float) -> ErrorDetails:
        """Read the details of a reply; `now` is in seconds since the epoch."""
        body = parse_body(reply.body) if len(reply.body) <= LOOKED_AT else None
        page = body is None and _is_page(reply)
        objects = list(_objects(body))
        error = _error_of(body)
        message = _described(error) if body is not None else "" if page else _decoded(reply.body)
        texts = [message, *(text for each in objects for text in _texts(each))]
        words = " ".join(dict.fromkeys(texts))[:LOOKED_AT].lower()
        codes = [code for each in objects for code in _codes(each)]
        codes += [reply.headers[name].partition(":")[0] for name in _HEADERS_WITH_CODES if name in reply.headers]
        return cls(
            status=reply.status if reply.status != 200 else _status_of(objects),
            message=message,
            words=words,
            codes=frozenset(normalized(code) for code in codes),
            fields=tuple(name for each in objects for name in _refused_fields(each)),
            quotas=tuple(
                str(each[name]).lower() for each in objects for name in ("quotaId", "quotaMetric") if name in each
            ),
            wait=_wait(reply.headers, objects, words, now),
            page=page,
            generated=next((_text(each["failed_generation"]) for each in objects if "failed_generation" in each), None),
            usage=cast("dict[str, Any]", body).get("usage") if isinstance(body, dict) else None,
            headers=reply.headers,
        )


def parse_body(body: bytes) -> object:
    """The JSON value of a body, put together if it is a stream of events; None if it is neither."""
    value = parse_json(body)
    return joined(body) if value is None and is_event_stream(body) else value


def parse_json(body: bytes, *, exact: bool = False) -> object:
    """The parsed value; None if it is not JSON. Lone surrogates, left by cut-off emojis, are replaced.

    Args:
        body: the JSON text.
        exact: keep integers of more than 64 bits, which the fast parser turns into floats.
    """
    try:
        return json.loads(body) if exact else orjson.loads(body)
    except (ValueError, RecursionError):
        if len(body) > _READ_AGAIN:
            return None
        try:
            return without_surrogates(json.loads(body))
        except (ValueError, RecursionError):
            return None


def normalized(code: str) -> str:
    """A code in lower-case letters and digits, without a namespace and without `error` or `exception` at its end."""
    plain = re.sub(r"[^a-z0-9]", "", code.rpartition("#")[2].rpartition(".")[2].lower())
    for ending in ("exception", "error"):
        plain = plain.removesuffix(ending) or plain
    return plain


def _is_page(reply: HttpReply) -> bool:
    start = reply.body[:200].lstrip().lower()
    return "html" in reply.headers.get("content-type", "") or start.startswith((b"<!doctype", b"<html"))


def _decoded(body: bytes) -> str:
    return body[: 2 * LOOKED_AT].decode("utf-8", "replace")


def _objects(value: object, depth: int = _DEPTH) -> Iterator[dict[str, Any]]:
    """All objects in a value, the outer ones first, including those in JSON texts."""
    level, found = [value], 0
    for _ in range(depth):
        following: list[object] = []
        for each in level:
            match each:
                case dict():
                    fields = cast("dict[str, Any]", each)
                    found += 1
                    yield fields
                    following += (inner for name, inner in fields.items() if name not in _REPEATED_FIELDS)
                case list():
                    following += cast("list[object]", each)[:_OBJECTS]
                case str() if "{" in each and len(each) <= LOOKED_AT:
                    following.append(_embedded(each))
                case _:
                    pass
            if found >= _OBJECTS:
                return
        level = following


def _embedded(text: str) -> object:
    """The JSON object inside of a text such as `OpenAIException - {"error": ...}`."""
    try:
        return json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    except (ValueError, RecursionError):
        return None


def _error_of(body: object) -> object:
    """The part of a body that describes the error."""
    if isinstance(body, list):
        items = cast("list[object]", body)
        return _error_of(items[0]) if items else ""
    if not isinstance(body, dict):
        return body
    fields = cast("dict[str, Any]", body)
    choices = fields.get("choices")
    first = cast("list[Any]", choices)[0] if isinstance(choices, list) and choices else None
    inner = cast("dict[str, Any]", first).get("error") if isinstance(first, dict) else None
    named = (fields.get(name) for name in ("detail", "message", "errors", "base_resp"))
    return fields.get("error") or inner or next(filter(None, named), fields)


def _described(error: object) -> str:
    """An error's message with its codes, on one line."""
    items = cast("list[object]", error) if isinstance(error, list) else [error]
    if len(items) != 1 or not isinstance(items[0], dict):
        return _text(items[0] if len(items) == 1 else items)
    fields = cast("dict[str, Any]", items[0])
    names = ("message", "msg", "error_message", "error_msg", "status_msg", "code", "status", "type")
    words = [_text(fields[name]) for name in names if fields.get(name)]
    if "msg" in fields and "loc" in fields:
        words.insert(0, _text(fields["loc"]))
    return " ".join(dict.fromkeys(words)) or _text(fields)


def _text(value: object) -> str:
    """A value of an error body as text. A value nested too deep is left out."""
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except (RecursionError, ValueError):
        return "(nested too deep to be shown)"


def _texts(fields: Mapping[str, Any]) -> Iterator[str]:
    for name in _TEXT_FIELDS:
        if isinstance(value := fields.get(name), str):
            yield value


def _codes(fields: Mapping[str, Any]) -> Iterator[str]:
    for name in _CODE_FIELDS:
        value = fields.get(name)
        if isinstance(value, str) and 0 < len(value) <= 100:
            yield value
        elif type(value) is int and name != "status":
            yield str(value)


def _refused_fields(fields: Mapping[str, Any]) -> Iterator[str]:
    """Names of fields in `param` (OpenAI) and `loc` (FastAPI), such as `temperature` and `messages.0.name`."""
    for name in ("param", "parameter", "field"):
        if isinstance(value := fields.get(name), str) and value:
            yield value
    if isinstance(place := fields.get("loc"), list):
        parts = [str(part) for part in cast("list[object]", place) if part != "body"]
        if parts:
            yield ".".join(parts)


def _status_of(objects: list[dict[str, Any]]) -> int:
    for fields in objects[:20]:
        for name in _STATUS_FIELDS:
            value = fields.get(name)
            if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value):
                value = int(value)
            if type(value) is int and 400 <= value < 600:
                return value
    return 0


# --- how long to wait -------------------------------------------------------------------------------------------------


def _wait(headers: Mapping[str, str], objects: list[dict[str, Any]], words: str, now: float) -> float | None:
    """Seconds to wait, from the most reliable source: Retry-After, RetryInfo, reset times, prose."""
    found = retry_after(headers, now)
    if found is None:
        found = next((seconds for each in objects if (seconds := _in_body(each, now)) is not None), None)
    if found is None:
        found = reset_after(headers, now)
    if found is None and (match := _IN.search(words)):
        found = _seconds(words[match.end() : match.end() + 40])
    return found if found is not None and found <= _LONGEST_WAIT else None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server asks to wait: `retry-after-ms`, or `retry-after` as seconds or as an HTTP date."""
    asked = {name: value for name in ("retry-after-ms", "retry-after") if 0 < len(value := headers.get(name, "")) < 100}
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(asked[name]) * scale
        except (KeyError, ValueError):
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:
        date = email.utils.parsedate_to_datetime(asked["retry-after"])
        return max(0.0, date.timestamp() - now)
    except (KeyError, ValueError, TypeError, OverflowError):
        return _seconds(asked.get("retry-after", ""))


def reset_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until the limits that are used up are renewed: the latest of `x-ratelimit-reset-*` and its like."""
    waits: list[float] = []
    for name, value in headers.items():
        match = _RESET.fullmatch(name.lower())
        if match is None or len(value) > 100:
            continue
        left = headers.get(re.sub("reset", "remaining", name, count=1))
        if left is None or left.strip() in ("0", "0.0"):
            waits += [seconds] if (seconds := _until(value, now)) is not None else []
    return max(waits, default=None)


def _in_body(fields: Mapping[str, Any], now: float) -> float | None:
    """google.rpc.RetryInfo, numbers of seconds, and headers that a gateway repeats in the body."""
    delay = fields.get("retryDelay")
    if isinstance(delay, str):
        return _seconds(delay)
    if isinstance(delay, dict):
        delay = cast("dict[str, Any]", delay).get("seconds")
    for value in (delay, fields.get("retry_after"), fields.get("retryAfter"), fields.get("retry_after_seconds")):
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
            return float(value)
    if isinstance(inner := fields.get("headers"), dict):
        repeated = {name.lower(): str(value) for name, value in cast("dict[str, Any]", inner).items()}
        seconds = retry_after(repeated, now)
        return reset_after(repeated, now) if seconds is None else seconds
    return None


def _until(value: str, now: float) -> float | None:
    """Seconds until a reset that is written as a duration, a time since the epoch (s or ms), or a date."""
    text = value.strip().lower()
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not 0 <= number < 1e14:
            return None
        return max(0.0, (number / 1000 if number > 1e11 else number) - now) if number > 1e9 else number
    if (seconds := _seconds(text)) is not None:
        return seconds
    try:
        date = datetime.fromisoformat(value.strip())
        return max(0.0, date.timestamp() - now) if date.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _seconds(text: str) -> float | None:
    """Seconds of a duration at the start of a text: `1.5s`, `6m0s`, `7m12.3s`, `350ms`, `20 seconds`."""
    total, position, found = 0.0, 0, False
    text = text.strip().lower()
    while (match := _DURATION.match(text, position)) is not None:
        unit = match[2]
        scale = _UNITS["ms"] if unit.startswith(("ms", "milli")) else _UNITS[unit[0]]
        total, position, found = total + float(match[1]) * scale, match.end(), True
        while text[position : position + 1] == " ":
            position += 1
    return total if found else None
