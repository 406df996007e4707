from __future__ import annotations

from dataclasses import replace

import pytest
from made_examples import judged

from simkit.components import ToolServer
from simkit.errors import UsageError
from simkit.tasks import Goal, Ontology, Task, World
from simkit.tools.builtin import BuiltinWorld
from simkit.training.examples import ExampleSet, Judged, Origin
from simkit.training.held_out import HeldOut, assert_clean_of, contamination, without


def task(name: str, instructions: str, day: str | None, split: str = "test") -> Task:
    goals = (Goal("book", {"day": day} if day else {}),)
    return Task(id=name, world="builtin", split=split, instructions=instructions, goals=goals)


class Town(World):
    """A world whose training and test tasks are the same ones under other names."""

    name = "builtin"
    splits = ("train", "test")

    def tools(self) -> ToolServer:
        return BuiltinWorld().tools()

    @property
    def ontology(self) -> Ontology:
        return BuiltinWorld().ontology

    def tasks(self, split: str) -> tuple[Task, ...]:
        if split == "test":
            return (task("test-0", "Book a table.", "monday"), task("test-1", "Go home.", None))
        return (
            task("train-0", "book  A table.", "friday", "train"),
            task("train-1", "Find it.", "monday", "train"),
            task("train-2", "Leave.", None, "train"),
        )


def held(home: Town | None = None) -> HeldOut:
    return HeldOut.of(Town().tasks("test"), "builtin:test", home)


def of_tasks(*names: str) -> ExampleSet:
    example = judged(1).judged[0]
    return ExampleSet("kto", tuple(_of(example, name) for name in names))


def _of(example: Judged, name: str) -> Judged:
    return replace(example, origin=Origin(task_id=name, world="builtin"))


def test_a_held_out_task_is_found_by_id_and_by_what_it_is() -> None:
    found = contamination(of_tasks("test-1", "train-0", "train-0", "train-1", "train-2"), held(Town()))
    assert {(each.task_id, each.held_out, each.by, each.examples) for each in found.overlaps} == {
        ("test-1", "test-1", "id", 1),
        ("train-0", "test-0", "instructions", 2),
        ("train-1", "test-0", "goals", 1),
    }
    assert (found.unknown, found.examples, found.clean) == (0, 5, False)


def test_goals_without_details_tell_nothing() -> None:
    assert contamination(of_tasks("train-2"), held(Town())).clean


def test_data_with_test_tasks_is_refused_and_can_be_cleaned() -> None:
    dirty = of_tasks("train-0", "train-2", "test-0")
    with pytest.raises(
        UsageError, match=r"2 of 3 examples are of builtin:test: train-0 \(the instructions of test-0\)"
    ):
        assert_clean_of(dirty, held(Town()))
    cleaned = without(dirty, held(Town()))
    assert [example.task_id for example in cleaned] == ["train-2"]
    assert cleaned.removed == {"held_out": 2}
    assert_clean_of(cleaned, held(Town()))


def test_examples_of_unknown_tasks_prove_nothing() -> None:
    for examples in (of_tasks("", "train-2"), of_tasks("nobody", "train-2")):
        with pytest.raises(UsageError, match="1 of 2 examples do not say what task they are from"):
            assert_clean_of(examples, held(Town()))
    with pytest.raises(UsageError, match="do not say"):
        assert_clean_of(of_tasks("train-2"), Town().tasks("test"))  # ids differ, but nobody knows what it is


def test_the_shipped_world_keeps_its_splits_apart() -> None:
    held_out = HeldOut.read("builtin:test")
    names = [task.id for task in BuiltinWorld().tasks("train")[:200]]
    assert contamination(of_tasks(*names), held_out).clean


@pytest.mark.parametrize(
    ("spec", "message"),
    [("builtin", "write WORLD:SPLIT"), ("builtin:dev", "has no split `dev`"), ("nowhere:test", "nowhere")],
)
def test_held_out_tasks_that_cannot_be(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HeldOut.read(spec)


def test_no_tasks_prove_nothing() -> None:
    with pytest.raises(UsageError, match="no tasks at all"):
        HeldOut.of(())
