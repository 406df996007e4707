"""Endpoints that refuse a form of request: it is sent in another form, learned once, recorded, and never in silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest
from players_models import HELLO, KEY

from simkit.core.events import EndpointAdjusted
from simkit.core.messages import AssistantMessage, SystemMessage, ToolCall, ToolMessage, ToolSpec, UserMessage
from simkit.core.reasoning import with_reasoning
from simkit.core.recorder import MemoryRecorder
from simkit.errors import BadRequest, OptionRefused, RateLimited
from simkit.models import ChatRequest, Sampling
from simkit.models.adjustments import MESSAGE_RULES, Adjustment, EndpointModel, LearnedAdjustments
from simkit.models.base import ReplyLimit, request_hash
from simkit.models.config import ModelConfig
from simkit.models.middleware.budget import Allowances
from simkit.models.middleware.replay import Recording
from simkit.models.providers.dialect import Dialect, known_dialect, requested_adjustments
from simkit.models.providers.message_rules import RULES
from simkit.models.providers.openai import Endpoint, OpenAIModel
from simkit.models.run_models import RecordedCalls, RunModels
from simkit.models.transport.http1 import HttpReply

pytestmark = pytest.mark.anyio

Body = dict[str, Any]
Judge = Callable[[Body], object]
"""Takes a request's body; returns the error with which a server refuses it, or None."""

CALL = ToolCall.of("call_abcdef", "f", {"a": 1})
STRICT = ToolSpec.model_validate({
    "type": "function",
    "function": {
        "name": "f",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"strict": {"type": "string"}, "a": {"type": "object", "additionalProperties": False}},
            "additionalProperties": False,
        },
    },
})  # fmt: skip


def error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


class Server:
    """A server that refuses what its judge refuses, and answers everything else."""

    def __init__(self, judge: Judge, status: int = 400, said: str = "hi") -> None:
        self._judge, self._status, self._said = judge, status, said
        self.seen: list[Body] = []

    async def post(self, body: bytes) -> HttpReply:
        self.seen.append(orjson.loads(body))
        refused = self._judge(self.seen[-1])
        if refused is not None:
            return HttpReply(self._status, {}, orjson.dumps(refused))
        choice = {"message": {"role": "assistant", "content": self._said}, "finish_reason": "stop"}
        return HttpReply(200, {}, orjson.dumps({"choices": [choice]}))

    async def aclose(self) -> None:
        return None


def model(server: Server, learned: LearnedAdjustments | None = None, **options: Any) -> OpenAIModel:
    endpoint = Endpoint.of(ModelConfig(base_url="http://gateway/v1", **options), {})
    return OpenAIModel("m", endpoint, server, learned=learned)


def when(condition: Callable[[Body], object], refusal: object) -> Judge:
    return lambda body: refusal if condition(body) else None


def has(name: str) -> Callable[[Body], object]:
    return lambda body: name in body


async def talk(request: ChatRequest, judge: Judge, status: int = 400, **options: Any) -> tuple[Body, tuple[str, ...]]:
    """The body that was accepted, and what was learned. A second call is accepted at once."""
    server, learned = Server(judge, status), LearnedAdjustments()
    talking = model(server, learned, **options)
    await talking.complete(request, KEY)
    refused = len(server.seen)
    await talking.complete(request, KEY)
    assert len(server.seen) == refused + 1
    assert server.seen[-1] == server.seen[-2]
    found = learned.at(("http://gateway/v1", "m"))
    return server.seen[-1], tuple(map(str, found))


LIMITED = replace(HELLO, sampling=Sampling(max_tokens=9))
SEEDED = replace(HELLO, seed=KEY.seed)
CHOSEN = replace(HELLO, tools=(STRICT,), tool_choice="f")
FORMATTED = replace(HELLO, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}})


@pytest.mark.parametrize(
    ("request_", "judge", "has_", "lacks"),
    [
        (LIMITED, when(has("max_tokens"), error("Unsupported parameter: 'max_tokens'", param="max_tokens")),
         {"max_completion_tokens": 9}, "max_tokens"),
        (LIMITED, when(has("max_tokens"), {"detail": [{"loc": ["body", "max_tokens"], "msg": "Extra inputs"}]}),
         {"max_completion_tokens": 9}, "max_tokens"),
        (LIMITED, when(lambda body: "max_output_tokens" not in body,
                       error("max_tokens is not supported, use max_output_tokens")),
         {"max_output_tokens": 9}, "max_tokens"),
        (SEEDED, when(has("seed"), {"message": "body.seed: property 'seed' is unsupported"}), {}, "seed"),
        (SEEDED, when(has("seed"), error("unknown field `seed`, expected one of `random_seed`")), {}, "seed"),
        (SEEDED, when(has("seed"), error("Unrecognized request argument supplied: seed")), {}, "seed"),
        (CHOSEN, when(lambda body: isinstance(body.get("tool_choice"), dict),
                      error("tool_choice: only auto, none and required are supported")),
         {"tool_choice": "required"}, "x"),
        (CHOSEN, when(has("tool_choice"), error("'tool_choice' is not supported by this model")), {}, "tool_choice"),
        (FORMATTED, when(lambda body: body.get("response_format", {}).get("type") == "json_schema",
                         error("Invalid parameter: 'response_format' of type 'json_schema' is not supported")),
         {"response_format": {"type": "json_object"}}, "x"),
        (FORMATTED, when(has("response_format"), error("This response_format type is unavailable now")),
         {}, "response_format"),
        (replace(HELLO, sampling=Sampling(parallel_tool_calls=False)),
         when(has("parallel_tool_calls"), error("parallel_tool_calls is only allowed when 'tools' are specified")),
         {}, "parallel_tool_calls"),
        (replace(HELLO, sampling=Sampling(temperature=1.0)),
         when(has("temperature"), error("'temperature' does not support 1 with this model", param="temperature")),
         {}, "temperature"),
    ],
)  # fmt: skip
async def test_a_refused_setting_is_sent_in_another_form(
    request_: ChatRequest, judge: Judge, has_: Mapping[str, Any], lacks: str
) -> None:
    body, learned = await talk(request_, judge)
    assert has_.items() <= body.items()
    assert lacks not in body
    assert len(learned) == 1


async def test_several_refusals_are_learned_one_after_the_other() -> None:
    def judge(body: Body) -> object:
        for name in ("max_tokens", "seed", "stop", "parallel_tool_calls"):
            if name in body:
                return error(f"Unsupported parameter: '{name}'", param=name)
        return None

    sampling = Sampling(max_tokens=9, stop=("END",), parallel_tool_calls=True)
    body, learned = await talk(replace(SEEDED, sampling=sampling), judge)
    assert body["max_completion_tokens"] == 9
    assert learned == (
        "`max_tokens` is sent as `max_completion_tokens`",
        "`seed` is not sent",
        "`stop` is not sent",
        "`parallel_tool_calls` is not sent",
    )


async def test_a_text_that_ends_a_reply_ends_it_even_if_the_endpoint_does_not_know_the_setting() -> None:
    server = Server(when(has("stop"), error("stop is not supported")), said="one END two")
    request = replace(HELLO, sampling=Sampling(stop=("END", "two")))
    assert (await model(server).complete(request, KEY)).message.content == "one "


@pytest.mark.parametrize(
    ("sampling", "message", "flag"),
    [
        (Sampling(temperature=0.2), "Unsupported value: 'temperature'. Only the default (1)", "temperature="),
        (Sampling(top_p=0.5), "`top_p` is deprecated for this model", "top_p="),
        (Sampling(logprobs=True), "Unsupported parameter: 'logprobs'", "logprobs="),
        (Sampling(reasoning_effort="low"), "unknown field 'reasoning_effort'", "reasoning_effort="),
        (Sampling(extra_body={"top_k": 5}), "Unknown parameter: 'top_k'", "top_k="),
    ],
)  # fmt: skip
async def test_an_option_of_the_user_is_left_out_only_with_consent(sampling: Sampling, message: str, flag: str) -> None:
    name = flag[:-1]
    judge, request = when(has(name), error(message, param=name)), replace(HELLO, sampling=sampling)
    with pytest.raises(OptionRefused, match=f"--send-as {flag}"):
        await model(Server(judge)).complete(request, KEY)
    server = Server(judge)
    await model(server, send_as=(flag,)).complete(request, KEY)
    assert [name in body for body in server.seen] == [False]


async def test_an_option_that_was_accepted_before_does_not_end_the_run() -> None:
    refused = False
    server = Server(lambda body: error("temperature: bad luck", param="temperature") if refused else None)
    talking, request = model(server), replace(HELLO, sampling=Sampling(temperature=0.5))
    await talking.complete(request, KEY)
    refused = True
    with pytest.raises(BadRequest):
        await talking.complete(request, KEY)


async def test_a_limit_of_a_budget_is_lowered_to_what_the_endpoint_allows_and_that_of_the_user_is_not() -> None:
    def judge(body: Body) -> object:
        told = "max_tokens is too large: 4096. This model supports at most 2,048 completion tokens"
        return error(told, param="max_tokens") if body.get("max_tokens", 0) > 2048 else None

    body, _ = await talk(replace(HELLO, limit=ReplyLimit(4096)), judge)
    assert body["max_tokens"] == 2048
    with pytest.raises(OptionRefused, match="--max-tokens"):
        await model(Server(judge)).complete(replace(HELLO, sampling=Sampling(max_tokens=4096)), KEY)


async def test_a_seed_is_cut_to_the_bits_that_the_endpoint_allows() -> None:
    def judge(body: Body) -> object:
        return error("seed must be less than or equal to 65535") if body.get("seed", 0) > 65535 else None

    body, _ = await talk(SEEDED, judge)
    assert body["seed"] == KEY.seed & 0xFFFF


@pytest.mark.parametrize(
    ("judge", "status"),
    [
        (error("Unknown name \"additionalProperties\" at 'tools[0].parameters': Cannot find field."), 400),
        (error("additionalProperties is not supported in tool schemas"), 422),
        ({"detail": [{"loc": ["body", "tools", 0, "function", "additionalProperties"], "msg": "Extra inputs"}]}, 422),
    ],
)
async def test_a_keyword_of_schemas_that_is_refused_is_removed(judge: object, status: int) -> None:
    body, _ = await talk(CHOSEN, when(lambda body: b"additionalProperties" in orjson.dumps(body), judge), status)
    parameters = body["tools"][0]["function"]["parameters"]
    assert parameters == {"type": "object", "properties": {"strict": {"type": "string"}, "a": {"type": "object"}}}


async def test_a_property_named_like_a_keyword_stays() -> None:
    judge = when(lambda body: "strict" in body["tools"][0]["function"], error("Unknown parameter: 'strict'"))
    body, _ = await talk(CHOSEN, judge)
    assert "strict" in body["tools"][0]["function"]["parameters"]["properties"]


# --- messages ---------------------------------------------------------------------------------------------------------

SYSTEM, USER = SystemMessage.of("You are a clerk."), UserMessage.of("hello")
CALLED, RESULT = AssistantMessage.of(None, (CALL,)), ToolMessage.of("call_abcdef", "{}")
ANSWER = AssistantMessage.of("Which day?")


def roles(body: Body) -> list[str]:
    return [message["role"] for message in body["messages"]]


def pairs(body: Body) -> list[tuple[str, str]]:
    found = roles(body)
    return list(pairwise(found))


def alternates(body: Body) -> bool:
    spoken = [each["role"] for each in body["messages"] if each["role"] in ("user", "assistant")
              and not each.get("tool_calls")]  # fmt: skip
    return all(role == ("user", "assistant")[place % 2] for place, role in enumerate(spoken))


@pytest.mark.parametrize(
    ("messages", "judge"),
    [
        # a user right after a tool
        ((SYSTEM, USER, CALLED, RESULT, USER),
         when(lambda body: ("tool", "user") in pairs(body), error("Unexpected role 'user' after role 'tool'"))),
        ((USER, CALLED, RESULT, USER),
         when(lambda body: ("tool", "user") in pairs(body), error("a tool message must be followed by no user turn"))),
        ((USER, CALLED, RESULT, USER), when(
            lambda body: not alternates(body),
            error("After the optional system message, conversation roles must alternate user/assistant/..."))),
        # instructions
        ((SYSTEM, USER, SYSTEM, ANSWER, USER),
         when(lambda body: roles(body).count("system") > 1, error("Only one system message is allowed"))),
        ((USER, ANSWER, SYSTEM, USER),
         when(lambda body: "system" in roles(body)[1:], error("System message must be at the beginning."))),
        ((SYSTEM, USER), when(lambda body: "system" in roles(body), error("System role not supported"))),
        ((SYSTEM, ANSWER, USER),
         when(lambda body: "system" in roles(body), error("Developer instruction is not enabled for models/g"))),
        # the first and the last word
        ((SYSTEM, ANSWER, USER),
         when(lambda body: roles(body)[1] != "user", error("A conversation must start with a user message."))),
        ((SYSTEM, ANSWER, USER), when(lambda body: not alternates(body), error("Conversation roles must alternate"))),
        ((USER, ANSWER),
         when(lambda body: roles(body)[-1] == "assistant", error("Expected last role User or Tool but got assistant"))),
        # two in a row
        ((USER, ANSWER, ANSWER, USER),
         when(lambda body: ("assistant", "assistant") in pairs(body), error("consecutive assistant messages"))),
        ((USER, USER), when(lambda body: ("user", "user") in pairs(body), error("multiple user messages in a row"))),
        # content
        ((USER, CALLED, RESULT), when(
            lambda body: any(each["content"] is None for each in body["messages"]),
            error("Invalid value for 'content': expected a string, got null."))),
        ((USER, CALLED, RESULT, UserMessage.of("")), when(
            lambda body: any(not (each["content"] or "").strip() for each in body["messages"]),
            error("messages: text content blocks must be non-empty"))),
        ((UserMessage.model_validate({"role": "user", "content": [{"type": "text", "text": "hello"}]}),), when(
            lambda body: isinstance(body["messages"][0]["content"], list),
            error("messages[0].content: Input should be a valid string"))),
        ((USER,), when(lambda body: isinstance(body["messages"][0]["content"], str),
                       error("content must be an array of parts"))),
        # names of calls
        ((USER, CALLED, RESULT), when(
            lambda body: len(body["messages"][2]["tool_call_id"]) != 9,
            error("Tool call id was call_abcdef but must be a-z, A-Z, 0-9, with a length of 9."))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [400, 422, 500])
async def test_messages_follow_the_rules_that_an_endpoint_enforces(
    messages: tuple[Any, ...], judge: Judge, status: int
) -> None:
    request = ChatRequest(messages=messages)
    body, learned = await talk(request, judge, status)
    assert learned
    texts = orjson.dumps(body).decode()
    assert "hello" in texts
    for call in (call for each in body["messages"] for call in each.get("tool_calls") or ()):
        assert any(each.get("tool_call_id") == call["id"] for each in body["messages"])


def test_every_rule_has_a_name_that_flags_accept() -> None:
    assert tuple(RULES) == MESSAGE_RULES


async def test_a_rule_can_be_chosen_before_the_first_call() -> None:
    server = Server(lambda body: None)
    await model(server, message_rule=("no-system", "parts")).complete(HELLO, KEY)
    assert server.seen[0]["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "You are a clerk.\n\nhello"}]}
    ]


async def test_an_unknown_field_of_messages_is_left_out() -> None:
    odd = AssistantMessage.model_validate({"role": "assistant", "content": "a", "annotations": [], "signature": "s"})
    judge = when(
        lambda body: any("annotations" in each for each in body["messages"]),
        error("Unknown name \"annotations\" at 'messages[1]': Cannot find field."),
    )
    body, _ = await talk(ChatRequest(messages=(USER, odd, USER)), judge)
    assert body["messages"][1] == {"role": "assistant", "content": "a", "signature": "s"}


# --- reasoning --------------------------------------------------------------------------------------------------------

THOUGHT = ChatRequest(messages=(USER, with_reasoning(CALLED, "I should look."), RESULT))


def lacks_reasoning(body: Body) -> bool:
    return not body["messages"][1].get("reasoning_content")


@pytest.mark.parametrize(
    "message",
    [
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1",
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "Missing `reasoning_content` field in the assistant message at message index 1.",
    ],
)
async def test_reasoning_goes_back_where_the_endpoint_demands_it(message: str) -> None:
    body, learned = await talk(THOUGHT, when(lacks_reasoning, error(message)))
    assert body["messages"][1]["reasoning_content"] == "I should look."
    assert learned == ("reasoning is sent back",)


@pytest.mark.parametrize(("choice", "sent"), [("auto", False), ("always", True), ("never", False)])
async def test_whether_reasoning_is_sent_can_be_chosen(choice: str, sent: bool) -> None:
    server = Server(lambda body: None)
    await model(server, send_reasoning=choice).complete(THOUGHT, KEY)
    assert ("reasoning_content" in server.seen[0]["messages"][1]) is sent


async def test_a_choice_about_reasoning_is_not_overridden() -> None:
    server = Server(when(lacks_reasoning, error("reasoning_content is missing")))
    with pytest.raises(BadRequest, match="reasoning_content is missing"):
        await model(server, send_reasoning="never").complete(THOUGHT, KEY)
    assert len(server.seen) == 1


async def test_other_fields_of_the_provider_go_back_as_they_came() -> None:
    details = [{"type": "reasoning.encrypted", "data": "xyz"}]
    kept = AssistantMessage.model_validate({
        "role": "assistant", "content": None, "reasoning_content": "hm", "reasoning_details": details,
        "tool_calls": [{**CALL.to_openai(), "extra_content": {"google": {"thought_signature": "s"}}}],
    })  # fmt: skip
    server = Server(lambda body: None)
    await model(server).complete(ChatRequest(messages=(USER, kept, RESULT)), KEY)
    sent = server.seen[0]["messages"][1]
    assert sent["reasoning_details"] == details
    assert sent["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "s"}}
    assert "reasoning_content" not in sent


# --- what is learned --------------------------------------------------------------------------------------------------


async def test_what_was_learned_is_reported_once_with_the_servers_reason_and_shared_by_models() -> None:
    told: list[tuple[EndpointModel, Adjustment, str]] = []

    def report(place: EndpointModel, adjustment: Adjustment, reason: str) -> None:
        told.append((place, adjustment, reason))

    learned = LearnedAdjustments(report=report)
    server = Server(when(has("seed"), error("unknown field `seed`")))
    for _ in range(2):
        await model(server, learned).complete(SEEDED, KEY)
    assert len(server.seen) == 3
    ((place, adjustment, reason),) = told
    assert place == ("http://gateway/v1", "m")
    assert adjustment == Adjustment("setting", "seed", "")
    assert "unknown field `seed`" in reason


async def test_what_an_earlier_attempt_of_the_run_learned_is_applied_at_once() -> None:
    learned = LearnedAdjustments({("http://gateway/v1", "m"): (Adjustment("setting", "seed", ""),)})
    server = Server(when(has("seed"), error("unknown field `seed`")))
    await model(server, learned).complete(SEEDED, KEY)
    assert len(server.seen) == 1


async def test_nothing_is_learned_from_a_form_that_does_not_help() -> None:
    learned = LearnedAdjustments()
    server = Server(lambda body: error("stop: the seed of temperature is odd"))
    with pytest.raises(BadRequest):
        await model(server, learned).complete(replace(SEEDED, tool_choice="auto"), KEY)
    assert learned.known == {}
    assert len(server.seen) <= 12


async def test_an_error_of_another_kind_ends_the_negotiation() -> None:
    replies = iter([HttpReply(400, {}, orjson.dumps(error("unknown field `seed`"))), HttpReply(429, {}, b"{}")])
    server = Server(lambda body: None)

    async def post(body: bytes) -> HttpReply:
        return next(replies)

    server.post = post
    with pytest.raises(RateLimited):
        await model(server).complete(SEEDED, KEY)


async def test_negotiation_can_be_switched_off() -> None:
    server = Server(when(has("seed"), error("unknown field `seed`")))
    with pytest.raises(BadRequest):
        await model(server, no_negotiation=True).complete(SEEDED, KEY)
    assert len(server.seen) == 1


async def test_advice_about_switches_of_the_server_is_no_refusal_of_a_setting() -> None:
    told = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    server = Server(lambda body: error(told))
    with pytest.raises(BadRequest, match="--enable-auto-tool-choice"):
        await model(server).complete(replace(CHOSEN, tool_choice="auto"), KEY)
    assert len(server.seen) == 1


def test_the_hash_of_a_request_does_not_depend_on_its_dialect() -> None:
    request = replace(SEEDED, sampling=Sampling(max_tokens=9))
    before = request_hash("m", request)
    Dialect((Adjustment("setting", "max_tokens", "n"),)).body("m", request)
    assert request_hash("m", request) == before


def test_flags_are_adjustments_before_the_first_call() -> None:
    config = ModelConfig(send_as=("max_tokens=max_completion_tokens", "seed="), send_reasoning="always")
    dialect = known_dialect("gateway", "m").adjusted(requested_adjustments(config))
    assert dialect.settings({"seed": 1, "max_tokens": 2}) == {"max_completion_tokens": 2}
    assert dialect.sends_reasoning


async def test_a_run_records_what_it_learned_and_a_resumed_run_knows_it() -> None:
    place, seed, limit = ("http://gateway/v1", "m"), Adjustment("setting", "seed"), Adjustment("at_most", "seed", "9")
    recording, recorder = Recording("r"), MemoryRecorder()
    recording.adjusted(EndpointAdjusted("r", *place, *seed, "no seeds", 1.0))
    models = RunModels("r", recorder, Allowances(), RecordedCalls(recording))
    assert models.learned.at(place) == (seed,)
    models.learned.add(place, seed, "again")
    models.learned.add(place, limit, "fewer bits")
    assert models.metrics.adjustments == ["m: `seed` is not sent", "m: `seed` is at most 9"]
    (event,) = recorder.events
    assert isinstance(event, EndpointAdjusted)
    assert (event.run_id, event.setting, event.sent_as, event.reason) == ("r", "seed", "9", "fewer bits")


@pytest.mark.parametrize(
    ("request_", "judge"),
    [
        (LIMITED, when(has("max_tokens"), error("Unsupported parameter: 'max_tokens'", code="unsupported_parameter"))),
        (SEEDED, when(has("seed"), {"error": "seed is not supported"})),
        (SEEDED, when(has("seed"), {"object": "error", "message": "Unknown field: seed", "code": 400})),
        (SEEDED, when(has("seed"), {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]})),
    ],
)
async def test_a_refusal_under_status_200_is_a_refusal(request_: ChatRequest, judge: Judge) -> None:
    _, learned = await talk(request_, judge, status=200)
    assert len(learned) == 1


async def test_a_refusal_under_status_200_is_final_without_negotiation() -> None:
    server = Server(when(has("seed"), error("Unknown parameter: seed", type="invalid_request_error")), status=200)
    with pytest.raises(BadRequest):
        await model(server, no_negotiation=True).complete(SEEDED, KEY)
    assert len(server.seen) == 1
