"""One seed of a self-training experiment: measure a model, harvest in two ways, train on each harvest, measure again.

Two arms learn from their own golden conversations, of JOSH's trees and of rejection sampling, for equally many tokens.
A control learns in the same way from conversations that nobody filtered, one for each golden example of JOSH and on its
task. Every training keeps its last weights, so that nothing is chosen on any goals.

Every stage is a part of the seed's run (`round1/josh-t1`), so a killed experiment continues at its current stage.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio.to_thread

from simkit.core.limits import Limits
from simkit.data.examples import ExampleSet, Kind
from simkit.data.held_out import HeldOut, assert_clean_of
from simkit.data.selection import Selection, select
from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.recipes.best_of_n import BestOfN
from simkit.recipes.scratch import reporter
from simkit.recipes.selftrain.harvests import play_for, play_tasks_of, tokens_by_episode
from simkit.recipes.selftrain.plan import AS_MANY, BEFORE, CONTROL, JOSH, SAMPLING, ExperimentPlan
from simkit.run.stages import PartOf
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.training.config_files import load_config
from simkit.training.jobs import TrainingJob

if TYPE_CHECKING:
    from simkit.components.cast import Cast
    from simkit.components.world import World
    from simkit.core.tasks import Task
    from simkit.run.run import Run

AT_ONCE = 128
"""Conversations at once: 256 of them took 4.5 GB in each process of a seed."""
Tell: TypeAlias = Callable[[str], object]
"""Callback for short progress notes of a seed."""


@dataclass(frozen=True, slots=True)
class SeedLoop:
    """The stages of one seed.

    `run` is the seed's own, entered; `start` is the model to begin with.
    """

    run: Run
    plan: ExperimentPlan
    folder: Path
    start: str
    tell: Tell

    async def play(self) -> None:
        """Run all stages. Finished stages are not repeated.

        Raises:
            UsageError: the plan cannot be carried out; the message says where and why.
        """
        await self._measure(BEFORE, self.start)
        models: dict[str, str] = dict.fromkeys((JOSH, SAMPLING, CONTROL), self.start)
        for number in range(1, self.plan.rounds + 1):
            models = await self._round(number, models)

    async def _round(self, number: int, models: dict[str, str]) -> dict[str, str]:
        """Harvest with each model, train each on what it has brought, and measure all."""
        here, goals = f"round{number}", self.plan.train_goals(number)
        budget = await self._trees(f"{here}/harvest-{JOSH}", models[JOSH], goals)
        await self._sampled(f"{here}/harvest-{SAMPLING}", models[SAMPLING], goals, budget)
        trees = await self._golden(f"{here}/harvest-{JOSH}")
        sampled = await self._golden(f"{here}/harvest-{SAMPLING}")
        await self._unfiltered(f"{here}/harvest-{CONTROL}", models[CONTROL], goals, trees)
        learnt = {
            JOSH: trees,
            SAMPLING: sampled,
            AS_MANY: await self._golden(f"{here}/harvest-{SAMPLING}", limit=len(trees)),
            CONTROL: await self._selected("sft", f"{here}/harvest-{CONTROL}", source="episodes"),
        }
        trained = {
            arm: await self._train(f"{here}/train-{arm}", models.get(arm, models[SAMPLING]), examples)
            for arm, examples in learnt.items()
        }
        if self.plan.then != "none":
            contrasts = await self._selected(self.plan.then, f"{here}/harvest-{JOSH}")
            trained[self.plan.then] = await self._train(f"{here}/train-{self.plan.then}", trained[JOSH], contrasts)
        for arm, model in trained.items():
            await self._measure(f"{here}/{arm}", model)
        return {arm: trained[arm] for arm in models}

    # --- conversations ------------------------------------------------------------------------------------------------

    async def _measure(self, name: str, model: str) -> None:
        for label in self.plan.temperatures:
            stage = f"{name}-{label}"
            if await self.run.finished(stage) is None:
                async with self._part(stage, "rollout", model, float(label[1:])) as (part, cast, world):
                    await part.play(self._rollout, cast, self.plan.measured(world))

    async def _trees(self, stage: str, model: str, goals: range) -> int:
        """Harvest with JOSH on the first half of the goals, and return the tokens that it cost."""
        if await self.run.finished(stage) is None:
            async with self._part(stage, "josh", model) as (part, cast, world):
                search = Josh(BeamSearch(beam=self.plan.beam), self._limits)
                await part.play(search, cast, self._goals(world, goals)[: self.plan.tasks])
                part.summary(tokens=sum((await tokens_by_episode(part)).values()))
        done = await self.run.finished(stage)
        if done is None:
            raise UsageError(f"{PartOf(self.run.id, stage).id} is not done; `simkit doctor` says why")
        return int(done["tokens"])

    async def _sampled(self, stage: str, model: str, goals: range, budget: int) -> None:
        """Harvest by rejection sampling for as many tokens."""
        if await self.run.finished(stage) is None:
            async with self._part(stage, "best_of_n", model) as (part, cast, world):
                search = BestOfN(n=self.plan.n, limits=self._limits)
                spent = await play_for(part, search, cast, self._goals(world, goals), budget)
                part.summary(tokens=spent, tokens_of_josh=budget)

    async def _unfiltered(self, stage: str, model: str, goals: range, golden: ExampleSet) -> None:
        if await self.run.finished(stage) is None:
            async with self._part(stage, "rollout", model) as (part, cast, world):
                await play_tasks_of(part, cast, self._rollout, self._goals(world, goals), golden)

    def _goals(self, world: World, goals: range) -> Sequence[Task]:
        found = world.tasks("train")[goals.start : goals.stop]
        if len(found) < self.plan.tasks:
            raise UsageError(
                f"{self.plan.world} has {len(world.tasks('train'))} tasks in `train`, and this round needs those from "
                f"{goals.start} to {goals.start + self.plan.tasks}; give fewer --tasks, --rounds or --lessons"
            )
        return found

    @asynccontextmanager
    async def _part(
        self, stage: str, recipe: str, model: str, temperature: float = 1.0
    ) -> AsyncGenerator[tuple[Run, Cast, World]]:
        """A stage that plays: its run, its players and their world."""
        self.tell(stage)
        plan = self.plan
        models = self.run.models.model_copy(update={"model": f"local/{model}", "temperature": temperature})
        async with self.run.part(stage, recipe=recipe, models=models, concurrency=AT_ONCE) as part:
            world, options = part.world(plan.world), ModelConfig(max_tokens=plan.reply_tokens)
            yield part, await part.open_cast(world, user=plan.user, reward=plan.reward, options=options), world

    @property
    def _limits(self) -> Limits:
        return Limits(turns=self.plan.max_turns)

    @property
    def _rollout(self) -> Rollout:
        return Rollout(self._limits)

    # --- learning -----------------------------------------------------------------------------------------------------

    async def _golden(self, stage: str, limit: int | None = None) -> ExampleSet:
        """Golden conversations of a harvest; at most `limit`, drawn at random."""
        found = await self._selected("sft", stage, limit=limit)
        if not found.examples:
            raise UsageError(
                f"{PartOf(self.run.id, stage).id} brought no golden conversation: the model never reached all goals "
                "of a task. Give more --tasks, a wider --beam, or a better model"
            )
        return found

    async def _selected(self, kind: Kind, stage: str, **options: Any) -> ExampleSet:
        """Examples of a stage. None of them may belong to a goal of the measurements."""
        chosen = Selection(runs=(PartOf(self.run.id, stage).id,), seed=self.run.seed, **options)
        return await anyio.to_thread.run_sync(self._clean, kind, chosen)

    def _clean(self, kind: Kind, chosen: Selection) -> ExampleSet:
        found = select(self.run.store, kind, chosen, allow_incomplete=self.plan.allow_incomplete)
        world = self.plan.build()
        assert_clean_of(found, HeldOut.of(self.plan.measured(world), f"the measured goals of {self.plan.world}", world))
        return found

    async def _train(self, stage: str, model: str, examples: ExampleSet) -> str:
        from simkit.training.trainer import train

        out = self.folder / stage.replace("/", "-")
        if await self.run.finished(stage) is None:
            self.tell(stage)
            async with self.run.part(stage, recipe=f"train_{examples.kind}") as part:
                report = reporter(part, stage, self.tell)
                trained = await anyio.to_thread.run_sync(train, self._job(model, examples, out), report)
                kept = ("examples", "steps", "tokens", "learned", "loss_start", "loss_end")
                part.summary(**{name: getattr(trained, name) for name in kept})
        return str(out)

    def _job(self, model: str, examples: ExampleSet, out: Path) -> TrainingJob:
        plan, config = self.plan, load_config(self.plan.config, examples.kind)
        if examples.kind == "sft":
            given = {"learning_rate": plan.learning_rate, "num_train_epochs": plan.epochs}
            config |= {name: value for name, value in given.items() if value is not None}
        return TrainingJob(
            method=examples.kind, model=model, examples=examples, config=config, out=out, seed=self.run.seed
        )
