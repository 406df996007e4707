from __future__ import annotations

import pytest

from simkit.core.messages import AssistantMessage, UserMessage
from simkit.data.examples import DpoExample, ExampleOrigin, ExampleSet, KtoExample, SftExample
from simkit.errors import UsageError
from simkit.recipes.selftrain.experiment import ExperimentPlan, as_many, with_shuffled_labels


def said(text: str) -> tuple[AssistantMessage, ...]:
    return (AssistantMessage.of(text),)


def talks(name: str, count: int) -> ExampleSet:
    examples = [
        SftExample(messages=(UserMessage.of(f"{name} {index}"), *said("yes")), origin=ExampleOrigin(task_id=str(index)))
        for index in range(count)
    ]
    return ExampleSet("sft", tuple(examples))


def test_rounds_have_goals_of_their_own_behind_those_of_the_lessons() -> None:
    plan = ExperimentPlan(world="builtin", tasks=10)
    assert (plan.train_goals(1), plan.train_goals(2)) == ("1500-1510", "1510-1520")
    assert ExperimentPlan(world="builtin", tasks=10, model="given").train_goals(1) == "0-10"


@pytest.mark.parametrize("name", ["rounds", "tasks", "held_out", "dev"])
def test_nothing_of_a_kind_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        ExperimentPlan(world="builtin", **{name: 0})  # pyright: ignore[reportArgumentType]


def test_the_preset_gives_way_to_what_was_asked_for() -> None:
    settings = ExperimentPlan(world="builtin", learning_rate=1e-5).settings
    assert settings.learning_rate == 1e-5
    assert settings.epochs == ExperimentPlan(world="builtin").settings.epochs


@pytest.mark.parametrize(("harvested", "unfiltered"), [(3, 9), (9, 3), (4, 4)])
def test_the_control_has_as_many_examples_as_the_learner(harvested: int, unfiltered: int) -> None:
    judged, control = as_many(talks("good", harvested), talks("any", unfiltered), seed=1)
    assert len(judged) == len(control) == min(harvested, unfiltered)
    assert {*judged} <= {*talks("good", harvested)}
    assert {*control} <= {*talks("any", unfiltered)}


def test_no_unfiltered_conversation_is_no_control() -> None:
    with pytest.raises(UsageError, match="no control"):
        as_many(talks("good", 3), talks("any", 0), seed=1)


def test_labels_are_dealt_by_lot_and_none_is_lost() -> None:
    prompt = (UserMessage.of("hello"),)
    judged = [KtoExample(prompt=prompt, completion=said(str(index)), label=index < 10) for index in range(40)]
    relabelled = with_shuffled_labels(ExampleSet("kto", tuple(judged)), seed=3).judged
    assert [each.completion for each in relabelled] == [each.completion for each in judged]
    assert sum(each.label for each in relabelled) == 10
    assert [each.label for each in relabelled] != [each.label for each in judged]


def test_about_half_of_the_pairs_are_turned_around() -> None:
    prompt = (UserMessage.of("hello"),)
    pairs = [DpoExample(prompt=prompt, chosen=said("good"), rejected=said("bad")) for _ in range(40)]
    relabelled = with_shuffled_labels(ExampleSet("dpo", tuple(pairs)), seed=3).pairs
    turned = sum(each.chosen == said("bad") for each in relabelled)
    assert 10 < turned < 30
    assert all({each.chosen, each.rejected} == {said("good"), said("bad")} for each in relabelled)
