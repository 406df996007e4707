"""Isolation of third-party models: their exceptions become faults, and a call that does not return times out."""

from __future__ import annotations

import anyio

from simkit.actors.actor import current_job
from simkit.core.boundary import boundary
from simkit.core.cancellation import prefer_cancellation
from simkit.errors import ModelFault, ModelTimeout
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper


class IsolatedModel(ModelWrapper):
    """Ends a call after a number of seconds, and turns every exception of the model into a `ModelFault`."""

    def __init__(self, model: ChatModel, seconds: float) -> None:
        super().__init__(model)
        self._seconds = seconds

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer.

        Raises:
            ModelTimeout: the model did not answer in time.
            ModelFault: the model raised an exception, or its answer is not a `ChatResponse`.
        """
        job = current_job()
        if job is not None and job.held:  # the caller's deadline applies again, in case the model ignores this timeout
            job.restart()
            job.held -= 1
            try:
                return await self._complete(request, key)
            finally:
                job.held += 1
        return await self._complete(request, key)

    async def _complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        with anyio.move_on_after(self._seconds) as scope:
            try:
                with boundary(ModelFault, f"model `{self.name}`"):
                    reply: object = await self._model.complete(request, key)
            except ModelFault:
                if scope.cancel_called:
                    await prefer_cancellation()
                raise
            return self._checked(reply)
        raise ModelTimeout(f"model `{self.name}` gave no answer within {self._seconds:g} s (--request-timeout)")

    def _checked(self, reply: object) -> ChatResponse:
        if not isinstance(reply, ChatResponse):
            raise ModelFault(f"model `{self.name}` answered with a {type(reply).__name__}; return a ChatResponse")
        return reply
