from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from simkit.core.messages import AssistantMessage, UserMessage
from simkit.data.examples import DpoExample, ExampleSet, KtoExample, SftExample
from simkit.errors import UsageError
from simkit.training.presets import preset
from simkit.training.rows import IGNORED, tokenised

if TYPE_CHECKING:
    from conftest import Bench

    from simkit.local.chat import ChatFormat

TINY = preset("tiny", "sft")


@pytest.fixture(scope="session")
def form(bench: Bench) -> ChatFormat:
    from simkit.local.chat import ChatFormat

    return ChatFormat.of(bench.model)


def judged(count: int) -> ExampleSet:
    prompt = (UserMessage.of("hotel"),)
    answers = [(AssistantMessage.of("name " * (number + 1)),) for number in range(count)]
    return ExampleSet(
        "kto",
        tuple(KtoExample(prompt=prompt, completion=each, label=number % 2 == 0) for number, each in enumerate(answers)),
    )


def test_what_is_learned_is_what_the_agent_said_with_its_end(bench: Bench, form: ChatFormat) -> None:
    rows = tokenised(bench.known, form, TINY, seed=0)
    (row,) = rows.rows
    learned = form.text([label for label in row["labels"] if label != IGNORED])
    (known,) = bench.known.demonstrations
    answers = [message for message in known.messages if isinstance(message, AssistantMessage)]
    assert learned.count("<|im_end|>") == len(answers)
    assert str(answers[-1].content) in learned
    assert "<|im_start|>" not in learned
    assert row["labels"][-1] != IGNORED
    assert (rows.tokens, rows.learned) == (len(row["input_ids"]), sum(label != IGNORED for label in row["labels"]))


def test_every_prefix_is_what_the_model_is_asked_with(bench: Bench, form: ChatFormat) -> None:
    (row,) = tokenised(bench.known, form, TINY, seed=0).rows
    (known,) = bench.known.demonstrations
    for place, message in enumerate(known.messages):
        if isinstance(message, AssistantMessage):
            asked = form.prompt(known.messages[:place], known.tools)
            assert row["input_ids"][: len(asked)] == asked
            assert row["labels"][len(asked) - 1] == IGNORED
            assert row["labels"][len(asked)] == row["input_ids"][len(asked)]


def test_a_context_is_shown_and_not_learned(bench: Bench, form: ChatFormat) -> None:
    (known,) = bench.known.demonstrations
    last = max(place for place, message in enumerate(known.messages) if isinstance(message, AssistantMessage))
    (row,) = tokenised(ExampleSet("sft", (replace(known, context=last),)), form, TINY, seed=0).rows
    learned = form.text([label for label in row["labels"] if label != IGNORED])
    assert learned.count("<|im_end|>") == 1


def test_kto_pairs_every_prompt_with_its_neighbours_answer(form: ChatFormat) -> None:
    rows = tokenised(judged(6), form, preset("tiny", "kto").overridden(batch=4), seed=1).rows
    answers = [row["completion_ids"] for row in rows]
    mismatched = [row["KL_completion_ids"] for row in rows]
    assert mismatched == [answers[3], *answers[:3], answers[5], answers[4]]
    assert {row["label"] for row in rows[:4]} == {True, False}


def test_a_last_row_alone_still_gets_anothers_answer(form: ChatFormat) -> None:
    rows = tokenised(judged(5), form, preset("tiny", "kto").overridden(batch=4), seed=1).rows
    assert rows[4]["KL_completion_ids"] == rows[0]["completion_ids"] != rows[4]["completion_ids"]


def test_pairs_share_their_prompt(form: ChatFormat) -> None:
    prompt = (UserMessage.of("hotel"),)
    pair = DpoExample(
        prompt=prompt, chosen=(AssistantMessage.of("name"),), rejected=(AssistantMessage.of("hotel name"),)
    )
    (row,) = tokenised(ExampleSet("dpo", (pair,)), form, preset("tiny", "dpo"), seed=0).rows
    assert row["prompt_ids"] == form.prompt(prompt)
    assert form.text(row["chosen_ids"]) == "name<|im_end|>"
    assert form.text(row["rejected_ids"]) == "hotel name<|im_end|>"


def test_the_order_follows_from_the_seed(form: ChatFormat) -> None:
    settings = preset("tiny", "kto")
    first, again, other = (tokenised(judged(8), form, settings, seed).rows for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_examples_that_are_too_long_are_left_out_and_counted(form: ChatFormat) -> None:
    length = max(len(row["prompt_ids"] + row["completion_ids"]) for row in tokenised(judged(6), form, TINY, 0).rows)
    rows = tokenised(judged(6), form, TINY.overridden(max_length=length - 1), seed=0)
    assert (len(rows.rows), rows.too_long) == (5, 1)
    with pytest.raises(UsageError, match="every example is longer than 2 tokens"):
        tokenised(judged(6), form, TINY.overridden(max_length=2), seed=0)


def test_a_completion_that_is_no_answer_is_refused(form: ChatFormat) -> None:
    wrong = KtoExample(prompt=(UserMessage.of("hotel"),), completion=(UserMessage.of("name"),), label=True)
    with pytest.raises(UsageError, match="not one answer of the assistant"):
        tokenised(ExampleSet("kto", (wrong,)), form, TINY, seed=0)


def test_a_demonstration_without_an_answer_teaches_nothing(form: ChatFormat) -> None:
    silent = SftExample(messages=(UserMessage.of("hotel"),))
    with pytest.raises(UsageError, match="nothing to learn"):
        tokenised(ExampleSet("sft", (silent,)), form, TINY, seed=0)
