"""Where a run gets its models: they share endpoints, budget and recording, and an answer given out has been written."""

from __future__ import annotations

from dataclasses import dataclass

from simkit.actors.actor import current_job
from simkit.core.events import Recorder
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse
from simkit.models.factory import Endpoints, ModelOptions, build_model
from simkit.models.middleware.budget import Allowances, Budget
from simkit.models.middleware.metrics import Meter
from simkit.models.middleware.replay import Recording


@dataclass(frozen=True, slots=True)
class Known:
    """Model calls that need not be made: those of `recording`.

    A call that is not among them is asked, or, when `strict`, is an error and nothing is asked over the network.
    """

    recording: Recording
    strict: bool = False


class ModelDesk:
    """Gives out the models of one run; an async context manager, inside the run's event loop.

    Args:
        run_id, recorder: where calls are recorded, and under which run.
        allowances: what the run may use.
        known: calls that were answered before. What a resumed run has used already counts against its allowances.
    """

    def __init__(self, run_id: str, recorder: Recorder, allowances: Allowances, known: Known | None = None) -> None:
        self._run_id = run_id
        self._recorder = recorder
        self._known = known
        resumed = known is not None and not known.strict
        self._budget = Budget(allowances, spent=known.recording.usage if known and resumed else None)
        self._endpoints = Endpoints()

    async def __aenter__(self) -> ModelDesk:
        await self._endpoints.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._endpoints.__aexit__(*raised)

    @property
    def meter(self) -> Meter:
        """Counts the calls of all its models."""
        return self._endpoints.meter

    def model(self, spec: str, options: ModelOptions) -> ChatModel:
        """The model of that name.

        Raises:
            UsageError: the name, the options or the environment cannot be used.
        """
        known = self._known
        model = build_model(
            spec,
            options,
            endpoints=self._endpoints,
            recorder=self._recorder,
            run_id=self._run_id,
            budget=self._budget,
            recording=known.recording if known else None,
            strict=known.strict if known else False,
        )
        return AcknowledgedModel(model, self._recorder)


class AcknowledgedModel:
    """Answers as `model` does, once the answer is in the journal: what was acted upon is never asked again.

    Time spent here does not count against the deadline of the component that asks. All answers that wait at the same
    time share one write.
    """

    def __init__(self, model: ChatModel, recorder: Recorder) -> None:
        self._model = model
        self._recorder = recorder

    @property
    def name(self) -> str:
        """The name of the model that answers."""
        return self._model.name

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer; raises what it raises.

        Raises:
            StoreError: it could not be written.
        """
        job = current_job()
        if job is not None:
            job.held += 1  # what is waited for here has time limits of its own
        try:
            response = await self._model.complete(request, key)
            await self._recorder.commit()
            return response
        finally:
            if job is not None:
                job.held -= 1
