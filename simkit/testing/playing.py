"""Runs for tests: one call plays a few tasks, and a fault of a component fails the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simkit.components.agent import Agent
from simkit.components.reward import Reward
from simkit.components.user import User
from simkit.components.world import World
from simkit.core.events import Episode
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.run.engine import FaultPolicy
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.search.base import Search
from simkit.search.rollout import Rollout
from simkit.store import Store, Transcript


@dataclass(frozen=True, slots=True)
class Played:
    """What a run of a test has played.

    Attributes:
        run_id: id of the run in the store.
        episodes: its episodes, by trial and then by task.
        summary: scores and counts.
        store: the store, for queries.
    """

    run_id: str
    episodes: tuple[Episode, ...]
    summary: Summary
    store: Store

    @property
    def rewards(self) -> list[float | None]:
        """The reward of each episode."""
        return [episode.reward for episode in self.episodes]

    def transcript(self, number: int = 0) -> Transcript:
        """The final conversation of an episode.

        Raises:
            UsageError: it has none.
        """
        episode = self.episodes[number]
        if episode.final_branch_id is None:
            raise UsageError(f"the episode {episode.episode_id} has no final conversation; it ended {episode.outcome}")
        return self.store.transcript(episode.final_branch_id)

    def said(self, author: str = "agent", number: int = 0) -> list[str]:
        """What one side of an episode's final conversation has said, in order."""
        lines = self.transcript(number).lines
        return [line.heard for line in lines if line.author == author and line.heard is not None]


async def play(
    agent: str | Agent | None = None,
    *,
    store: Store | Path | str,
    world: str | World = "builtin",
    user: str | User | None = None,
    reward: str | Reward | None = None,
    tasks: int | str | Sequence[Task] = 3,
    split: str | None = None,
    search: Search | None = None,
    trials: int = 1,
    model: str | None = None,
    seed: int = 0,
    faults: bool = False,
) -> Played:
    """Play a few tasks, and return what was recorded.

    Args:
        agent, user, reward: components or their names; None for the world's defaults.
        store: the folder of the results.
        world: the world or its name.
        tasks: the number of tasks, a slice such as `10-20`, or the tasks themselves.
        split: the split that tasks are taken from; by default the last one of the world.
        search: how each task is played; by default as one conversation.
        trials: number of plays of each task.
        model: the agent's model.
        seed: seed of the run.
        faults: record faults of components; by default the first one is raised.

    Raises:
        Fault: a component failed; its own exception is the cause.
        UsageError: something has no such name, or cannot be played together.
    """
    policy = FaultPolicy(max_share=1.0) if faults else FaultPolicy(fail_fast=True)
    async with Run(store=store, seed=seed, policy=policy) as run:
        place = run.world(world)
        chosen = run.tasks(place, split or place.splits[-1], tasks) if isinstance(tasks, (int, str)) else tasks
        cast = run.cast(place, agent=agent, user=user, reward=reward, model=model)
        episodes = await run.play(search or Rollout(), cast, chosen, trials=trials)
        summary = run.summary()
    return Played(run.id, episodes, summary, run.store)
