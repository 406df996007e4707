"""The contract of model providers. An entry point of the group `simkit.models` names the class of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Literal, Protocol, TypeVar, cast

from simkit.errors import UsageError
from simkit.models.base import ChatModel
from simkit.models.config import Adaptive, ModelConfig
from simkit.models.prices import Price, Prices
from simkit.plugins.loading import Kind, available, find_class, load

GROUP = "simkit.models"


class Closable(Protocol):
    """A resource that is closed at the end of a run."""

    async def aclose(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=Closable)


class Resources:
    """Resources that the models of a run share: connections, loaded weights. The run closes them at its end."""

    def __init__(self) -> None:
        self._open: dict[Hashable, Closable] = {}

    def __len__(self) -> int:
        return len(self._open)

    def shared(self, key: Hashable, open_it: Callable[[], C]) -> C:
        """The resource of that key, opened when it is asked for first."""
        if key not in self._open:
            self._open[key] = open_it()
        return cast("C", self._open[key])

    async def aclose(self) -> None:
        """Close them all."""
        for resource in self._open.values():
            await resource.aclose()
        self._open.clear()


class Provider(ABC):
    """One model of a provider: how it is opened, and what a run needs to know to limit, price and record its calls.

    A replay asks for the `model_name` only: read keys and open connections in `open` and `endpoint`, not before.

    Attributes:
        argument: what a user writes behind the slash of `PROVIDER/...`, for the list of components.
        checks_itself: whether its models bound their own time, raise no error but a `ModelFault` and report a usage
            that can be counted. Those of other providers are wrapped, so that they do.

    Args:
        spec: the model as the user wrote it, `PROVIDER/NAME`.
        config: its configuration. Sampling options are in the requests already, which is where to read them.

    Raises:
        UsageError: there can be no such model.
    """

    argument: ClassVar[str] = "NAME"
    checks_itself: ClassVar[bool] = False

    def __init__(self, spec: str, config: ModelConfig) -> None:
        self.spec = spec
        self.name = spec.partition("/")[2]
        self.config = config

    @property
    def model_name(self) -> str:
        """The name under which calls are recorded and replayed; that of the opened model must be the same."""
        return self.spec

    @property
    def price(self) -> Price | None:
        """Price of a token; None when it is not known. From the price files, by the name behind the slash."""
        return Prices.load(self.config.prices).find(self.name)

    @property
    def endpoint(self) -> Hashable:
        """Models with an equal one share limits, rates and health. None for a model without limits and retries."""
        return self.model_name

    @property
    def concurrency(self) -> int | Literal["adaptive"] | Adaptive:
        """Concurrent calls to the endpoint."""
        return self.config.api_concurrency

    @abstractmethod
    def open(self, resources: Resources) -> ChatModel:
        """The model, inside the run's event loop; what it shares with others comes from `resources`.

        Raises:
            UsageError: a key or a package is missing, or an option cannot be used.
        """


class OwnModel(Provider):
    """A user's own `ChatModel`, as `path/to/file.py:Class` or `package.module:Class`, options after commas."""

    def __init__(self, spec: str, config: ModelConfig) -> None:
        super().__init__(spec, config)
        built = cast("Any", load(Kind("model", GROUP, object), spec))
        if not (callable(getattr(built, "complete", None)) and isinstance(getattr(built, "name", None), str)):
            raise UsageError(f"`{spec}` is not a model: it needs a `name` and `async def complete(request, key)`")
        self._model: ChatModel = built
        self.name = built.name

    @property
    def model_name(self) -> str:
        """The name that the model has itself."""
        return self._model.name

    @property
    def endpoint(self) -> Hashable:
        """One for each way of naming it."""
        return self.spec

    def open(self, resources: Resources) -> ChatModel:
        """The model."""
        return self._model


PROVIDER = Kind("model provider", GROUP, Provider)


def find_provider(spec: str, config: ModelConfig) -> Provider:
    """The provider of the model that `spec` names.

    Raises:
        UsageError: there is no such model.
    """
    prefix, _, name = spec.partition("/")
    if name and prefix in available(GROUP):
        return find_class(PROVIDER, prefix)(spec, config)
    if names_code(spec):
        return OwnModel(spec, config)
    installed = ", ".join(available(GROUP)) or "none, because the installation of simkit is incomplete: reinstall it"
    raise UsageError(
        f"`{spec}` names no model; write openai/NAME for any OpenAI-compatible endpoint (openai/gpt-4o), local/PATH "
        "for a model in this process, scripted/TEXT, or path/to/file.py:Class for your own. Installed providers: "
        f"{installed}"
    )


def names_code(spec: str) -> bool:
    """Whether a model is named by a Python file or module that is imported, and not by an installed provider."""
    prefix, slash, _ = spec.partition("/")
    return not (slash and prefix in available(GROUP)) and (".py" in spec or ":" in spec)
