"""What is sent to Anthropic's Messages API, and how its replies are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias, cast

import orjson
import pytest
from players_models import HELLO, KEY, Canned

from simkit.core.messages import (
    AssistantMessage,
    ContentPart,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from simkit.core.reasoning import reasoning_of
from simkit.errors import (
    AuthFailed,
    BadRequest,
    ContextTooLong,
    MalformedReply,
    ModelNotServed,
    OptionRefused,
    QuotaExhausted,
    RateLimited,
    ServerFailed,
    Unreachable,
    UsageError,
)
from simkit.models import ChatRequest, ChatResponse, FinishReason, Sampling, Usage
from simkit.models.adjustments import LearnedAdjustments
from simkit.models.base import ReplyLimit
from simkit.models.config import ModelConfig
from simkit.models.prices import Prices
from simkit.models.providers.anthropic import AnthropicModel, MessagesEndpoint
from simkit.models.providers.anthropic_replies import read_messages_reply
from simkit.models.providers.anthropic_requests import MAX_TOKENS, convert_messages, encode, to_messages_body
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.transport.http1 import HttpReply

pytestmark = pytest.mark.anyio

READING = ReplyContext("http://there", "claude", "sk-ant-secret", now=lambda: 784111777.0, key_name="ANTHROPIC_API_KEY")
TOOL = ToolSpec.of("book", "Books it.", {"day": {"type": "string"}}, ("day",))
THOUGHT = {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "xxxx"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "book", "input": {"day": "fri"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def body(model: str = "claude-sonnet-5", **fields: Any) -> dict[str, Any]:
    sampling = Sampling(**{name: fields.pop(name) for name in list(fields) if name in Sampling.model_fields})
    request = replace(HELLO, sampling=sampling, **fields)
    return to_messages_body(model, request, request.sent_settings())


def turns(*messages: Message) -> list[dict[str, Any]]:
    return convert_messages(messages)[1]


def message_reply(content: list[dict[str, Any]], stop: str | None = "end_turn", **more: Any) -> HttpReply:
    usage = {"input_tokens": 7, "output_tokens": 3}
    data = {"type": "message", "model": "claude-x", "content": content, "stop_reason": stop, "usage": usage, **more}
    return HttpReply(200, {"content-type": "application/json"}, orjson.dumps(data))


def read(content: list[dict[str, Any]], stop: str | None = "end_turn", **more: Any) -> ChatResponse:
    return read_messages_reply(message_reply(content, stop, **more), READING).response


def error(status: int, kind: str, message: str = "no", headers: dict[str, str] | None = None, **more: Any) -> Exception:
    data = {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "req_1"}
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each caller checks the class
        read_messages_reply(HttpReply(status, headers or {}, orjson.dumps(data)), READING)
    return caught.value


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_system_messages_become_the_field_system() -> None:
    assert body() == {
        "model": "claude-sonnet-5",
        "max_tokens": MAX_TOKENS,
        "system": [text("You are a clerk.")],
        "messages": [{"role": "user", "content": [text("hello")]}],
    }


def test_results_of_one_turn_stand_in_one_user_message_before_its_text() -> None:
    calls = (ToolCall.of("c:1", "book", {"day": "fri"}), ToolCall.of("c:2", "book", {"day": "sat"}))
    failed = ToolMessage.model_validate({"role": "tool", "tool_call_id": "c:2", "content": "full", "is_error": True})
    sent = turns(
        UserMessage.of("go"),
        AssistantMessage.of("ok", calls),
        ToolMessage.of("c:1", "done"),
        failed,
        UserMessage.of("?"),
    )
    assert sent[1:] == [
        {
            "role": "assistant",
            "content": [
                text("ok"),
                {"type": "tool_use", "id": "c_1", "name": "book", "input": {"day": "fri"}},
                {"type": "tool_use", "id": "c_2", "name": "book", "input": {"day": "sat"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c_1", "content": [text("done")]},
                {"type": "tool_result", "tool_use_id": "c_2", "content": [text("full")], "is_error": True},
                text("?"),
            ],
        },
    ]


def test_turns_alternate_and_start_with_the_user() -> None:
    sent = turns(
        AssistantMessage.of("Good morning."),
        UserMessage.of("a"),
        UserMessage.of("b"),
        AssistantMessage.of(None),
        AssistantMessage.of("c"),
        AssistantMessage.of("d"),
        UserMessage.of(" "),
    )
    assert [(turn["role"], len(turn["content"])) for turn in sent] == [
        *[("user", 1), ("assistant", 1), ("user", 2), ("assistant", 2), ("user", 1)]
    ]
    assert all(block["text"].strip() for turn in sent for block in turn["content"])


def test_arguments_that_are_no_object_are_sent_as_one() -> None:
    (_, turn) = turns(UserMessage.of("go"), AssistantMessage.of(None, (ToolCall.of("1", "book", "[1"),)))
    assert turn["content"][0]["input"] == {"not_valid_json": "[1"}


def test_long_numbers_and_cut_off_emojis_are_encoded() -> None:
    call = ToolCall.of("1", "book", {"n": 2**80})
    sent = turns(UserMessage.of("\ud83d"), AssistantMessage.of(None, (call,)))
    assert orjson.loads(encode({"a": 1})) == {"a": 1}
    assert str(2**80).encode() in encode({"messages": sent})


def test_images_are_converted() -> None:
    parts = (
        ContentPart.model_validate({"type": "text", "text": "What is it?"}),
        ContentPart.model_validate({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
        ContentPart.model_validate({"type": "image_url", "image_url": {"url": "https://there/a.png"}}),
    )
    (turn,) = turns(UserMessage(role="user", content=parts))
    assert [block.get("source") for block in turn["content"]] == [
        None,
        {"type": "base64", "media_type": "image/png", "data": "AAAA"},
        {"type": "url", "url": "https://there/a.png"},
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("book", False, {"type": "tool", "name": "book", "disable_parallel_tool_use": True}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_tools_and_the_choice_among_them(
    choice: str | None, parallel: bool | None, sent: dict[str, Any] | None
) -> None:
    made = body(tools=(TOOL,), tool_choice=choice, parallel_tool_calls=parallel)
    assert made["tools"] == [
        {"name": "book", "description": "Books it.", "input_schema": cast("Any", TOOL.function.parameters)}
    ]
    assert made.get("tool_choice") == sent


def test_a_choice_without_tools_is_not_sent() -> None:
    assert "tool_choice" not in body(tool_choice="none", parallel_tool_calls=False)


def test_sampling_options_have_their_names_and_there_is_no_seed() -> None:
    made = body(temperature=0.5, top_p=0.9, max_tokens=50, stop=("END",), extra_body={"top_k": 3}, seed=9)
    assert {name: made[name] for name in made if name not in ("model", "messages", "system")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 50,
        "stop_sequences": ["END"],
        "top_k": 3,
    }


def test_the_limit_of_a_budget_is_sent_if_there_is_no_other() -> None:
    assert body(limit=ReplyLimit(77))["max_tokens"] == 77
    assert body(limit=ReplyLimit(77), max_tokens=50)["max_tokens"] == 50


@pytest.mark.parametrize("option", [{"logprobs": True}, {"presence_penalty": 0.5}, {"frequency_penalty": 0.0}])
def test_options_that_the_api_does_not_have_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=next(iter(option))):
        body(**option)


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "output"),
    [
        ("claude-opus-5", "high", {"type": "adaptive", "display": "summarized"}, {"effort": "high"}),
        ("claude-sonnet-4-6", "minimal", {"type": "adaptive", "display": "summarized"}, {"effort": "low"}),
        ("claude-of-next-year", "new", {"type": "adaptive", "display": "summarized"}, {"effort": "new"}),
        ("claude-haiku-4-5-20251001", "medium", {"type": "enabled", "budget_tokens": 2048}, None),
        ("claude-3-7-sonnet-latest", "max", {"type": "enabled", "budget_tokens": MAX_TOKENS - 1}, None),
        ("claude-opus-5", "none", {"type": "disabled"}, None),
    ],
)
def test_an_effort_is_sent_as_the_model_takes_it(
    model: str, effort: str, thinking: dict[str, Any], output: dict[str, Any] | None
) -> None:
    made = body(model, reasoning_effort=effort)
    assert (made["thinking"], made.get("output_config")) == (thinking, output)


def test_an_older_model_is_refused_an_effort_it_cannot_have() -> None:
    with pytest.raises(BadRequest, match="leaves no room"):
        body("claude-haiku-4-5", reasoning_effort="low", max_tokens=1024)
    with pytest.raises(BadRequest, match="no reasoning effort 'huge'"):
        body("claude-haiku-4-5", reasoning_effort="huge")


def test_a_schema_is_sent_beside_the_effort() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    form: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}}
    assert body(response_format=form, reasoning_effort="low")["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": schema},
    }


# --- replies ----------------------------------------------------------------------------------------------------------


def test_a_plain_reply_is_an_ordinary_message() -> None:
    response = read([text("Hello.")])
    assert response.message == AssistantMessage.of("Hello.")
    assert response.message.to_json() == AssistantMessage.of("Hello.").to_json()
    assert (response.finish, response.usage, response.model) == ("stop", Usage(7, 3), "claude-x")
    assert response.doubts == ()


def test_calls_are_read_with_exact_arguments() -> None:
    response = read(
        [text("Wait."), USE, {**USE, "id": "toolu_2", "input": {}, "caller": {"type": "direct"}}], "tool_use"
    )
    assert response.message.tool_calls is not None
    first, second = response.message.tool_calls
    assert response.finish == "tool_calls"
    assert response.message.content == "Wait."
    assert first == ToolCall.of("toolu_1", "book", {"day": "fri"})
    assert (second.arguments, second.model_extra) == ("{}", {"caller": {"type": "direct"}})


ORDERS = {
    "thinking first": [THOUGHT, REDACTED, text("Wait."), USE],
    "thinking without text": [{**THOUGHT, "thinking": ""}, USE],
    "interleaved": [
        THOUGHT,
        text("Wait."),
        {**THOUGHT, "thinking": "And now?"},
        USE,
        text("Done."),
        {**USE, "id": "u2"},
    ],
    "cited": [text("It says "), {**text("so."), "citations": [{"type": "char_location"}]}],
    "tools of the server": [
        text("I look."),
        {"type": "server_tool_use", "id": "s", "name": "web_search"},
        text("Yes."),
    ],
}


@pytest.mark.parametrize("content", ORDERS.values(), ids=ORDERS)
def test_blocks_go_back_as_they_came(content: list[dict[str, Any]]) -> None:
    message = read(content).message
    calls = tuple(call.model_copy(update={"id": f"t{at}"}) for at, call in enumerate(message.tool_calls or ()))
    message = message.model_copy(update={"tool_calls": calls}) if calls else message
    again = AssistantMessage.model_validate_json(message.to_json())
    numbered = iter(range(9))
    expected = [{**each, "id": f"t{next(numbered)}"} if each["type"] == "tool_use" else each for each in content]
    assert turns(UserMessage.of("go"), again)[1]["content"] == expected


def test_thinking_is_reasoning_and_never_part_of_the_content() -> None:
    response = read([THOUGHT, text("a"), {**THOUGHT, "thinking": "More."}, text("b")])
    assert (response.message.content, response.reasoning) == ("ab", "Let me see.\n\nMore.")
    assert reasoning_of(read([REDACTED, text("a")]).message) is None


def test_a_message_that_was_changed_keeps_its_thinking_but_not_its_order() -> None:
    message = read([THOUGHT, text("a"), REDACTED, text("b"), USE]).message
    changed = message.model_copy(update={"content": "c"})
    assert turns(UserMessage.of("go"), changed)[1]["content"] == [THOUGHT, REDACTED, text("c"), USE]
    assert turns(UserMessage.of("go"), message.without_calls())[1]["content"] == [THOUGHT, REDACTED, text("ab")]


def test_thinking_can_be_left_out() -> None:
    message = read([THOUGHT, text("a"), REDACTED, text("b"), USE]).message
    assert convert_messages((UserMessage.of("go"), message), thinking=False)[1][1]["content"] == [
        *(text("a"), text("b"), USE)
    ]


def test_thinking_alone_is_not_sent_because_the_api_refuses_it() -> None:
    assert turns(UserMessage.of("a"), read([THOUGHT]).message, UserMessage.of("b")) == [
        {"role": "user", "content": [text("a"), text("b")]}
    ]


@pytest.mark.parametrize(
    ("stop", "content", "finish", "doubts"),
    [
        ("end_turn", [text("a")], "stop", ()),
        ("stop_sequence", [text("a")], "stop", ()),
        ("end_turn", [], "empty", ()),
        ("end_turn", [THOUGHT], "empty", ()),
        ("tool_use", [USE], "tool_calls", ()),
        ("max_tokens", [text("a"), USE], "length", ()),
        ("model_context_window_exceeded", [text("a")], "length", ()),
        ("refusal", [], "refusal", ()),
        ("pause_turn", [text("a")], "unknown", ("unknown_finish: pause_turn",)),
        ("made_up", [text("a")], "unknown", ("unknown_finish: made_up",)),
        (None, [text("a")], "unknown", ("unknown_finish: None",)),
    ],
)
def test_stop_reasons(
    stop: str | None, content: list[dict[str, Any]], finish: FinishReason, doubts: tuple[str, ...]
) -> None:
    response = read(content, stop)
    assert (response.finish, response.doubts) == (finish, doubts)


def test_a_reply_that_failed_halfway_is_a_failed_attempt() -> None:
    with pytest.raises(ServerFailed, match="stop reason `error`") as caught:
        read([text("Hal")], "error")
    assert caught.value.usage is not None
    assert caught.value.usage.prompt_tokens == 7


def test_long_numbers_in_arguments_keep_their_digits() -> None:
    body = message_reply([{**USE, "input": {"card": "N"}}], "tool_use").body
    reply = HttpReply(200, {}, body.replace(b'"N"', b"12345678901234567890123"))
    calls = read_messages_reply(reply, READING).response.message.tool_calls
    assert calls is not None
    assert calls[0].arguments == '{"card": 12345678901234567890123}'


def test_a_refusal_keeps_its_explanation() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "It is about a virus."}
    response = read([], "refusal", stop_details=details)
    assert response.message.model_extra == {"refusal": "It is about a virus."}


@pytest.mark.parametrize(
    ("usage", "expected", "doubtful"),
    [
        ({"input_tokens": 7, "cache_read_input_tokens": 90, "output_tokens": 3}, Usage(97, 3, 90), False),
        ({"input_tokens": 7, "cache_creation_input_tokens": 5, "output_tokens": 3.0}, Usage(12, 3), False),
        ({"input_tokens": 7, "cache_read_input_tokens": None, "output_tokens": 3}, Usage(7, 3), False),
        ({"input_tokens": -7, "cache_read_input_tokens": 90, "output_tokens": 3}, Usage(), True),
        ({"input_tokens": "seven", "output_tokens": 3}, Usage(), True),
        ("many", Usage(), True),
        (None, Usage(), False),
    ],
)
def test_prompt_tokens_include_the_cached_ones(usage: object, expected: Usage, doubtful: bool) -> None:
    response = read([text("a")], usage=usage)
    assert response.usage == expected
    assert [doubt.partition(":")[0] for doubt in response.doubts] == (["usage"] if doubtful else [])


@pytest.mark.parametrize("data", [b"<html>", b"[]", b"{}", b'{"content": null}', b'{"content": [{"type": "text"}]}'])
def test_what_is_no_message_is_a_malformed_reply(data: bytes) -> None:
    with pytest.raises(MalformedReply, match=r"is not a (message|JSON object)"):
        read_messages_reply(HttpReply(200, {}, data), READING)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (400, "invalid_request_error", "messages: at least one message is required", BadRequest),
        (400, "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum", ContextTooLong),
        (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.", QuotaExhausted),
        (401, "authentication_error", "invalid x-api-key", AuthFailed),
        (403, "permission_error", "Your API key may not use this resource", AuthFailed),
        (402, "billing_error", "add a payment method", QuotaExhausted),
        (404, "not_found_error", "model: claude-9", ModelNotServed),
        (413, "request_too_large", "Request exceeds the maximum size", ContextTooLong),
        (429, "rate_limit_error", "This request would exceed your rate limit of 50 requests per minute", RateLimited),
        (500, "api_error", "Internal server error", ServerFailed),
        (529, "overloaded_error", "Overloaded", Unreachable),
    ],
)
def test_errors_of_the_api(status: int, kind: str, message: str, expected: type[Exception]) -> None:
    assert type(error(status, kind, message)) is expected
    assert type(error(200, kind, message)) is expected


@pytest.mark.parametrize("code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"])
def test_a_spend_limit_ends_the_run_and_an_acceleration_limit_does_not(code: str) -> None:
    assert type(error(429, "rate_limit_error", "no", details={"error_code": code})) is QuotaExhausted
    assert type(error(429, "rate_limit_error", "no", details={"error_code": "ramp_limit_exceeded"})) is RateLimited


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "12", "anthropic-ratelimit-requests-reset": "1994-11-06T08:59:37Z"}, 12.0),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "1994-11-06T08:50:07Z",
                "anthropic-ratelimit-input-tokens-remaining": "9000",
                "anthropic-ratelimit-input-tokens-reset": "1994-11-06T08:59:37Z",
            },
            30.0,
        ),
        ({"x-should-retry": "true"}, None),
    ],
)
def test_the_wait_is_read_from_the_headers(headers: dict[str, str], seconds: float | None) -> None:
    failure = error(429, "rate_limit_error", headers=headers)
    assert isinstance(failure, RateLimited)
    assert failure.retry_after == seconds


def test_messages_name_the_request_and_the_variable_of_the_key() -> None:
    failure = error(401, "authentication_error", headers={"request-id": "req_011CS"})
    assert "answered 401 (request req_011CS)" in str(failure)
    assert "Check ANTHROPIC_API_KEY" in str(failure)


# --- the model --------------------------------------------------------------------------------------------------------


async def complete(name: str, reply: HttpReply, request: ChatRequest = HELLO) -> tuple[ChatResponse, dict[str, Any]]:
    transport = Canned(reply)
    endpoint = MessagesEndpoint(base_url="http://there")
    response = await AnthropicModel(name, endpoint, transport, price=Prices.load().find(name)).complete(request, KEY)
    return response, transport.posted[0]


async def test_a_call_costs_what_its_cached_and_written_tokens_cost() -> None:
    usage = {
        "input_tokens": 1_000_000,
        "cache_read_input_tokens": 1_000_000,
        "cache_creation_input_tokens": 1_000_000,
        "output_tokens": 1_000_000,
    }
    response, _ = await complete("claude-haiku-4-5-20251001", message_reply([text("a")], usage=usage))
    assert response.usage.cost == pytest.approx(1 + 0.1 + 1.25 + 5)


async def test_json_without_a_schema_is_requested_in_words_alone_and_this_is_noted() -> None:
    request = replace(HELLO, response_format={"type": "json_object"})
    response, posted = await complete("claude-opus-5", message_reply([text("{}")]), request)
    assert "output_config" not in posted
    assert [doubt.partition(":")[0] for doubt in response.doubts] == ["response_format"]


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("http://h:4000/anthropic/v1/", "http://h:4000/anthropic/v1/messages"),
        ("http://h/?key=abc", "http://h/v1/messages?key=abc"),
    ],
)
def test_the_base_url_may_end_in_v1(base_url: str, url: str) -> None:
    assert MessagesEndpoint(base_url=base_url).address.url == url


def test_the_endpoint_is_read_from_its_own_variables() -> None:
    env = {"ANTHROPIC_API_KEY": "sk-ant-1", "ANTHROPIC_BASE_URL": "http://h", "OPENAI_API_KEY": "sk-2"}
    at = MessagesEndpoint.of(ModelConfig(), env)
    assert (at.base_url, at.secret) == ("http://h", "sk-ant-1")
    assert MessagesEndpoint.of(ModelConfig(base_url="http://other"), env).base_url == "http://other"
    assert MessagesEndpoint.of(ModelConfig(base_url="http://other"), {}).secret == ""
    with pytest.raises(UsageError, match="set ANTHROPIC_API_KEY"):
        MessagesEndpoint.of(ModelConfig(), {"OPENAI_API_KEY": "sk-2"})


def test_messages_of_the_system_stand_before_the_conversation() -> None:
    system, sent = convert_messages((SystemMessage.of("a"), UserMessage.of("b"), SystemMessage.of("c")))
    assert (system, [turn["role"] for turn in sent]) == ([text("a"), text("c")], ["user"])


# --- negotiation ------------------------------------------------------------------------------------------------------


Judge: TypeAlias = Callable[[dict[str, Any]], str | None]


class Judged:
    """A transport to a server that refuses what its judge refuses: a function from a body to an error's words."""

    def __init__(self, judge: Judge, status: int = 400) -> None:
        self._judge, self._status = judge, status
        self.seen: list[dict[str, Any]] = []

    async def post(self, body: bytes) -> HttpReply:
        self.seen.append(orjson.loads(body))
        refused = self._judge(self.seen[-1])
        if refused is None:
            return message_reply([text("hi")])
        error = {"type": "invalid_request_error", "message": refused}
        return HttpReply(self._status, {}, orjson.dumps({"type": "error", "error": error}))

    async def aclose(self) -> None:
        return None


def negotiating(server: Judged, name: str = "claude-sonnet-5") -> tuple[AnthropicModel, LearnedAdjustments]:
    endpoint, learned = MessagesEndpoint.of(ModelConfig(base_url="http://gateway"), {}), LearnedAdjustments()
    return AnthropicModel(name, endpoint, server, learned=learned), learned


THINKING = replace(HELLO, sampling=Sampling(reasoning_effort="low", max_tokens=5000))
THOUGHTFUL = AssistantMessage.of("hi").model_copy(update={"thinking_blocks": [THOUGHT]})


def refuses(words: str, kind: str = "") -> Judge:
    """Refuses thinking of this kind; without a kind, an `output_config`."""

    def judge(sent: dict[str, Any]) -> str | None:
        found = sent.get("thinking", {}).get("type") == kind if kind else "output_config" in sent
        return words if found else None

    return judge


BUDGETED = {"type": "enabled", "budget_tokens": 1024}
ADAPTIVE = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize("status", [400, 200])
@pytest.mark.parametrize(
    ("name", "judge", "accepted"),
    [
        ("claude-sonnet-5", refuses("output_config: Extra inputs are not permitted"), BUDGETED),
        ("house-model", refuses("adaptive thinking is not supported on this model", "adaptive"), BUDGETED),
        ("claude-3-7-sonnet", refuses("thinking.type: `enabled` is not supported, use adaptive", "enabled"), ADAPTIVE),
    ],
)
async def test_an_effort_takes_the_form_that_the_endpoint_accepts(
    name: str, judge: Judge, accepted: dict[str, Any], status: int
) -> None:
    server = Judged(judge, status)
    model, learned = negotiating(server, name)
    for _ in range(2):
        assert (await model.complete(THINKING, KEY)).message.content == "hi"
    assert len(server.seen) == 3
    assert server.seen[-1] == server.seen[-2]
    assert server.seen[-1]["thinking"] == accepted
    assert "`reasoning_effort` is sent as" in str(learned.at(("http://gateway", name))[0])


async def test_an_endpoint_without_thinking_ends_the_run_and_names_the_flag() -> None:
    model, learned = negotiating(Judged(lambda sent: "thinking: not supported" if "thinking" in sent else None))
    with pytest.raises(OptionRefused, match=r"--send-as reasoning_effort="):
        await model.complete(THINKING, KEY)
    assert learned.at(("http://gateway", "claude-sonnet-5")) == ()


@pytest.mark.parametrize(
    "words",
    [
        "messages.1.content.0: Invalid `signature` in `thinking` block",
        "messages.1.content.0.thinking.signature: Field required",
        "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified",
        "messages.1: unknown content: thinking blocks are unsupported",
    ],
)
async def test_thoughts_that_the_endpoint_refuses_are_left_out(words: str) -> None:
    def judge(sent: dict[str, Any]) -> str | None:
        blocks = [block["type"] for turn in sent["messages"] for block in turn["content"]]
        return words if "thinking" in blocks else None

    server = Judged(judge)
    model, learned = negotiating(server)
    request = replace(HELLO, messages=(*HELLO.messages, THOUGHTFUL, UserMessage.of("and?")))
    await model.complete(request, KEY)
    assert len(server.seen) == 2
    assert server.seen[-1]["messages"][1]["content"] == [text("hi")]
    assert [str(each) for each in learned.at(("http://gateway", "claude-sonnet-5"))]
