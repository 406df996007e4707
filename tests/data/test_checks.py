from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from made_examples import BOOK, CALL, FIND, demonstrations, judged, pairs, prompt

from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolSpec
from simkit.data.checks import CheckReport, check
from simkit.data.examples import DpoExample, Example, ExampleSet, KtoExample
from simkit.data.rendering import Lengths


def names(report: CheckReport) -> set[str]:
    return {finding.name for finding in report.findings}


def of_answer(answer: AssistantMessage, label: bool = True, tools: tuple[ToolSpec, ...] = (FIND, BOOK)) -> ExampleSet:
    """A set in which only one answer can be wrong."""
    mine = KtoExample(prompt=prompt(7), completion=(answer,), label=label, tools=tools)
    return ExampleSet("kto", (*judged(2).judged, mine))


def call(name: str, arguments: Any) -> AssistantMessage:
    return AssistantMessage.of(None, (ToolCall.of("c1", name, arguments),))


@pytest.mark.parametrize("examples", [demonstrations(3), judged(4), pairs(2)], ids=lambda one: one.kind)
def test_good_data_has_no_findings(examples: ExampleSet) -> None:
    report = check(examples)
    assert report.findings == ()
    assert report.ok
    assert (report.examples, report.tasks, report.tools) == (len(examples), len(examples), 2)
    assert report.to_text().endswith("no problems found")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (AssistantMessage.of(" "), "empty"),
        (call("find_hotel", '{"area": '), "broken_arguments"),
        (call("find_hotel", {"area": None}), "nulls"),
        (call("find_flight", {"area": "north"}), "unknown_tool"),
        (AssistantMessage.of("ERROR: I cannot"), "error_marker"),
    ],
)
def test_an_answer_that_should_not_be_learnt(answer: AssistantMessage, found: str) -> None:
    report = check(of_answer(answer))
    assert names(report) == {found}
    assert report.findings[0].examples == (2,)


@pytest.mark.parametrize(
    "answer", [call("find_hotel", '{"area": '), call("find_flight", {}), AssistantMessage.of("ERROR: no")]
)
def test_what_is_to_be_unlearnt_may_be_wrong(answer: AssistantMessage) -> None:
    assert check(of_answer(answer, label=False)).findings == ()


def test_a_null_that_the_schema_allows_is_none_that_was_filled_in() -> None:
    for schema in ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}):
        tool = ToolSpec.of("find_hotel", "Finds.", {"area": schema})
        assert check(of_answer(call("find_hotel", {"area": None}), tools=(tool,))).findings == ()


def test_contradictions_and_duplicates() -> None:
    good, bad = judged(2).judged
    report = check(ExampleSet("kto", (good, bad, replace(good, label=False), bad)))
    assert {finding.name: finding.examples for finding in report.findings} == {
        "contradiction": (2,),
        "duplicate": (3,),
    }
    assert not report.ok
    pair = pairs(1).pairs[0]
    turned = DpoExample(prompt=pair.prompt, chosen=pair.rejected, rejected=pair.chosen, tools=pair.tools)
    assert names(check(ExampleSet("dpo", (pair, turned)))) == {"contradiction"}
    assert names(check(ExampleSet("dpo", (replace(pair, rejected=pair.chosen),)))) == {"contradiction"}


def test_labels_are_weighed() -> None:
    good, bad = judged(2).judged
    many = tuple(replace(good, prompt=prompt(number)) for number in range(20))
    assert check(ExampleSet("kto", (*many, bad))).labels == (20, 1)
    assert names(check(ExampleSet("kto", (*many, bad)))) == {"imbalance"}
    assert names(check(ExampleSet("kto", many))) == {"one_label"}


def test_a_conversation_without_an_answer_teaches_nothing() -> None:
    empty = replace(demonstrations(1).demonstrations[0], messages=prompt(1))
    assert names(check(ExampleSet("sft", (empty,)))) == {"nothing_to_learn"}


def test_a_report_can_be_written_as_json() -> None:
    told = check(of_answer(AssistantMessage.of(""))).to_json()
    assert (told["ok"], told["labels"], told["findings"][0]["name"]) == (False, (2, 1), "empty")


# --- tokens -----------------------------------------------------------------------------------------------------------

TEXT = "".join(chr(code) for code in range(32, 127)) + "\n"
TEMPLATE = (
    "{% if tools %}<|s|>{{ tools | tojson }}{% endif %}{% for message in messages %}<|s|>{{ message.role }}\n"
    "{{ message.content or '' }}{% for call in message.tool_calls or [] %}"
    '<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}<|e|>{% endfor %}{% if add_generation_prompt %}<|s|>assistant\n{% endif %}"
)


def chat(template: str = TEMPLATE) -> Any:
    """A tokenizer of single characters: lengths can be counted by hand."""
    pytest.importorskip("transformers", reason="the extra `local` is not installed")
    from simkit.local.chat import ChatFormat
    from simkit.plugins.extras import require

    tokenizers, transformers = require("tokenizers", "local"), require("transformers", "local")
    marks = ["<|s|>", "<|e|>", "<tool_call>", "</tool_call>"]
    vocabulary = {sign: number for number, sign in enumerate(["[UNK]", *marks, *TEXT])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = tokenizers.decoders.Fuse()
    tokenizer.add_special_tokens([tokenizers.AddedToken(mark, normalized=False) for mark in marks])
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|e|>", unk_token="[UNK]", chat_template=template
    )
    return ChatFormat(made)


def tokens(messages: Sequence[Message]) -> int:
    """What TEMPLATE makes of plain messages, counted: a mark, the role, a line break, the words, a mark."""
    return sum(3 + len(message.role) + len(str(message.content)) for message in messages)


def plain(label: bool, words: str) -> KtoExample:
    return KtoExample(prompt=prompt(1), completion=(AssistantMessage.of(words),), label=label)


def test_lengths_are_counted_in_tokens() -> None:
    examples = (plain(True, "Yes."), plain(False, "No, never."))
    report = check(ExampleSet("kto", examples), chat(), max_tokens=tokens(examples[0].parts()[0]))
    assert report.lengths is not None
    assert report.lengths.sorted == tuple(tokens(example.parts()[0]) for example in examples)
    assert report.learnt == Lengths((len("Yes.") + 1, len("No, never.") + 1))
    assert {finding.name: finding.examples for finding in report.findings} == {"too_long": (1,)}


@pytest.mark.parametrize("examples", [demonstrations(2), judged(2), pairs(2)], ids=lambda one: one.kind)
def test_answers_come_back_from_their_tokens(examples: ExampleSet) -> None:
    report = check(examples, chat())
    assert report.findings == ()
    assert report.lengths is not None
    assert len(report.lengths.sorted) == sum(len(example.parts()) for example in examples)


def test_what_a_model_cannot_write_is_found() -> None:
    """The tokenizer has no such sign: training on it would teach an unknown token."""
    report = check(ExampleSet("kto", (plain(True, "It costs 5€."), plain(False, "No."))), chat())
    [finding] = report.findings
    assert (finding.name, finding.examples) == ("unreadable", (0,))
    assert "5€" in finding.detail
    assert not report.ok


def test_a_template_that_drops_calls_is_found() -> None:
    example: Example = judged(1)[0]
    dropping = TEMPLATE.replace("message.tool_calls or []", "[]")
    report = check(ExampleSet("kto", (example, plain(False, "No."))), chat(dropping))
    assert "unreadable" in names(report)
    assert CALL.tool_calls is not None


def test_histograms_hold_every_length() -> None:
    lengths = Lengths.of([5, 1, 1, 9, 200])
    bars = lengths.histogram()
    assert sum(int(bar.split()[3]) for bar in bars) == 5
    assert len(bars) <= 12
    assert (lengths.quantile(0.5), lengths.quantile(0), lengths.quantile(1)) == (5, 1, 200)
    assert Lengths(()).histogram() == []
    assert str(Lengths(())) == "none"
