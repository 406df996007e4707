from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from simkit.core.messages import AssistantMessage, UserMessage
from simkit.data.examples import DpoExample, ExampleSet, KtoExample, SftExample
from simkit.errors import UsageError
from simkit.local.reply_tokens import IGNORED
from simkit.training.rows import TrainingRows, training_rows
from support.trl_preparation import prepared

if TYPE_CHECKING:
    from conftest import Bench

    from simkit.local.chat import ChatFormat


def rows_of(examples: ExampleSet, form: ChatFormat, seed: int = 0, max_length: int | None = 1024) -> TrainingRows:
    return training_rows(examples, form, max_length=max_length, seed=seed)


def spoken(row: dict[str, Any], *names: str) -> list[str]:
    """The texts of a row's columns."""
    return [message["content"] for name in names for message in row[name]]


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
    rows = rows_of(bench.known, form)
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
    (row,) = rows_of(bench.known, form).rows
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
    (row,) = rows_of(ExampleSet("sft", (replace(known, context=last),)), form).rows
    learned = form.text([label for label in row["labels"] if label != IGNORED])
    assert learned.count("<|im_end|>") == 1


def test_judged_answers_are_texts_as_they_stand_in_play(form: ChatFormat) -> None:
    rows = rows_of(judged(3), form).rows
    for row in rows:
        asked, said = spoken(row, "prompt", "completion")
        assert form.ids(asked) == form.prompt((UserMessage.of("hotel"),))
        assert said.removesuffix("<|im_end|>").replace("name ", "") == ""
    assert {row["label"] for row in rows} == {True, False}


@pytest.mark.parametrize("method", ["kto", "dpo"])
def test_trl_trains_what_is_counted(form: ChatFormat, method: Literal["kto", "dpo"]) -> None:
    """The tokens of TRL's own preparation: no template is applied to the texts, and nothing is added to them."""
    examples = judged(4) if method == "kto" else ExampleSet("dpo", (pair(),))
    rows = rows_of(examples, form)
    trained = list(prepared(method, rows, form))
    answers = [row[name] for row in trained for name in ("completion_ids", "chosen_ids", "rejected_ids") if name in row]
    prompts = {tuple(row["prompt_ids"]) for row in trained}
    assert prompts == {tuple(form.prompt((UserMessage.of("hotel"),)))}
    assert all(answer[-1] == form.tokenizer.eos_token_id for answer in answers)
    assert rows.learned == sum(map(len, answers))
    assert rows.tokens == rows.learned + len(answers) * len(next(iter(prompts)))


def test_trl_takes_demonstrations_as_they_are(bench: Bench, form: ChatFormat) -> None:
    rows = rows_of(bench.known, form)
    (row,) = prepared("sft", rows, form)
    assert {name: row[name] for name in ("input_ids", "labels")} == rows.rows[0]


def pair() -> DpoExample:
    chosen, rejected = (AssistantMessage.of("name"),), (AssistantMessage.of("hotel name"),)
    return DpoExample(prompt=(UserMessage.of("hotel"),), chosen=chosen, rejected=rejected)


def test_pairs_share_their_prompt(form: ChatFormat) -> None:
    (row,) = rows_of(ExampleSet("dpo", (pair(),)), form).rows
    asked, *said = spoken(row, "prompt", "chosen", "rejected")
    assert form.ids(asked) == form.prompt((UserMessage.of("hotel"),))
    assert said == ["name<|im_end|>", "hotel name<|im_end|>"]


def test_the_order_follows_from_the_seed(form: ChatFormat) -> None:
    first, again, other = (rows_of(judged(8), form, seed).rows for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_examples_that_are_too_long_are_left_out_and_counted(form: ChatFormat) -> None:
    length = max(len(form.ids("".join(spoken(row, "prompt", "completion")))) for row in rows_of(judged(6), form).rows)
    assert rows_of(judged(6), form, max_length=length).too_long == 0
    rows = rows_of(judged(6), form, max_length=length - 1)
    assert (len(rows.rows), rows.too_long) == (5, 1)
    with pytest.raises(UsageError, match="every example is longer than 2 tokens"):
        rows_of(judged(6), form, max_length=2)


def test_a_completion_that_is_no_answer_is_refused(form: ChatFormat) -> None:
    wrong = KtoExample(prompt=(UserMessage.of("hotel"),), completion=(UserMessage.of("name"),), label=True)
    with pytest.raises(UsageError, match="not one answer of the assistant"):
        rows_of(ExampleSet("kto", (wrong,)), form)


def test_a_demonstration_without_an_answer_teaches_nothing(form: ChatFormat) -> None:
    silent = SftExample(messages=(UserMessage.of("hotel"),))
    with pytest.raises(UsageError, match="nothing to learn"):
        rows_of(ExampleSet("sft", (silent,)), form)
