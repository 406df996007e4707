"""One seed of a self-training experiment: create or open a model, measure it, train it on its harvest, measure again.

A control trains in the same way on as much data, but without the information of the rewards: for SFT on its own
unfiltered conversations, for KTO and DPO on the same examples with shuffled labels. A gain of both models is not an
effect of the harvest.

Every stage is a part of the seed's run (`round1/after-t1`), so a killed experiment continues at its current stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import ceil
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio.from_thread
import anyio.to_thread

from simkit.core.limits import Limits
from simkit.data.examples import DpoExample, Example, ExampleSet, Kind, KtoExample
from simkit.data.held_out import HeldOut, assert_clean_of
from simkit.data.selection import Selection, select
from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.run.stages import PartOf
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.training.config_files import load_config
from simkit.training.dev import ConversationSetup, DevGoals
from simkit.training.guard import Guard
from simkit.training.jobs import TrainingJob, TrainingMetrics, TrainingResult
from simkit.training.process import describe
from simkit.training.scratch import DialogueSource, ScratchSettings, bootstrap

if TYPE_CHECKING:
    from simkit.run.run import Run

TEMPERATURES: Mapping[str, float] = {"t1": 1.0, "t0": 0.0}
"""Temperatures of the measurements: that of the harvest, and greedy."""

AT_ONCE = 256
Tell: TypeAlias = Callable[[str], object]
"""Callback for short progress notes of a seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentPlan:
    """The plan that all seeds share.

    Attributes:
        world, user, reward: world and components of the conversations.
        max_turns, max_tokens: maximum turns of a conversation, and tokens of a reply.
        model: a folder or a Hugging Face name to start from; None creates a model from `lessons`.
        lessons, schooling: the dialogues of the first model, and its training settings.
        method, config, learning_rate, epochs: training on a harvest; None uses the value of the settings.
        rounds: number of rounds of harvest and training.
        tasks: number of train goals per round; each round has its own.
        beam, temperature: of the trees.
        held_out: number of test goals for the measurements.
        dev: number of goals of `val` for the guard.

    Raises:
        UsageError: a number is invalid.
    """

    world: str
    user: str | None = None
    reward: str | None = None
    max_turns: int = 15
    max_tokens: int = 160
    model: str | None = None
    lessons: DialogueSource = field(default_factory=DialogueSource)
    schooling: ScratchSettings = field(default_factory=ScratchSettings)
    method: Kind = "sft"
    config: str = "tiny-cpu"
    learning_rate: float | None = None
    epochs: float | None = None
    rounds: int = 1
    tasks: int = 160
    beam: int = 8
    temperature: float = 1.0
    held_out: int = 260
    dev: int = 40

    def __post_init__(self) -> None:
        for name in ("rounds", "tasks", "held_out", "dev", "max_turns", "max_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}; give at least 1")

    @property
    def settings(self) -> dict[str, Any]:
        """The training settings."""
        own = {"learning_rate": self.learning_rate, "num_train_epochs": self.epochs}
        return {**load_config(self.config, self.method), **{name: it for name, it in own.items() if it is not None}}

    def train_goals(self, number: int) -> str:
        """The train goals of a round, counted from 1. They follow those of the lessons and differ in every round."""
        first = (0 if self.model else int(self.lessons.tasks)) + (number - 1) * self.tasks
        return f"{first}-{first + self.tasks}"

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ExperimentModel:
    """A model of the experiment: its `name` in stages (`after`, `control`) and the location of its weights."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Conversations:
    """Conversations to play: search, goals of a split, and temperature."""

    search: Search
    split: str
    goals: str
    temperature: float


@dataclass(frozen=True, slots=True)
class SeedLoop:
    """The stages of one seed; `run` is the seed's own, entered. With `allow_incomplete` models learn from what could be
    read."""

    run: Run
    plan: ExperimentPlan
    folder: Path
    tell: Tell
    allow_incomplete: bool = False

    async def play(self) -> None:
        """Run all stages. Finished stages are not repeated.

        Raises:
            UsageError: the plan cannot be carried out; the message says where and why.
        """
        start = self.plan.model or await self._first_model()
        await self._measure("before", start)
        learner, control = ExperimentModel("after", start), ExperimentModel("control", start)
        for number in range(1, self.plan.rounds + 1):
            learner, control = await self._round(number, learner, control)

    async def _round(
        self, number: int, learner: ExperimentModel, control: ExperimentModel
    ) -> tuple[ExperimentModel, ExperimentModel]:
        here, goals = f"round{number}", self.plan.train_goals(number)
        harvest = await self._harvest(f"{here}/harvest", learner.path, goals)
        judged, unjudged = await self._examples(here, harvest, control, goals)
        learner = replace(learner, path=await self._train(f"{here}/train", learner.path, judged))
        control = replace(control, path=await self._train(f"{here}/train-control", control.path, unjudged))
        for model in (learner, control):
            await self._measure(f"{here}/{model.name}", model.path)
        return learner, control

    # --- conversations ------------------------------------------------------------------------------------------------

    async def _first_model(self) -> str:
        folder, stage = self.folder / "start", "lessons"
        if await self.run.finished(stage) is None:
            self.tell(stage)
            async with self.run.part(stage, recipe="bootstrap", models=ModelConfig()) as part:
                report = partial(_heard, part, self.tell, stage)
                lessons, schooling = self.plan.lessons, self.plan.schooling
                await bootstrap(
                    part,
                    folder,
                    part.seed,
                    lessons=lessons,
                    schooling=schooling,
                    on_metrics=report,
                    allow_incomplete=self.allow_incomplete,
                )
        return str(folder)

    async def _measure(self, name: str, model: str) -> None:
        for label, temperature in TEMPERATURES.items():
            conversations = Conversations(Rollout(self._limits), "test", str(self.plan.held_out), temperature)
            await self._played(f"{name}-{label}", model, conversations)

    async def _harvest(self, stage: str, model: str, goals: str) -> str:
        search = Josh(BeamSearch(beam=self.plan.beam), self._limits)
        return await self._played(stage, model, Conversations(search, "train", goals, self.plan.temperature))

    async def _rollouts(self, stage: str, model: str, goals: str) -> str:
        return await self._played(
            stage, model, Conversations(Rollout(self._limits), "train", goals, self.plan.temperature)
        )

    async def _played(self, stage: str, model: str, conversations: Conversations) -> str:
        """Play a stage and return the id of its run."""
        plan, place = self.plan, PartOf(self.run.id, stage)
        if await self.run.finished(stage) is None:
            self.tell(stage)
            chosen = {"model": f"local/{model}", "temperature": conversations.temperature}
            models = self.run.models.model_copy(update=chosen)
            options = ModelConfig(max_tokens=plan.max_tokens)
            async with self.run.part(
                stage, recipe=conversations.search.name, models=models, concurrency=AT_ONCE
            ) as part:
                world = part.world(plan.world)
                cast = await part.open_cast(world, user=plan.user, reward=plan.reward, options=options)
                await part.play(conversations.search, cast, part.tasks(world, conversations.split, conversations.goals))
        return place.id

    @property
    def _limits(self) -> Limits:
        return Limits(turns=self.plan.max_turns)

    # --- learning -----------------------------------------------------------------------------------------------------

    async def _examples(
        self, here: str, harvest: str, control: ExperimentModel, goals: str
    ) -> tuple[ExampleSet, ExampleSet]:
        """The learner's examples, and equally many for the control."""
        kind, seed = self.plan.method, self.run.seed
        judged = await self._select(kind, Selection(runs=(harvest,), seed=seed))
        if not judged.examples:
            raise UsageError(
                f"{harvest} brought no {kind} examples: the model never reached all goals of a task. Give more "
                "--tasks, a wider --beam, or a better model"
            )
        if kind != "sft":
            return judged, with_shuffled_labels(judged, seed)
        rollouts = await self._rollouts(f"{here}/unfiltered", control.path, goals)
        unfiltered = await self._select(kind, Selection(runs=(rollouts,), source="episodes", seed=seed))
        return as_many(judged, unfiltered, seed)

    async def _select(self, kind: Kind, selection: Selection) -> ExampleSet:
        found = await anyio.to_thread.run_sync(
            partial(select, self.run.store, kind, selection, allow_incomplete=self.allow_incomplete)
        )
        await anyio.to_thread.run_sync(self._assert_clean, found)
        return found

    def _assert_clean(self, examples: ExampleSet) -> None:
        """Check that no example belongs to a goal of the measurements or of the guard."""
        if examples.examples:
            world = self._dev.build()
            held_out = world.tasks("test")[: self.plan.held_out]
            assert_clean_of(examples, HeldOut.of(held_out, f"the held-out goals of {self.plan.world}", world))
            assert_clean_of(examples, HeldOut.of(self._dev.chosen(), f"the dev goals of {self.plan.world}", world))

    @property
    def _dev(self) -> ConversationSetup:
        plan = self.plan
        return ConversationSetup(
            world=plan.world,
            split="val",
            tasks=str(plan.dev),
            user=plan.user,
            reward=plan.reward,
            max_turns=plan.max_turns,
            max_tokens=plan.max_tokens,
        )

    async def _train(self, stage: str, model: str, examples: ExampleSet) -> str:
        from simkit.training.trainer import train

        out = self.folder / stage.replace("/", "-")
        if await self.run.finished(stage) is None:
            self.tell(stage)
            async with self.run.part(stage, recipe=f"train_{self.plan.method}") as part:
                report = partial(_heard, part, self.tell, stage)
                job = self._job(model, examples, out)
                part.summary(**_kept(await anyio.to_thread.run_sync(train, job, report)))
        return str(out)

    def _job(self, model: str, examples: ExampleSet, out: Path) -> TrainingJob:
        """A training whose guard acts only on a collapse: selecting the best checkpoint would favor the control."""
        settings = self.plan.settings
        batches = ceil(len(examples) / settings["per_device_train_batch_size"])
        steps = ceil(batches * settings["num_train_epochs"])
        return TrainingJob(
            method=self.plan.method,
            model=model,
            examples=examples,
            config=settings,
            out=out,
            seed=self.run.seed,
            guard=Guard(
                goals=DevGoals(place=self._dev),
                every=max(1, ceil(steps / 2)),
                valid_floor=0.8,
                success_floor=0.5,
                keep="last",
            ),
        )


def _heard(part: Run, tell: Tell, stage: str, metrics: TrainingMetrics) -> None:
    """Send metrics of the training to the store and to the screen."""
    anyio.from_thread.run_sync(partial(part.measure, metrics.stage, metrics.step, **metrics.values))
    tell(f"{stage} {describe(metrics)}")


def _kept(trained: TrainingResult) -> dict[str, Any]:
    return {
        "examples": trained.examples,
        "steps": trained.steps,
        "kept_step": trained.kept,
        "tokens": trained.tokens,
        "learned": trained.learned,
        "loss_start": trained.loss_start,
        "loss_end": trained.loss_end,
        "stopped": trained.stopped or "no",
    }


# --- the control's data -----------------------------------------------------------------------------------------------


def as_many(judged: ExampleSet, unfiltered: ExampleSet, seed: int) -> tuple[ExampleSet, ExampleSet]:
    """Equally many examples of both sets; the larger one is sampled at random.

    Raises:
        UsageError: the unfiltered set is empty.
    """
    count = min(len(judged), len(unfiltered))
    if not count:
        raise UsageError("no unfiltered conversation was scored, so there is no control; look at the faults of its run")
    return _drawn(judged, count, seed), _drawn(unfiltered, count, seed)


def _drawn(examples: ExampleSet, count: int, seed: int) -> ExampleSet:
    chosen = sorted(Random(seed).sample(range(len(examples)), count))
    return examples.keeping([examples[index] for index in chosen], "over_limit")


def with_shuffled_labels(examples: ExampleSet, seed: int) -> ExampleSet:
    """The same examples with shuffled labels: the number of desirable ones stays, and half of the pairs are swapped."""
    rng = Random(seed)
    labels = [example.label for example in examples.judged]
    rng.shuffle(labels)
    fresh = iter(labels)

    def relabelled(example: Example) -> Example:
        match example:
            case KtoExample():
                return replace(example, label=next(fresh))
            case DpoExample() if rng.random() < 0.5:
                return replace(example, chosen=example.rejected, rejected=example.chosen)
            case _:
                return example

    return replace(examples, examples=tuple(map(relabelled, examples)))
