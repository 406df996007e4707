"""Conversations of a model in training, played and recorded by the run that trains it.

Each measurement of the guard is a part of the run, `guard/step-10`; what grpo practises is the part `practice`. Users
and judges have their models as in every run, and all share its budget. The model in training is served by its process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from simkit.components.cast import Cast
from simkit.core.events import BranchAdded, ToolsetSeen
from simkit.errors import StrayCancellation
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, SampledModel, Usage
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
from simkit.training.dev import AT_ONCE, POLICY, ConversationSetup, DevScore, score_of
from simkit.training.groups import GroupSearch, PlayedBranch, ReplyCollector
from simkit.training.jobs import TrainingJob
from simkit.training.play import LookRequest, PracticeRequest, WithPolicy

if TYPE_CHECKING:
    from simkit.run.run import Run

IN_TRAINING = "local/in-training"
"""Name of the model in training in the store."""

_SPENT = """
    select coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), coalesce(sum(cost), 0)
    from model_calls join episodes using (episode_id) join runs using (run_id) where config ->> 'part_of' = $1
"""


class RecordedConversations:
    """Plays what the processes of a training ask for, inside their run. Use it as an `async with` block.

    Args:
        run: the run of the training.
        job: the training.
    """

    def __init__(self, run: Run, job: TrainingJob) -> None:
        self._run = run
        self._job = job
        self._stack = AsyncExitStack()
        self._budget: Budget | None = None
        self._practice: Run | None = None
        self._practising: dict[int, tuple[Cast, GroupSearch, _Policy]] = {}
        self._opening = anyio.Lock()
        self._host = _Host()

    async def __aenter__(self) -> RecordedConversations:
        found = await self._run.query(_SPENT, self._run.id)
        prompt, completion, cost = found.rows[0]
        spent = Usage(int(prompt), int(completion), cost=float(cost))
        self._budget = Budget(self._run.models.allowances(), spent=spent)
        await self._stack.__aenter__()
        if self._job.practice is not None:
            stage = await anyio.to_thread.run_sync(self._free_stage)
            part = self._part(stage, self._place, None, self._host, "practice")
            self._practice = await self._stack.enter_async_context(part)
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._stack.__aexit__(*error)

    async def answer(self, asked: WithPolicy) -> Any:
        """Play what a process asks for, with the model that it serves.

        Raises:
            UsageError: a component does not exist, or lacks a model.
            RunStopped: a budget is used up, or an endpoint is down.
        """
        if isinstance(asked.request, LookRequest):
            return await self._look(asked.request, asked.policy)
        return await self._practise(asked.request, asked.policy)

    async def _look(self, asked: LookRequest, served: ServedModel) -> DevScore:
        guard = self._job.guard
        assert guard is not None
        goals, host = guard.goals, _Host(_Policy(served))
        async with self._part(
            f"guard/step-{asked.step}", goals.place, goals.temperature, host, "guard", step=asked.step
        ) as part:
            cast = await _cast(part, goals.place)
            tasks = goals.place.chosen()
            episodes = await part.play(Rollout(goals.place.limits), cast, tasks, concurrency=AT_ONCE)
            least = cast.reward_range[0]
        if len(episodes) < len(tasks):
            raise StrayCancellation(f"{part.problem or 'dev goals were not played'}, so there is no score")
        return await anyio.to_thread.run_sync(lambda: score_of(episodes, list(_events(part)), least))

    async def _practise(self, asked: PracticeRequest, served: ServedModel) -> list[PlayedBranch]:
        cast, search = await self._opened(asked, served)
        known = {task.id: task for task in self._place.chosen()}
        assert self._practice is not None
        found: dict[str, list[tuple[PlayedBranch, ...]]] = {name: [] for name in asked.tasks}
        times = Counter(asked.tasks)
        while times:
            episodes = await self._practice.play(search, cast, [known[name] for name in times], concurrency=AT_ONCE)
            for episode in episodes:
                branches = search.of(episode.task_id, episode.trial)
                found[episode.task_id].append(branches)
                self._record(asked, episode.trial, branches)
            times -= Counter(times.keys())
        return [branch for name in asked.tasks for branch in found[name].pop(0)]

    def _record(self, asked: PracticeRequest, trial: int, branches: tuple[PlayedBranch, ...]) -> None:
        part, detail = self._practice, {"step": asked.step, "rank": asked.rank}
        assert part is not None
        for branch in branches:
            if branch.reward is not None:
                part.score_item("practice", branch.branch_id, trial=trial, detail=detail, reward=branch.reward)

    async def _opened(self, asked: PracticeRequest, served: ServedModel) -> tuple[Cast, GroupSearch]:
        """The cast and the search of a process, with its model of this step."""
        async with self._opening:
            if asked.rank not in self._practising:
                assert self._practice is not None
                policy = _Policy(served, asked.temperature)
                search = GroupSearch(size=asked.size, collector=ReplyCollector(policy), limits=self._place.limits)
                self._host.policy = search.collector  # of the cast that is opened now
                self._practising[asked.rank] = (await _cast(self._practice, self._place), search, policy)
            cast, search, policy = self._practising[asked.rank]
            policy.served = served
            return cast, search

    @property
    def _place(self) -> ConversationSetup:
        assert self._job.practice is not None
        return self._job.practice

    def _free_stage(self) -> str:
        """The stage of this start: conversations of an earlier start are not continued, since weights differ."""
        number, stage = 0, "practice"
        while PartOf(self._run.id, stage).begun(self._run.store) is not None:
            number += 1
            stage = f"practice/again-{number}"
        return stage

    @asynccontextmanager
    async def _part(
        self, stage: str, place: ConversationSetup, temperature: float | None, host: _Host, role: str, **config: int
    ) -> AsyncGenerator[Run]:
        part = self._run.part(
            stage,
            recipe=role,
            models=_models(self._run.models, place, temperature),
            config={"role": role, **config},
            host=host,
            budget=self._budget,
        )
        part.policy = FaultPolicy(max_share=1.0, raises=False)  # a weak model's faults do not fail its training
        async with part:
            yield part


class _Policy:
    """The model in training, at the place where it is served in this step."""

    name = IN_TRAINING

    def __init__(self, served: ServedModel, temperature: float | None = None) -> None:
        self.served = served
        self._sampling = Sampling() if temperature is None else Sampling(temperature=temperature)

    @property
    def lacks_for_tools(self) -> str | None:
        """The reason why the model cannot be given tools; None if it can."""
        return self.served.lacks_for_tools

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer."""
        model = SampledModel(RemoteModel(IN_TRAINING, POLICY, self.served), self._sampling)
        return await model.complete(request, key)


class _Host:
    """Holds the model in training."""

    def __init__(self, policy: ChatModel | None = None) -> None:
        self.policy = policy

    def model(self, provider: Provider) -> ChatModel | None:
        """The model in training; None for any other model."""
        return self.policy if provider.spec == IN_TRAINING else None

    async def load(self, provider: Provider) -> bool:
        """Whether it is the model in training."""
        return provider.spec == IN_TRAINING


def _models(models: ModelConfig, place: ConversationSetup, temperature: float | None) -> ModelConfig:
    """The run's models, with the model in training as the agent's."""
    user = IN_TRAINING if place.user_model == POLICY else place.user_model
    chosen: Mapping[str, Any] = {"model": IN_TRAINING, "user_model": user, "temperature": temperature}
    return models.model_copy(update={name: value for name, value in chosen.items() if value is not None})


async def _cast(part: Run, place: ConversationSetup) -> Cast:
    judge = None
    if place.judge_base_url is not None:
        judge = part.models.model_copy(update={"base_url": place.judge_base_url, "temperature": 0.0})
    return await part.open_cast(
        part.world(place.world, variant=place.variant),
        agent=place.agent,
        user=place.user,
        reward=place.reward,
        options=ModelConfig(max_tokens=place.max_tokens),
        user_options=ModelConfig(),
        judge_model=place.judge_model,
        judge_options=judge,
    )


def _events(part: Run) -> Any:
    for path in journals(part.store.path, part.id):
        yield from (event for event, _ in JournalEvents(path, (ToolsetSeen, BranchAdded)))
