"""The models of a run. They share endpoints, budget and recording; an answer is returned once it is in the journal."""

from __future__ import annotations

import time
from dataclasses import dataclass

from simkit.actors.actor import current_job
from simkit.core.events import EndpointAdjusted
from simkit.core.recorder import Recorder
from simkit.models.adjustments import AGENT, Adjustment, EndpointModel, LearnedAdjustments
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, ModelWrapper
from simkit.models.config import ModelConfig
from simkit.models.factory import Endpoints, ModelContext, ModelHost, build_model, load_model
from simkit.models.middleware.budget import Allowances, Budget
from simkit.models.middleware.leases import WorkerLeases
from simkit.models.middleware.lending import Lender
from simkit.models.middleware.metrics import CallMetrics
from simkit.models.middleware.replay import Recording
from simkit.models.middleware.reuse import AnswerMemory
from simkit.models.provider import find_provider, names_code


@dataclass(frozen=True, slots=True)
class RecordedCalls:
    """Model calls with a recorded answer.

    A call missing from `recording` is made; with `strict` it is an error, and no network request is made.
    """

    recording: Recording
    strict: bool = False


class RunModels:
    """Builds the models of one run, inside its event loop. `aclose` closes their connections.

    Args:
        run_id, recorder: the run's id, and the recorder of its calls.
        allowances: the run's budget.
        recorded: calls that were answered before. Earlier usage of a resumed run counts against its allowances.
        leases: in a worker, the limits leased from the driver.
        host: another process that holds models, such as the driver of a worker.
        budget: that of another run, which this one shares.
    """

    def __init__(
        self,
        run_id: str,
        recorder: Recorder,
        allowances: Allowances,
        recorded: RecordedCalls | None = None,
        *,
        leases: WorkerLeases | None = None,
        host: ModelHost | None = None,
        budget: Budget | None = None,
    ) -> None:
        resumed = recorded is not None and not recorded.strict
        self._recorder = recorder
        spent = recorded.recording.usage if recorded and resumed else None
        own = Budget(allowances, spent=spent) if leases is None else leases.budget
        self.budget = own if budget is None else budget
        self._context = ModelContext(
            recorder=recorder,
            run_id=run_id,
            budget=self.budget,
            recording=recorded.recording if recorded else None,
            strict=recorded is not None and recorded.strict,
            memory=AnswerMemory(),
        )
        self._recorded = dict(recorded.recording.adjustments) if recorded else {}
        before = self._recorded if resumed else {}
        learned = LearnedAdjustments(dict(before), self._learned)
        self._endpoints = Endpoints(learned=learned, leases=leases, host=host)
        for place, known in before.items():
            for each in known:
                self._count(place, each)

    @property
    def learned(self) -> LearnedAdjustments:
        """Adjustments that the run has learned from its endpoints."""
        return self._endpoints.resources.learned

    @property
    def adjustments(self) -> dict[EndpointModel, tuple[Adjustment, ...]]:
        """All adjustments that are known: learned, or recorded by the run that is resumed or replayed."""
        return {**self._recorded, **self.learned.known}

    def shared_model(self, spec: str, config: ModelConfig) -> ChatModel | None:
        """The model itself, without the layers of a run, if a machine should hold it only once; else None."""
        provider = None if names_code(spec) else find_provider(spec, config)
        if provider is None or not provider.shared:
            return None
        host = self._endpoints.host
        held = None if host is None else host.model(provider)
        return provider.open(self._endpoints.resources) if held is None else held

    def lender(self) -> Lender:
        """Lends the limits of the run to workers."""
        return Lender(self.budget, self._endpoints.accounts())

    def _learned(self, place: EndpointModel, adjustment: Adjustment, reason: str) -> None:
        self._count(place, adjustment)
        self._recorder.record(EndpointAdjusted(self._context.run_id, *place, *adjustment, reason, time.time()))

    def _count(self, place: EndpointModel, adjustment: Adjustment) -> None:
        if adjustment.kind != AGENT:  # a note of the run says it
            self.metrics.adjustments.append(f"{place[1]}: {adjustment}")

    def recorded_agent(self, model: str) -> str | None:
        """The agent that the resumed or replayed run played with a model instead of the default one; None if none."""
        known = self._recorded.get((model, model), ())
        return next((each.sent_as for each in known if each.kind == AGENT), None)

    def record_agent(self, model: str, default: str, agent: str, reason: str) -> None:
        """Record that an agent plays a model instead of the default one."""
        self.learned.add((model, model), Adjustment(AGENT, default, agent), reason)

    async def aclose(self) -> None:
        """Close the connections of all models."""
        await self._endpoints.aclose()

    @property
    def metrics(self) -> CallMetrics:
        """Counters of the calls of all models."""
        return self._endpoints.metrics

    async def load(self, spec: str, config: ModelConfig) -> None:
        """Load the model of that name, if that takes long, so that `model` need not do it in the event loop.

        Raises:
            UsageError: the name, the configuration or the environment cannot be used.
        """
        await load_model(spec, config, self._context, endpoints=self._endpoints)

    def model(self, spec: str, config: ModelConfig) -> ChatModel:
        """The model of that name.

        Raises:
            UsageError: the name, the configuration or the environment cannot be used.
        """
        return AcknowledgedModel(build_model(spec, config, self._context, endpoints=self._endpoints), self._recorder)


class AcknowledgedModel(ModelWrapper):
    """Returns an answer only after it is in the journal: a call whose answer was acted on is never repeated.

    The time spent here does not count against the deadline of the calling component. Answers that wait at the same
    time share one write.
    """

    def __init__(self, model: ChatModel, recorder: Recorder) -> None:
        super().__init__(model)
        self._recorder = recorder

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer.

        Raises:
            StoreError: the journal could not be written.
        """
        job = current_job()
        if job is not None:
            job.held += 1  # model calls and journal writes have their own time limits
        try:
            response = await self._model.complete(request, key)
            await self._recorder.commit()
            return response
        finally:
            if job is not None:
                job.held -= 1
