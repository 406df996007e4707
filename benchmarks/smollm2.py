"""SmolLM2-135M-Instruct trains itself on one core: it is taught a tool protocol, harvests, learns and is measured.

    python -m benchmarks.smollm2 STAGE --store FOLDER [--arms josh,best_of_n,control]

Stages, in this order: teach, before, harvest, learn, after, general, report. Each takes at most 40 minutes on one core.
It can be stopped and repeated: what is done is kept, and an interrupted run is resumed. Conversations are ordinary
runs of the store, for `simkit ls`, `show`, `compare` and `view`; models are in `FOLDER/models`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import anyio

from simkit import Store
from simkit.agents.few_shot import as_played_by
from simkit.agents.react import ReactAgent
from simkit.components.agent import StartAgent
from simkit.components.tools import StartTools
from simkit.components.world import WORLD
from simkit.core.limits import Limits
from simkit.data.examples import ExampleSet
from simkit.data.export import ColumnOptions, write
from simkit.data.selection import Selection, Source, select
from simkit.models.config import ModelConfig
from simkit.models.providers.scripted import ScriptedModel
from simkit.plugins.loading import load
from simkit.run.run import Run
from simkit.search.rollout import Rollout

TOWN = (
    "builtin,domains=restaurant+attraction,most_goals=2,compact=true,facts=false,upkeep=false,"
    "restaurants=24,hotels=24,attractions=24"
)
AGENT = "react,prompt=minimal"
DEMONSTRATOR = "scripted,error_rate=0.1,habits=drop:people:0.75"
LESSONS, HARVEST, TEST = "300", "300-360", "60"
BRANCHES = "4"
ARMS = ("josh", "best_of_n", "control")
TEMPERATURES: Mapping[str, str] = {"t0": "0", "t1": "1"}
SIMKIT = (sys.executable, "-m", "simkit")

TEACHING = ("--learning_rate", "1e-3", "--num_train_epochs", "1", "--max_length", "512")
"""What differs from the preset `smollm2-135m` while the protocol is taught."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """The experiment in one store."""

    store: Path
    arms: tuple[str, ...] = ARMS
    temperatures: tuple[str, ...] = tuple(TEMPERATURES)

    def model(self, name: str) -> Path:
        """The folder of a model: `taught`, or that of an arm."""
        return self.store.absolute() / "models" / name

    # --- conversations ------------------------------------------------------------------------------------------------

    def run(self, recipe: str, name: str, *flags: str) -> None:
        """Carry out a run, or what is left of it."""
        known = self.statuses().get(name)
        if known == "done":
            return
        group = "train" if recipe == "sft" else "run"
        begin = (group, recipe, "--name", name, *flags) if known is None else ("resume", name)
        command = (*begin, "--store", str(self.store))
        print(f"{time.strftime('%H:%M:%S')} simkit {shlex.join(command)}", flush=True)
        subprocess.run((*SIMKIT, *command), check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def play(self, recipe: str, name: str, model: str, goals: tuple[str, str], temperature: str, *more: str) -> None:
        """Play goals (split and tasks) with a model."""
        town = ("--world", TOWN, "--split", goals[0], "--tasks", goals[1], "--max-turns", "8")
        played = f"local/{self.model(model)},dtype=bfloat16,threads=1"
        agent = ("--agent", AGENT, "--model", played, "--max-tokens", "90")
        self.run(recipe, name, *town, *agent, "--temperature", temperature, "--concurrency", "64", *more)

    def statuses(self) -> dict[str, str]:
        """Status of each run by name."""
        return dict(self.rows("select name, status from runs where name is not null"))

    def measure(self, model: str) -> None:
        """Play the test goals at each temperature."""
        for label in self.temperatures:
            temperature = TEMPERATURES[label]
            self.play("rollout", f"{model}-{label}", model, ("test", TEST), temperature)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query; none before the first run."""
        return list(Store(self.store).query(query, values).rows) if self.store.exists() else []

    def tokens(self, run: str) -> dict[str, int]:
        """Tokens that the agent's model read and wrote for each task of a run, in the order of tasks."""
        return {task: int(count) for task, count in self.rows(_TOKENS, run)}

    # --- examples -----------------------------------------------------------------------------------------------------

    def train(self, start: str, examples: ExampleSet, name: str, *flags: str) -> None:
        """Train a model on examples, which stay in a file beside the runs."""
        file = write(examples, self.store / f"{name}.jsonl", ColumnOptions(origin=True))
        chosen = ("--config", "smollm2-135m", "--data", str(file), "--world", TOWN, "--guard", "none", *flags)
        self.run("sft", f"train-{name}", "--model", start, "--out", str(self.model(name)), *chosen)

    def examples(self, arm: str) -> ExampleSet:
        """The examples of an arm, at most one of a task, and at most as many as the trees gave.

        Those of a harvest are golden; the control has any conversation of each task of a golden tree.
        """
        trees = self.chosen("josh", "golden")
        match arm:
            case "control":
                return self.chosen("unfiltered", "episodes", [golden.task_id for golden in trees])
            case "best_of_n":
                found = self.chosen(arm, "golden", self.within_budget(arm))
                return found.keeping(found[: len(trees)], "over_limit")
            case _:
                return trees

    def chosen(self, run: str, source: Source, tasks: Sequence[str] | None = None) -> ExampleSet:
        """One example of each of these tasks that has any; None for all tasks."""
        where = None if tasks is None else f"task_id in ({', '.join(repr(task) for task in tasks)})"
        return select(Store(self.store), "sft", Selection(runs=(run,), source=source, where=where, max_per_task=1))

    def within_budget(self, run: str) -> list[str]:
        """Tasks of a harvest, in order, as many as take no more tokens than the trees in all."""
        budget, spent = sum(self.tokens("josh").values()), accumulate(self.tokens(run).values())
        return [task for task, total in zip(self.tokens(run), spent, strict=True) if total <= budget]


_TOKENS = """
    select e.task_id, sum(c.prompt_tokens + c.completion_tokens)
    from model_calls c join episodes e using (episode_id) join runs r on r.run_id = e.run_id
    where r.name = ? group by e.task_id order by e.task_id
"""


# --- stages -----------------------------------------------------------------------------------------------------------


def teach(experiment: Experiment) -> None:
    """Play lessons with the rule-based agent, and train SmolLM2 on them in the agent's form."""
    goals = ("--split", "train", "--tasks", LESSONS)
    experiment.run("rollout", "lessons", "--world", TOWN, *goals, "--agent", DEMONSTRATOR)
    found = select(Store(experiment.store), "sft", Selection(runs=("lessons",), source="episodes"))
    world = load(WORLD, TOWN)
    start = world.tools().start(StartTools(world.tasks("train")[0]))
    agent = ReactAgent(ScriptedModel.by_turn(()), prompt="minimal")
    lessons = as_played_by(agent, StartAgent(start.specs, start.policy), found)
    experiment.train("smollm2", lessons, "taught", *TEACHING)


def before(experiment: Experiment) -> None:
    """Measure the taught model."""
    experiment.measure("taught")


def harvest(experiment: Experiment) -> None:
    """Play train goals as trees and as independent rollouts, and the goals of golden trees once without a choice."""
    widths = {"josh": ("--beam", BRANCHES), "best_of_n": ("--n", BRANCHES)}
    for arm in experiment.arms:
        if arm == "control":
            anyio.run(_unfiltered, experiment)
        else:
            experiment.play(arm, arm, "taught", ("train", HARVEST), "1", *widths[arm])


async def _unfiltered(experiment: Experiment) -> None:
    """Play each task of a golden tree once. The command line chooses tasks by slices only."""
    golden = {example.task_id for example in experiment.chosen("josh", "golden")}
    played = f"local/{experiment.model('taught')},dtype=bfloat16,threads=1"
    models = ModelConfig(model=played, temperature=1, max_tokens=90)
    status = experiment.statuses().get("unfiltered")
    if status == "done":
        return
    new = Run(store=experiment.store, name="unfiltered", models=models, concurrency=64)
    async with new if status is None else Run.resume("unfiltered", store=experiment.store) as run:
        world = run.world(TOWN)
        tasks = [task for task in world.tasks("train") if task.id in golden]
        await run.play(Rollout(Limits(turns=8)), await run.open_cast(world, agent=AGENT), tasks)


def learn(experiment: Experiment) -> None:
    """Train the taught model on the examples of each arm."""
    for arm in experiment.arms:
        experiment.train(str(experiment.model("taught")), experiment.examples(arm), arm)


def after(experiment: Experiment) -> None:
    """Measure the model of each arm."""
    for arm in experiment.arms:
        experiment.measure(arm)


def general(experiment: Experiment) -> None:
    """Measure general ability: the original model, the taught one, and that of each arm."""
    here = Path(__file__).parent
    flags = ("--suites", "everyday", "--task-files", str(here / "general"), "--corpus", str(here.parent / "README.md"))
    models = {"original": "smollm2", "taught": str(experiment.model("taught"))}
    models |= {arm: str(experiment.model(arm)) for arm in experiment.arms if experiment.model(arm).exists()}
    for name, model in models.items():
        experiment.run("preserve", f"general-{name}", "--model", f"local/{model},threads=1", *flags)


def report(experiment: Experiment) -> None:
    """Compare the arms at each temperature, and general ability with that of the original model."""
    done = {name for (name,) in experiment.rows("select name from runs where status = 'done'")}
    families = [[f"{name}-{label}" for name in ("taught", *ARMS)] for label in TEMPERATURES]
    families.append([f"general-{name}" for name in ("original", "taught", *ARMS)])
    for names in families:
        if len(present := [name for name in names if name in done]) > 1:
            subprocess.run((*SIMKIT, "compare", *present, "--store", str(experiment.store)), check=True)
    for name, read, written, calls, seconds in experiment.rows(_SPENT):
        print(f"{name}: {read:,} tokens read, {written:,} written in {calls:,} calls, {seconds:.0f} s")


_SPENT = """
    select r.name, sum(c.prompt_tokens), sum(c.completion_tokens), count(*),
           any_value(elapsed(r.started_at, r.finished_at))
    from model_calls c join episodes e using (episode_id) join runs r on r.run_id = e.run_id
    group by r.name order by any_value(r.started_at)
"""


STAGES: Mapping[str, Callable[[Experiment], None]] = {
    "teach": teach,
    "before": before,
    "harvest": harvest,
    "learn": learn,
    "after": after,
    "general": general,
    "report": report,
}


def some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A reader of names joined by commas."""

    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"there is no `{unknown[0]}`; join some of {', '.join(known)} by commas")
        return chosen

    return read


def main() -> None:
    """Read the command line and carry out a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--store", type=Path, required=True, help="folder of the experiment")
    parser.add_argument("--arms", type=some_of(ARMS), default=ARMS, help="for harvest, learn and after")
    parser.add_argument(
        "--temperatures", type=some_of([*TEMPERATURES]), default=(*TEMPERATURES,), help="for before, after"
    )
    given = parser.parse_args()
    began = time.monotonic()
    STAGES[given.stage](Experiment(given.store, given.arms, given.temperatures))
    print(f"{given.stage}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
