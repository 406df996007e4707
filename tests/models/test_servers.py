"""Answers and errors in the shapes of well-known servers, each with what it means. docs/models.md names the sources."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest

from simkit.errors import (
    AuthFailed,
    BadRequest,
    ContextTooLong,
    ModelNotServed,
    PromptFiltered,
    QuotaExhausted,
    RateLimited,
    ServerFailed,
    UnparsedCall,
    Unreachable,
)
from simkit.models import ChatResponse, FinishReason, Usage
from simkit.models.providers.anthropic_replies import read_messages_reply
from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.transport.http1 import HttpReply

READING = ReplyContext("http://there", "m", now=lambda: 784111777.0)
DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
Fields: TypeAlias = dict[str, Any]


def read(server: str, status: int, body: object, headers: dict[str, str] | None = None) -> ChatResponse:
    """The response in a reply of a server, read as its provider reads it."""
    reply = HttpReply(status, headers or {"content-type": "application/json"}, orjson.dumps(body))
    return read_messages_reply(reply, READING).response if server == "Anthropic" else read_reply(reply, READING)


# --- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer of a server under status 200, and what it means."""

    server: str
    body: Fields
    text: str | None = None
    finish: FinishReason = "stop"
    reasoning: str | None = None
    calls: tuple[tuple[str, str], ...] = ()
    usage: Usage = field(default_factory=Usage)
    extra: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def chat(message: Fields, finish: str | None = "stop", **more: Any) -> Fields:
    """A chat completion with this message; `choice` has further fields of the choice."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice | more.pop("choice", {})], **more}


def call(arguments: object = '{"day": "fri"}', **more: Any) -> Fields:
    return {"id": "c1", "type": "function", "function": {"name": "book", "arguments": arguments}, **more}


BOOK = (("book", '{"day": "fri"}'),)
FILTERED = {"hate": {"filtered": True, "severity": "high"}, "violence": {"filtered": False, "severity": "safe"}}
SAFE = {"hate": {"filtered": False, "severity": "safe"}}

ANSWERS = (
    Answer(
        server="OpenAI",
        body=chat(
            {"content": "Hi.", "refusal": None, "annotations": []},
            usage={
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
        ),
        text="Hi.",
        usage=Usage(9, 5, 4),
    ),
    Answer(
        server="OpenAI",
        body=chat({"content": None, "refusal": "I cannot help."}),
        finish="refusal",
        extra=("refusal",),
    ),
    Answer(
        server="OpenAI",
        body=chat({"content": None, "function_call": {"name": "book", "arguments": '{"day": "fri"}'}}, "function_call"),
        finish="tool_calls",
        calls=BOOK,
    ),
    Answer(
        server="Azure",
        body=chat({"content": "Hi."}, choice={"content_filter_results": SAFE}, prompt_filter_results=[]),
        text="Hi.",
    ),
    Answer(
        server="Azure",
        body=chat({"content": ""}, "content_filter", choice={"content_filter_results": FILTERED}),
        text="",
        finish="content_filter",
    ),
    Answer(
        server="Anthropic",
        body={
            "type": "message",
            "model": "m",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "book", "input": {"day": "fri"}},
            ],
            "stop_reason": "tool_use",
            "usage": {"input_tokens": 1, "cache_read_input_tokens": 8, "output_tokens": 5},
        },
        finish="tool_calls",
        reasoning="Hm.",
        calls=BOOK,
        usage=Usage(9, 5, 8),
        extra=("reasoning_content", "thinking_blocks"),
    ),
    Answer(
        server="Gemini",
        body=chat(
            {
                "content": None,
                "tool_calls": [call(extra_content={"google": {"thought_signature": "s"}})],
            },
            "tool_calls",
        ),
        finish="tool_calls",
        calls=BOOK,
    ),
    Answer(server="Gemini", body=chat({"content": "Hi"}, "MAX_TOKENS"), text="Hi", finish="length"),
    Answer(server="Gemini", body=chat({"content": None}, "PROHIBITED_CONTENT"), finish="content_filter"),
    Answer(
        server="Mistral",
        body=chat(
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                    {"type": "text", "text": "Hi."},
                ]
            }
        ),
        text="Hi.",
        reasoning="Hm.",
        extra=("reasoning_content",),
    ),
    Answer(server="Mistral", body=chat({"content": "Hi"}, "model_length"), text="Hi", finish="length"),
    Answer(
        server="DeepSeek",
        body=chat(
            {"content": "Hi.", "reasoning_content": "Hm."},
            usage={
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "prompt_cache_hit_tokens": 8,
                "prompt_cache_miss_tokens": 1,
            },
        ),
        text="Hi.",
        reasoning="Hm.",
        usage=Usage(9, 5, 8),
        extra=("reasoning_content",),
    ),
    Answer(
        server="Groq",
        body=chat({"content": "Hi.", "reasoning": "Hm."}, x_groq={"id": "req"}, usage_breakdown=None),
        text="Hi.",
        reasoning="Hm.",
        extra=("reasoning_content",),
    ),
    Answer(
        server="Groq",
        body=chat({"tool_calls": [call("null")]}, "tool_calls"),
        finish="tool_calls",
        calls=(("book", "{}"),),
    ),
    Answer(server="Together", body=chat({"content": "Hi."}, "eos", prompt=[]), text="Hi."),
    Answer(
        server="Together",
        body=chat({"content": "Hi.", "reasoning": "Hm.", "tool_calls": []}, None),
        text="Hi.",
        reasoning="Hm.",
        extra=("reasoning_content",),
    ),
    Answer(
        server="OpenRouter",
        body=chat(
            {
                "content": "Hi.",
                "reasoning": "Hm.",
                "reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "signature": "s"}],
            },
            choice={"native_finish_reason": "end_turn"},
            provider="Anthropic",
        ),
        text="Hi.",
        reasoning="Hm.",
        extra=("reasoning_content", "reasoning_details"),
    ),
    Answer(
        server="Bedrock through LiteLLM",
        body=chat(
            {
                "content": "Hi.",
                "reasoning_content": "Hm.",
                "thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}],
                "provider_specific_fields": {"reasoningContentBlocks": [{"reasoningText": {"text": "Hm."}}]},
            }
        ),
        text="Hi.",
        reasoning="Hm.",
        extra=("provider_specific_fields", "reasoning_content", "thinking_blocks"),
    ),
    Answer(
        server="Bedrock through LiteLLM",
        body=chat({"content": "No."}, "guardrail_intervened"),
        text="No.",
        finish="content_filter",
    ),
    Answer(
        server="vLLM",
        body=chat(
            {"content": None, "reasoning": "Hm.", "tool_calls": [call()], "refusal": None, "function_call": None},
            "tool_calls",
            choice={"stop_reason": None, "token_ids": None},
            kv_transfer_params=None,
        ),
        finish="tool_calls",
        reasoning="Hm.",
        calls=BOOK,
        extra=("reasoning_content",),
    ),
    Answer(
        server="vLLM",
        body=chat({"content": "Hm.</think>Hi."}),
        text="Hi.",
        reasoning="Hm.",
        extra=("reasoning_content",),
    ),
    Answer(
        server="SGLang",
        body=chat({"content": "Hi.", "reasoning_content": "Hm."}, choice={"matched_stop": 151645}, metadata={}),
        text="Hi.",
        reasoning="Hm.",
        extra=("reasoning_content",),
    ),
    Answer(
        server="llama.cpp",
        body=chat({"content": "Hi.", "reasoning_content": "Hm."}, timings={"predicted_n": 3}, __verbose={"a": 1}),
        text="Hi.",
        reasoning="Hm.",
        extra=("reasoning_content",),
    ),
    Answer(
        server="llama.cpp",
        body=chat({"content": "", "tool_calls": [call({"day": "fri"})]}, "tool_calls"),
        text="",
        finish="tool_calls",
        calls=BOOK,
    ),
    Answer(
        server="Ollama",
        body=chat({"content": "", "reasoning": "Hm.", "tool_calls": [call(index=0)]}, "tool_calls"),
        text="",
        finish="tool_calls",
        reasoning="Hm.",
        calls=BOOK,
        extra=("reasoning_content",),
    ),
    Answer(
        server="transformers",
        body=chat({"content": "Hi.", "tool_calls": None, "reasoning_content": None}),
        text="Hi.",
    ),
    *(
        Answer(
            server=server,
            body=chat({"content": "Hi."}, "brand_new"),
            text="Hi.",
            finish="unknown",
            doubts=("unknown_finish: brand_new",),
        )
        for server in ("OpenAI", "OpenRouter", "vLLM")
    ),
)


@pytest.mark.parametrize("answer", ANSWERS, ids=[f"{each.server}-{at}" for at, each in enumerate(ANSWERS)])
def test_an_answer_means_what_its_server_says(answer: Answer) -> None:
    response = read(answer.server, 200, answer.body)
    message = response.message
    calls = tuple((each.name, each.arguments) for each in message.tool_calls or ())
    assert (message.content or "", calls) == (answer.text or "", answer.calls)
    assert (response.finish, response.reasoning, response.usage) == (answer.finish, answer.reasoning, answer.usage)
    assert tuple(sorted(message.model_extra or {})) == answer.extra
    assert response.doubts == answer.doubts


# --- errors -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An error reply of a server, and the error that it means."""

    server: str
    status: int
    body: object
    error: type[Exception]
    headers: dict[str, str] = field(default_factory=dict[str, str])
    wait: float | None = None


def openai_error(message: str, code: object = None, kind: str = "invalid_request_error", **more: Any) -> Fields:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


def google_error(code: int, status: str, message: str, *details: Fields) -> list[Fields]:
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


REFUSALS = (
    Refusal(
        server="OpenAI",
        status=429,
        body=openai_error(
            "Rate limit reached; add a payment method to your billing page", "rate_limit_exceeded", "requests"
        ),
        headers={"retry-after": "1"},
        error=RateLimited,
        wait=1.0,
    ),
    Refusal(
        server="OpenAI",
        status=429,
        body=openai_error("You exceeded your current quota", "insufficient_quota", "insufficient_quota"),
        error=QuotaExhausted,
    ),
    Refusal(server="OpenAI", status=401, body=openai_error("Incorrect API key", "invalid_api_key"), error=AuthFailed),
    Refusal(
        server="OpenAI",
        status=400,
        body=openai_error("This model's maximum context length is 128000 tokens", "context_length_exceeded"),
        error=ContextTooLong,
    ),
    Refusal(
        server="Azure",
        status=400,
        body=openai_error(
            "The response was filtered",
            "content_filter",
            innererror={"code": "ResponsibleAIPolicyViolation", "content_filter_result": FILTERED},
        ),
        error=PromptFiltered,
    ),
    Refusal(
        server="Azure",
        status=404,
        body={
            "error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}
        },
        error=ModelNotServed,
    ),
    Refusal(
        server="Anthropic",
        status=529,
        body={"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        error=Unreachable,
    ),
    Refusal(
        server="Anthropic",
        status=429,
        body={"type": "error", "error": {"type": "rate_limit_error", "message": "no"}},
        headers={
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "1994-11-06T08:50:07Z",
        },
        error=RateLimited,
        wait=30.0,
    ),
    Refusal(
        server="Gemini",
        status=429,
        body=google_error(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details.",
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"},
        ),
        error=RateLimited,
        wait=7.0,
    ),
    Refusal(
        server="Gemini",
        status=400,
        body=google_error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
        error=AuthFailed,
    ),
    Refusal(
        server="Gemini",
        status=400,
        body=google_error(
            400, "INVALID_ARGUMENT", "The input token count exceeds the maximum number of tokens allowed"
        ),
        error=ContextTooLong,
    ),
    Refusal(
        server="Mistral",
        status=422,
        body={
            "detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
        },
        error=BadRequest,
    ),
    Refusal(
        server="Mistral",
        status=429,
        body={"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"},
        error=RateLimited,
    ),
    Refusal(server="DeepSeek", status=402, body=openai_error("Insufficient Balance"), error=QuotaExhausted),
    Refusal(
        server="DeepSeek",
        status=200,
        body=chat({"content": "Hal"}, "insufficient_system_resource"),
        error=ServerFailed,
    ),
    Refusal(
        server="Groq",
        status=400,
        body=openai_error("Failed to call a function.", "tool_use_failed", failed_generation="<function=book>"),
        error=UnparsedCall,
    ),
    Refusal(
        server="Together",
        status=422,
        body=openai_error("`inputs` tokens + `max_new_tokens` must be <= 8193"),
        error=ContextTooLong,
    ),
    Refusal(
        server="OpenRouter",
        status=200,
        body=chat(
            {"content": "Hal"},
            "error",
            choice={"error": {"code": 502, "message": "Upstream died", "metadata": {"provider_name": "X"}}},
        ),
        error=Unreachable,
    ),
    Refusal(
        server="OpenRouter",
        status=200,
        body={"error": {"code": 429, "message": "Provider returned error"}, "user_id": "u"},
        error=RateLimited,
    ),
    Refusal(
        server="Bedrock through LiteLLM",
        status=400,
        body=openai_error(
            'litellm.BadRequestError: BedrockException - {"message":"Input is too long for requested model."}', "400"
        ),
        error=ContextTooLong,
    ),
    Refusal(
        server="Bedrock through LiteLLM",
        status=429,
        body=openai_error("litellm.RateLimitError: BedrockException - Too many requests", "429", "throttling_error"),
        error=RateLimited,
    ),
    Refusal(
        server="vLLM",
        status=400,
        body=openai_error(
            "This model's maximum context length is 4096 tokens. Your request has 5000 input tokens.", 400
        ),
        error=ContextTooLong,
    ),
    Refusal(
        server="vLLM",
        status=404,
        body=openai_error("The model `x` does not exist.", 404, "NotFoundError"),
        error=ModelNotServed,
    ),
    Refusal(
        server="SGLang",
        status=400,
        body={
            "object": "error",
            "message": "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        error=ContextTooLong,
    ),
    Refusal(server="SGLang", status=200, body=chat({"content": "Hal"}, "abort"), error=ServerFailed),
    Refusal(
        server="llama.cpp",
        status=503,
        body={"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        error=Unreachable,
    ),
    Refusal(
        server="llama.cpp",
        status=400,
        body={
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": 4096,
            }
        },
        error=ContextTooLong,
    ),
    Refusal(
        server="Ollama",
        status=404,
        body=openai_error("model 'qwen9' not found", kind="not_found_error"),
        error=ModelNotServed,
    ),
    Refusal(
        server="transformers",
        status=422,
        body={"detail": "Unexpected fields in the request: {'top_k'}"},
        error=BadRequest,
    ),
    Refusal(server="transformers", status=503, body={"error": "the worker stopped"}, error=Unreachable),
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=[f"{each.server}-{at}" for at, each in enumerate(REFUSALS)])
def test_an_error_means_what_its_server_says(refusal: Refusal) -> None:
    with pytest.raises(refusal.error) as caught:
        read(refusal.server, refusal.status, refusal.body, refusal.headers)
    assert type(caught.value) is refusal.error
    assert getattr(caught.value, "retry_after", None) == refusal.wait


def test_the_document_has_a_row_for_each_server_of_these_tests() -> None:
    section = DOCUMENT.read_text().partition("## What servers send")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| \*\*(.+?)\*\*", section, re.MULTILINE)
    assert len(rows) == 15
    assert set(rows) == {each.server for each in ANSWERS} == {each.server for each in REFUSALS}
