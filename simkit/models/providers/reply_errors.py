"""Conversion of an endpoint's error reply to the exception that it stands for.

Codes decide before words: a code, type or status in the body, then headers, then the HTTP status, and prose last.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard, cast

import simkit.models.providers.error_signs as signs
from simkit.errors import (
    AuthFailed,
    BadRequest,
    ContextTooLong,
    MalformedReply,
    ModelFault,
    ModelNotServed,
    PromptFiltered,
    QuotaExhausted,
    RateLimited,
    RunStopped,
    ServerFailed,
    UnparsedCall,
    Unreachable,
)
from simkit.models.providers.error_details import LOOKED_AT, ErrorDetails, parse_body, parse_json
from simkit.models.providers.error_signs import CODES, Kind
from simkit.models.providers.event_stream import is_event_stream
from simkit.models.transport.http1 import HttpReply
from simkit.models.transport.secrets import Secrets
from simkit.models.usage import tokens_used

_SHOWN = 300
"""Maximum characters of a server's text in an error message."""

_WORTH_WAITING = 1800.0
"""Seconds of waiting for a limit of a day above which the run ends instead."""

_KIND: Mapping[str, Kind] = {code: kind for kind, codes in CODES.items() for code in codes}


_ERROR_FIELDS = ("detail", "message", "msg", "errors", "error_code", "error_message", "error_msg", "base_resp")
"""Fields of an answer without choices that describe an error."""

_WRAPPERS = ("data", "result", "response", "body")
"""Fields in which some gateways wrap an answer."""

_REQUEST_IDS = ("request-id", "x-request-id", "x-amzn-requestid", "apim-request-id")
"""Headers by which a provider's support finds a request."""


@dataclass(frozen=True, slots=True)
class ReplyContext:
    """Context for reading replies: endpoint, model and key variable for messages, keys to remove, and the clock."""

    origin: str
    model: str
    secret: str = field(default="", repr=False)
    more_secrets: tuple[str, ...] = field(default=(), repr=False)
    now: Callable[[], float] = time.time
    key_name: str = "OPENAI_API_KEY"
    secrets: Secrets = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "secrets", Secrets.of((self.secret, *self.more_secrets)))

    def clean(self, text: str) -> str:
        """Shorten a server's text to one line without keys. Pass the whole text, since a cut could split a key."""
        text = self.secrets.out_of_message(text[: 2 * LOOKED_AT])[:LOOKED_AT]
        text = " ".join(text.split())
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."

    def start_of(self, body: bytes) -> str:
        """The beginning of a body, cleaned."""
        return self.clean(body[: 2 * LOOKED_AT].decode("utf-8", "replace"))


def read_body(reply: HttpReply, reading: ReplyContext, *, exact: bool = False) -> dict[str, Any]:
    """The JSON object of an answer, without secrets. A stream of events is joined.

    Args:
        reply: the answer.
        reading: what is known about its endpoint.
        exact: keep integers of any length; slower.

    Raises:
        ModelFault: the reply is an error, or not a JSON object.
        RunStopped: the reply means that no call can succeed.
    """
    if reply.status != 200 and not 200 <= reply.status < 300:
        raise read_error(reply, reading)
    cleaned = reading.secrets.out_of_answer(reply.body)
    data = parse_json(cleaned, exact=exact)
    if not isinstance(data, dict):
        data = _unusual_body(data, cleaned, reply, reading)
    body = cast("dict[str, Any]", data)
    if "choices" not in body:
        body = next(filter(_is_answer, (body.get(name) for name in _WRAPPERS)), body)
    if _is_error(body.get("error")) or (body.get("choices") is None and _describes_error(body)):
        raise read_error(HttpReply(200, reply.headers, cleaned), reading)
    return body


def _unusual_body(data: object, cleaned: bytes, reply: HttpReply, reading: ReplyContext) -> dict[str, Any]:
    if isinstance(data, list) and data and isinstance(first := cast("list[object]", data)[0], dict):
        return cast("dict[str, Any]", first)
    again = parse_json(data.encode()) if isinstance(data, str) else parse_body(cleaned) if data is None else None
    if isinstance(again, dict):
        return cast("dict[str, Any]", again)
    kind = reading.clean(reply.headers.get("content-type", "no content type"))
    shown = reading.start_of(reply.body)
    page = cleaned[:200].lstrip().lower().startswith((b"<!doctype", b"<html"))
    if "event-stream" in kind or is_event_stream(cleaned):
        raise MalformedReply(f"the stream of events of {reading.origin} ended before the answer was complete: {shown}")
    raise MalformedReply(
        f"the answer of {reading.origin} is not a JSON object ({kind}): {shown}"
        + (". It is a web page: check the base URL (most end in /v1)" if page else ""),
        retries=2 if page else None,
    )


def _is_error(error: object) -> bool:
    return any(cast("dict[str, Any]", error).values()) if isinstance(error, dict) else bool(error)


def _is_answer(inner: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(inner, dict) and bool(cast("dict[str, Any]", inner).get("choices"))


def _describes_error(body: dict[str, Any]) -> bool:
    return body.get("object") == "error" or any(body.get(name) for name in _ERROR_FIELDS)


def read_error(reply: HttpReply, reading: ReplyContext) -> ModelFault | RunStopped:
    """The error that a reply stands for."""
    return classify(ErrorDetails.of(reply, reading.now()), reading)


def classify(details: ErrorDetails, reading: ReplyContext) -> ModelFault | RunStopped:
    """The error that the details of a reply stand for."""
    error = _classified(details, reading)
    if isinstance(error, ModelFault):
        error.usage = tokens_used(details.usage)
        if details.headers.get("x-should-retry") == "false":
            error.retries = 0
    return error


def _classified(details: ErrorDetails, reading: ReplyContext) -> ModelFault | RunStopped:
    status, words = details.status, details.words
    where = f"{reading.origin} answered {status or 200}{_request_id(details.headers, reading)}"
    message = f"{where}: {reading.clean(details.message)}" if details.message else where
    if 300 <= status < 400:
        place = reading.clean(details.headers.get("location", "another place"))
        return ModelNotServed(f"{where} and points to {place}; give the final address as the base URL")
    if _is_in_between(details):
        return Unreachable(
            f"{message}. It is a page of the network in front of the endpoint (a challenge, a block or an outage), not "
            "an answer of the endpoint",
            retry_after=details.wait,
        )
    kind = _kind(details)
    match kind:
        case "unparsed":
            wrote = reading.secrets.out_of_message(details.generated or "")[:LOOKED_AT]
            return UnparsedCall(f"{message}. The server could not parse what the model wrote", generated=wrote)
        case "quota":
            return _exhausted(details, message)
        case "context":
            return _too_long(message)
        case "filter":
            return PromptFiltered(f"{where}: its content filter refuses the conversation{message.removeprefix(where)}")
        case "region":
            return ModelNotServed(
                f"{message}. The endpoint does not serve this place; use an endpoint or region that does"
            )
        case "key":
            return AuthFailed(f"{message}. Check {reading.key_name}, and that the key may use `{reading.model}`")
        case "model":
            return ModelNotServed(
                f"{message}. Check the model's name (`{reading.model}`), that the key may use it, and the base URL "
                "(most end in /v1)"
            )
        case "rate":
            return _rate_limited(details, message)
        case "busy":
            alive = details.wait is not None or status == 529 or "overload" in " ".join((words, *details.codes))
            return Unreachable(message, retry_after=details.wait, busy=alive and signs.LOADING.search(words) is None)
        case "server":
            return ServerFailed(message, retry_after=details.wait)
        case "request":
            advice = (
                "use --agent react, which needs no tool calling"
                if signs.NO_TOOLS.search(words)
                else (f"check the sampling choices and tools of `{reading.model}`")
            )
            return BadRequest(f"{message}. The server refuses this request; {advice}")


def _request_id(headers: Mapping[str, str], reading: ReplyContext) -> str:
    found = next((headers[name] for name in _REQUEST_IDS if headers.get(name)), "")
    return f" (request {reading.clean(found[:100])})" if found else ""


def _kind(details: ErrorDetails) -> Kind:
    """Subject of an error: by its codes, then by its status, and by its words where neither decides."""
    status, words = details.status, details.words
    kinds = {_KIND[code] for code in details.codes if code in _KIND}
    strongest: list[Kind] = [kind for kind in CODES if kind in kinds]
    coded: Kind = strongest[0] if strongest else "server"
    if details.generated is not None or coded in ("unparsed", "quota"):
        return "unparsed" if details.generated is not None or coded == "unparsed" else "quota"
    if coded == "rate" or status == 429:
        exhausted = coded != "rate" and _among(signs.NO_QUOTA, words) and signs.OF_A_MINUTE.search(words) is None
        return "quota" if exhausted and details.wait is None else "rate"
    if status != 402 and coded in ("context", "filter", "region", "model", "busy"):
        return coded
    if status == 402 or (status in (0, 400, 403) and _among(signs.NO_QUOTA, words)):
        return "quota"
    if status in (0, 400, 403, 413, 422, 451) or status >= 500:
        found = _named_in_words(status, words)
        if found is not None:
            return found
    if status in (401, 403, 407) or coded == "key":
        return "key"
    if status in (404, 405, 410):
        return "request" if signs.NO_TOOLS.search(words) or "no endpoints found that" in words else "model"
    if status in signs.WAY_THROUGH:
        return "busy"
    if (
        status in (409, 424)
        or (status >= 500 and status not in (501, 505))
        or details.headers.get("x-should-retry") == "true"
    ):
        return "server"
    return coded if not status and coded == "request" else "request" if status else "server"


def _named_in_words(status: int, words: str) -> Kind | None:
    """Subject of an error according to its text."""
    if status == 413 or is_too_long(words):
        return "context"
    if status in (0, 400, 403, 422, 451) and _among(signs.FILTERED, words):
        return "filter"
    if status < 500 and _among(signs.REGION, words):
        return "region"
    if status in (0, 400) and _among(signs.BAD_KEY, words):
        return "key"
    if status < 500 and (_among(signs.NO_MODEL, words) or signs.THAT_MODEL.search(words)):
        return "model"
    return "rate" if status in (0, 403) and "rate limit" in words else None


def is_too_long(words: str) -> bool:
    """Whether an error's text, in lower case, says that the conversation does not fit into the model's context."""
    if _among(signs.TOO_LONG, words):
        return True
    return signs.ABOUT_THE_REPLY.search(words) is None and signs.TOO_LONG_FORM.search(words[:4096]) is not None


def _is_in_between(details: ErrorDetails) -> bool:
    """Whether a network in front of the endpoint answered instead of it."""
    if any(name in details.headers for name in ("cf-mitigated", "x-amzn-waf-action")):
        return True
    blocked = signs.BLOCKED.search(details.words[:2000]) is not None
    return (details.page and details.status in (403, 503)) or (blocked and details.status in (403, 429, 503))


def _rate_limited(details: ErrorDetails, message: str) -> ModelFault | RunStopped:
    limit, requested = _number(signs.LIMIT, details.words), _number(signs.REQUESTED, details.words)
    if "request too large" in details.words or (limit is not None and requested is not None and requested > limit > 0):
        return BadRequest(
            f"{message}. This request alone exceeds the limit, so waiting cannot help: lower --max-tokens, use shorter "
            "conversations (--max-turns), or have the limit raised"
        )
    named = " ".join(details.quotas) or details.words
    of_a_day = signs.OF_A_DAY.search(named) is not None and signs.PER_MINUTE.search(named) is None
    if of_a_day and (details.quotas or details.wait is None or details.wait > _WORTH_WAITING):
        return QuotaExhausted(f"{message}. The limit of a day is used up; resume the run when the limit is renewed")
    return RateLimited(message, retry_after=details.wait)


def _number(form: re.Pattern[str], words: str) -> int | None:
    match = form.search(words[:4096])
    digits = match[1].replace(",", "") if match else ""
    return int(digits) if digits else None


def _exhausted(details: ErrorDetails, message: str) -> QuotaExhausted:
    fewer = " (or lower --max-tokens, which it may be able to afford)" if "max_tokens" in details.words else ""
    return QuotaExhausted(f"{message}. Top up the account{fewer}, then resume the run")


def _too_long(message: str) -> ContextTooLong:
    return ContextTooLong(f"{message}. The conversation does not fit into the model; use fewer turns or a larger model")


def _among(texts: tuple[str, ...], words: str) -> bool:
    """Whether the words (in lower case) contain one of the signs. Plain searches stay fast on long texts."""
    return any(text in words for text in texts)
