"""A supervisor that plays by table: which episodes fault, which wait, and what happened in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import anyio

from simkit.components.cast import Cast
from simkit.core.events import Episode, EpisodeStarted
from simkit.core.recorder import Recorder
from simkit.core.tasks import Task
from simkit.errors import StoreError
from simkit.search.base import Watch, WorkUnit

TASKS = tuple(
    Task(id=f"t{number}", world="builtin", split="test", instructions="do it", goals=()) for number in range(8)
)


def episode(unit: WorkUnit, outcome: str = "user_ended", reward: float | None = 1.0) -> Episode:
    return Episode(
        episode_id=unit.episode_id,
        reward=reward,
        outcome=outcome,
        goals=("g",),
        achieved=("g",),
        final_branch_id=None,
        turns=1,
        branches=1,
        faults=int(reward is None),
        error=None,
        full_reward=1.0,
    )


@dataclass
class Played:
    """Ends every episode at once, but for those in `outcomes` (and `broken`, where the store fails)."""

    outcomes: Mapping[str, str] = field(default_factory=dict[str, str])
    broken: frozenset[str] = frozenset()
    waiting: Mapping[str, anyio.Event] = field(default_factory=dict[str, anyio.Event])
    reached: anyio.Event | None = None
    order: list[str] = field(default_factory=list[str])
    now: int = 0
    most: int = 0

    name: ClassVar[str] = "played"

    async def play(self, cast: Cast, unit: WorkUnit, recorder: Recorder, watch: Watch) -> Episode:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await anyio.lowlevel.checkpoint()
            if unit.task.id in self.broken:
                raise StoreError("the disk is full")
            if unit.task.id in self.waiting:
                if self.reached is not None:
                    self.reached.set()
                await self.waiting[unit.task.id].wait()
        finally:
            self.now -= 1
        self.order.append(unit.task.id)
        outcome = self.outcomes.get(unit.task.id, "user_ended")
        played = episode(unit, outcome, None if outcome.endswith("_fault") else 1.0)
        record(recorder, unit, played)
        return played


def record(recorder: Recorder, unit: WorkUnit, played: Episode) -> None:
    """The beginning and the end of an episode."""
    recorder.record(
        EpisodeStarted(
            episode_id=played.episode_id,
            run_id=unit.run_id,
            task_id=played.task_id,
            trial=played.trial,
            supervisor="played",
            toolset_id="none",
            goals=played.goals,
            at=0.0,
        )
    )
    recorder.record(played)
