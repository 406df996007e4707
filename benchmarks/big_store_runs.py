"""Mixed runs for a big store: trees and conversations of several worlds, with faults, stops and resumes.

Everything follows from the seed and the number of a run; only ids and times differ between two calls.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import anyio

from simkit.agents.scripted import ScriptedAgent
from simkit.components.agent import Act, Decision
from simkit.components.world import World
from simkit.core.limits import Limits
from simkit.run.engine import FaultPolicy
from simkit.run.run import Run
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.tools.builtin import BuiltinWorld

NAMES = ("nightly", "baseline", "harvest", "harvest", "", "")
"""Names that runs share, as those of a team do."""

MEASURED = "measured"
"""Name of the tree run of 200 tasks that the questions of the benchmark are about."""

TASKS = 200


class FaultyAgent(ScriptedAgent):
    """The rule-based agent that raises an error at places drawn from the keys of its turns.

    Args:
        faults: share of its decisions that fail.
    """

    def __init__(self, world: World, error_rate: float, faults: float) -> None:
        super().__init__(world, error_rate)
        self._faults = faults

    async def act(self, request: Act[Any]) -> Decision[Any]:
        """The decision of the rule-based agent, or an error."""
        if request.key.rng("fault", request.step).random() < self._faults:
            raise RuntimeError("drawn")
        return await super().act(request)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What one run plays.

    Attributes:
        tasks: how many, from `first` on.
        stops: episodes after which it is stopped, once for each of its attempts but the last.
        resumed: whether it is played to its end after its last stop.
    """

    seed: int
    name: str
    recipe: str
    search: Search
    world: BuiltinWorld
    first: int
    tasks: int
    trials: int
    error_rate: float
    faults: float
    stops: tuple[int, ...]
    resumed: bool


def plans(seed: int) -> Iterator[RunPlan]:
    """Runs without end. The first is the one that is asked about; it has neither faults nor stops."""
    worlds = [
        BuiltinWorld(),
        BuiltinWorld(seed=1, most_goals=3),
        BuiltinWorld(seed=2, restaurants=40, hotels=24),
        BuiltinWorld(seed=3, compact=True),
    ]
    number = 0
    while True:
        random = Random(f"{seed}/{number}")
        plan = _plan(random, worlds)
        if number == 0:
            calm = BeamSearch(beam=8)
            plan = replace(plan, search=Josh(calm, Limits()), recipe="josh", world=worlds[0], first=0, tasks=TASKS)
            plan = replace(plan, name=MEASURED, trials=1, error_rate=0.25, faults=0.0, stops=())
        yield plan
        number += 1


def _plan(random: Random, worlds: list[BuiltinWorld]) -> RunPlan:
    kind = random.choices(("josh", "rollout"), (6, 4))[0]
    tasks, trials = random.choice((20, 60, 150, 200, 300)), 1
    limits = Limits(turns=random.choice((8, 15, 25)))
    search: Search
    if kind == "josh":
        search = Josh(
            BeamSearch(
                beam=random.choice((4, 8, 8, 16)),
                branch_by=random.choice(("turn", "turn", "action")),
                eager=random.random() < 0.2,
            ),
            limits,
        )
    else:
        tasks, trials = tasks + 100, random.choice((1, 2, 4, 8))
        search = Rollout(limits)
    faulty, stopped = random.random() < 0.25, random.random() < 0.25
    stops = sorted(random.randrange(1, tasks * trials) for _ in range(random.randint(1, 2))) if stopped else []
    return RunPlan(
        seed=random.randrange(1 << 31),
        name=random.choice(NAMES),
        recipe=kind,
        search=search,
        world=random.choice(worlds),
        first=random.choice((0, 0, 200, 900)),
        tasks=tasks,
        trials=trials,
        error_rate=random.choice((0.1, 0.25, 0.4)),
        faults=random.choice((0.002, 0.02)) if faulty else 0.0,
        stops=tuple(stops),
        resumed=random.random() < 0.8,
    )


def play(plan: RunPlan, playing: Path, store: Path) -> int:
    """Play a run in a store of its own, so that no other run slows it down, and move its journals; returns messages."""
    run = anyio.run(_play, plan, playing)
    count = int(Store(playing).query("SELECT count(*) FROM messages").rows[0][0])
    (store / "journals").mkdir(exist_ok=True)
    (playing / "journals" / run).rename(store / "journals" / run)
    for path in playing.glob("simkit.duckdb*"):
        path.unlink()
    return count


def hand_over(playing: Path, store: Path) -> None:
    """Give the store the counter of starts, and remove the folder in which the runs were played."""
    if (playing / ".starts").exists():
        (playing / ".starts").rename(store / ".starts")
    shutil.rmtree(playing, ignore_errors=True)


async def _play(plan: RunPlan, playing: Path) -> str:
    options: dict[str, Any] = {"store": playing, "policy": FaultPolicy(max_share=1.0)}
    run = Run(**options, name=plan.name, recipe=plan.recipe, seed=plan.seed)
    await _play_once(run, plan, plan.stops[0] if plan.stops else None)
    for stop in (*plan.stops[1:], *((None,) if plan.resumed else ())):
        if run.status != "interrupted":
            break
        run = Run(**options, resume=run.id)
        await _play_once(run, plan, stop)
    return run.id


async def _play_once(run: Run, plan: RunPlan, stop: int | None) -> None:
    agent = FaultyAgent(plan.world, plan.error_rate, plan.faults)
    async with anyio.create_task_group() as group:
        if stop is not None:
            group.start_soon(_stop_at, run, stop)
        async with run:
            tasks = run.tasks(plan.world, "train", f"{plan.first}-{plan.first + plan.tasks}")
            await run.play(plan.search, run.cast(plan.world, agent=agent), tasks, trials=plan.trials)
        group.cancel_scope.cancel()


async def _stop_at(run: Run, episodes: int) -> None:
    while len(run.progress.episodes) < episodes:  # noqa: ASYNC110
        await anyio.sleep(0.01)
    run.stop()
