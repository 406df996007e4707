"""Conversations of a model in training: the guard's, and those that grpo practises."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from simkit.run.tuning import fast_loop
from simkit.search.base import WorkUnit
from simkit.search.tree import together
from simkit.training.dev import ConversationSetup, DevGoals, DevScore, opened, play_dev
from simkit.training.groups import PlayedBranch, ReplyCollector, play_group

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat
    from simkit.models.base import ChatModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PracticeRequest:
    """Conversations that one process needs at a step of grpo.

    Attributes:
        step: optimizer step; `first` is the number of its first group among all groups of the training.
        tasks: ids of the tasks, one for each group.
        size: conversations of a group.
        temperature: sampling temperature of the model in training.
        seed: seed of the training.
    """

    step: int
    first: int
    tasks: tuple[str, ...]
    size: int
    temperature: float
    seed: int


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
        return anyio.run(self._practise, place, model, asked, backend_options={"loop_factory": fast_loop()})

    async def _practise(self, place: ConversationSetup, model: ChatModel, asked: PracticeRequest) -> list[PlayedBranch]:
        collector, known = ReplyCollector(model), {task.id: task for task in place.chosen()}
        async with opened(place, collector, asked.temperature) as cast:
            units = [
                WorkUnit("practice", asked.seed, known[name], asked.first + number)
                for number, name in enumerate(asked.tasks)
            ]
            calls = [lambda unit=unit: play_group(cast, unit, place.limits, asked.size, collector) for unit in units]
            groups = await together(calls)
        return [branch for group in groups for branch in group]


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
