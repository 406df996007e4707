"""What error replies of well-known servers stand for: codes first, then headers and status, prose last."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

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
    ServerFailed,
    SimkitError,
    TokensUsed,
    UnparsedCall,
    Unreachable,
)
from simkit.models.providers.error_details import ErrorDetails, retry_after
from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext, read_error
from simkit.models.transport.http1 import HttpReply

NOW = 1_800_000_000.0
READING = ReplyContext("http://there", "m", now=lambda: NOW)


def reply(status: int, body: object, **headers: str) -> HttpReply:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return HttpReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


def error(message: str = "x", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


def google(code: int, status: str, message: str, *details: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


def exhausted(message: str, *details: dict[str, Any]) -> list[dict[str, Any]]:
    return google(429, "RESOURCE_EXHAUSTED", message, *details)


def violated(quota: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}


BALANCE = "Rate limit: 3 RPM. Buy credits: your balance is low"
TOO_LOW = "Your credit balance is too low to access the API"
A_DAY = "GenerateRequestsPerDayPerModel"
NOT_HERE = "User location is not supported for the API use."
WRAPPED = 'litellm: OpenAIException - {"error": {"code": "context_length_exceeded"}}'
RAW = {"raw": '{"error":{"code":"insufficient_quota"}}'}
CHECK_BILLING = "You exceeded your current quota, please check your plan and billing details."
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        # limits of a minute, whatever the text says
        (reply(429, exhausted(CHECK_BILLING, violated("RequestsPerMinute"), RETRY_INFO)), RateLimited),
        (reply(429, error(BALANCE, code="rate_limit_exceeded")), RateLimited),
        (reply(429, {"message": "Too many tokens, wait.", "__type": "a.b#ThrottlingException"}), RateLimited),
        (reply(400, b"{}", x_amzn_errortype="ThrottlingException:http://internal/"), RateLimited),
        (reply(403, error("You have exceeded a secondary rate limit")), RateLimited),
        (reply(200, {"error": "upstream 429", "code": 429}), RateLimited),
        (reply(200, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}), RateLimited),
        # exhausted accounts
        (reply(429, error("x", type="insufficient_quota")), QuotaExhausted),
        (reply(403, error("x", code="billing_hard_limit_reached")), QuotaExhausted),
        (reply(400, error(TOO_LOW, type="invalid_request_error")), QuotaExhausted),
        (reply(429, error("x", type="exceeded_current_quota_error")), QuotaExhausted),
        (reply(429, error("Insufficient balance or no resource package.", code="1113")), QuotaExhausted),
        (reply(403, error("Key limit exceeded (total limit)", code=403)), QuotaExhausted),
        (reply(429, exhausted("x", violated(A_DAY), RETRY_INFO)), QuotaExhausted),
        # a request that never fits
        (reply(429, error("Limit 10000, Requested 50000", code="rate_limit_exceeded", type="tokens")), BadRequest),
        (reply(413, error("Request too large for m on tokens per minute", code="rate_limit_exceeded")), BadRequest),
        (reply(429, error("Requested 50,000 tokens, limit: 10,000")), BadRequest),
        # what 403 may mean
        (reply(403, error("x", code="unsupported_country_region_territory")), ModelNotServed),
        (reply(400, google(400, "FAILED_PRECONDITION", NOT_HERE)), ModelNotServed),
        (reply(403, error("Project p does not have access to model `m`", code="model_not_found")), ModelNotServed),
        (reply(403, error("x", metadata={"reasons": ["violence"]}, code="content_policy_violation")), PromptFiltered),
        (reply(403, b"error code: 1020", content_type="text/plain"), Unreachable),
        (reply(403, b"<!doctype html><title>Attention</title>"), Unreachable),
        (reply(405, b"", x_amzn_waf_action="captcha"), Unreachable),
        (reply(429, b"<html>429 Too Many Requests</html>", content_type="text/html"), RateLimited),
        (reply(403, error("not allowed", type="permission_error")), AuthFailed),
        # busy servers
        (reply(503, error("Loading model", type="unavailable_error", code=503)), Unreachable),
        (reply(200, {"error": {"type": "overloaded_error", "message": "Overloaded"}}), Unreachable),
        (reply(529, {"type": "error", "error": {"type": "overloaded_error"}}), Unreachable),
        (reply(503, google(503, "UNAVAILABLE", "The model is overloaded.")), Unreachable),
        (reply(200, {"detail": "upstream failed"}), ServerFailed),
        (reply(200, {"object": "error", "message": "no", "code": 500}), ServerFailed),
        (reply(400, error("try again"), x_should_retry="true"), ServerFailed),
        # what the model wrote cannot be parsed
        (reply(400, error("x", code="tool_use_failed", failed_generation="<f>")), UnparsedCall),
        (reply(400, error("x", code="output_parse_failed", failed_generation="analysis")), UnparsedCall),
        (reply(400, error("x", code="json_validate_failed")), UnparsedCall),
        # wrapped by gateways
        (reply(400, error(WRAPPED)), ContextTooLong),
        (reply(400, error("Provider returned error", metadata=RAW)), QuotaExhausted),
        (reply(422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}), BadRequest),
        (reply(400, error("max_tokens is too large: 9000. At most 4096 completion tokens are supported")), BadRequest),
        (reply(404, error("No endpoints found that support tool use")), BadRequest),
        (reply(400, b"data: " + orjson.dumps(error("x", code="content_filter")) + b"\r\n\r\n"), PromptFiltered),
    ],
)  # fmt: skip
def test_codes_decide_before_words(found: HttpReply, kind: type[SimkitError]) -> None:
    with pytest.raises(SimkitError) as caught:
        read_reply(found, READING)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",  # OpenAI, vLLM
        "Your input exceeds the context window of this model",
        "prompt is too long: 213462 tokens > 200000 maximum",  # Anthropic
        "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000",
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)",  # Gemini
        "Input is too long for requested model.",  # Bedrock
        "too many tokens: total number of tokens in the prompt exceeds the limit of 4081",  # Cohere
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096",  # vLLM
        "The input (9000 tokens) is longer than the model's context length (8192 tokens).",  # SGLang
        "the request exceeds the available context size, try increasing it",  # llama.cpp
        "the input length exceeds the context length",  # Ollama
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens",  # TGI, Together
        "Trying to keep the first 9000 tokens when context the overflows.",  # LM Studio
        "Please reduce the length of the messages or completion.",  # Groq
        "This endpoint's maximum context length is 131072 tokens. You requested about 132463",  # OpenRouter
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",  # xAI
        "Your request exceeded model token limit: 262144 (requested: 300000)",  # Kimi
        "Range of input length should be [1, 30720]",  # DashScope
        "invalid params, context window exceeds limit (2013)",  # MiniMax
    ],
)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_context_that_is_too_small_is_known_in_the_words_of_each_server(status: int, text: str) -> None:
    for body in (
        error(text),
        {"message": text},
        {"object": "error", "message": text, "code": status},
        {"detail": text},
    ):
        assert type(read_error(reply(status, body), READING)) is ContextTooLong


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        (reply(429, exhausted("x", RETRY_INFO)), 34.5),
        (reply(429, error("Please try again in 7m12.5s.")), 432.5),
        (reply(429, error("Please retry after 20 seconds.")), 20.0),
        (reply(429, error("try again in 350ms")), 0.35),
        (reply(429, error(), retry_after_ms="1500", retry_after="9"), 1.5),
        (reply(429, error(), x_ratelimit_reset_requests="1m0s", x_ratelimit_remaining_requests="0"), 60.0),
        (reply(429, error(), x_ratelimit_reset_tokens="6s", x_ratelimit_remaining_tokens="900"), None),
        (reply(429, error(), anthropic_ratelimit_tokens_reset="2027-01-15T08:00:30Z"), 30.0),
        (reply(429, error(), x_ratelimit_reset=str(int((NOW + 12) * 1000))), 12.0),
        (reply(429, error(metadata={"headers": {"X-RateLimit-Reset": str(int(NOW + 45))}})), 45.0),
        (reply(503, {"error": "loading", "retry_after": 3}), 3.0),
        (reply(429, error(), retry_after="99999999"), None),
        (reply(429, error("slow down")), None),
    ],
)
def test_how_long_to_wait_is_read_from_every_place(found: HttpReply, seconds: float | None) -> None:
    fault = read_error(found, READING)
    assert isinstance(fault, RateLimited | Unreachable)
    assert fault.retry_after == (None if seconds is None else pytest.approx(seconds))


def test_retry_after_may_have_a_unit() -> None:
    assert retry_after({"retry-after": "2s"}, NOW) == 2.0


def test_a_server_may_forbid_retries() -> None:
    fault = read_error(reply(500, error("broken"), x_should_retry="false"), READING)
    assert isinstance(fault, ServerFailed)
    assert fault.retries == 0


def test_a_failed_call_keeps_the_usage_that_the_server_reports() -> None:
    usage = {"prompt_tokens": 70, "completion_tokens": 3}
    for found in (
        reply(200, {"choices": [], "usage": usage}),
        reply(200, {"choices": [{"message": 7}], "usage": usage}),
        reply(500, {**error(), "usage": usage}),
    ):
        with pytest.raises(ModelFault) as caught:
            read_reply(found, READING)
        assert caught.value.usage == TokensUsed(70, 3)


def test_an_answer_without_a_choice_is_asked_again_twice_at_most() -> None:
    with pytest.raises(MalformedReply) as caught:
        read_reply(reply(200, {"choices": []}), READING)
    assert caught.value.retries == 2


def test_an_overloaded_server_is_there_and_one_that_loads_is_not() -> None:
    busy = [error("Overloaded", type="overloaded_error"), error("The model is overloaded", status="UNAVAILABLE")]
    away = [error("Loading model", type="unavailable_error"), error("Model m is currently loading")]
    faults = [read_error(reply(503, body), READING) for body in busy + away]
    assert [getattr(fault, "busy", None) for fault in faults] == [True, True, False, False]


def test_deep_and_long_errors_are_read_within_bounds() -> None:
    deep = b'{"error":' * 500 + b"1" + b"}" * 500
    for body in (deep, b"[" * 100_000, b"x" * 200_000, orjson.dumps({"error": ["y" * 70_000] * 20})):
        assert isinstance(read_error(HttpReply(500, {}, body), READING), ServerFailed)
    assert (
        len(ErrorDetails.of(reply(400, {"error": {str(n): {"code": str(n)} for n in range(5000)}}), NOW).codes) <= 1000
    )
