"""Trainings in this process, and conversations with a model, inside a run that plays and records them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

from simkit.core.messages import AssistantMessage, UserMessage
from simkit.data.examples import ExampleSet, SftExample
from simkit.models.base import ChatModel
from simkit.models.config import ModelConfig
from simkit.run.run import Run
from simkit.run.served_models import serving
from simkit.training.dev import POLICY, ConversationSetup, DevScore
from simkit.training.groups import PlayedBranch
from simkit.training.guard import Guard
from simkit.training.jobs import TrainingJob, TrainingMetrics, TrainingResult
from simkit.training.play import LookRequest, PracticeRequest, WithPolicy
from simkit.training.process import Answer
from simkit.training.recorded import recorded_conversations

EXAMPLES = ExampleSet("sft", (SftExample(messages=(UserMessage.of("a"), AssistantMessage.of("b")), tools=()),))


def job(**more: Any) -> TrainingJob:
    """A job with a guard or with practice, which is not carried out."""
    values: dict[str, Any] = {"method": "grpo"} if "practice" in more else {"method": "sft", "examples": EXAMPLES}
    return TrainingJob(model="m", out=Path("out"), **values, **more)


@asynccontextmanager
async def conversations(
    store: Path, asked: TrainingJob, model: ChatModel, models: ModelConfig | None = None
) -> AsyncGenerator[Callable[[LookRequest | PracticeRequest], Any]]:
    """Conversations of a training with a model, as its processes ask for them."""
    async with (
        Run(store=store, recipe="train_sft", models=models) as run,
        serving({POLICY: model}) as places,
        recorded_conversations(run, asked) as answer,
    ):
        yield lambda request: answer(WithPolicy(request, places[POLICY]))


async def looked(store: Path, place: ConversationSetup, model: ChatModel) -> DevScore:
    """The score of a model on dev goals."""
    async with conversations(store, job(guard=Guard(place=place)), model) as ask:
        return await ask(LookRequest(0))


async def practised(
    store: Path, place: ConversationSetup, model: ChatModel, size: int, temperature: float = 1.0
) -> list[PlayedBranch]:
    """The branches of one group, on the first task of a place."""
    tasks = (place.chosen()[0].id,)
    async with conversations(store, job(practice=place), model) as ask:
        return await ask(PracticeRequest(step=0, rank=0, tasks=tasks, size=size, temperature=temperature))


def trained(store: Path, asked: TrainingJob, heard: Callable[[TrainingMetrics], object] = print) -> TrainingResult:
    """Train in this process, with conversations that a run plays."""
    return anyio.run(trained_by, train_here, store, asked, heard)


async def trained_by(
    start: Callable[[TrainingJob, Answer], Any],
    store: Path,
    asked: TrainingJob,
    heard: Callable[[TrainingMetrics], object],
) -> TrainingResult:
    """Train by `train_in_process`, or another function like it, inside a run."""
    async with Run(store=store, recipe="train_sft") as run, recorded_conversations(run, asked) as answer:

        async def told(message: Any) -> Any:
            return heard(message) if isinstance(message, TrainingMetrics) else await answer(message)

        return await start(asked, told)


async def train_here(asked: TrainingJob, answer: Answer) -> TrainingResult:
    """What `train_in_process` does, but for the process of its own."""
    from simkit.training.trainer import train

    async def answered(message: Any) -> Any:
        return await answer(message)

    return await anyio.to_thread.run_sync(train, asked, partial(anyio.from_thread.run, answered))
