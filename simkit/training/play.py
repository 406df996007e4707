"""Conversations of a model in training: the guard's, and those that grpo practises."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio.from_thread import start_blocking_portal

from simkit.core.recorder import MemoryRecorder
from simkit.run.contract import ServedModel
from simkit.run.engine import PlayContext, RunProgress, play_units
from simkit.run.served_models import serving
from simkit.run.tuning import fast_loop
from simkit.search.base import WorkUnit
from simkit.training.dev import AT_ONCE, POLICY, ConversationSetup, DevGoals, DevScore, opened, play_dev
from simkit.training.groups import GroupSearch, PlayedBranch, ReplyCollector
from simkit.training.link import ParentLink

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat
    from simkit.models.base import ChatModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PracticeRequest:
    """Conversations that one process needs at a step of grpo.

    Attributes:
        step: optimizer step; `first` is the number of its first group among all groups of the training.
        rank: number of the process.
        tasks: ids of the tasks, one for each group.
        size: conversations of a group.
        temperature: sampling temperature of the model in training.
        seed: seed of the training.
    """

    step: int
    first: int
    rank: int
    tasks: tuple[str, ...]
    size: int
    temperature: float
    seed: int


@dataclass(frozen=True, slots=True)
class LookRequest:
    """A measurement by the guard at a step."""

    step: int


@dataclass(frozen=True, slots=True)
class WithPolicy:
    """A request for conversations, with the place where the model in training is served."""

    request: LookRequest | PracticeRequest
    policy: ServedModel


class Conversations(Protocol):
    """Plays conversations with a model in training, called from the training's thread."""

    def look(self, goals: DevGoals, model: ChatModel, step: int) -> DevScore:
        """Measure the model on dev goals.

        Raises:
            UsageError: the world, its split or a chosen task does not exist.
        """
        ...

    def practise(self, place: ConversationSetup, model: ChatModel, asked: PracticeRequest) -> Sequence[PlayedBranch]:
        """Play groups of conversations; the branches of one group follow each other."""
        ...


class InMemory:
    """Plays in this process and records nothing. The user needs no model, or is played by the model in training."""

    def look(self, goals: DevGoals, model: ChatModel, step: int) -> DevScore:
        """Measure the model on dev goals."""
        return anyio.run(play_dev, goals, model, backend_options={"loop_factory": fast_loop()})

    def practise(self, place: ConversationSetup, model: ChatModel, asked: PracticeRequest) -> Sequence[PlayedBranch]:
        """Play groups of conversations."""
        return anyio.run(_practise, place, model, asked, backend_options={"loop_factory": fast_loop()})


async def _practise(place: ConversationSetup, model: ChatModel, asked: PracticeRequest) -> list[PlayedBranch]:
    known = {task.id: task for task in place.chosen()}
    search = GroupSearch(size=asked.size, collector=ReplyCollector(model), limits=place.limits)
    units = [
        WorkUnit("practice", asked.seed, known[name], asked.first + number) for number, name in enumerate(asked.tasks)
    ]
    async with opened(place, search.collector, asked.temperature) as cast:
        context = PlayContext(search=search, cast=cast, recorder=MemoryRecorder(), progress=RunProgress())
        await play_units(context, units, AT_ONCE)
    return [branch for unit in units for branch in search.of(unit.task.id, unit.trial)]


class ByParent:
    """Lets the process that started the training play, record, and open the models of users and judges.

    The model in training is served to it over a Unix socket.
    """

    def __init__(self, link: ParentLink) -> None:
        self._link = link

    def look(self, goals: DevGoals, model: ChatModel, step: int) -> DevScore:
        """Measure the model on dev goals."""
        return self._ask(model, LookRequest(step))

    def practise(self, place: ConversationSetup, model: ChatModel, asked: PracticeRequest) -> Sequence[PlayedBranch]:
        """Play groups of conversations."""
        return self._ask(model, asked)

    def _ask(self, model: ChatModel, request: LookRequest | PracticeRequest) -> Any:
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving({POLICY: model})) as places:
            return self._link.ask(WithPolicy(request, places[POLICY]))


@contextmanager
def in_memory(model: Any, form: ChatFormat) -> Generator[ChatModel]:
    """A chat model that answers with the current weights of a model in training."""
    from simkit.local.engine import LocalEngine
    from simkit.local.model import LocalModel
    from simkit.local.weights import EngineOptions
    from simkit.local.worker import Worker

    learning = bool(model.training)
    model.eval()
    options = EngineOptions(template_kwargs=tuple(form.template_kwargs.items()))
    worker = Worker(LocalEngine(model, form.tokenizer, options))
    try:
        yield LocalModel(worker, "in training")
    finally:
        worker.close()
        model.train(learning)
