"""Conversations of a model in training, played and recorded by the run that trains it.

Each measurement of the guard is a part of the run, `guard/step-10`; what grpo practises is the part `practice`. Users
and judges have their models as in every run, and all share its budget. The model in training is served by its process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from simkit.components.cast import Cast
from simkit.core.events import BranchAdded, Event, ToolsetSeen
from simkit.errors import StrayCancellation
from simkit.models.base import ChatModel, SampledModel, Usage
from simkit.models.config import ModelConfig
from simkit.models.middleware.budget import Budget
from simkit.models.provider import Provider
from simkit.models.sampling import Sampling
from simkit.run.contract import ServedModel
from simkit.run.engine import FaultPolicy
from simkit.run.resume import journals
from simkit.run.served_models import RemoteModel
from simkit.run.stages import PartOf
from simkit.search.rollout import Rollout
from simkit.store.encoding import JournalEvents
from simkit.training.dev import POLICY, ConversationSetup, DevScore, score_of
from simkit.training.groups import GroupSearch, PlayedBranch, ReplyCollector
from simkit.training.jobs import TrainingJob
from simkit.training.play import LookRequest, PracticeRequest, WithPolicy
from simkit.training.process import Answer

if TYPE_CHECKING:
    from simkit.run.run import Run

IN_TRAINING = "local/in-training"
"""Name of the model in training in the store."""

AT_ONCE = 256
"""Maximum concurrent conversations. A batching engine is more efficient with more of them."""

_SPENT = """
    select coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), coalesce(sum(cost), 0)
    from model_calls join episodes using (episode_id) join runs using (run_id) where config ->> 'part_of' = $1
"""


@asynccontextmanager
async def recorded_conversations(run: Run, job: TrainingJob) -> AsyncGenerator[Answer]:
    """Plays what the processes of a training ask for (`WithPolicy`), inside their run.

    The answer raises UsageError if a component does not exist or lacks a model, and RunStopped if a budget is used up
    or an endpoint is down.
    """
    prompt, completion, cost = (await run.query(_SPENT, run.id)).rows[0]
    spent = Usage(int(prompt), int(completion), cost=float(cost))
    budget, host = Budget(run.models.allowances(), spent=spent), _Host()
    if job.practice is not None:
        stage = await anyio.to_thread.run_sync(_free_stage, run)
        async with _part(run, stage, job.practice, host, budget, "practice") as part:
            yield _Conversations(run, job, budget, _Practice(part, job.practice, host)).answer
    else:
        yield _Conversations(run, job, budget).answer


@dataclass(frozen=True, slots=True)
class _Conversations:
    run: Run
    job: TrainingJob
    budget: Budget
    practice: _Practice | None = None

    async def answer(self, asked: WithPolicy) -> Any:
        if isinstance(asked.request, LookRequest):
            return await self._look(asked.request.step, RemoteModel(IN_TRAINING, POLICY, asked.policy))
        assert self.practice is not None
        return await self.practice.play(asked.request, asked.policy)

    async def _look(self, step: int, policy: ChatModel) -> DevScore:
        """Play the dev goals greedily."""
        assert self.job.guard is not None
        place, host = self.job.guard.place, _Host(policy)
        async with _part(
            self.run, f"guard/step-{step}", place, host, self.budget, "guard", temperature=0.0, step=step
        ) as part:
            cast, tasks = await _cast(part, place), place.chosen()
            episodes = await part.play(Rollout(place.limits), cast, tasks, concurrency=AT_ONCE)
        if len(episodes) < len(tasks):
            raise StrayCancellation(f"{part.problem or 'dev goals were not played'}, so there is no score")
        least = cast.reward_range[0]
        return await anyio.to_thread.run_sync(lambda: score_of(episodes, list(_events(part)), least))


@dataclass(frozen=True, slots=True)
class _Practice:
    """The part of a start in which grpo practises: a cast and a search for each process."""

    part: Run
    place: ConversationSetup
    host: _Host
    opened: dict[int, tuple[Cast, GroupSearch]] = field(default_factory=dict[int, tuple[Cast, GroupSearch]])
    opening: anyio.Lock = field(default_factory=anyio.Lock)

    async def play(self, asked: PracticeRequest, served: ServedModel) -> list[PlayedBranch]:
        """Play groups of conversations; the branches of one group follow each other."""
        cast, search = await self._opened(asked, served)
        known = {task.id: task for task in self.place.chosen()}
        found: dict[str, list[tuple[PlayedBranch, ...]]] = {name: [] for name in asked.tasks}
        times = Counter(asked.tasks)
        while times:
            episodes = await self.part.play(search, cast, [known[name] for name in times], concurrency=AT_ONCE)
            for episode in episodes:
                branches = search.of(episode.task_id, episode.trial)
                found[episode.task_id].append(branches)
                self._record(asked, episode.trial, branches)
            times -= Counter(times.keys())
        return [branch for name in asked.tasks for branch in found[name].pop(0)]

    def _record(self, asked: PracticeRequest, trial: int, branches: tuple[PlayedBranch, ...]) -> None:
        detail = {"step": asked.step, "rank": asked.rank}
        for branch in branches:
            if branch.reward is not None:
                self.part.score_item("practice", branch.branch_id, trial=trial, detail=detail, reward=branch.reward)

    async def _opened(self, asked: PracticeRequest, served: ServedModel) -> tuple[Cast, GroupSearch]:
        """The cast and the search of a process, with its model of this step."""
        policy = SampledModel(RemoteModel(IN_TRAINING, POLICY, served), Sampling(temperature=asked.temperature))
        async with self.opening:
            if asked.rank not in self.opened:
                search = GroupSearch(size=asked.size, collector=ReplyCollector(policy), limits=self.place.limits)
                self.host.policy = search.collector  # of the cast that is opened now
                self.opened[asked.rank] = (await _cast(self.part, self.place), search)
            cast, search = self.opened[asked.rank]
            search.collector.collect_from(policy)
            return cast, search


@dataclass(slots=True)
class _Host:
    """Holds the model in training."""

    policy: ChatModel | None = None

    def model(self, provider: Provider) -> ChatModel | None:
        return self.policy if provider.spec == IN_TRAINING else None

    async def load(self, provider: Provider) -> bool:
        return provider.spec == IN_TRAINING


def _free_stage(run: Run) -> str:
    """The stage of this start: conversations of an earlier start are not continued, since weights differ."""
    stages = (f"practice/again-{number}" if number else "practice" for number in count())
    return next(stage for stage in stages if PartOf(run.id, stage).begun(run.store) is None)


def _part(
    run: Run,
    stage: str,
    place: ConversationSetup,
    host: _Host,
    budget: Budget,
    role: str,
    *,
    temperature: float | None = None,
    **config: int,
) -> AbstractAsyncContextManager[Run]:
    """A part of the run, with the model in training as the agent's."""
    chosen = {"model": IN_TRAINING, "temperature": temperature}
    chosen["user_model"] = IN_TRAINING if place.user_model == POLICY else place.user_model
    models = run.models.model_copy(update={name: value for name, value in chosen.items() if value is not None})
    part = run.part(stage, recipe=role, models=models, config={"role": role, **config}, host=host, budget=budget)
    part.policy = FaultPolicy(max_share=1.0, raises=False)  # a weak model's faults do not fail its training
    return part


async def _cast(part: Run, place: ConversationSetup) -> Cast:
    judge = None
    if place.judge_base_url is not None:
        judge = part.models.model_copy(update={"base_url": place.judge_base_url, "temperature": 0.0})
    return await part.open_cast(
        part.world(place.world, variant=place.variant),
        agent=place.agent,
        user=place.user,
        reward=place.reward,
        options=ModelConfig(max_tokens=place.reply_tokens),
        user_options=ModelConfig(),
        judge_model=place.judge_model,
        judge_options=judge,
    )


def _events(part: Run) -> Iterable[Event]:
    for path in journals(part.store.path, part.id):
        yield from (event for event, _ in JournalEvents(path, (ToolsetSeen, BranchAdded)))
