from __future__ import annotations

import copy
import json
import pickle
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from simkit.core.messages import (
    AssistantMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSpec,
    UserMessage,
    parse_message,
    text_of,
)
from simkit.errors import InvalidArguments

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)
json_objects = st.dictionaries(st.text(), json_values, max_size=3)
# names that are no attribute of a pydantic model: what providers add are plain fields ("refusal", "reasoning_content")
field_names = st.from_regex(r"x_[a-z]{1,8}", fullmatch=True)
extras = st.dictionaries(field_names, json_values, max_size=2)


def wire(required: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """OpenAI dicts with these fields, perhaps those, and fields nobody has heard of."""
    fixed = st.fixed_dictionaries(required, optional=optional)
    return st.tuples(extras, fixed).map(lambda pair: {**pair[0], **pair[1]})


parts = wire({"type": st.sampled_from(["text", "image_url", "input_audio", "file"])}, text=st.text())
contents = st.text() | st.lists(parts, max_size=3)
calls = wire(
    {
        "id": st.text(),
        "type": st.just("function"),
        "function": wire({"name": st.text(), "arguments": st.text() | json_objects.map(json.dumps)}),
    }
)
messages = st.one_of(
    wire({"role": st.sampled_from(["system", "developer"]), "content": contents}),
    wire({"role": st.just("user"), "content": contents}),
    wire(
        {"role": st.just("assistant")},
        content=st.none() | contents,
        tool_calls=st.none() | st.lists(calls, max_size=3),
    ),
    wire({"role": st.just("tool"), "tool_call_id": st.text(), "content": contents}),
)
specs = wire(
    {
        "type": st.just("function"),
        "function": wire({"name": st.text()}, description=st.none() | st.text(), parameters=st.none() | json_objects),
    }
)


def mutate(value: Any) -> None:
    """Change every container within a JSON value."""
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        for each in list(table.values()):
            mutate(each)
        table["changed"] = True
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        for each in items:
            mutate(each)
        items.append("changed")


@given(messages)
def test_a_message_comes_back_as_it_was(data: dict[str, Any]) -> None:
    message = parse_message(data)
    assert message.to_openai() == data
    assert type(message).model_validate_json(message.model_dump_json(exclude_unset=True)) == message
    assert parse_message(message.to_openai()) == message
    assert pickle.loads(pickle.dumps(message)) == message


@given(specs)
def test_a_tool_spec_comes_back_as_it_was(data: dict[str, Any]) -> None:
    spec = ToolSpec.model_validate(data)
    assert spec.to_openai() == data
    assert ToolSpec.model_validate(spec.to_openai()) == spec


@given(messages)
def test_nobody_else_holds_what_a_message_holds(data: dict[str, Any]) -> None:
    before = copy.deepcopy(data)
    message = parse_message(data)
    mutate(data)
    mutate(message.to_openai())
    assert message.to_openai() == before


@given(specs)
def test_nobody_else_holds_what_a_tool_spec_holds(data: dict[str, Any]) -> None:
    before = copy.deepcopy(data)
    spec = ToolSpec.model_validate(data)
    mutate(data)
    mutate(spec.to_openai())
    assert spec.to_openai() == before


def test_absent_null_and_empty_stay_apart() -> None:
    absent: dict[str, Any] = {"role": "assistant"}
    null = {**absent, "content": None}
    empty: dict[str, Any] = {**absent, "content": "", "tool_calls": []}
    assert [parse_message(each).to_openai() for each in (absent, null, empty)] == [absent, null, empty]
    assert parse_message(absent) != parse_message(null)
    assert parse_message(absent) == AssistantMessage(role="assistant")
    assert parse_message(null) != null
    assert hash(parse_message(null)) == hash(AssistantMessage.of(None))


@pytest.mark.parametrize(
    "message",
    [SystemMessage.of("a"), UserMessage.of("a"), AssistantMessage.of("a"), ToolMessage.of("c1", "a")],
)
def test_a_message_cannot_be_changed(message: Any) -> None:
    for name in ("content", "role", "anything"):
        with pytest.raises(ValidationError):
            setattr(message, name, "b")


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": "narrator", "content": "a"},
        {"content": "a"},
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": 5},
        {"role": "tool", "content": "a"},
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f"}}]},
        {"role": "user", "content": "a", "x_handle": object()},
    ],
)
def test_what_is_no_message_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse_message(wrong)


@given(json_objects)
def test_arguments_given_as_a_mapping_are_parsed_back(arguments: dict[str, Any]) -> None:
    call = ToolCall.of("c1", "search_hotel", arguments)
    try:
        assert call.parse_arguments() == arguments
    except AssertionError:  # integers of more than 64 bits are read as floats
        assert call.parse_arguments() == json.loads(json.dumps(arguments), parse_int=_as_read)


def _as_read(text: str) -> float:
    number = int(text)
    return number if -(2**63) <= number < 2**64 else float(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "not valid JSON"), ("[1]", "a JSON list"), ('"a"', "a JSON str"), ("null", "a JSON NoneType")],
)
def test_arguments_that_are_no_object_say_what_to_send(text: str, says: str) -> None:
    with pytest.raises(InvalidArguments, match=f"search_hotel are {says}.*send one JSON object"):
        ToolCall.of("c1", "search_hotel", text).parse_arguments()


def test_a_call_without_arguments_has_none() -> None:
    assert ToolCall.of("c1", "search_hotel", "").parse_arguments() == {}
    assert ToolCall.of("c1", "search_hotel", {"name": "café"}).arguments == '{"name": "café"}'


def test_the_text_of_a_message() -> None:
    parts = [
        {"type": "text", "text": "a "},
        {"type": "image_url", "image_url": {"url": "u"}},
        {"type": "text", "text": "b"},
    ]
    assert text_of(parse_message({"role": "user", "content": parts})) == "a b"
    assert text_of(AssistantMessage.of(None)) == ""
    assert text_of(UserMessage.of("hello")) == "hello"


def test_an_assistant_message_from_its_parts() -> None:
    call = ToolCall.of("c1", "search_hotel", {"area": "north"})
    assert AssistantMessage.of("hi").to_openai() == {"role": "assistant", "content": "hi"}
    assert AssistantMessage.of(None, (call,)).to_openai() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "search_hotel", "arguments": '{"area": "north"}'}}
        ],
    }


def test_a_tool_spec_tells_its_properties() -> None:
    spec = ToolSpec.of("search_hotel", "Finds hotels.", {"area": {"type": "string"}}, ("area",))
    assert (spec.name, spec.properties) == ("search_hotel", {"area": {"type": "string"}})
    bare = ToolSpec.model_validate({"type": "function", "function": {"name": "now"}})
    assert bare.properties == {}


@pytest.mark.parametrize(("value", "text"), [("é", "é"), ({"a": "é"}, '{"a": "é"}'), ([], "[]"), (None, "null")])
def test_a_result_as_the_agent_reads_it(value: Any, text: str) -> None:
    assert ToolResult(value=value).text == text
