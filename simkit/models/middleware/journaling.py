"""Recording of every attempt of a model."""

from __future__ import annotations

from dataclasses import dataclass

from simkit.core.events import ModelCall
from simkit.core.ids import branch_id, episode_id
from simkit.core.limits import Clock
from simkit.core.messages import JsonText
from simkit.core.recorder import Recorder
from simkit.errors import ModelFault, TokensUsed
from simkit.models.base import (
    CallKey,
    ChatModel,
    ChatRequest,
    ChatResponse,
    ModelWrapper,
    Usage,
    request_hash,
    settings_json,
)
from simkit.models.middleware.budget import CUT_SHORT, cut_short
from simkit.models.middleware.request_digest import request_digest, whole_request


class RecordedModel(ModelWrapper):
    """Passes calls to `model` and records each attempt with `recorder`, including failed and cancelled ones.

    It belongs inside the retries, so that each attempt is recorded. With `bodies=False` a request is recorded as
    digests of its messages and tools, which saves most of the space and still allows replay. With `free=True` calls
    are recorded without a cost: the calls of a replay were paid by the original run.
    """

    def __init__(
        self,
        model: ChatModel,
        recorder: Recorder,
        run_id: str,
        *,
        bodies: bool = True,
        free: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(model)
        self._recorder = recorder
        self._run_id = run_id
        self._bodies = bodies
        self._free = free
        self._clock = clock or Clock()

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer, recorded. Exceptions are recorded and raised again."""
        attempt = _Attempt(self._clock.now(), self._clock.timer(), request)
        try:
            response = await self._model.complete(request, key)
        except Exception as error:
            used = error.usage if isinstance(error, ModelFault) and error.usage else None
            self._record(key, attempt, None, f"{type(error).__name__}: {error}", used)
            raise
        except BaseException:
            self._record(key, attempt, None, "cancelled")
            raise
        self._record(key, attempt, response, None)
        return response

    def _record(
        self,
        key: CallKey,
        attempt: _Attempt,
        response: ChatResponse | None,
        error: str | None,
        used: TokensUsed | None = None,
    ) -> None:
        usage = response.usage if response else Usage() if used is None else Usage(*used)
        request, settings = attempt.request, settings_json(attempt.request)
        if response is not None and cut_short(request, response):
            response, error = None, CUT_SHORT
        episode = episode_id(self._run_id, key.turn.task_id, key.turn.trial)
        self._recorder.record(
            ModelCall(
                episode_id=episode,
                branch_id=branch_id(episode, key.turn.path, key.turn.turn),
                role=key.role,
                step=key.call,
                attempt=key.attempt,
                model=self.name,
                request_hash=request_hash(self.name, request, settings),
                request=whole_request(request, self.name)
                if self._bodies
                else request_digest(request, self.name, settings),
                response=JsonText(response.json_text()) if response else None,
                error=error,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cost=0.0 if self._free else usage.cost,
                seconds=self._clock.timer() - attempt.started,
                at=attempt.at,
            )
        )


@dataclass(frozen=True, slots=True)
class _Attempt:
    at: float
    started: float
    request: ChatRequest
