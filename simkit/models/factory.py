"""A model from its name and options, with everything around it that a run needs.

Outermost first: record/replay -> budget -> concurrency limit -> retry -> rates -> recorder -> provider.
"""

from __future__ import annotations

import os
import resource
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import anyio
import orjson
from pydantic import SecretStr

from simkit.core.events import Recorder
from simkit.errors import UsageError
from simkit.local.model import LocalModel
from simkit.local.worker import Workers
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Sampling
from simkit.models.clock import Clock
from simkit.models.middleware.budget import Budget, BudgetedModel
from simkit.models.middleware.concurrency_limit import Adaptive, Gate, LimitedModel
from simkit.models.middleware.foreign import ForeignModel
from simkit.models.middleware.journaling import RecordedModel
from simkit.models.middleware.metrics import Meter
from simkit.models.middleware.rate_limit import RatedModel, Rates
from simkit.models.middleware.replay import Recording, ReplayedModel
from simkit.models.middleware.retry import Health, RetryingModel, RetryPolicy, Watching
from simkit.models.prices import Price, Prices
from simkit.models.providers.openai import OPENAI_URL, Endpoint, OpenAIModel
from simkit.models.providers.scripted import ScriptedModel
from simkit.models.transport.pool import HttpLimits
from simkit.models.transport.transports import HttpTransport, TransportChoice
from simkit.models.usage import BelievedModel
from simkit.plugins.loading import Kind, load, parse_reference

KEPT_FILES = 128
"""Open files left for everything but connections to models."""

_EVERYBODY = Adaptive(start=65536, most=65536)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """How to reach and treat a model; None stands for the environment's choice, or for no limit.

    Attributes:
        base_url: what `/chat/completions` is below; else OPENAI_BASE_URL, else OpenAI's own.
        api_key: else OPENAI_API_KEY; local servers need none.
        organization: else OPENAI_ORG_ID.
        sampling: choices for every request that does not make them itself.
        api_concurrency: calls under way at once to one endpoint with one key: a number, or "adaptive".
        rpm, tpm: requests and tokens a minute.
        request_timeout: seconds for one attempt.
        connect_timeout: seconds to connect.
        retry: how often and how long to ask again.
        prices: a file of prices over those that come with simkit.
        extra_body, headers: further fields and headers of every request.
        transport: how requests are sent; see `TransportChoice`.
        record_requests: whether the store keeps whole requests, or digests that still allow replay.
    """

    base_url: str | None = field(default=None, repr=False)
    api_key: SecretStr | None = None
    organization: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    api_concurrency: int | Literal["adaptive"] | Adaptive = "adaptive"
    rpm: float | None = None
    tpm: float | None = None
    request_timeout: float = 600.0
    connect_timeout: float = 10.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    prices: Path | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    transport: TransportChoice = "auto"
    record_requests: bool = False

    def endpoint(self, environment: Mapping[str, str] | None = None) -> Endpoint:
        """The endpoint these options and the environment name.

        Raises:
            UsageError: a timeout is not positive, or OpenAI's own endpoint is meant and there is no key.
        """
        env = os.environ if environment is None else environment
        for name, value in (("--request-timeout", self.request_timeout), ("the connect timeout", self.connect_timeout)):
            if not value > 0:
                raise UsageError(f"{name} is {value:g}; give a positive number of seconds")
        base_url = self.base_url or env.get("OPENAI_BASE_URL") or OPENAI_URL
        key = self.api_key or (SecretStr(env["OPENAI_API_KEY"]) if env.get("OPENAI_API_KEY") else None)
        if key is None and base_url.rstrip("/") == OPENAI_URL:
            raise UsageError(
                "there is no key for api.openai.com; set OPENAI_API_KEY, or name another endpoint with --base-url "
                "(http://localhost:8000/v1 for a local vLLM)"
            )
        limits = HttpLimits(connect=self.connect_timeout, request=self.request_timeout)
        organization = self.organization or env.get("OPENAI_ORG_ID") or None
        return Endpoint(
            base_url=base_url,
            api_key=key,
            organization=organization,
            headers=self.headers,
            limits=limits,
            transport=self.transport,
        )


@dataclass(frozen=True, slots=True)
class Shared:
    """What the models of one endpoint and key share."""

    gate: Gate
    rates: Rates | None
    health: Health
    transport: HttpTransport | None


class Endpoints:
    """The endpoints of a run: connections, limits and health, one set for each base URL and key.

    Open one per run, inside its event loop, and give it to every `open_model`; the first model at an endpoint decides
    its limits. `meter` counts the calls of all of them.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.meter = Meter()
        self.clock = clock or Clock()
        self._shared: dict[tuple[str, str], Shared] = {}
        self.workers = Workers()

    async def __aenter__(self) -> Endpoints:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.move_on_after(5, shield=True):  # bounded: a cancelled run closes its connections too
            for shared in self._shared.values():
                if shared.transport is not None:
                    await shared.transport.aclose()
            await self.workers.aclose()
        self._shared.clear()

    def at(self, place: str, options: ModelOptions, endpoint: Endpoint | None = None) -> Shared:
        """What is shared at a place: an endpoint, or a model of the user's own."""
        name = (endpoint.base_url.rstrip("/"), endpoint.secret) if endpoint else (place, "")
        if name not in self._shared:
            limit = _within_files(options.api_concurrency)
            bounded = options.rpm is not None or options.tpm is not None
            self._shared[name] = Shared(
                gate=Gate(limit, self.meter, self.clock),
                rates=Rates(rpm=options.rpm, tpm=options.tpm, clock=self.clock) if bounded else None,
                health=Health(),
                transport=endpoint.open() if endpoint else None,
            )
        return self._shared[name]


@asynccontextmanager
async def open_model(
    spec: str,
    options: ModelOptions | None = None,
    *,
    recorder: Recorder | None = None,
    run_id: str = "",
    budget: Budget | None = None,
    recording: Recording | None = None,
    strict: bool = False,
    endpoints: Endpoints | None = None,
) -> AsyncGenerator[ChatModel]:
    """The model that `spec` names, with all that a run needs around it; it lives as long as the block.

    Args:
        spec: `openai/NAME` (any OpenAI-compatible endpoint), `local/PATH` (in this process, options after commas),
            `scripted/TEXT|TEXT` or `scripted/FILE.json` (an answer for each turn), or `path/to/file.py:Class` (your
            own `ChatModel`, options after commas).
        options: how to reach and treat it.
        recorder, run_id: where its calls are recorded, and under which run.
        budget: the run's, shared by its models.
        recording: calls that were answered before.
        strict: a call that is not in the recording is an error, and nothing is asked over the network.
        endpoints: the run's, shared by its models; a set of its own when None.

    Raises:
        UsageError: the name, the options or the environment cannot be used.
    """
    async with _endpoints(endpoints) as shared:
        yield build_model(
            spec,
            options,
            recorder=recorder,
            run_id=run_id,
            budget=budget,
            recording=recording,
            strict=strict,
            endpoints=shared,
        )


def build_model(
    spec: str,
    options: ModelOptions | None = None,
    *,
    endpoints: Endpoints,
    recorder: Recorder | None = None,
    run_id: str = "",
    budget: Budget | None = None,
    recording: Recording | None = None,
    strict: bool = False,
) -> ChatModel:
    """The same for models that share endpoints somebody else keeps open; see `open_model`.

    Raises:
        UsageError: the name, the options or the environment cannot be used.
    """
    options = options or ModelOptions()
    base = _Base.of(spec, options, None if strict else endpoints)
    model: ChatModel = _record(base.model, recorder, run_id, options, endpoints.clock)
    if strict:
        replayed = ReplayedModel(recording or Recording(run_id), name=base.name, meter=endpoints.meter)
        model = _record(replayed, recorder, run_id, options, endpoints.clock, free=True)
    else:
        model = _around(model, base, options, endpoints)
        model = model if budget is None else BudgetedModel(model, budget, base.price, options.extra_body)
        model = model if recording is None else ReplayedModel(recording, model, meter=endpoints.meter)
    return model if options.sampling == Sampling() else PreparedModel(model, options.sampling)


class PreparedModel:
    """Asks `model` with choices for whatever a request leaves open."""

    def __init__(self, model: ChatModel, sampling: Sampling) -> None:
        self._model = model
        self._sampling = sampling

    @property
    def name(self) -> str:
        """The name of the model that answers."""
        return self._model.name

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer; raises what it raises."""
        if request.sampling is self._sampling:
            return await self._model.complete(request, key)
        sampling = request.sampling.over(self._sampling)
        return await self._model.complete(replace(request, sampling=sampling), key)


@dataclass(frozen=True, slots=True)
class _Base:
    """The innermost model, what it costs, and what it shares with others (None for a script, which needs nothing)."""

    model: ChatModel
    name: str
    price: Price | None = None
    shared: Shared | None = None

    @classmethod
    def of(cls, spec: str, options: ModelOptions, endpoints: Endpoints | None) -> _Base:
        provider, slash, name = spec.partition("/")
        match provider:
            case "openai" if slash and name:
                return cls._openai(name, options, endpoints)
            case "local" if slash and name:
                return cls._local(name, options, endpoints)
            case "scripted" if slash and name:
                return cls(_scripted(name), f"scripted/{name}", Price(input=0, output=0))
            case _ if ".py" in spec or ":" in spec:
                return cls._own(spec, options, endpoints)
            case _:
                raise UsageError(
                    f"`{spec}` names no model; write openai/NAME for any OpenAI-compatible endpoint (openai/gpt-4o), "
                    "local/PATH for a model in this process, scripted/TEXT, or path/to/file.py:Class for your own"
                )

    @classmethod
    def _openai(cls, name: str, options: ModelOptions, endpoints: Endpoints | None) -> _Base:
        prices = Prices.load(options.prices)
        if endpoints is None:
            return cls(ScriptedModel.in_order((), name=name), name, prices.find(name))
        endpoint = options.endpoint()
        shared = endpoints.at(name, options, endpoint)
        assert shared.transport is not None
        model = OpenAIModel(name, endpoint, shared.transport, prices=prices, extra_body=options.extra_body)
        return cls(model, name, prices.find(name), shared)

    @classmethod
    def _local(cls, name: str, options: ModelOptions, endpoints: Endpoints | None) -> _Base:
        free = Price(input=0, output=0)
        known = f"local/{parse_reference(name).target}"
        if endpoints is None:
            return cls(ScriptedModel.in_order((), name=known), known, free)
        if options.api_concurrency == "adaptive":  # the engine takes what fits; there is nobody to be gentle with
            options = replace(options, api_concurrency=_EVERYBODY)
        model = LocalModel(endpoints.workers.of(name), known)
        return cls(model, known, free, endpoints.at(known, options))

    @classmethod
    def _own(cls, spec: str, options: ModelOptions, endpoints: Endpoints | None) -> _Base:
        built = load(Kind("model", "simkit.models", object), spec)
        if not (callable(getattr(built, "complete", None)) and isinstance(getattr(built, "name", None), str)):
            raise UsageError(f"`{spec}` is no model: it needs a `name` and `async def complete(request, key)`")
        model = BelievedModel(cast("ChatModel", built))
        price = Prices.load(options.prices).find(model.name)
        model = ForeignModel(model, model.name, options.request_timeout)
        return cls(model, model.name, price, endpoints.at(spec, options) if endpoints else None)


def _scripted(name: str) -> ChatModel:
    if not name.endswith(".json"):
        return ScriptedModel.by_turn(name.split("|"), name=f"scripted/{name}")
    try:
        answers = orjson.loads(Path(name).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UsageError(f"the script {name} cannot be read: {error}; it must be a JSON list of texts") from error
    if not isinstance(answers, list) or not all(isinstance(each, str) for each in cast("list[object]", answers)):
        raise UsageError(f"the script {name} must be a JSON list of texts, one for each turn")
    return ScriptedModel.by_turn(cast("list[str]", answers), name=f"scripted/{name}")


def _record(
    model: ChatModel,
    recorder: Recorder | None,
    run_id: str,
    options: ModelOptions,
    clock: Clock,
    *,
    free: bool = False,
) -> ChatModel:
    if recorder is None:
        return model
    return RecordedModel(model, recorder, run_id, bodies=options.record_requests, free=free, clock=clock)


def _around(model: ChatModel, base: _Base, options: ModelOptions, endpoints: Endpoints) -> ChatModel:
    """Rates, retries and the concurrency limit, for a model that has an endpoint."""
    shared, clock = base.shared, endpoints.clock
    if shared is None:
        return model
    if shared.rates is not None:
        model = RatedModel(model, shared.rates)
    watching = Watching(endpoints.meter, shared.gate)
    model = RetryingModel(model, options.retry, health=shared.health, watching=watching, clock=clock)
    return LimitedModel(model, shared.gate)


def _within_files(wanted: int | Literal["adaptive"] | Adaptive) -> int | Adaptive:
    """The limit, within the connections that this process may open.

    Raises:
        UsageError: a fixed limit is more than that.
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


@asynccontextmanager
async def _endpoints(given: Endpoints | None) -> AsyncGenerator[Endpoints]:
    if given is not None:
        yield given
        return
    async with Endpoints() as own:
        yield own
