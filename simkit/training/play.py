"""What the processes of a training ask its run for: conversations with the model in training, which they serve."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anyio.from_thread import start_blocking_portal

from simkit.errors import UsageError
from simkit.run.contract import ServedModel
from simkit.run.served_models import serving
from simkit.training.dev import POLICY
from simkit.training.process import Ask

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat
    from simkit.models.base import ChatModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PracticeRequest:
    """Conversations that one process needs at a step of grpo.

    Attributes:
        step: optimizer step.
        rank: number of the process.
        tasks: ids of the tasks, one for each group.
        size: conversations of a group.
        temperature: sampling temperature of the model in training.
    """

    step: int
    rank: int
    tasks: tuple[str, ...]
    size: int
    temperature: float


@dataclass(frozen=True, slots=True)
class LookRequest:
    """A measurement by the guard at a step."""

    step: int


@dataclass(frozen=True, slots=True)
class WithPolicy:
    """A request for conversations, with the place where the model in training is served."""

    request: LookRequest | PracticeRequest
    policy: ServedModel


def played(request: LookRequest | PracticeRequest, model: Any, form: ChatFormat, ask: Ask) -> Any:
    """What came of the conversations that a process asks for: a `DevScore`, or the branches of groups in their order.

    Raises:
        UsageError: nobody plays; or another error of the run.
    """
    with (
        in_memory(model, form) as policy,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving({POLICY: policy})) as places,
    ):
        found = ask(WithPolicy(request, places[POLICY]))
    if found is None:
        raise UsageError(
            "nobody plays the conversations of this training; train with `simkit train`, or without guard and practice"
        )
    return found


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
