"""Reasoning in training data: one rule for fields and tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_examples import prompt
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolMessage, text_of
from simkit.data.checks import check
from simkit.data.examples import DpoExample, Example, ExampleSet, KtoExample, SftExample
from simkit.data.export import save
from simkit.data.reading import read_examples
from simkit.data.reasoning import Reasoning, reasoning_counts, with_reasoning_as
from simkit.errors import UsageError
from simkit.local.chat import ChatFormat
from simkit.local.reply_tokens import IGNORED
from simkit.local.template_messages import template_messages
from simkit.training.rows import training_rows
from support.tiny_llama import HERMES, tiny_tokenizer

FIELD = "reasoning_content"


def said(content: Any, **more: Any) -> AssistantMessage:
    return AssistantMessage.model_validate({"role": "assistant", "content": content, **more})


BY_FIELD = said("Which day?", reasoning_content="No day was named.")
BY_TAGS = said("<think>\nNo day was named.\n</think>\n\nWhich day?")
BOTH_FORMS = pytest.mark.parametrize("answer", [BY_FIELD, BY_TAGS], ids=["field", "tags"])


def demonstration(*answers: AssistantMessage, context: int = 0) -> ExampleSet:
    messages: list[Message] = []
    for answer in answers:
        messages += [*prompt(1), answer] if not messages else [prompt(1)[1], answer]
    return ExampleSet("sft", (SftExample(messages=tuple(messages), context=context),))


def judged(answer: AssistantMessage, label: bool, *before: AssistantMessage) -> KtoExample:
    return KtoExample(prompt=(*prompt(1), *before), completion=(answer,), label=label)


def wire(example: Example) -> list[dict[str, Any]]:
    return [message.to_openai() for message in example.parts()[0] if message.role == "assistant"]


@BOTH_FORMS
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("keep", {"role": "assistant", "content": "Which day?", FIELD: "No day was named."}),
        ("inline", {"role": "assistant", "content": "<think>\nNo day was named.\n</think>\n\nWhich day?"}),
        ("drop", {"role": "assistant", "content": "Which day?"}),
    ],
)
def test_fields_and_tags_are_treated_the_same(
    answer: AssistantMessage, mode: Reasoning, expected: dict[str, Any]
) -> None:
    formed = with_reasoning_as(demonstration(answer), mode)
    assert wire(formed[0]) == [expected]
    assert reasoning_counts(formed) == ((0, 1) if mode == "drop" else (1, 0))
    assert check(formed).reasoning == (mode != "drop")


@BOTH_FORMS
def test_a_form_changes_nothing_twice(answer: AssistantMessage) -> None:
    for mode in ("keep", "inline", "drop"):
        once = with_reasoning_as(demonstration(answer), mode)
        assert with_reasoning_as(once, mode) == once


def test_examples_without_reasoning_stay_the_same_objects() -> None:
    examples = demonstration(said("Which day?"), said("<b>Fine.</b>"))
    for mode in ("keep", "inline", "drop"):
        assert with_reasoning_as(examples, mode) is examples


def test_a_call_with_reasoning_keeps_its_call() -> None:
    call = ToolCall.of("c1", "find", {"day": "Monday"})
    answer = said(None, tool_calls=[call.to_openai()], reasoning_content="Look first.")
    (inline,) = wire(with_reasoning_as(demonstration(answer), "inline")[0])
    assert inline["content"] == "<think>\nLook first.\n</think>\n\n"
    assert inline["tool_calls"] == [call.to_openai()]
    (dropped,) = wire(with_reasoning_as(demonstration(answer), "drop")[0])
    assert dropped == {"role": "assistant", "content": None, "tool_calls": [call.to_openai()]}


def test_a_content_of_parts_gets_a_part_more() -> None:
    answer = said([{"type": "text", "text": "A"}], reasoning_content="Hm.")
    (inline,) = with_reasoning_as(demonstration(answer), "inline").demonstrations
    assert text_of(inline.messages[-1]) == "<think>\nHm.\n</think>\n\nA"


def test_earlier_answers_of_a_prompt_have_no_reasoning_fields() -> None:
    """A model is not shown the fields of its earlier turns; text was sent to it as it stands."""
    details = said(
        "One.",
        reasoning_content="a",
        reasoning_details=[{"text": "a"}],
        content_blocks=[{"type": "text"}],
        other="kept",
    )
    example = judged(BY_FIELD, True, details, BY_TAGS)
    (formed,) = with_reasoning_as(ExampleSet("kto", (example,)), "keep").judged
    assert [message.to_openai() for message in formed.prompt[2:]] == [
        {"role": "assistant", "content": "One.", "other": "kept"},
        BY_TAGS.to_openai(),
    ]
    assert formed.recorded == example
    context = with_reasoning_as(demonstration(BY_FIELD, BY_FIELD, context=3), "keep").demonstrations[0]
    assert [FIELD in each for each in wire(context)] == [False, True]


def test_an_answer_that_is_golden_elsewhere_is_no_negative_whatever_was_thought() -> None:
    other = said("Which day?", reasoning_content="Let me ask.")
    plain = said("No idea.", reasoning_content="Let me ask.")
    examples = ExampleSet("kto", (judged(BY_FIELD, True), judged(other, False), judged(plain, False)))
    for mode in ("keep", "inline", "drop"):
        formed = with_reasoning_as(examples, mode)
        assert [(text_of(each.completion[0])[-10:], each.label) for each in formed.judged] == [
            ("Which day?", True),
            ("e>\n\nNo idea."[-10:] if mode == "inline" else "No idea.", False),
        ]
        assert formed.removed == {"contradictions": 1}


def test_examples_that_become_equal_are_kept_once() -> None:
    examples = ExampleSet("kto", (judged(BY_FIELD, True), judged(said("Which day?", reasoning_content="Hm."), True)))
    assert with_reasoning_as(examples, "keep").removed == {}
    assert with_reasoning_as(examples, "drop").removed == {"duplicates": 1}


def test_a_pair_that_differs_in_its_reasoning_alone_is_no_preference() -> None:
    pair = DpoExample(prompt=prompt(1), chosen=(BY_FIELD,), rejected=(said("Which day?", reasoning_content="Hm."),))
    other = DpoExample(prompt=prompt(1), chosen=(BY_FIELD,), rejected=(said("No idea."),))
    formed = with_reasoning_as(ExampleSet("dpo", (pair, other)), "keep")
    assert (len(formed), formed.removed) == (1, {"contradictions": 1})


@BOTH_FORMS
@pytest.mark.parametrize("mode", ["keep", "inline", "drop"])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_files_with_reasoning_are_read_back_the_same(
    tmp_path: Path, answer: AssistantMessage, mode: Reasoning, ending: str
) -> None:
    formed = with_reasoning_as(demonstration(answer), mode)
    done = save(formed, tmp_path / f"a.{ending}")
    assert (done.reasoning, done.reasoning_left_out) == reasoning_counts(formed)
    back = read_examples(done.path)
    assert back == formed
    assert check(back).reasoning == done.reasoning


def test_openais_files_have_no_field_and_that_is_counted(tmp_path: Path) -> None:
    many = ExampleSet("sft", demonstration(BY_FIELD).examples * 10)
    done = save(many, tmp_path / "a.jsonl", format="openai")
    assert (done.reasoning, done.reasoning_left_out) == (0, 10)
    assert "No day" not in done.path.read_text()
    inline = save(ExampleSet("sft", with_reasoning_as(demonstration(BY_FIELD), "inline").examples * 10), done.path)
    assert (inline.reasoning, inline.reasoning_left_out) == (10, 0)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "A", "reasoning": "Hm."},
        {"role": "assistant", "content": "A", "thinking": "Hm."},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "A"}]},
        {"role": "assistant", "content": [{"type": "reasoning", "text": "Hm."}, {"type": "text", "text": "A"}]},
        {"role": "assistant", "content": "A", "reasoning_content": "Hm.", "reasoning": "Hm."},
    ],
)
def test_other_fields_of_reasoning_are_read_as_the_one_field(tmp_path: Path, message: dict[str, Any]) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "?"}, message]}))
    examples = read_examples(file)
    (answer,) = wire(examples[0])
    assert (answer[FIELD], text_of(examples[0].parts()[0][-1])) == ("Hm.", "A")
    assert check(examples).reasoning == 1


def test_the_commands_count_reasoning(tmp_path: Path) -> None:
    file, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    save(demonstration(BY_FIELD), file)
    done = CliRunner().invoke(app, ["check", str(file), "--reasoning", "drop", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "reasoning: left out of the answers of 1 examples" in done.output
    assert "No day" not in out.read_text()
    assert "with reasoning in their answers: 1" in CliRunner().invoke(app, ["check", str(file)]).output


# --- chat templates ---------------------------------------------------------------------------------------------------


def chat(*, thinking: bool) -> ChatFormat:
    pytest.importorskip("transformers", reason="the extra `local` is not installed")
    thought = "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
    template = HERMES.replace("{{ message.content }}", thought + "{{ message.content }}") if thinking else HERMES
    return ChatFormat(tiny_tokenizer(template))


def test_a_template_that_renders_the_field_trains_the_reasoning() -> None:
    form, examples = chat(thinking=True), demonstration(BY_FIELD)
    report = check(examples, form)
    assert report.findings == ()
    (row,) = training_rows(examples, form, max_length=1024, seed=0).rows
    learned = form.text([label for label in row["labels"] if label != IGNORED])
    assert learned == "<think>No day was named.</think>Which day?<|im_end|>"
    kto = ExampleSet("kto", (judged(BY_FIELD, True), judged(said("No idea."), False)))
    rows = training_rows(kto, form, max_length=1024, seed=0).rows
    assert any("No day was named." in row["completion"][0]["content"] for row in rows)


def test_a_template_that_does_not_is_noticed_by_check_and_training() -> None:
    form, examples = chat(thinking=False), demonstration(BY_FIELD)
    (finding,) = check(examples, form).findings
    assert (finding.name, finding.severity, finding.examples) == ("lost_reasoning", "warning", (0,))
    assert "--reasoning inline" in finding.text
    with pytest.raises(UsageError, match="1 examples have reasoning in their answers"):
        training_rows(examples, form, max_length=1024, seed=0)
    for mode in ("inline", "drop"):
        formed = with_reasoning_as(examples, mode)
        assert check(formed, form).findings == ()
        assert training_rows(formed, form, max_length=1024, seed=0).learned > 0


def test_a_prompt_is_rendered_without_reasoning() -> None:
    """As it is sent in play."""
    form = chat(thinking=True)
    assert form.prompt((*prompt(1), BY_FIELD, prompt(1)[1])) == form.prompt(
        (*prompt(1), said("Which day?"), prompt(1)[1])
    )


def test_results_are_named_after_the_call_before_them_when_ids_are_used_again() -> None:
    turns: list[Message] = []
    for name in ("find", "book"):
        turns += [said(None, tool_calls=[ToolCall.of("c1", name, {}).to_openai()]), ToolMessage.of("c1", "ok")]
    assert [each["name"] for each in template_messages(turns) if each["role"] == "tool"] == ["find", "book"]
