"""Tasks of the built-in world: drawn from a seed, disjoint between splits, doable, and not to be guessed."""

from __future__ import annotations

import pickle
from itertools import islice

import orjson
import pytest

from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.tools.builtin import BuiltinWorld
from simkit.tools.builtin.goal_sampler import misleads
from simkit.tools.builtin.town import Town


@pytest.fixture(scope="module")
def world() -> BuiltinWorld:
    return BuiltinWorld()


def content(task: Task) -> bytes:
    return b"\n".join(sorted(orjson.dumps(goal.detail, option=orjson.OPT_SORT_KEYS) for goal in task.goals))


def contents(town: Town) -> tuple[object, ...]:
    return {domain: table.rows for domain, table in town.tables.items()}, town.free


def test_a_seed_repeats_and_another_seed_is_another_town(world: BuiltinWorld) -> None:
    assert contents(BuiltinWorld(seed=0).town) == contents(world.town)
    assert BuiltinWorld(seed=0).tasks("test")[7] == world.tasks("test")[7]
    other = BuiltinWorld(seed=1)
    assert contents(other.town) != contents(world.town)
    assert other.tasks("test")[7] != world.tasks("test")[7]


def test_a_task_does_not_depend_on_how_many_there_are(world: BuiltinWorld) -> None:
    few = BuiltinWorld(train=3)
    assert list(few.tasks("train")) == list(islice(world.tasks("train"), 3))


def test_splits_are_lazy_sequences(world: BuiltinWorld) -> None:
    tasks = world.tasks("train")
    assert len(tasks) == 2000
    assert tasks[10:20][3] == tasks[13]
    assert tasks[-1].id == "train-01999"
    assert tasks[5:8:2][1].id == "train-00007"
    with pytest.raises(IndexError):
        tasks[2000]


def test_splits_share_no_goals(world: BuiltinWorld) -> None:
    contents = {split: {content(task) for task in world.tasks(split)[:200]} for split in world.splits}
    assert not contents["train"] & contents["val"]
    assert not contents["train"] & contents["test"]
    assert not contents["val"] & contents["test"]


def test_tasks_are_of_every_size(world: BuiltinWorld) -> None:
    tasks = list(world.tasks("val")[:200])
    assert {len(task.agenda) for task in tasks} == {1, 2, 3, 4}
    assert {len(task.goals) for task in tasks} == {2, 3, 4, 5, 6}


def hundred(world: BuiltinWorld, split: str) -> tuple[Task, ...]:
    """A hundred tasks, each of which wants something."""
    tasks = tuple(world.tasks(split)[:100])
    assert len(tasks) == 100
    assert all(wish.inform for task in tasks for wish in task.agenda)
    assert all(task.agenda for task in tasks)
    return tasks


def test_goals_agenda_and_instructions_say_the_same(world: BuiltinWorld) -> None:
    for task in hundred(world, "val"):
        details = {goal.key: goal.detail for goal in task.goals}
        for wish in task.agenda:
            search = details[f"search_{wish.domain}"]
            assert search["parameters"] == wish.inform
            said = [value for slot, value in wish.inform.items() if slot not in ("internet", "parking")]
            assert all(value in task.instructions for value in (*said, *wish.book.values()))
            if wish.book:
                booking = dict(details[f"book_{wish.domain}"]["parameters"])
                assert booking.pop(search["id_field"]) == search["entity"]
                assert booking == wish.book
            else:
                assert search["entity"] is None
        assert len(task.instructions.splitlines()) > len(task.agenda)


def test_no_constraint_is_spare(world: BuiltinWorld) -> None:
    for task in hundred(world, "val"):
        for wish in task.agenda:
            assert misleads(world.town.tables[wish.domain], wish.inform)


def test_every_wish_is_in_the_words_of_the_ontology(world: BuiltinWorld) -> None:
    for task in hundred(world, "test"):
        for wish in task.agenda:
            domain = world.ontology.domain(wish.domain)
            assert domain is not None
            known = {slot.name: slot.values for slot in (*domain.search, *domain.book)}
            for slot, value in (*wish.inform.items(), *wish.book.items()):
                assert not known[slot] or value in known[slot]
            assert set(wish.requests) <= set(domain.facts)


def test_wrong_options_say_what_is_possible() -> None:
    with pytest.raises(UsageError, match="12 to 140 restaurants, not 5"):
        BuiltinWorld(restaurants=5)
    with pytest.raises(UsageError, match="-1 tasks in `val`"):
        BuiltinWorld(val=-1)
    with pytest.raises(UsageError, match="no split `dev`; it has: train, val, test"):
        BuiltinWorld().tasks("dev")


@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_towns_have_tasks_too(seed: int) -> None:
    world = BuiltinWorld(seed, restaurants=12, hotels=12, attractions=12, departures=2)
    assert len(list(world.tasks("train")[:20])) == 20


def test_a_world_can_be_sent_to_another_process(world: BuiltinWorld) -> None:
    copy = pickle.loads(pickle.dumps(world))
    assert copy.tasks("val")[3] == world.tasks("val")[3]
    assert contents(copy.tools().town) == contents(world.town)
