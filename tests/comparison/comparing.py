"""Runs written into a store without being played, for comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from simkit.comparison import Arm, Comparison, compare
from simkit.core.events import Episode, EpisodeStarted, Event, ItemScored, RunFinished, RunStarted, TaskSeen
from simkit.core.ids import episode_id
from simkit.store import Store
from simkit.store.encoding import encode

Rewards: TypeAlias = Mapping[str, Sequence[float | None]]
GOALS = ("search_hotel", "book_hotel")


@dataclass(frozen=True)
class ItemRow:
    """The score of one question."""

    suite: str
    item: str
    metric: str
    value: float
    trial: int = 0
    better: str | None = None

    def event(self, run: str, at: float) -> ItemScored:
        detail = None if self.better is None else {"better": {self.metric: self.better}}
        return ItemScored(run, self.suite, self.item, self.metric, self.value, at, self.trial, detail)


@dataclass(frozen=True)
class RecordedRuns:
    """A store whose runs have given rewards: one sequence of trials per task."""

    path: Path
    clock: list[float] = field(default_factory=lambda: [1000.0])

    @property
    def store(self) -> Store:
        return Store(self.path)

    def run(
        self,
        name: str,
        rewards: Rewards,
        *,
        seed: int = 0,
        world: str = "builtin",
        goals: Sequence[str] = GOALS,
        status: str = "done",
        items: Sequence[ItemRow] = (),
        supervisor: str = "rollout",
        options: str = "",
        measures: Mapping[str, float] | None = None,
        **config: Any,
    ) -> str:
        """Write a run."""
        self.clock[0] += 10
        at = self.clock[0]
        chosen = {"world": f"{world}{options}", "seed": seed, **config}
        events: list[Event] = [RunStarted(name, name, supervisor, seed, chosen, "0", at)]
        for task, trials in rewards.items():
            keyed = tuple({"key": goal, "weight": 1.0} for goal in goals)
            events.append(TaskSeen(name, task, world, "test", f"Do {task}.", keyed))
            for trial, reward in enumerate(trials):
                events += _episode(name, task, trial, reward, goals, at, supervisor, measures or {})
        events += [item.event(name, at) for item in items]
        if status == "done":
            events.append(RunFinished(name, "done", {}, at + 5))
        journal = self.path / "journals" / name / "main.jsonl"
        journal.parent.mkdir(parents=True)
        journal.write_bytes(b"".join(map(encode, events)))
        return name

    def compare(self, *names: str, **choices: Any) -> Comparison:
        """Compare single runs by name."""
        choices.setdefault("resamples", 500)
        return compare(self.store, [Arm(name, (name,)) for name in names], **choices)


def _episode(
    run: str,
    task: str,
    trial: int,
    reward: float | None,
    goals: Sequence[str],
    at: float,
    supervisor: str,
    measures: Mapping[str, float],
) -> list[Event]:
    name = episode_id(run, task, trial)
    reached = tuple(goals) if reward == 1 else ()
    outcome = "agent_fault" if reward is None else "user_ended"
    parts = tuple({"name": key, "value": value, "weight": 0.0, "evidence": ""} for key, value in measures.items())
    return [
        EpisodeStarted(name, run, task, trial, supervisor, "", tuple(goals), at),
        Episode(
            episode_id=name,
            reward=reward,
            outcome=outcome,
            achieved=reached,
            turns=3,
            branches=3,
            faults=0,
            at=at + 1,
            parts=parts,
        ),
    ]


def drawn(share: float, seed: int, tasks: int = 60, trials: int = 1) -> Rewards:
    """Successes and failures by chance, of the same tasks whatever the seed."""
    rng = Random(seed)
    return {f"t{task:03}": [float(rng.random() < share) for _ in range(trials)] for task in range(tasks)}
