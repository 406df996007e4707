"""The rows that trainings make in every chat template of TRL: their form, and that they are what is read and written.

Prompts are compared with what transformers renders, and the rows of KTO with what TRL's own trainer tokenizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, Message, UserMessage, text_of
from simkit.core.reasoning import reasoning_of
from simkit.data.checks import check
from simkit.data.examples import ExampleSet, KtoExample, SftExample
from simkit.data.rendering import Lengths
from simkit.errors import UsageError
from simkit.local.chat import ChatFormat
from simkit.models import CallKey, ChatRequest, Sampling
from simkit.models.factory import open_model
from simkit.training.groups import SampledReply, joined
from simkit.training.rows import TrainingRows, practice_format, training_rows
from support.chat_templates import base_names, chat_format
from support.template_outcomes import OUTCOMES, SINGLE, TEXT_ONLY, TOOLS, Outcome, dialogue
from support.tiny_families import write_family
from support.trl_preparation import prepared

NAMES = base_names()
if not NAMES:
    pytest.skip("TRL has the chat templates, and is not installed: pip install '.[train]'", allow_module_level=True)


@dataclass(frozen=True)
class Case:
    """A dialogue in a template, and what is stated about it."""

    name: str
    reasoning: bool
    stated: Outcome
    unthinking: bool = False

    def __str__(self) -> str:
        return f"{self.name}-{'reasoning' if self.reasoning else 'plain'}{'-unthinking' * self.unthinking}"

    @property
    def messages(self) -> tuple[Message, ...]:
        return dialogue(reasoning=self.reasoning, two_calls=self.name not in SINGLE)

    @property
    def chat(self) -> ChatFormat:
        return _chat(self.name, self.unthinking)

    def replies(self) -> Iterator[tuple[int, AssistantMessage]]:
        for place, message in enumerate(self.messages):
            if isinstance(message, AssistantMessage):
                yield place, message

    def rows(self, kind: str = "sft") -> TrainingRows:
        messages = self.messages
        if kind == "sft":
            examples = ExampleSet("sft", (SftExample(messages=messages, tools=TOOLS),))
        else:
            judged = [
                KtoExample(prompt=_shown(messages[:place]), completion=(each,), tools=TOOLS, label=place % 2 == 0)
                for place, each in self.replies()
            ]
            examples = ExampleSet("kto", tuple(judged))
        return training_rows(examples, self.chat, max_length=None, seed=0)


@cache
def _chat(name: str, unthinking: bool) -> ChatFormat:
    chat = chat_format(name)
    return ChatFormat(chat.tokenizer, sorted(chat.ends), {"enable_thinking": False}) if unthinking else chat


def _shown(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Messages as a harvest has them in prompts: without reasoning."""
    return tuple(
        AssistantMessage.of(text_of(each) or None, each.tool_calls or ())
        if isinstance(each, AssistantMessage)
        else each
        for each in messages
    )


def _cases() -> Iterator[Case]:
    for name, stated in OUTCOMES.items():
        yield Case(name, True, stated.reasoning)
        yield Case(name, False, stated.plain)
        if stated.unthinking is not None:
            yield Case(name, False, stated.unthinking, unthinking=True)


CASES = list(_cases())
ACCEPTED = [case for case in CASES if case.stated in ("whole", "whole, TRL's", "replies")]
WHY = {
    "no text": r"does not render messages that are plain text",
    "no tools": r"cannot be given tools.*--agent react",
    "not rendered": r"does not render.*--reasoning inline.*--reasoning drop",
    "other prompt": r"renders the prompt of a reply otherwise.*enable_thinking",
}


def test_the_outcome_of_every_template_is_stated() -> None:
    unstated = {*NAMES} - {*OUTCOMES}
    assert not unstated, f"the outcome of {sorted(unstated)} is not stated in tests/support/template_outcomes.py"
    assert {*OUTCOMES} == {*NAMES}
    for name, stated in OUTCOMES.items():
        reads = "enable_thinking" in str(chat_format(name).tokenizer.chat_template)
        assert (stated.unthinking is not None) == (reads and stated.plain != "no tools"), name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_dialogue_has_the_stated_outcome(case: Case) -> None:
    if case not in ACCEPTED:
        for kind in ("sft", "kto"):
            with pytest.raises(UsageError, match=f"(?s){WHY[case.stated]}"):
                case.rows(kind)
        return
    rows = case.rows()
    assert rows.form == ("one row per reply" if case.stated == "replies" else "whole conversations")
    assert _differ(rows.chat, case.chat) == (case.stated == "whole, TRL's")
    assert len(rows.rows) == (3 if case.stated == "replies" else 1)


def _differ(one: ChatFormat, other: ChatFormat) -> bool:
    return one.tokenizer.chat_template != other.tokenizer.chat_template


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_rows_are_the_prompts_and_the_replies_of_play(case: Case) -> None:
    """For each reply, the prompt as transformers renders it, then what is learned: read back, it is the reply."""
    rows = case.rows()
    chat = rows.chat
    ordered = sorted(rows.rows, key=lambda row: len(row["input_ids"]))
    learned = 0
    for number, (place, reply) in enumerate(case.replies()):
        row = ordered[number % len(ordered)]
        prompt = _prompt(chat, case.messages[:place])
        assert row["input_ids"][: len(prompt)] == prompt
        assert row["labels"][len(prompt) - 1] == -100
        end = next((at for at, label in enumerate(row["labels"]) if at > len(prompt) and label == -100), None)
        taught = row["labels"][len(prompt) : end]
        learned += len(taught)
        assert taught == row["input_ids"][len(prompt) : end]
        assert [token in chat.ends for token in taught] == [False] * (len(taught) - 1) + [True]
        _check_read(chat, taught, reply)
    assert learned == rows.learned == sum(label != -100 for row in rows.rows for label in row["labels"])
    assert rows.tokens == sum(len(row["input_ids"]) for row in rows.rows)


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_trl_tokenizes_judged_replies_to_the_same_tokens(case: Case) -> None:
    chat, made = case.chat, case.rows("kto")
    assert made.form == "one row per reply"
    assert not _differ(made.chat, chat)
    trained = list(prepared("kto", made, chat))
    learned = 0
    for place, reply in case.replies():
        prompt = _prompt(chat, case.messages[:place])
        (row,) = (row for row in trained if row["prompt_ids"] == prompt)
        assert row["completion_ids"][-1] in chat.ends
        _check_read(chat, row["completion_ids"], reply)
        learned += len(row["completion_ids"])
    assert learned == made.learned
    assert made.tokens == learned + sum(len(row["prompt_ids"]) for row in trained)


def _prompt(chat: ChatFormat, messages: tuple[Message, ...]) -> list[int]:
    """A prompt as transformers renders and tokenizes it, from messages in OpenAI's form."""
    names: dict[str, str] = {}
    sent: list[dict[str, Any]] = []
    for message in _shown(messages):
        form: dict[str, Any] = {"role": message.role, "content": text_of(message)}
        if isinstance(message, AssistantMessage) and message.tool_calls:
            names |= {call.id: call.name for call in message.tool_calls}
            form["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.parse_arguments()},
                }
                for call in message.tool_calls
            ]
        if message.role == "tool":
            form |= {"tool_call_id": message.tool_call_id, "name": names[message.tool_call_id]}
        sent.append(form)
    apply, tools = chat.tokenizer.apply_chat_template, [tool.to_openai() for tool in TOOLS]
    found = apply(sent, tools=tools, add_generation_prompt=True, return_dict=True, **chat.template_kwargs)
    return list(found["input_ids"])


def _check_read(chat: ChatFormat, taught: list[int], reply: AssistantMessage) -> None:
    read = chat.read(chat.said(taught), TOOLS)
    calls = [[(call.name, call.parse_arguments()) for call in each.tool_calls or ()] for each in (read.message, reply)]
    assert calls[0] == calls[1]
    assert (text_of(read.message).strip(), read.doubts) == (text_of(reply), ())
    if reasoning_of(reply) and not reply.tool_calls:
        assert reasoning_of(read.message) == reasoning_of(reply)


def test_templates_without_tools_take_conversations_in_text() -> None:
    """Those of the agent `react`."""
    asked, talk = UserMessage.of("A bike, please."), (AssistantMessage.of("For two?"), AssistantMessage.of("Goodbye."))
    examples = ExampleSet("sft", (SftExample(messages=(asked, talk[0], asked, talk[1])),))
    assert {*TEXT_ONLY} == {name for name, stated in OUTCOMES.items() if stated.plain == "no tools"}
    for name, stated in TEXT_ONLY.items():
        chat = chat_format(name)
        if stated != "whole":
            with pytest.raises(UsageError, match=f"(?s){WHY[stated]}"):
                training_rows(examples, chat, max_length=None, seed=0)
            continue
        (row,) = training_rows(examples, chat, max_length=None, seed=0).rows
        learned = chat.text([label for label in row["labels"] if label != -100])
        ends = learned.removeprefix("For two?").split("Goodbye.")
        assert ends[0] == ends[1], name
        assert any(ends[0].endswith(chat.text([end])) for end in chat.ends), name


def test_replies_that_were_sampled_without_thinking_are_all_learned_in_trls_template() -> None:
    """In Qwen 3's own template earlier replies lose the empty block of reasoning, and count no longer."""
    messages, own = dialogue(reasoning=False), _chat("qwen3", unthinking=True)
    for chat, drifted in ((own, 2), (practice_format(own), 0)):
        sampled = [
            chat.reply(messages[:place], each, TOOLS)
            for place, each in enumerate(messages)
            if isinstance(each, AssistantMessage)
        ]
        replies = [
            SampledReply(tuple(each.prompt_ids), tuple(each.answer_ids), (-1.0,) * len(each.answer_ids))
            for each in sampled
        ]
        sequence = joined(replies)
        assert sequence.drifted == drifted
        counted = sampled if not drifted else sampled[-1:]
        assert sum(sequence.mask) == sum(len(each.answer_ids) for each in counted)


def test_reasoning_in_the_text_of_replies_is_learned_one_reply_at_a_time() -> None:
    """A model that writes tags into its text is not shown them again either."""
    chat = chat_format("llama3_1")
    messages = dialogue(reasoning=False, two_calls=False)
    inline = [
        replace_text(each, f"<think>\nSo.\n</think>\n\n{text_of(each)}") if isinstance(each, AssistantMessage) else each
        for each in messages
    ]
    example = SftExample(messages=(*messages[:4], *inline[4:]), tools=TOOLS)
    rows = training_rows(ExampleSet("sft", (example,)), chat, max_length=None, seed=0)
    assert rows.form == "one row per reply"
    longest = max(rows.rows, key=lambda row: len(row["input_ids"]))
    assert chat.text(longest["input_ids"]).count("<think>") == 1
    assert "<think>\nSo." in chat.text([label for label in longest["labels"] if label != -100])


def replace_text(message: AssistantMessage, text: str) -> AssistantMessage:
    return AssistantMessage.of(text, message.tool_calls or ())


def test_whole_and_divided_conversations_may_stand_side_by_side() -> None:
    plain, thinking = (dialogue(reasoning=each) for each in (False, True))
    examples = [SftExample(messages=each, tools=TOOLS) for each in (plain, thinking, plain)]
    examples[2] = replace(examples[2], messages=(*plain[:-1], AssistantMessage.of("Farewell.")))
    rows = training_rows(ExampleSet("sft", tuple(examples)), chat_format("glm4moe"), max_length=None, seed=0)
    assert (rows.form, len(rows.rows)) == ("one row per reply in 1 of 3 conversations", 5)


@pytest.mark.anyio
async def test_what_qwen3_learns_without_thinking_is_what_it_is_asked_with(tmp_path: Path) -> None:
    """The trained model has TRL's template, in which earlier replies keep the empty block of reasoning."""
    folder, unthinking = write_family(tmp_path, "qwen3"), {"enable_thinking": False}
    example = SftExample(messages=dialogue(reasoning=False), tools=TOOLS)
    rows = training_rows(ExampleSet("sft", (example,)), ChatFormat.of(folder, unthinking), max_length=None, seed=0)
    rows.chat.tokenizer.save_pretrained(folder)
    request = ChatRequest(messages=example.messages[:-1], tools=TOOLS, sampling=Sampling(max_tokens=1, logprobs=True))
    async with open_model(f"local/{folder},enable_thinking=false,device=cpu") as model:
        answer = await model.complete(request, CallKey(TurnKey(1, "task", 0, "", 0), "agent"))
    assert answer.tokens is not None
    asked = list(answer.tokens.prompt_ids)
    (row,) = rows.rows
    report = check(ExampleSet("sft", (example,)), f"{folder},enable_thinking=false")
    assert report.findings == ()
    assert (report.lengths, report.learnt) == (Lengths((rows.tokens,)), Lengths((rows.learned,)))
    assert row["input_ids"][: len(asked)] == asked
    assert row["labels"][len(asked) - 1] == -100 != row["labels"][len(asked)]


def test_an_example_that_a_template_refuses_is_named() -> None:
    """Llama's takes one call in a message."""
    example = SftExample(messages=dialogue(reasoning=False), tools=TOOLS)
    for place, told in (("", "example 1: "), ("made.jsonl:7", "made.jsonl:7: ")):
        examples = ExampleSet("sft", (replace(example, place=place),))
        with pytest.raises(UsageError, match=rf"^{told}.*only supports single tool-calls.*simkit check"):
            training_rows(examples, chat_format("llama3_1"), max_length=None, seed=0)


def test_practice_takes_a_template_in_which_replies_stay_as_they_are() -> None:
    unthinking = {"enable_thinking": False}
    for name, found in (("qwen3", True), ("qwen2_5", False), ("llama3_1", False), ("gptoss", False)):
        chat = chat_format(name)
        formats = [chat, ChatFormat(chat.tokenizer, sorted(chat.ends), unthinking)] if name == "qwen3" else [chat]
        for each in formats:
            assert _differ(practice_format(each), each) == found, name


def test_check_counts_the_rows_that_are_trained() -> None:
    """Also where TRL's template makes conversations whole, and where reasoning divides them."""
    for reasoning in (False, True):
        examples = ExampleSet("sft", (SftExample(messages=dialogue(reasoning=reasoning), tools=TOOLS),))
        rows = training_rows(examples, chat_format("qwen3"), max_length=None, seed=0)
        report = check(examples, chat_format("qwen3"))
        assert report.findings == ()
        assert report.lengths == Lengths.of(len(row["input_ids"]) for row in rows.rows)
        assert ("rows: 3, since conversations" in report.to_text()) == reasoning
