"""Error replies of model servers, built from a grammar of codes, envelopes and headers, each with what it means."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st

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
    SimkitError,
    UnparsedCall,
    Unreachable,
)
from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.transport.http1 import HttpReply
from support.made_texts import SENTENCES

Fields: TypeAlias = dict[str, Any]
NOW = 1_800_000_000.0
READING = ReplyContext("http://there", "m", "sk-secret-0123456789", now=lambda: NOW)


@dataclass(frozen=True)
class Kind:
    """A kind of error: its class, the statuses with which servers send it, and its codes."""

    error: type[SimkitError]
    statuses: tuple[int, ...]
    codes: tuple[str, ...]
    coded: bool = True
    """Whether the code decides under any of the statuses, whatever the words say."""


KINDS = (
    Kind(RateLimited, (429, 400, 503), ("rate_limit_exceeded", "rate_limit_error", "ThrottlingException")),
    Kind(QuotaExhausted, (429, 403, 400, 402), ("insufficient_quota", "billing_hard_limit_reached")),
    Kind(ContextTooLong, (400, 413, 422, 500), ("context_length_exceeded", "exceed_context_size_error")),
    Kind(PromptFiltered, (400, 403), ("content_filter", "content_policy_violation", "data_inspection_failed")),
    Kind(ModelNotServed, (404, 400, 403), ("model_not_found", "DeploymentNotFound")),
    Kind(Unreachable, (503, 500, 529), ("overloaded_error", "service_unavailable")),
    Kind(UnparsedCall, (400, 422), ("tool_use_failed", "output_parse_failed")),
    Kind(AuthFailed, (401,), ("invalid_api_key", "authentication_error", ""), coded=False),
    Kind(ServerFailed, (500, 409), ("server_error", "internal_error", ""), coded=False),
    Kind(BadRequest, (400, 422), ("invalid_request_error", ""), coded=False),
)
MISLEADING = (
    *("Rate limit reached, see billing to buy credits.", "Your credit balance is too low.", "Too many requests."),
    *("The context length is 8192 tokens.", "It was flagged by the content filter.", "Incorrect API key provided."),
    *("model not found", "The server is overloaded.", "exceeded your current quota"),
)
WAITS: tuple[tuple[Fields, float | None], ...] = (
    ({}, None),
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": "1.5"}, 1.5),
    ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
    ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "-3"}, None),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m2s"}, 62.0),
    ({"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "1m2s"}, None),
    ({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:20Z"}, 20),
)


@dataclass(frozen=True)
class MadeError:
    """An error reply, its class, and the seconds that the server asks to wait."""

    reply: HttpReply
    error: type[SimkitError]
    wait: float | None


@st.composite
def error_replies(draw: st.DrawFn) -> MadeError:
    """An error reply in any envelope."""
    kind = draw(st.sampled_from(KINDS))
    status, code = draw(st.sampled_from(kind.statuses)), draw(st.sampled_from(kind.codes))
    message = draw(SENTENCES | st.sampled_from(MISLEADING) if kind.coded else SENTENCES)
    headers, wait = draw(st.sampled_from(WAITS))
    body = draw(enveloped(message, code, status))
    if draw(st.integers(0, 5)) == 0 and code and not body.startswith(b"litellm"):
        status = 200
        if not kind.coded and kind.error is not AuthFailed:
            message, body = "x", draw(enveloped("x", code, 0))
    return MadeError(HttpReply(status, headers, body), kind.error, wait)


@st.composite
def enveloped(draw: st.DrawFn, message: str, code: str, status: int) -> bytes:
    """The error in one of the forms that servers and gateways give it."""
    place = draw(st.sampled_from(("code", "type")))
    error: Fields = {"message": message, **({place: code} if code else {})}
    if draw(st.booleans()):
        error |= draw(st.sampled_from(({"param": None}, {"metadata": {"provider": "x"}}, {"innererror": {}})))
    numbered = {"code": status, **error} if place == "type" and status else error
    raw = json.dumps({"error": error})
    forms: tuple[object, ...] = (
        {"error": error},
        {"error": numbered},
        [{"error": error}],
        {"type": "error", "error": error, "request_id": "r"},
        {"error": {"message": "Provider returned error", "metadata": {"raw": raw}}},
        {"error": {"message": f"litellm.APIError: OpenAIException - {raw}"}},
        {"object": "error", **error},
        {"detail": error},
    )
    body = json.dumps(draw(st.sampled_from(forms))).encode()
    return draw(st.sampled_from((body, body, body, b"data: " + body + b"\n\n", b"\n" + body)))


def check_error(made: MadeError) -> None:
    """The reply is read as the error that it stands for, with the wait that its headers name."""
    try:
        found: object = read_reply(made.reply, READING)
    except SimkitError as error:
        found = error
    _check_found(found, made)


def _check_found(found: object, made: MadeError) -> None:
    assert type(found) is made.error, (type(found), found)
    assert isinstance(found, ModelFault | RunStopped)
    assert "sk-secret" not in str(found)
    if isinstance(found, RateLimited | Unreachable | ServerFailed):
        assert found.trouble == ("rate_limit" if isinstance(found, RateLimited) else "transient")
        assert found.retry_after == made.wait
    elif isinstance(found, ModelFault):
        assert found.trouble == "fatal"
