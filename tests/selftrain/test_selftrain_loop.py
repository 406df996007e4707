"""The whole loop with a model that learns nothing worth having, and a reward that everybody earns: plumbing only."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import anyio
import orjson
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("trl", reason="needs the extra [train]")

from simkit.components.world import WORLD
from simkit.data.held_out import HeldOut, contamination
from simkit.data.selection import Selection, select
from simkit.plugins.loading import load
from simkit.recipes.selftrain.experiment import ExperimentPlan, SeedLoop
from simkit.recipes.selftrain.outcome import NUMBERS, PICTURE, read_outcome
from simkit.recipes.selftrain.seeds import SeedWork, play_in_child, play_seeds
from simkit.run.engine import RunProgress
from simkit.run.run import Run
from simkit.run.stages import PartOf
from simkit.training.process import MODULE, child_environment
from simkit.training.scratch import DialogueSource, ScratchSettings

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
        lessons=DialogueSource(world=TOWN, tasks="24", demonstrator=f"{tmp_path / 'parts.py'}:Polite"),
        schooling=ScratchSettings(steps=30, max_length=900),
        max_turns=2,
        max_tokens=24,
        tasks=6,
        beam=2,
        held_out=5,
        dev=2,
    )


class Killed(Exception):
    """Stands for the end of the process."""


async def play(folder: Path, plan: ExperimentPlan, until: str = "") -> list[str]:
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
        await SeedLoop(run, plan, folder / "seed0", tell).play()
    return begun


STAGES = [
    *("lessons", "before-t1", "before-t0", "round1/harvest", "round1/unfiltered", "round1/train"),
    *("round1/train-control", "round1/after-t1", "round1/after-t0", "round1/control-t1", "round1/control-t0"),
]


async def test_a_seed_goes_through_its_stages_and_after_a_kill_goes_on(tmp_path: Path, plan: ExperimentPlan) -> None:
    with pytest.raises(Killed):
        await play(tmp_path, plan, until="round1/unfiltered")
    model = tmp_path / "seed0" / "start" / "model.safetensors"
    made = model.stat().st_mtime_ns
    assert await play(tmp_path, plan) == STAGES[4:]  # what is done is not begun again
    assert model.stat().st_mtime_ns == made
    async with Run(store=tmp_path / "store", recipe="look") as look:
        found = await look.query("select stage, status from run_summary where part_of = 'whole.seed0'")
        assert {row[0]: row[1] for row in found.rows} == dict.fromkeys(STAGES, "done")
        store = look.store
    held_out = HeldOut.of(load(WORLD, TOWN).tasks("test")[:5], "held out")
    learnt = (
        Selection(runs=("whole.seed0.round1.harvest",)),
        Selection(runs=("whole.seed0.round1.unfiltered",), source="episodes"),
    )
    for chosen in learnt:
        examples = select(store, "sft", chosen)
        assert {each.origin.split for each in examples.demonstrations} == {"train"}
        assert not contamination(examples, held_out).overlaps
    outcome = read_outcome(store, "whole", seeds=1, rounds=1)
    learner, control = outcome.trainings
    assert learner.examples == control.examples > 0
    outcome.write(tmp_path / "result", ("- Command: none",))
    assert (tmp_path / "result" / PICTURE).stat().st_size > 5000
    numbers = orjson.loads((tmp_path / "result" / NUMBERS).read_bytes())
    assert {*numbers["rates"]} == {"t1", "t0"}
    assert outcome.to_summary()["after, T = 1"]["value"] == 1.0


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
                group.start_soon(play_seeds, run, plan, 1, 1)
                await at_work.wait()
                group.cancel_scope.cancel()
    listed = await anyio.run_process(["ps", "-o", "args=", "--ppid", str(os.getpid())], check=False)
    assert MODULE.encode() not in listed.stdout


def test_a_process_whose_parent_is_gone_ends(tmp_path: Path, plan: ExperimentPlan) -> None:
    work = SeedWork(
        store=tmp_path / "store",
        folder=tmp_path / "seed0",
        run_id="whole",
        name="",
        number=0,
        seed=1,
        plan=plan,
        models={},
    )
    job = pickle.dumps((play_in_child, work))  # and then nothing: the end of the input
    ended = subprocess.run(
        [sys.executable, "-m", MODULE], input=job, env=child_environment(), capture_output=True, timeout=60
    )
    assert ended.returncode == 1
    assert b'"result"' not in ended.stdout
