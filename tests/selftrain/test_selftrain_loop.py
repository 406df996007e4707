"""The whole loop with a model that learns nothing worth having, and a reward that everybody earns: plumbing only."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("trl", reason="needs the extra [train]")

from simkit.data.held_out import HeldOut, contamination
from simkit.data.selection import Selection, select
from simkit.errors import UsageError
from simkit.recipes.scratch import make_model
from simkit.recipes.selftrain.experiment import SeedLoop
from simkit.recipes.selftrain.outcome import read_outcome
from simkit.recipes.selftrain.plan import ExperimentChoice, ExperimentPlan
from simkit.recipes.selftrain.recipe import selftrain
from simkit.recipes.selftrain.seeds import SeedWork, play_in_child, play_seeds
from simkit.run.engine import RunProgress
from simkit.run.run import Run
from simkit.run.stages import PartOf
from simkit.training.process import JOB, MODULE, SOCKET, child_environment

pytestmark = pytest.mark.anyio

TOWN = "builtin,most_goals=2,restaurants=12,hotels=12,attractions=12,departures=2"
PARTS = """
from simkit.components.agent import (Agent, Decision)
from simkit.components.reward import (Hit, Reward)
from simkit.core.messages import AssistantMessage

class Generous(Reward):
    name = "generous"

    async def score_turn(self, request):
        return tuple(Hit(goal.key, "it spoke") for goal in request.remaining)

class Polite(Agent):
    name = "polite"

    async def act(self, request):
        text = request.key.rng("agent").choice(("With pleasure.", "Of course.", "Certainly."))
        return Decision(AssistantMessage.of(text), say=text)
"""


@pytest.fixture
def plan(tmp_path: Path) -> ExperimentPlan:
    (tmp_path / "parts.py").write_text(PARTS, encoding="utf-8")
    return ExperimentPlan(
        world=TOWN,
        reward=f"{tmp_path / 'parts.py'}:Generous",
        demonstrator=f"{tmp_path / 'parts.py'}:Polite",
        lessons=24,
        lesson_steps=30,
        max_turns=2,
        reply_tokens=24,
        tasks=6,
        beam=2,
        n=2,
        heldout=5,
        then="kto",
        seeds=1,
        seeds_at_once=1,
    )


@pytest.fixture
async def start(tmp_path: Path, plan: ExperimentPlan) -> str:
    """A model that has learnt next to nothing."""
    async with Run(store=tmp_path / "store", recipe="scratch") as run:
        await make_model(run, tmp_path / "start", plan.first, lambda _: None)
    return str(tmp_path / "start")


class Killed(Exception):
    """Stands for the end of the process."""


async def play(folder: Path, plan: ExperimentPlan, start: str, until: str = "") -> list[str]:
    """Play one seed; raise when the stage `until` begins. Returns the stages that were begun."""
    begun: list[str] = []

    def tell(note: str) -> None:
        stage = note.split()[0]
        if stage == until:
            raise Killed
        if stage not in begun:
            begun.append(stage)

    place = PartOf("whole", "seed0")
    async with Run(store=folder / "store", part_of=place, recipe="selftrain", seed=4, config=place.config()) as run:
        await SeedLoop(run, plan, folder / "seed0", start, tell).play()
    return begun


ARMS = ("josh", "best-of-n", "best-of-n-as-many", "control", "kto")
STAGES = [
    *("before-t1", "before-t0", "round1/harvest-josh", "round1/harvest-best-of-n", "round1/harvest-control"),
    *(f"round1/train-{arm}" for arm in ARMS),
    *(f"round1/{arm}-{at}" for arm in ARMS for at in ("t1", "t0")),
]


async def test_a_seed_goes_through_its_stages_and_after_a_kill_goes_on(
    tmp_path: Path, plan: ExperimentPlan, start: str
) -> None:
    with pytest.raises(Killed):
        await play(tmp_path, plan, start, until="round1/train-best-of-n")
    model = tmp_path / "seed0" / "round1-train-josh" / "model.safetensors"
    made = model.stat().st_mtime_ns
    assert await play(tmp_path, plan, start) == STAGES[6:]  # what is done is not begun again
    assert model.stat().st_mtime_ns == made
    async with Run(store=tmp_path / "store", recipe="look") as look:
        found = await look.query("select stage, status from run_summary where part_of = 'whole.seed0'")
        assert {row[0]: row[1] for row in found.rows} == dict.fromkeys(STAGES, "done")
        spent = await look.query(
            "select stage, summary ->> 'tokens' from runs join run_summary using (run_id) where stage like '%harvest%'"
        )
        tokens = {stage: int(count) for stage, count in spent.rows if count}
        store = look.store
    assert tokens["round1/harvest-best-of-n"] == pytest.approx(tokens["round1/harvest-josh"], rel=0.5)  # few goals
    world = plan.build()
    held_out = HeldOut.of(plan.measured(world), "held out", world)
    golden = select(store, "sft", Selection(runs=("whole.seed0.round1.harvest-josh",)))
    unfiltered = select(store, "sft", Selection(runs=("whole.seed0.round1.harvest-control",), source="episodes"))
    for examples in (golden, unfiltered):
        assert {each.origin.split for each in examples.demonstrations} == {"train"}
        assert not contamination(examples, held_out).overlaps
    assert sorted(each.task_id for each in golden.examples) == sorted(each.task_id for each in unfiltered.examples)
    outcome = read_outcome(store, "whole", plan)
    learnt = {stage: examples for _, stage, examples, *_ in outcome.stages if examples}
    assert learnt["round1/train-josh"] == learnt["round1/train-control"] >= learnt["round1/train-best-of-n-as-many"] > 0
    assert outcome.arms["t1"]["JOSH, then KTO"].value == 1.0
    assert {each.found.family for each in outcome.stated} == {2 * len(plan.stated())}
    assert all(each.over_seeds is None for each in outcome.stated)


async def test_a_world_with_too_few_train_goals_is_refused(tmp_path: Path, plan: ExperimentPlan, start: str) -> None:
    few = replace(plan, world=f"{TOWN},train=5")
    with pytest.raises(UsageError, match="has 5 tasks in `train`, and this round needs those from 24 to 30"):
        await play(tmp_path, few, start)


async def test_no_rounds_are_not_the_default_number_of_rounds(tmp_path: Path) -> None:
    async with Run(store=tmp_path / "store") as run:
        with pytest.raises(UsageError, match="--rounds is 0"):
            await selftrain(run, chosen=ExperimentChoice(full=True, rounds=0))


async def test_a_cancelled_experiment_leaves_no_process(tmp_path: Path, plan: ExperimentPlan) -> None:
    at_work = anyio.Event()

    class Loud(RunProgress):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "note" and "lessons" in str(value):
                at_work.set()

    async with Run(store=tmp_path / "store", recipe="selftrain") as run:
        run.progress = Loud()
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(play_seeds, run, plan)
                await at_work.wait()
                group.cancel_scope.cancel()
    listed = await anyio.run_process(["ps", "-o", "args=", "--ppid", str(os.getpid())], check=False)
    assert MODULE.encode() not in listed.stdout


def test_a_process_whose_parent_is_gone_ends(tmp_path: Path, plan: ExperimentPlan) -> None:
    part = PartOf("whole", "seed0")
    work = SeedWork(store=tmp_path / "store", part=part, name="whole", seed=1, plan=plan, models={})
    (tmp_path / JOB).write_bytes(pickle.dumps((play_in_child, work)))
    with socket.socket(socket.AF_UNIX) as parent:
        parent.bind(str(tmp_path / SOCKET))
        parent.listen()
        parent.settimeout(60)
        child = subprocess.Popen([sys.executable, "-m", MODULE, str(tmp_path)], env=child_environment())
        parent.accept()[0].close()
        assert child.wait(60) == 1
