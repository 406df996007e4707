"""The suite of worlds names what is wrong with one, and a run refuses it before it plays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from simkit import Domain, FunctionTools, Goal, Ontology, Rollout, Run, Slot, Task, ToolServer, Wish, World
from simkit.components.tools import StartTools
from simkit.errors import UsageError
from simkit.rewards.composite import Weighted, WeightedRewards
from simkit.rewards.goal_calls import GoalCalls
from simkit.testing import ConformanceError, check_world
from simkit.tools.builtin import BuiltinWorld

pytestmark = pytest.mark.anyio

DETAIL: dict[str, Any] = {"tool": "search_book", "parameters": {"topic": "owls"}, "id_field": "title", "entity": "Owls"}


def search_book(topic: str = "") -> list[dict[str, str]]:
    """Find a book."""
    return [{"title": topic.title()[:100]}]


def find_book(topic: str = "") -> list[dict[str, str]]:
    """Find a book."""
    return search_book(topic)


class Library(World):
    """A world of one search; a test breaks one part of it."""

    name = "library"
    splits = ("easy", "hard")
    tool: Any = staticmethod(search_book)
    wrong: Mapping[str, Any] = MappingProxyType({})
    extra: tuple[Task, ...] = ()

    def tasks(self, split: str) -> Sequence[Task]:
        return (replace(self.task(split), **self.wrong), *self.extra)

    def task(self, split: str) -> Task:
        self.check_split(split)
        agenda = (Wish(domain="book", inform={"topic": "owls"}),)
        goals = (Goal("search_book", DETAIL),)
        return Task(id="owls", world="library", split=split, instructions="A book.", goals=goals, agenda=agenda)

    def tools(self) -> ToolServer:
        return FunctionTools(self.tool)

    @property
    def ontology(self) -> Ontology:
        return Ontology((Domain("book", ("book",), "title", (Slot("topic", "category", ("topic",), ("owls",)),)),))


def broken(**attributes: Any) -> Library:
    return type("Broken", (Library,), attributes)()


def no_tasks(world: Library, split: str) -> Sequence[Task]:
    return ()


def one_twice(world: Library, split: str) -> Sequence[Task]:
    return (world.task(split),) * 2


def any_split(world: Library, split: str) -> str:
    return split


def detail(**changes: Any) -> dict[str, Any]:
    kept = {name: value for name, value in (DETAIL | changes).items() if value is not None}
    return {"wrong": {"goals": (Goal("search_book", kept),)}}


async def test_good_worlds_pass() -> None:
    await check_world(Library())
    await check_world(BuiltinWorld(), most=20, called=0)


@pytest.mark.parametrize(
    ("attributes", "promise", "said"),
    [
        ({"tasks": no_tasks}, "splits_have_tasks", "the split `easy` has no tasks"),
        ({"check_split": any_split}, "splits_have_tasks", "call `self.check_split"),
        ({"tasks": one_twice}, "ids_are_distinct", "the id `owls` occurs twice"),
        ({"wrong": {"world": "shop"}}, "tasks_name_their_place", "names the world `shop`"),
        ({"wrong": {"goals": ()}}, "goals_can_be_reached", "the task `owls` has no goals"),
        (detail(tool="find_book"), "goals_can_be_reached", "names the tool `find_book`; the tool server has: search_b"),
        (detail(tool=None), "goals_can_be_reached", "its detail names no `tool`"),
        (detail(parameters=None), "goals_can_be_reached", "its detail has no `parameters`"),
        (detail(id_field=None), "goals_can_be_reached", "names an `entity` but no `id_field`"),
        ({"tool": staticmethod(find_book), **detail(tool="find_book")}, "domains_have_tools", "no tool `search_book`"),
        ({"wrong": {"agenda": (Wish(domain="film"),)}}, "agendas_fit", "has the domain `film`; the ontology has: book"),
        ({"wrong": {"agenda": (Wish(domain="book", book={"day": "monday"}),)}}, "agendas_fit", "`day` in `book`"),
    ],
)
async def test_a_broken_promise_of_a_world_is_named(attributes: dict[str, Any], promise: str, said: str) -> None:
    with pytest.raises(ConformanceError, match=f"breaks `{promise}`") as found:
        await check_world(broken(**attributes))
    assert said in str(found.value)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"wrong": {"world": "shop"}}, "the task `owls` belongs to the world `shop`"),
        (detail(tool="find_book"), "the goal `search_book` of task `owls`.* can never be reached by `goal_calls`"),
        (detail(parameters=None), "its detail has no `parameters`"),
        ({"tool": staticmethod(find_book), **detail(tool="find_book")}, "the scripted agent needs the tool `search_b"),
        (
            {"extra": (Task(id="owls", world="library", split="easy", instructions="Other."),)},
            "two different tasks have the id `owls`",
        ),
    ],
)
async def test_a_run_refuses_a_broken_world(attributes: dict[str, Any], said: str, tmp_path: Path) -> None:
    world = broken(**attributes)
    with pytest.raises(UsageError, match=said):
        async with Run(store=tmp_path) as run:
            await run.play(Rollout(), run.cast(world), run.tasks(world, "easy"))


async def test_equal_tasks_are_trials_of_one(tmp_path: Path) -> None:
    world = Library()
    async with Run(store=tmp_path) as run:
        cast = run.cast(world)
        episodes = [await run.play(Rollout(), cast, run.tasks(world, "easy")) for _ in range(2)]
    assert [episode.episode_id[-2:] for (episode,) in episodes] == ["/0", "/1"]


def test_a_composition_checks_the_goals_of_its_parts() -> None:
    world = broken(**detail(parameters=None))
    task = world.tasks("easy")[0]
    tools = world.tools().start(StartTools(task)).specs
    with pytest.raises(UsageError, match="its detail has no `parameters`"):
        WeightedRewards(Weighted("calls", GoalCalls(world))).check_task(task, tools)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"name": ""}, 'the world class `Broken` has no name; add a line such as: name = "courts"'),
        ({"splits": ()}, "the world `library` has no valid `splits`"),
        ({"splits": "train"}, "the world `library` has no valid `splits`"),
    ],
)
def test_a_world_without_a_name_or_splits_is_refused(attributes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        broken(**attributes)


@pytest.mark.parametrize(
    ("splits", "preferred", "chosen"),
    [
        (("train", "test"), "test", "test"),
        (("train", "test"), "train", "train"),
        (("easy", "hard"), "test", "hard"),
        (("easy", "hard"), "train", "easy"),
    ],
)
def test_the_default_split_is_one_that_the_world_has(splits: tuple[str, ...], preferred: str, chosen: str) -> None:
    assert broken(splits=splits).default_split(preferred) == chosen
