"""Promises of a world: tasks with distinct ids, goals that its tools can reach, agendas that fit its ontology."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from simkit.authoring.world_play import all_findings, checked_world
from simkit.components.reward import ListGoals
from simkit.components.tools import StartTools, opened
from simkit.components.world import World
from simkit.core.messages import JsonObject, ToolCall
from simkit.core.ontology import Domain, Wish
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.models.providers.scripted import ScriptedModel
from simkit.plugins.component_paths import folder_of
from simkit.plugins.loading import load
from simkit.run.casting import REWARD
from simkit.testing.promises import ConformanceError, Promise, expect, run_promises
from simkit.testing.snapshot import snapshot
from simkit.testing.tools import check_tool_server, goal_calls


@dataclass(frozen=True, slots=True)
class WorldSubject:
    """A world under test, and the maximum number of tasks of each split that are checked."""

    world: World
    most: int

    def tasks(self, split: str) -> tuple[Task, ...]:
        """The first tasks of a split."""
        return tuple(self.world.tasks(split)[: self.most])

    def all_tasks(self) -> Iterator[Task]:
        """The first tasks of all splits."""
        for split in self.world.splits:
            yield from self.tasks(split)


async def check_world(world: World, tasks: Sequence[Task] = (), *, most: int = 1000, called: int = 5) -> None:
    """Check every promise of a world, and those of its tool server with tasks of each split.

    Args:
        world: the world.
        tasks: tasks that the tool server is checked with; by default the first of each split.
        most: maximum number of tasks of each split whose contents are checked.
        called: maximum number of tasks of each split that the tool server is checked with; see `check_tool_server`.

    Raises:
        ConformanceError: a promise was broken; the message names it.
    """
    await run_promises(WORLD_PROMISES, WorldSubject(world, most), f"the world `{world.name}`")
    chosen = tasks or [task for split in world.splits for task in world.tasks(split)[:called]]
    if chosen:
        await check_tool_server(world, chosen, calls=_calls)


def _calls(task: Task) -> tuple[ToolCall, ...]:
    """Valid calls for a task: those of its solution, if the world has one, else those that its goals describe."""
    solution: Sequence[JsonObject] = task.data.get("solution", ())
    made = tuple(ToolCall.of(f"call_{n}", call["tool"], call["arguments"]) for n, call in enumerate(solution))
    return made or tuple(goal_calls(task))


def check_world_folder(folder: Path | str) -> None:
    """Check a world from files as `simkit world check` does, and every promise of its tool server.

    Args:
        folder: the folder with `tasks.yaml`.

    Raises:
        ConformanceError: something is wrong with its files or tasks, or a promise was broken; the message names it.
    """
    world = checked_world(folder)
    if not isinstance(world, World):
        raise ConformanceError("\n".join(map(str, world)))
    found = all_findings(world)
    expect(not found, "\n".join(map(str, found)))
    anyio.run(check_world, world)


async def splits_have_tasks(subject: WorldSubject) -> None:
    """Each split has tasks, the same ones each time they are read; an unknown split is a `UsageError`."""
    world = subject.world
    for split in world.splits:
        tasks = subject.tasks(split)
        expect(tasks, f"the split `{split}` has no tasks")
        expect(snapshot(tasks) == snapshot(subject.tasks(split)), f"two readings of the split `{split}` differ")
    try:
        world.tasks("no such split")
    except UsageError:
        return
    expect(False, "it has tasks for a split that it does not declare; call `self.check_split(split)` in `tasks`")


async def ids_are_distinct(subject: WorldSubject) -> None:
    """No two tasks of a split have the same id."""
    for split in subject.world.splits:
        seen: set[str] = set()
        for task in subject.tasks(split):
            expect(task.id not in seen, f"the id `{task.id}` occurs twice in the split `{split}`")
            seen.add(task.id)


async def tasks_name_their_place(subject: WorldSubject) -> None:
    """Each task names the world and the split that it belongs to."""
    for split in subject.world.splits:
        for task in subject.tasks(split):
            expect(
                (task.world, task.split) == (subject.world.name, split),
                f"the task `{task.id}` names the world `{task.world}` and the split `{task.split}`; they are"
                f" `{subject.world.name}` and `{split}`",
            )


async def goals_can_be_reached(subject: WorldSubject) -> None:
    """The goals of each task pass the check of the world's default reward: their tools exist, details are complete.

    A task has goals, unless that reward judges how an episode ends.
    """
    world = subject.world
    folder = folder_of(world, "default_reward")
    judge = ScriptedModel.by_turn((), name="judge")  # nothing is judged here
    reward = load(REWARD, world.default_reward, {"world": world, "judge": judge}, folder)
    async with opened(world.tools()) as server:
        for task in subject.all_tasks():
            start = server.start(StartTools(task))
            tools = start.specs + start.user_specs
            expect(ListGoals(task, tools).serve(reward) or reward.final, f"the task `{task.id}` has no goals")


async def agendas_fit(subject: WorldSubject) -> None:
    """The wishes of each agenda concern domains and slots of the ontology, if it has any domains."""
    ontology = subject.world.ontology
    if not ontology.domains:
        return
    for task in subject.all_tasks():
        for wish in task.agenda:
            domain = ontology.domain(wish.domain)
            names = ", ".join(each.name for each in ontology.domains)
            if domain is None:
                expect(False, f"the agenda of `{task.id}` has the domain `{wish.domain}`; the ontology has: {names}")
            else:
                unknown = _unknown(wish, domain)
                expect(not unknown, f"the agenda of `{task.id}` has {unknown}, which the domain `{domain.name}` lacks")


async def domains_have_tools(subject: WorldSubject) -> None:
    """Each domain of the ontology has the tool `search_<name>`, and `book_<name>` if it has booking slots."""
    world = subject.world
    if not world.ontology.domains:
        return
    task = next(subject.all_tasks())
    async with opened(world.tools()) as server:
        tools = {spec.name for spec in server.start(StartTools(task)).specs}
    for domain in world.ontology.domains:
        for tool in domain.tools:
            expect(tool in tools, f"there is no tool `{tool}`; there are: {', '.join(sorted(tools))}")


def _unknown(wish: Wish, domain: Domain) -> str:
    """Slots and facts of a wish that its domain lacks, for a message."""
    search, book = [slot.name for slot in domain.search], [slot.name for slot in domain.book]
    wanted: Sequence[tuple[str, Sequence[str], Sequence[str]]] = (
        ("inform", tuple(wish.inform), search),
        ("book", tuple(wish.book), [*search, *book]),
        ("requests", wish.requests, [*search, *book, *domain.facts, domain.id_field]),
    )
    return ", ".join(f"`{name}` in `{part}`" for part, names, known in wanted for name in names if name not in known)


WORLD_PROMISES: tuple[Promise[WorldSubject], ...] = (
    splits_have_tasks,
    ids_are_distinct,
    tasks_name_their_place,
    goals_can_be_reached,
    domains_have_tools,
    agendas_fit,
)
"""Every promise of a world, for `pytest.mark.parametrize`."""
