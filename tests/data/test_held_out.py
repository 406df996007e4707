from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_examples import judged

from simkit.components.tools import ToolServer
from simkit.components.world import World
from simkit.core.events import Event, RunFinished, RunStarted, TaskSeen
from simkit.core.messages import UserMessage
from simkit.core.ontology import Ontology
from simkit.core.tasks import Goal, Task
from simkit.data.examples import ExampleSet, KtoExample
from simkit.data.export import ColumnOptions, write
from simkit.data.held_out import HeldOut, assert_clean_of, contamination, without_held_out
from simkit.data.origins import ExampleOrigin, TaskContent
from simkit.data.reading import read_examples
from simkit.errors import UsageError
from simkit.store import Store
from simkit.store.encoding import encode
from simkit.tools.builtin import BuiltinWorld


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


def _of(example: KtoExample, name: str) -> KtoExample:
    return replace(example, origin=ExampleOrigin(task_id=name, world="builtin"))


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
    cleaned = without_held_out(dirty, held(Town()))
    assert [example.task_id for example in cleaned] == ["train-2"]
    assert cleaned.removed == {"held_out": 2}
    assert_clean_of(cleaned, held(Town()))


def test_examples_of_unknown_tasks_prove_nothing() -> None:
    for examples in (of_tasks("", "train-2"), of_tasks("nobody", "train-2")):
        with pytest.raises(UsageError, match="the tasks of 1 of 2 examples are unknown"):
            assert_clean_of(examples, held(Town()))
    with pytest.raises(UsageError, match="are unknown, so they cannot be checked"):
        assert_clean_of(of_tasks("train-2"), Town().tasks("test"))  # ids differ, but its content is unknown


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
    with pytest.raises(UsageError, match="there are no tasks"):
        HeldOut.of(())


# --- what a task contains decides, not what it is called --------------------------------------------------------------


class Seeded(World):
    """A world whose options change its tasks and not their names."""

    name = "seeded"
    splits = ("train", "test")

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def tools(self) -> ToolServer:
        return BuiltinWorld().tools()

    @property
    def ontology(self) -> Ontology:
        return BuiltinWorld().ontology

    def tasks(self, split: str) -> tuple[Task, ...]:
        said = [f"Go to hotel {self.seed * 10 + number}." for number in range(3)]
        other = [f"Go to station {self.seed * 10 + number}." for number in range(3)]
        return tuple(
            Task(id=f"{split}-{n}", world="seeded", split=split, instructions=text, goals=(Goal("go"),))
            for n, text in enumerate(said if split == "test" else other)
        )


def recorded(path: Path, **worlds: World) -> Store:
    """A store that knows the tasks of a run in each world."""
    for run, world in worlds.items():
        tasks = [task for split in world.splits for task in world.tasks(split)]
        events: list[Event] = [RunStarted(run, run, "rollout", 0, {}, "0", 1.0)]
        events += [
            TaskSeen(run, each.id, each.world, each.split, each.instructions, ({"key": "go"},)) for each in tasks
        ]
        events.append(RunFinished(run, "done", {}, 2.0))
        journal = path / "journals" / run / "main.jsonl"
        journal.parent.mkdir(parents=True)
        journal.write_bytes(b"".join(map(encode, events)))
    return Store(path)


def from_runs(*places: tuple[str, str]) -> ExampleSet:
    example = judged(1).judged[0]
    return ExampleSet(
        "kto",
        tuple(replace(example, origin=ExampleOrigin(run_id=run, task_id=name, world="seeded")) for run, name in places),
    )


def test_contamination_does_not_depend_on_the_order_of_runs(tmp_path: Path) -> None:
    store = recorded(tmp_path, one=Seeded(1), two=Seeded(2))
    held_out = HeldOut.of(Seeded(1).tasks("test"), "seeded,seed=1:test", Seeded(1))
    mixed = [("one", "test-0"), ("one", "test-1"), ("two", "test-0"), ("two", "train-1")]
    for places in (mixed, mixed[::-1]):
        found = contamination(from_runs(*places), held_out, store)
        assert {(each.task_id, each.examples) for each in found.overlaps} == {("test-0", 1), ("test-1", 1)}
        assert found.unknown == 0
        kept = without_held_out(from_runs(*places), held_out, store)
        assert {(example.origin.run_id, example.task_id) for example in kept} == {("two", "test-0"), ("two", "train-1")}
        with pytest.raises(UsageError, match="2 of 4 examples"):
            assert_clean_of(from_runs(*places), held_out, store)


def test_the_same_task_is_found_under_another_name_in_another_world(tmp_path: Path) -> None:
    class Copied(Seeded):
        def tasks(self, split: str) -> tuple[Task, ...]:
            return tuple(
                replace(each, id=f"copy-{each.id}", world="copied", instructions=each.instructions.upper() + "  ")
                for each in super().tasks(split)
            )

    store = recorded(tmp_path, copies=Copied(1))
    held_out = HeldOut.of(Seeded(1).tasks("test"), "held")
    found = contamination(from_runs(("copies", "copy-test-2"), ("copies", "copy-train-0")), held_out, store)
    assert [(each.task_id, each.held_out, each.by) for each in found.overlaps] == [
        ("copy-test-2", "test-2", "instructions")
    ]


def test_a_task_of_an_unknown_run_may_be_any_of_its_name() -> None:
    """Its world was built with options that nobody knows, so what the held-out world calls so proves nothing."""
    held_out = HeldOut.of(Seeded(1).tasks("test"), "held", Seeded(1))
    found = contamination(from_runs(("lost", "train-0"), ("lost", "test-0")), held_out)
    assert (found.unknown, [each.by for each in found.overlaps]) == (1, ["id"])


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_files_say_what_their_tasks_contain(tmp_path: Path, ending: str) -> None:
    example = judged(1).judged[0]
    tasks = [*Seeded(2).tasks("test"), Seeded(1).tasks("test")[1]]
    rows = ExampleSet(
        "kto",
        tuple(
            replace(
                example,
                prompt=(UserMessage.of(f"{number}"),),
                origin=ExampleOrigin(run_id="gone", task_id=each.id, world="seeded", content=TaskContent.of_task(each)),
            )
            for number, each in enumerate(tasks)
        ),
    )
    read = read_examples(write(rows, tmp_path / f"some.{ending}", ColumnOptions(origin=True)))
    assert [each.origin for each in read] == [each.origin for each in rows]
    found = contamination(read, HeldOut.of(Seeded(1).tasks("test"), "held"))
    assert [(each.task_id, each.examples) for each in found.overlaps] == [("test-1", 1)]
    assert found.unknown == 0


def test_case_spaces_and_unicode_forms_make_no_other_task() -> None:
    one = TaskContent.of("Book a \u2163-star hotel", [{"key": "book", "detail": {"name": "Caf\u00e9  Uno"}}])
    other = TaskContent.of("book a iv-star\nHOTEL", [{"key": "book", "detail": {"name": "cafe\u0301 uno"}}])
    assert one == other
    assert one != TaskContent.of("book a v-star hotel", [{"key": "book", "detail": {"name": "cafe\u0301 due"}}])


def test_the_order_of_goals_and_details_makes_no_other_task() -> None:
    goals = [{"key": "a", "detail": {"x": 1, "y": [1, 2]}}, {"key": "b", "detail": {"z": "Q"}}]
    turned = [{"key": "B", "detail": {"z": "q"}}, {"key": "a", "detail": {"y": (1, 2), "x": 1}}]
    assert TaskContent.of("", goals) == TaskContent.of("", turned)
    assert TaskContent.of("", goals) != TaskContent.of("", goals[:1])
