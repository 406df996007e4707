from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_examples import CALL, demonstrations, judged, pairs, prompt

from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from simkit.data.examples import ExampleSet, SftExample
from simkit.data.export import save
from simkit.data.openai_files import accepted, openai_row, openai_rows, refused
from simkit.data.reading import read_examples
from simkit.errors import UsageError


def test_supervised_rows() -> None:
    row = openai_row(demonstrations(1)[0])
    assert list(row) == ["messages", "tools", "parallel_tool_calls"]
    assert row["parallel_tool_calls"] is False
    call = row["messages"][2]
    assert call == {"role": "assistant", "tool_calls": [CALL.to_openai()["tool_calls"][0]]}
    assert isinstance(call["tool_calls"][0]["function"]["arguments"], str)


def test_preference_rows() -> None:
    row = openai_row(pairs(1)[0])
    assert list(row) == ["input", "preferred_output", "non_preferred_output"]
    assert list(row["input"]) == ["messages", "tools", "parallel_tool_calls"]
    assert row["non_preferred_output"] == [{"role": "assistant", "content": "No idea."}]


def test_calls_at_once_are_told() -> None:
    both = AssistantMessage.of(None, (ToolCall.of("a", "find_hotel", {}), ToolCall.of("b", "find_hotel", {})))
    pair = replace(pairs(1).pairs[0], chosen=(both,))
    assert openai_row(pair)["input"]["parallel_tool_calls"] is True


def test_answers_that_are_only_shown_weigh_nothing() -> None:
    first, second = AssistantMessage.of("One."), AssistantMessage.of("Two.")
    example = SftExample(messages=(*prompt(1), first, UserMessage.of("And?"), second), context=4)
    assert [message.get("weight") for message in openai_row(example)["messages"]] == [None, None, 0, None, None]
    assert "tools" not in openai_row(example)


def test_fields_of_providers_are_left_out() -> None:
    odd = AssistantMessage.model_validate({"role": "assistant", "content": "Hi", "refusal": None, "reasoning": "..."})
    row = openai_row(SftExample(messages=(*prompt(1), odd)))
    assert row["messages"][-1] == {"role": "assistant", "content": "Hi"}


def told(name: str, arguments: str) -> AssistantMessage:
    return AssistantMessage.of(None, (ToolCall.of("c", name, arguments),))


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ((*prompt(1), CALL, ToolMessage.of("t01s00c00", "x")), "its last message is not the assistant's"),
        ((*prompt(1), CALL, UserMessage.of("?"), AssistantMessage.of("x")), "the calls t01s00c00 have no results"),
        ((*prompt(1), CALL, ToolMessage.of("other", "x"), AssistantMessage.of("x")), "answers 'other'"),
        ((*prompt(1), told("find hotel", "{}")), "'find hotel' is not a valid name of a tool"),
        ((*prompt(1), told("find_hotel", "{")), "not valid JSON"),
        ((*prompt(1), AssistantMessage.of("")), "an assistant message is empty"),
        (prompt(1), "no assistant message to learn"),
    ],
)
def test_what_the_api_refuses(messages: tuple[Message, ...], problem: str) -> None:
    example = SftExample(messages=messages)
    assert problem in (refused(example) or "")
    with pytest.raises(UsageError, match=r"example 3 .* cannot be used for fine-tuning"):
        openai_row(example, 3)


def test_refused_examples_are_left_out_and_counted(tmp_path: Path) -> None:
    good = demonstrations(11)
    bad = replace(good.demonstrations[0], messages=(*prompt(1), AssistantMessage.of("")))
    done = save(replace(good, examples=(bad, *good.examples)), tmp_path / "a.jsonl", format="openai")
    assert (done.written, done.removed) == (11, {"refused": 1})
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert rows == list(openai_rows(good))
    assert len(read_examples(tmp_path / "a.jsonl")) == 11


def test_sets_that_the_api_has_no_use_for() -> None:
    with pytest.raises(UsageError, match="no method for single judged answers"):
        accepted(judged(20))
    empty = replace(demonstrations(1).demonstrations[0], messages=(*prompt(1), AssistantMessage.of("")))
    with pytest.raises(UsageError, match=r"9 examples are too few.*1 refused, the first because an assistant"):
        accepted(ExampleSet("sft", (*demonstrations(9).examples, empty)))


def test_origins_are_beside_the_file_and_follow_its_rows(tmp_path: Path) -> None:
    examples, out = demonstrations(12), tmp_path / "a.jsonl"
    save(examples, out, format="openai")
    rows = out.read_text().splitlines()
    assert all("origin" not in json.loads(row) for row in rows)
    assert [each.origin for each in read_examples(out)] == [each.origin for each in examples]
    edited = rows[5].replace("Ashley House", "Ashley Hotel")
    out.write_text("\n".join([rows[11], edited, *rows[2:4]]))
    assert [each.task_id for each in read_examples(out)] == ["train-11", "", "train-2", "train-3"]
    save(examples, out, format="openai", origin=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    assert read_examples(out).task_ids == frozenset()
