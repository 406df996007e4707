"""Conversion of an endpoint's error reply to the exception that it stands for."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from simkit.errors import (
    AuthFailed,
    BadRequest,
    ContextTooLong,
    ModelFault,
    ModelNotServed,
    PromptFiltered,
    QuotaExhausted,
    RateLimited,
    RunStopped,
    ServerFailed,
    Unreachable,
)
from simkit.models.transport.http1 import HttpReply
from simkit.models.transport.secrets import Secrets

_TOO_LONG = (
    *("context length", "context_length", "context window", "context size", "maximum context", "max_model_len"),
    *("prompt is too long", "input is too long", "too many tokens", "too many input tokens", "reduce the length"),
    "exceed_context_size",
)
_FILTERED = (
    *("content filter", "content_filter", "content management policy", "responsibleai", "moderation"),
    "flagged",
)
_BAD_KEY = ("api key not valid", "invalid api key", "incorrect api key", "invalid_api_key")
_NO_QUOTA = ("insufficient_quota", "exceeded your current quota", "billing", "insufficient balance")
_NO_MODEL = ("model_not_found", "invalid model name", "server is pinned to")
_THAT_MODEL = re.compile(r"model \S{1,300} (?:does not exist|not found)")

_SHOWN = 300
"""Maximum characters of a server's text in an error message."""

_LOOKED_AT = 64 << 10
"""Maximum bytes of a server's text that are examined."""

_READ_AGAIN = 1 << 20
"""Maximum size, in bytes, of an invalid JSON answer that is parsed again by a slower, more lenient parser."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Context for reading replies: endpoint and model for error messages, keys to remove from them, and the clock."""

    origin: str
    model: str
    secret: str = field(default="", repr=False)
    more_secrets: tuple[str, ...] = field(default=(), repr=False)
    now: Callable[[], float] = time.time
    secrets: Secrets = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "secrets", Secrets.of((self.secret, *self.more_secrets)))

    def clean(self, text: str) -> str:
        """Shorten a server's text to one line without keys. Pass the whole text, since a cut could split a key."""
        text = self.secrets.out_of_message(text[: 2 * _LOOKED_AT])[:_LOOKED_AT]
        text = " ".join(text.split())
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."

    def start_of(self, body: bytes) -> str:
        """The beginning of a body, cleaned."""
        return self.clean(body[: 2 * _LOOKED_AT].decode("utf-8", "replace"))


def read_error(reply: HttpReply, reading: Reading) -> ModelFault | RunStopped:
    """The error that a reply stands for."""
    told, status = _told(reply), reply.status
    words = told[:_LOOKED_AT].lower()
    where = f"{reading.origin} answered {status}"
    said = f": {reading.clean(told)}" if told else ""
    wait = retry_after(reply.headers, reading.now())
    if 300 <= status < 400:
        place = reading.clean(reply.headers.get("location", "another place"))
        return ModelNotServed(f"{where} and points to {place}; give the final address as the base URL")
    if (status in (401, 403) and not _among(_FILTERED, words)) or (status == 400 and _among(_BAD_KEY, words)):
        return AuthFailed(f"{where}{said}. Check OPENAI_API_KEY, and that the key may use `{reading.model}`")
    if status == 402 or (status == 429 and _among(_NO_QUOTA, words)):
        return QuotaExhausted(f"{where}{said}. Top up the account, then resume the run")
    if status in (404, 405) or (status == 400 and (_among(_NO_MODEL, words) or _THAT_MODEL.search(words))):
        return ModelNotServed(
            f"{where}{said}. Check the model's name (`{reading.model}`) and the base URL (most end in /v1)"
        )
    if status == 429:
        return RateLimited(f"{where}{said}", retry_after=wait)
    if status in (408, 425, 502, 503, 504, 520, 521, 522, 523, 524, 529):
        return Unreachable(f"{where}{said}", retry_after=wait)
    if status == 409 or status >= 500:
        return _too_long(words, where + said) or ServerFailed(f"{where}{said}", retry_after=wait)
    if _among(_FILTERED, words):
        return PromptFiltered(f"{where}: its content filter refuses the conversation{said}")
    return _too_long("context length" if status == 413 else words, where + said) or BadRequest(
        f"{where}{said}. The server refuses this request; check the sampling choices and tools of `{reading.model}`"
    )


def _among(signs: tuple[str, ...], words: str) -> bool:
    """Whether the words (in lower case) contain one of the signs. Plain searches stay fast on long texts."""
    return any(sign in words for sign in signs)


def _too_long(words: str, message: str) -> ContextTooLong | None:
    if not _among(_TOO_LONG, words):
        return None
    return ContextTooLong(f"{message}. The conversation does not fit into the model; use fewer turns or a larger model")


def _told(reply: HttpReply) -> str:
    """The server's description of an error, from any of the usual fields."""
    data = parse_json(reply.body) if len(reply.body) <= _LOOKED_AT else None
    if not isinstance(data, dict):
        kind = reply.headers.get("content-type", "")
        return "" if "html" in kind else reply.body[: 2 * _LOOKED_AT].decode("utf-8", "replace")
    body = cast("dict[str, Any]", data)
    error = body.get("error") or body.get("detail") or body.get("message") or body
    if not isinstance(error, dict):
        return error if isinstance(error, str) else _written(error)
    fields = cast("dict[str, Any]", error)
    words = [_written(fields[name]) for name in ("message", "code", "type") if fields.get(name)]
    return " ".join(dict.fromkeys(words)) or _written(fields)


def _written(value: object) -> str:
    """A value of an error body as text. A value nested too deep is left out."""
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        return "(nested too deep to be shown)"


def status_of(error: object) -> int:
    """The HTTP status that an error object under status 200 stands for."""
    code = cast("dict[str, Any]", error).get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


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
        return None


def parse_json(body: bytes) -> object:
    """The parsed value; None if it is not JSON. Lone surrogates, left by cut-off emojis, are replaced."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if len(body) > _READ_AGAIN:
            return None
        try:
            return _without_surrogates(json.loads(body))
        except (ValueError, RecursionError):
            return None


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_without_surrogates(each) for each in cast("list[Any]", value)]
        case dict():
            fields = cast("dict[str, Any]", value)
            return {_without_surrogates(key): _without_surrogates(each) for key, each in fields.items()}
        case _:
            return value
