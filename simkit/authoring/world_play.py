"""Conversations that check a world: the scripted pair plays every task, and a model shows how difficult they are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from simkit.components.findings import CheckedWorld, Finding
from simkit.components.world import World, load_world
from simkit.core.events import Episode
from simkit.core.tasks import Task
from simkit.errors import ComponentNotFound, UsageError
from simkit.models.config import ModelConfig
from simkit.plugins.loading import current_folder
from simkit.run.engine import FaultPolicy
from simkit.run.run import Run
from simkit.search.rollout import Rollout

LENIENT = FaultPolicy(max_share=1.0, raises=False)
"""Faults of a conversation are findings, or are counted beside the scores of the model that is tried."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How often a model solved a task, and its average reward.

    Attributes:
        trials: conversations with a score; `faulted` have none, because a component or an endpoint failed.
        reward: None without any score.
    """

    task: str
    split: str
    solved: int
    trials: int
    reward: float | None
    faulted: int = 0


@dataclass(frozen=True, slots=True)
class Amount:
    """How many tasks of each split are tried, and how often each."""

    tasks: int
    trials: int


async def played_findings(world: World) -> list[Finding]:
    """The tasks that the agent `solution` does not solve with the user `script`, who says the lines of the agenda.

    Goals with a rubric are left out.
    """
    found: list[Finding] = []
    with tempfile.TemporaryDirectory() as folder:
        async with Run(store=Path(folder), recipe="world-check", policy=LENIENT, workers=1) as run:
            cast = run.cast(world, agent="solution,error_rate=0", user="script")
            for split in world.splits:
                asked = map(_without_rubrics, world.tasks(split))
                tasks = [task for task in asked if task.goals and task.reference]
                for episode in await run.play(Rollout(), cast, tasks) if tasks else ():
                    if (episode.reward or 0) < 1:
                        task = next(task for task in tasks if task.id == _task_of(episode, run))
                        where = world.place(task, "agenda") if isinstance(world, CheckedWorld) else ""
                        found.append(Finding("play", where, _problem(episode), task.id))
    return found


def _without_rubrics(task: Task) -> Task:
    """A task with the goals that need no judge."""
    return replace(task, goals=tuple(goal for goal in task.goals if "rubric" not in goal.detail))


def _task_of(episode: Episode, run: Run) -> str:
    """The task of an episode, whose id is RUN/TASK/TRIAL."""
    return episode.episode_id.removeprefix(f"{run.id}/").rpartition("/")[0]


def _problem(episode: Episode) -> str:
    missed = ", ".join(f"`{part['name']}`" for part in episode.parts if part["value"] < 1)
    what = f"; not reached: {missed}" if missed else f"; {episode.error}" if episode.error else ""
    return (
        f"a user who says the lines of the agenda and an agent that makes the calls of the solution do not solve it "
        f"({episode.outcome}{what})"
    )


async def difficulties(
    world: World, models: ModelConfig, store: Path | None, amount: Amount, *, judge: str | None = None
) -> list[Difficulty]:
    """How often a model solves the first tasks of each split, in a run that is kept in the store.

    Without a judge, goals with a rubric are left out, and so are tasks that have no others.
    """
    found: list[Difficulty] = []
    async with Run(store=store, recipe="world-check", models=models, policy=LENIENT) as run:
        cast = await run.open_cast(world, judge_model=judge)
        for split in world.splits:
            first = world.tasks(split)[: amount.tasks]
            chosen = list(first) if judge else [each for each in map(_without_rubrics, first) if each.goals]
            episodes = await run.play(Rollout(), cast, chosen, trials=amount.trials) if chosen else ()
            for task in chosen:
                own = [one for one in episodes if _task_of(one, run) == task.id]
                found.append(_difficulty(task.id, split, own))
    return found


def _difficulty(task: str, split: str, episodes: Sequence[Episode]) -> Difficulty:
    rewards = [episode.reward for episode in episodes if episode.reward is not None]
    solved = sum(reward >= 1 for reward in rewards)
    mean = sum(rewards) / len(rewards) if rewards else None
    return Difficulty(task, split, solved, len(rewards), mean, len(episodes) - len(rewards))


def checked_world(folder: Path | str) -> World | list[Finding]:
    """The world of a folder, or what is wrong with its files.

    Raises:
        UsageError: it is no world from files.
    """
    place = current_folder() / folder
    try:
        world = load_world(f"{place}{os.sep}")
    except ComponentNotFound:
        raise
    except UsageError as error:
        return [Finding("file", "", line) for line in str(error).splitlines()]
    if not isinstance(world, CheckedWorld):
        raise UsageError(f"{folder} is no world that can be checked; `simkit init world NAME` makes one")
    return world


def all_findings(world: World) -> list[Finding]:
    """What is wrong with a world; conversations are only played if nothing else is.

    Raises:
        UsageError: it cannot be checked.
    """
    if not isinstance(world, CheckedWorld):
        raise UsageError(f"the world `{world.name}` has no tasks in files, which this check reads")
    return world.findings() or anyio.run(played_findings, world)
