"""Answers that serve equal requests of a run: the verdict of a judge about the same content is asked for once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import CoroutineType
from typing import Any

import anyio

from simkit.core.limits import Clock
from simkit.core.recorder import Recorder
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper, Usage, request_hash
from simkit.models.middleware.journaling import RecordedModel
from simkit.models.middleware.replay import Recording


@dataclass(slots=True)
class AnswerMemory:
    """Answers to reusable requests by request hash, and requests in flight; one for each process of a run."""

    known: dict[str, ChatResponse] = field(default_factory=dict[str, ChatResponse])
    asked: dict[str, anyio.Event] = field(default_factory=dict[str, anyio.Event])


class ReusingModel(ModelWrapper):
    """Answers a request that is `reusable` with the answer to an equal one of the run, if there is one.

    Equal requests at the same time are made once. An answer that is taken over is recorded for its own key, without
    tokens and cost, so that a replay finds it wherever it is looked for.

    Args:
        model: answers all other requests.
        memory: the answers of the run so far.
        recording: calls of earlier starts of the run, whose answers are taken over too.
        recorder, run_id, bodies: as of `RecordedModel`; without a recorder nothing is recorded.
    """

    def __init__(
        self,
        model: ChatModel,
        memory: AnswerMemory,
        recording: Recording | None = None,
        *,
        recorder: Recorder | None = None,
        run_id: str = "",
        bodies: bool = True,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(model)
        self._memory = memory
        self._recording = recording
        self._taken: ChatModel = _Taken(self.name, memory)
        if recorder is not None:
            self._taken = RecordedModel(self._taken, recorder, run_id, bodies=bodies, free=True, clock=clock)

    def complete(self, request: ChatRequest, key: CallKey) -> CoroutineType[Any, Any, ChatResponse]:
        """The model's answer, or that to an equal request."""
        return self._reused(request, key) if request.reusable else self._model.complete(request, key)

    async def _reused(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        hashed, memory, recording = request_hash(self.name, request), self._memory, self._recording
        own = None if recording is None else recording.answer(key, hashed)
        if own is not None:  # the run has been here before
            memory.known[hashed] = own
            return await self._model.complete(request, key)
        while hashed in memory.asked:
            await memory.asked[hashed].wait()
        if hashed not in memory.known and recording is not None:
            earlier = recording.answer_to(hashed)
            if earlier is not None:
                memory.known[hashed] = earlier
        if hashed in memory.known:
            return await self._taken.complete(request, key)
        answered = memory.asked[hashed] = anyio.Event()
        try:
            response = memory.known[hashed] = await self._model.complete(request, key)
        finally:
            del memory.asked[hashed]
            answered.set()
        return response


class _Taken:
    """Answers from the memory alone, at no cost."""

    def __init__(self, name: str, memory: AnswerMemory) -> None:
        self.name = name
        self._memory = memory

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The known answer."""
        return replace(self._memory.known[request_hash(self.name, request)], usage=Usage())
