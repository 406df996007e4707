"""The contract of model providers. Each provider class is registered as an entry point in the group `simkit.models`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Literal, Protocol, TypeVar, cast

import anyio.to_thread

from simkit.errors import UsageError
from simkit.models.adjustments import LearnedAdjustments
from simkit.models.base import ChatModel
from simkit.models.config import Adaptive, ModelConfig
from simkit.models.prices import Price, Prices
from simkit.plugins.loading import ComponentKind, available, find_class, load

GROUP = "simkit.models"


class Closable(Protocol):
    """A resource that the run closes when it ends."""

    async def aclose(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=Closable)


class Resources:
    """Resources that the models of a run share: connections, loaded weights. The run closes them when it ends.

    `learned` holds what the run has learned about the requests that its endpoints accept.
    """

    def __init__(self, learned: LearnedAdjustments | None = None) -> None:
        self.learned = learned or LearnedAdjustments()
        self._open: dict[Hashable, Closable] = {}

    def __len__(self) -> int:
        return len(self._open)

    def shared(self, key: Hashable, open_it: Callable[[], C]) -> C:
        """The resource for that key, opened on first use."""
        if key not in self._open:
            self._open[key] = open_it()
        return cast("C", self._open[key])

    async def load(self, key: Hashable, open_it: Callable[[], Closable]) -> None:
        """Open the resource for that key in a worker thread, unless it is open.

        If this is cancelled, the thread is left to itself, and what it opens is dropped.
        """
        if key not in self._open:
            self._open[key] = await anyio.to_thread.run_sync(open_it, abandon_on_cancel=True)

    async def aclose(self) -> None:
        """Close all resources."""
        for resource in self._open.values():
            await resource.aclose()
        self._open.clear()


class Provider(ABC):
    """One model of a provider: opens it, and tells a run how to limit, price and record its calls.

    A replay reads only `model_name`: read keys and open connections in `open` and `endpoint`, not earlier.

    Attributes:
        argument: placeholder for the part after the slash of `PROVIDER/...`, shown in the list of components.
        checks_itself: whether its models enforce the request timeout, raise only `ModelFault` errors and report a
            valid usage. Models of other providers are wrapped to guarantee this.
        shared: whether a machine should hold its models only once: the driver of a run serves them to its workers.

    Args:
        spec: the model as the user wrote it, `PROVIDER/NAME`.
        config: its configuration. Read sampling options from the requests, which already include them.

    Raises:
        UsageError: the model cannot exist.
    """

    argument: ClassVar[str] = "NAME"
    checks_itself: ClassVar[bool] = False
    shared: ClassVar[bool] = False

    def __init__(self, spec: str, config: ModelConfig) -> None:
        self.spec = spec
        self.name = spec.partition("/")[2]
        self.config = config

    @property
    def model_name(self) -> str:
        """The name under which calls are recorded and replayed. The opened model must have the same name."""
        return self.spec

    @property
    def price(self) -> Price | None:
        """Price per token from the price files, by the name after the slash; None if unknown."""
        return Prices.load(self.config.prices).find(self.name)

    @property
    def endpoint(self) -> Hashable:
        """Endpoint key. Models with equal keys share limits, rates and health; None means no limits and no retries."""
        return self.model_name

    @property
    def concurrency(self) -> int | Literal["adaptive"] | Adaptive:
        """Concurrency limit of the endpoint."""
        return self.config.api_concurrency

    async def load(self, resources: Resources) -> None:
        """Do what takes long and `open` depends on, such as reading weights, without blocking the event loop.

        Callers that can wait await this before `open`. It may be cancelled. By default there is nothing to do.

        Raises:
            UsageError: as `open`.
        """
        return

    @abstractmethod
    def open(self, resources: Resources) -> ChatModel:
        """Open the model inside the run's event loop. Shared parts come from `resources`.

        Raises:
            UsageError: a key or a package is missing, or an option is invalid.
        """


class CustomModel(Provider):
    """A user's own `ChatModel`, as `path/to/file.py:Class` or `package.module:Class`, options after commas."""

    def __init__(self, spec: str, config: ModelConfig) -> None:
        super().__init__(spec, config)
        built = cast("Any", load(ComponentKind("model", GROUP, object), spec))
        if not (callable(getattr(built, "complete", None)) and isinstance(getattr(built, "name", None), str)):
            raise UsageError(f"`{spec}` is not a model: it needs a `name` and `async def complete(request, key)`")
        self._model: ChatModel = built
        self.name = built.name

    @property
    def model_name(self) -> str:
        """The model's own name."""
        return self._model.name

    @property
    def endpoint(self) -> Hashable:
        """The spec: each spelling of it is a separate endpoint."""
        return self.spec

    def open(self, resources: Resources) -> ChatModel:
        """The model."""
        return self._model


PROVIDER = ComponentKind("model provider", GROUP, Provider)


def find_provider(spec: str, config: ModelConfig) -> Provider:
    """The provider of the model that `spec` names.

    Raises:
        UsageError: the model does not exist.
    """
    prefix, _, name = spec.partition("/")
    if name and prefix in available(GROUP):
        return find_class(PROVIDER, prefix)(spec, config)
    if names_code(spec):
        return CustomModel(spec, config)
    installed = ", ".join(available(GROUP)) or "none, because the installation of simkit is incomplete: reinstall it"
    raise UsageError(
        f"`{spec}` names no model; write openai/NAME for any OpenAI-compatible endpoint (openai/gpt-4o), "
        "anthropic/NAME for Anthropic's Messages API, local/PATH for a model in this process, scripted/TEXT, or "
        f"path/to/file.py:Class for your own. Installed providers: {installed}"
    )


def names_code(spec: str) -> bool:
    """Whether a spec names a Python file or module to import rather than an installed provider."""
    prefix, slash, _ = spec.partition("/")
    return not (slash and prefix in available(GROUP)) and (".py" in spec or ":" in spec)
