"""Builds a model from its name and configuration, wrapped in the layers that a run needs.

The layers, outermost first, each with the condition under which it is present:

    AcknowledgedModel        returns an answer once it is in the journal; in a run (`run_models`)
    SampledModel             fills in sampling options; if the configuration has any
    ReusingModel             answers equal requests that are `reusable` once; in a run
    ReplayedModel            answers from a recording; on resume and replay
    BudgetedModel            reserves tokens and money, ends calls when the run's time is up; with a budget
    ConcurrencyLimitedModel  enforces the concurrency limit; if the provider names an endpoint
    RetryingModel            retries failed attempts; if the provider names an endpoint
    MeteredModel             counts calls; if the provider names no endpoint
    RateLimitedModel         limits requests and tokens per minute; with --rpm or --tpm
    RecordedModel            records each attempt; with a recorder
    IsolatedModel            ends a call after --request-timeout; unless the provider does
    ValidatedModel           checks the answer and its usage; unless the provider does
    the provider's model

A replay opens no provider. Its layers are AcknowledgedModel, SampledModel, RecordedModel and ReplayedModel.
"""

from __future__ import annotations

import resource
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import anyio

from simkit.core.limits import Clock
from simkit.core.recorder import Recorder
from simkit.errors import UsageError
from simkit.models.adjustments import LearnedAdjustments
from simkit.models.base import ChatModel, SampledModel
from simkit.models.config import Adaptive, ModelConfig
from simkit.models.middleware.budget import Budget, BudgetedModel
from simkit.models.middleware.concurrency_limit import ConcurrencyLimit, ConcurrencyLimitedModel
from simkit.models.middleware.isolation import IsolatedModel
from simkit.models.middleware.journaling import RecordedModel
from simkit.models.middleware.leases import WorkerLeases, endpoint_name
from simkit.models.middleware.lending import EndpointAccounts
from simkit.models.middleware.metrics import CallMetrics, Health, MeteredModel
from simkit.models.middleware.rate_limit import RateLimitedModel, RateLimits
from simkit.models.middleware.replay import Recording, ReplayedModel
from simkit.models.middleware.retry import RetryingModel
from simkit.models.middleware.reuse import AnswerMemory, ReusingModel
from simkit.models.provider import Provider, Resources, find_provider
from simkit.models.usage import ValidatedModel


class ModelHost(Protocol):
    """Another process, which holds models instead of this one."""

    def model(self, provider: Provider) -> ChatModel | None:
        """The model of a provider that the other process holds; None if this process opens it.

        Raises:
            UsageError: as `Provider.open`.
        """
        ...

    async def load(self, provider: Provider) -> bool:
        """Load the model of a provider there, so that `model` need not wait; False if this process opens it.

        Raises:
            UsageError: as `Provider.load`.
        """
        ...


KEPT_FILES = 128
"""File descriptors reserved for everything except connections to models."""


@dataclass(frozen=True, slots=True)
class EndpointState:
    """Limits and state that the models of one endpoint and key share."""

    concurrency: ConcurrencyLimit
    rates: RateLimits | None
    health: Health


class Endpoints:
    """The endpoints of a run: connections, limits and health, one set for each endpoint and key.

    Open one per run, inside its event loop, and pass it to every `open_model` call. The first model at an endpoint
    determines its limits. `metrics` counts all calls. In a worker, `leases` holds the limits. `host` is another process
    that holds models.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        learned: LearnedAdjustments | None = None,
        leases: WorkerLeases | None = None,
        host: ModelHost | None = None,
    ) -> None:
        self.metrics = CallMetrics()
        self.clock = clock or Clock()
        self.resources = Resources(learned)
        self.host = host
        self._leases = leases
        self._shared: dict[Hashable, EndpointState] = {}

    async def __aenter__(self) -> Endpoints:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections and workers."""
        with anyio.move_on_after(5, shield=True):  # bounded: a cancelled run closes its connections too
            await self.resources.aclose()
        self._shared.clear()

    def shared(self, provider: Provider) -> EndpointState | None:
        """Limits and state that a model shares with the others at its endpoint; None for a model without an endpoint.

        Raises:
            UsageError: a limit cannot be used, or the endpoint's key is missing.
        """
        endpoint, config = provider.endpoint, provider.config
        if endpoint is None:
            return None
        if endpoint not in self._shared:
            limit = _within_files(provider.concurrency)
            bounded = config.rpm is not None or config.tpm is not None
            leases = self._leases
            if leases is None:
                gate = ConcurrencyLimit(limit, self.metrics, self.clock)
                rates = RateLimits(rpm=config.rpm, tpm=config.tpm, clock=self.clock) if bounded else None
            else:
                gate = leases.concurrency(endpoint, limit, self.metrics)
                rates = leases.rates(endpoint, config.rpm, config.tpm) if bounded else None
            self._shared[endpoint] = EndpointState(concurrency=gate, rates=rates, health=Health())
            self.metrics.endpoints.append(self._shared[endpoint].health)
        return self._shared[endpoint]

    def accounts(self) -> dict[str, EndpointAccounts]:
        """The limits of all endpoints by name, to lend to workers."""
        return {
            endpoint_name(endpoint): EndpointAccounts(state.concurrency, state.rates)
            for endpoint, state in self._shared.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelContext:
    """Context that a run provides to its models.

    Attributes:
        recorder, run_id: the recorder of their calls, and the run's id.
        budget: shared by the models of the run.
        recording: calls that were answered before.
        strict: whether a call missing from the recording is an error; no provider is opened then.
        memory: answers that serve equal requests; None to make each.
    """

    recorder: Recorder | None = None
    run_id: str = ""
    budget: Budget | None = None
    recording: Recording | None = None
    strict: bool = False
    memory: AnswerMemory | None = None


@asynccontextmanager
async def open_model(
    spec: str,
    config: ModelConfig | None = None,
    context: ModelContext | None = None,
    *,
    endpoints: Endpoints | None = None,
) -> AsyncGenerator[ChatModel]:
    """The model that `spec` names, with the layers that a run needs. It is open as long as the block.

    Args:
        spec: `PROVIDER/NAME` with an installed provider: `openai/NAME` (any OpenAI-compatible endpoint),
            `anthropic/NAME` (Anthropic's Messages API), `local/PATH`
            (in this process, options after commas), `scripted/TEXT|TEXT` or `scripted/FILE.json` (an answer for each
            turn); or `path/to/file.py:Class` (your own `ChatModel`, options after commas).
        config: endpoint, sampling and limits.
        context: the recorder, budget and recording of the run.
        endpoints: those of the run; None for a separate set.

    Raises:
        UsageError: the name, the configuration or the environment cannot be used.
    """
    if endpoints is not None:
        yield build_model(spec, config, context, endpoints=endpoints)
        return
    async with Endpoints() as own:
        yield build_model(spec, config, context, endpoints=own)


def build_model(
    spec: str, config: ModelConfig | None = None, context: ModelContext | None = None, *, endpoints: Endpoints
) -> ChatModel:
    """Like `open_model`, for models that share endpoints which the caller keeps open.

    Raises:
        UsageError: the name, the configuration or the environment cannot be used.
    """
    config, context = config or ModelConfig(), context or ModelContext()
    provider = find_provider(spec, config)
    build = _replayed if context.strict else _opened
    model = build(provider, context, endpoints)
    return SampledModel(model, config.sampling) if config.sampling.model_fields_set else model


async def load_model(
    spec: str, config: ModelConfig | None = None, context: ModelContext | None = None, *, endpoints: Endpoints
) -> None:
    """Load what `build_model` would otherwise load in the event loop; a replay needs nothing.

    Raises:
        UsageError: the name, the configuration or the environment cannot be used.
    """
    provider = find_provider(spec, config or ModelConfig())
    if context is not None and context.strict:
        return
    if endpoints.host is None or not await endpoints.host.load(provider):
        await provider.load(endpoints.resources)


def _replayed(provider: Provider, context: ModelContext, endpoints: Endpoints) -> ChatModel:
    recording = Recording(context.run_id) if context.recording is None else context.recording
    model = ReplayedModel(recording, name=provider.model_name, metrics=endpoints.metrics)
    return _recorded(model, provider, context, endpoints.clock)


def _opened(provider: Provider, context: ModelContext, endpoints: Endpoints) -> ChatModel:
    shared, clock = endpoints.shared(provider), endpoints.clock
    held = None if endpoints.host is None else endpoints.host.model(provider)
    model = provider.open(endpoints.resources) if held is None else held
    if not provider.checks_itself:
        model = IsolatedModel(ValidatedModel(model), provider.config.request_timeout)
    model = _recorded(model, provider, context, clock)
    if shared is None:
        model = MeteredModel(model, endpoints.metrics)
    else:
        model = model if shared.rates is None else RateLimitedModel(model, shared.rates)
        policy, metrics = provider.config.retry_policy, endpoints.metrics
        model = RetryingModel(
            model,
            policy,
            health=shared.health,
            metrics=metrics,
            concurrency=shared.concurrency,
            budget=context.budget,
            clock=clock,
        )
        model = ConcurrencyLimitedModel(model, shared.concurrency)
    if context.budget is not None:
        model = BudgetedModel(model, context.budget, provider.price)
    if context.recording is not None:
        model = ReplayedModel(context.recording, model, metrics=endpoints.metrics)
    return model if context.memory is None else _reusing(model, context.memory, provider, context, clock)


def _reusing(
    model: ChatModel, memory: AnswerMemory, provider: Provider, context: ModelContext, clock: Clock
) -> ChatModel:
    bodies = provider.config.record_requests
    return ReusingModel(
        model,
        memory,
        context.recording,
        recorder=context.recorder,
        run_id=context.run_id,
        bodies=bodies,
        clock=clock,
    )


def _recorded(model: ChatModel, provider: Provider, context: ModelContext, clock: Clock) -> ChatModel:
    if context.recorder is None:
        return model
    bodies = provider.config.record_requests
    return RecordedModel(model, context.recorder, context.run_id, bodies=bodies, free=context.strict, clock=clock)


def _within_files(wanted: int | Literal["adaptive"] | Adaptive) -> int | Adaptive:
    """The limit, bounded by the connections that this process may open.

    Raises:
        UsageError: a fixed limit exceeds that bound.
    """
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    room = 1 << 20 if room == resource.RLIM_INFINITY else max(8, room - KEPT_FILES)
    if wanted == "adaptive":
        return Adaptive(start=min(64, room), most=min(4096, room))
    if isinstance(wanted, int) and wanted > room:
        raise UsageError(
            f"--api-concurrency {wanted} needs more connections than this process may open ({room}); raise "
            f"`ulimit -n` to {wanted + KEPT_FILES}, or lower it"
        )
    return wanted
