"""Structured output and forced calls: what replies look like, which schemas are refused, and what stays the same."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from simkit.core.ids import TurnKey
from simkit.core.messages import JsonObject, ToolSpec, UserMessage
from simkit.errors import BadRequest, ModelFault
from simkit.local.engine import LocalEngine
from simkit.local.model import LocalModel, check_request
from simkit.local.worker import Worker
from simkit.models import CallKey, ChatRequest, ChatResponse, Sampling
from simkit.plugins.extras import require
from support.tiny_llama import FIND, tiny_engine, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.anyio

BOOK = ToolSpec.of(
    "book_hotel", "Books.", {"people": {"enum": [1, 2]}, "day": {"enum": ["tuesday"]}}, ("people", "day")
)
ASKED = (UserMessage.of("I need a cheap hotel"),)
SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"area": {"enum": ["north", "centre"]}, "people": {"type": "integer", "minimum": 1, "maximum": 8}},
    "required": ["area", "people"],
    "additionalProperties": False,
}


def json_schema(schema: object) -> JsonObject:
    return {"type": "json_schema", "json_schema": {"name": "wish", "schema": schema}}


def key(number: int) -> CallKey:
    return CallKey(TurnKey(1, f"task{number}", 0, "", 0), "agent")


async def answers(engine: LocalEngine, *requests: ChatRequest) -> list[ChatResponse | Exception]:
    """The answers to requests that are sent at once."""
    worker = Worker(engine)
    model = LocalModel(worker, "local/tiny")
    found: dict[int, ChatResponse | Exception] = {}

    async def ask(number: int) -> None:
        try:
            found[number] = await model.complete(requests[number], key(number))
        except (BadRequest, ModelFault) as error:
            found[number] = error

    async with anyio.create_task_group() as group:
        for number in range(len(requests)):
            group.start_soon(ask, number)
    await worker.aclose()
    return [found[number] for number in range(len(requests))]


def good(answer: ChatResponse | Exception) -> ChatResponse:
    assert isinstance(answer, ChatResponse), answer
    return answer


async def test_a_reply_follows_its_schema(engine: LocalEngine) -> None:
    requests = [ChatRequest(messages=ASKED, response_format=json_schema(SCHEMA), seed=seed) for seed in range(20)]
    found = [good(each) for each in await answers(engine, *requests)]
    values = [json.loads(str(each.message.content)) for each in found]
    assert {each.finish for each in found} == {"stop"}
    assert {value["area"] for value in values} <= {"north", "centre"}
    assert all(1 <= value["people"] <= 8 and len(value) == 2 for value in values)


async def test_rows_with_a_schema_leave_others_as_they_are(engine: LocalEngine) -> None:
    free = [ChatRequest(messages=ASKED, sampling=Sampling(max_tokens=20), seed=seed) for seed in range(5)]
    held = ChatRequest(messages=ASKED, response_format=json_schema(SCHEMA), seed=3)
    alone = await answers(engine, *free)
    together = await answers(engine, *free, held, held)
    assert [good(each).message for each in together[:5]] == [good(each).message for each in alone]
    assert good(together[5]).message == good(together[6]).message


async def test_a_json_object_is_one(engine: LocalEngine) -> None:
    request = ChatRequest(messages=ASKED, response_format={"type": "json_object"}, sampling=Sampling(temperature=0))
    (answer,) = await answers(engine, request)
    text = str(good(answer).message.content)
    assert text.startswith("{")
    assert good(answer).finish == "length" or isinstance(json.loads(text), dict)


async def test_a_reply_that_reaches_its_limit_was_cut_off(engine: LocalEngine) -> None:
    request = ChatRequest(messages=ASKED, response_format=json_schema(SCHEMA), sampling=Sampling(max_tokens=3), seed=1)
    (answer,) = await answers(engine, request)
    assert good(answer).finish == "length"


async def test_log_probabilities_are_the_models_own(engine: LocalEngine) -> None:
    request = ChatRequest(messages=ASKED, response_format=json_schema(SCHEMA), sampling=Sampling(logprobs=True), seed=1)
    answer = good((await answers(engine, request))[0])
    assert answer.tokens is not None
    assert answer.logprobs is not None
    torch = require("torch", "local")
    whole = torch.tensor([[*answer.tokens.prompt_ids, *answer.tokens.ids]])
    with torch.inference_mode():
        logits = engine.model(whole).logits[0, len(answer.tokens.prompt_ids) - 1 : -1]
    expected = torch.log_softmax(logits, -1)[range(len(answer.tokens.ids)), list(answer.tokens.ids)]
    assert list(answer.logprobs) == pytest.approx(expected.tolist(), abs=2e-4)


@pytest.mark.parametrize(
    ("choice", "names"), [("required", {"find_hotel", "book_hotel"}), ("book_hotel", {"book_hotel"})]
)
async def test_a_forced_call_is_one_in_the_notation_of_the_template(
    engine: LocalEngine, choice: str, names: set[str]
) -> None:
    sampling = Sampling(max_tokens=200, temperature=0.5)
    requests = [
        ChatRequest(messages=ASKED, tools=(FIND, BOOK), tool_choice=choice, seed=seed, sampling=sampling)
        for seed in range(12)
    ]
    found = [good(each) for each in await answers(engine, *requests)]
    whole = [each for each in found if each.finish != "length"]
    calls = [call for each in whole for call in each.message.tool_calls or ()]
    assert len(calls) == len(whole) >= 3
    assert {call.name for call in calls} <= names
    for call in calls:
        arguments = call.parse_arguments()
        if call.name == "book_hotel":
            assert arguments == {"people": arguments["people"], "day": "tuesday"}
        else:
            assert set(arguments) == {"area"}, arguments
    assert all(each.message.content is None for each in whole)


async def test_a_template_without_calls_forces_them_as_json() -> None:
    tokenizer = tiny_tokenizer(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    request = ChatRequest(messages=ASKED, tools=(BOOK,), tool_choice="required", seed=1)
    answer = good((await answers(LocalEngine(tiny_model(tokenizer), tokenizer), request))[0])
    assert [call.name for call in answer.message.tool_calls or ()] == ["book_hotel"]


async def test_with_free_tools_a_reply_is_an_answer_in_the_form_or_a_call(engine: LocalEngine) -> None:
    requests = [
        ChatRequest(messages=ASKED, tools=(BOOK,), response_format=json_schema(SCHEMA), seed=seed) for seed in range(12)
    ]
    for answer in map(good, await answers(engine, *requests)):
        if answer.message.tool_calls:
            assert answer.message.tool_calls[0].name == "book_hotel"
        else:
            assert set(json.loads(str(answer.message.content))) == {"area", "people"}


async def test_a_prompt_that_opens_reasoning_lets_the_model_think_first() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    engine = LocalEngine(tiny_model(tokenizer), tokenizer)
    constraint = engine.constraints.of(ChatRequest(messages=ASKED, response_format=json_schema(SCHEMA)))
    assert constraint is not None
    matcher = constraint.begin()
    text = 'the north or </think>\n{"area": "north", "people": 2}'
    assert matcher.consume_tokens(tokenizer(text, add_special_tokens=False)["input_ids"]), matcher.get_error()
    assert matcher.is_accepting()


@pytest.mark.parametrize(
    ("schema", "place", "why"),
    [
        ({"properties": {"day": {"type": "strin"}}}, ".properties.day", "strin"),
        ({"properties": {"a": {"items": {"pattern": "(?=x)y"}}}}, ".properties.a.items", "look-ahead"),
        ({"$defs": {"x": {"not": {}}}, "properties": {"b": {"anyOf": [{}, {"$ref": "#/$defs/x"}]}}}, ".", "not"),
        ({"$ref": "#/$defs/none"}, "", "does not exist"),
        ({"type": "array", "uniqueItems": True}, "", "uniqueItems"),
        ({"enum": []}, "", "Unsatisfiable"),
        ({"type": "object", "properties": {"a": {"$ref": "#/properties/b"}}}, ".properties.a", "does not exist"),
        (5, "", "an object or a boolean"),
        (None, "", "an object or a boolean"),
        ([], "", "an object or a boolean"),
    ],
)
async def test_a_schema_that_cannot_be_compiled_is_refused_with_its_place(
    engine: LocalEngine, schema: Any, place: str, why: str
) -> None:
    bad = ChatRequest(messages=ASKED, response_format=json_schema(schema))
    fine = ChatRequest(messages=ASKED, sampling=Sampling(max_tokens=2))
    refused, answered = await answers(engine, bad, fine)
    assert isinstance(refused, BadRequest)
    assert f"`response_format.json_schema.schema{place}" in str(refused)
    assert why in str(refused)
    assert good(answered).tokens


async def test_a_schema_that_no_reply_can_follow_is_refused(engine: LocalEngine) -> None:
    (refused,) = await answers(engine, ChatRequest(messages=ASKED, response_format=json_schema({"$ref": "#"})))
    assert isinstance(refused, BadRequest)
    assert "the form of the reply cannot be compiled" in str(refused)


async def test_a_tool_whose_parameters_cannot_be_compiled_is_refused_with_its_place(engine: LocalEngine) -> None:
    odd = ToolSpec.of("odd", "Odd.", {"a": {"type": "text"}})
    (refused,) = await answers(engine, ChatRequest(messages=ASKED, tools=(FIND, odd), tool_choice="required"))
    assert isinstance(refused, BadRequest)
    assert "`tools.1.function.parameters.properties.a`" in str(refused)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (ChatRequest(messages=ASKED, response_format={"type": "xml"}), "`response_format.type` is 'xml'"),
        (ChatRequest(messages=ASKED, response_format={}), "`response_format.type` is None"),
        (ChatRequest(messages=ASKED, response_format={"type": "json_schema"}), "json_schema.schema` is missing"),
        (ChatRequest(messages=ASKED, tool_choice="required"), "there are no `tools`"),
        (ChatRequest(messages=ASKED, tools=(FIND,), tool_choice="fly"), "`tool_choice` is `fly`"),
        (ChatRequest(messages=ASKED, sampling=Sampling(stop=("",))), "`stop` has an empty text"),
        (ChatRequest(messages=ASKED, sampling=Sampling(temperature=float("inf"))), "`temperature` is inf"),
    ],
)
def test_requests_without_a_meaning_are_refused(request_: ChatRequest, why: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_request(request_)
    assert why in str(caught.value)


async def test_a_form_is_compiled_once(engine: LocalEngine) -> None:
    first = engine.constraints.of(ChatRequest(messages=ASKED, response_format=json_schema(SCHEMA)))
    again = engine.constraints.of(ChatRequest(messages=ASKED * 2, response_format=json_schema(dict(SCHEMA))))
    assert first is again is not None
    free = ChatRequest(messages=ASKED, tools=(FIND,), tool_choice="auto", response_format={"type": "text"})
    assert engine.constraints.of(free) is None


async def test_a_constraint_that_fails_ends_its_row_only() -> None:
    engine = tiny_engine()
    held = ChatRequest(messages=ASKED, response_format=json_schema(SCHEMA), seed=1)
    constraint = engine.constraints.of(held)
    assert constraint is not None
    assert not constraint.matcher.consume_token(engine.chat.tokenizer.convert_tokens_to_ids("q"))
    free = ChatRequest(messages=ASKED, sampling=Sampling(max_tokens=5), seed=2)
    failed, answered = await answers(engine, held, free)
    assert isinstance(failed, BadRequest)
    assert "cannot be held to its form" in str(failed)
    assert good(answered).finish in ("length", "stop")
