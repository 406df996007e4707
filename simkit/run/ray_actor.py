"""What runs in Ray's processes: a worker as an actor, and the actor that holds models for all workers of a run.

`RayActors` makes actors of these classes. Errors that callers must tell apart are returned as bytes instead of raised,
because Ray would wrap them.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import anyio

from simkit.errors import ModelFault, SimkitError, UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, lacks_for_tools
from simkit.models.config import ModelConfig
from simkit.models.provider import Resources, find_provider
from simkit.plugins.extras import require
from simkit.run.contract import Down, PlaySpec, ServedModel, Up, packed_error, unpacked_error
from simkit.run.served_models import RemoteModel
from simkit.run.worker import serve

INLINE = 64 << 10
"""Bytes of one argument. Ray sends larger ones through its object store, which is slower and may reach a disk."""

PIECE = 1 << 20
"""Bytes of one answer; larger ones are fetched in pieces, so that none holds up others for long."""

LINGER = 0.02
"""Seconds that an answer waits for more to say; an exchange costs ten times as much CPU as one over a pipe."""


Handle: TypeAlias = Any
"""The handle of an actor, whose attributes are remote methods."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions that must be the same in a driver and on every node, of Python without the last number."""

    ray: str
    python: str
    simkit: str

    def __str__(self) -> str:
        return f"Ray {self.ray}, Python {self.python}, simkit {self.simkit}"


def versions_task() -> Callable[[], tuple[str, str, str]]:
    """A function that returns the versions of the process where it is called.

    It is nested, so that Ray sends its code: a node without simkit, or with another one, can answer, too.
    """

    def versions() -> tuple[str, str, str]:
        import sys
        from importlib.metadata import PackageNotFoundError, version

        def of(name: str) -> str:
            try:
                return version(name)
            except PackageNotFoundError:
                return "none"

        return of("ray"), f"{sys.version_info[0]}.{sys.version_info[1]}", of("josh-simkit")

    return versions


def own_versions() -> Versions:
    """The versions of this process."""
    return Versions(*versions_task()())


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Data in pieces of at most this size; empty data is one empty piece."""
    return (data[at : at + size] for at in range(0, max(1, len(data)), size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What an actor takes over from the driver before it works.

    Attributes:
        versions: those of the driver.
        variables: environment variables.
        folder: the driver's folder; the actor goes there if it exists.
    """

    versions: Versions
    variables: Mapping[str, str]
    folder: str

    def take(self) -> None:
        """Take it over in this process.

        Raises:
            UsageError: the versions differ.
        """
        own = own_versions()
        if own != self.versions:
            raise UsageError(
                f"a node of the cluster has {own}, and this process {self.versions}; install the same versions on all "
                "nodes (`simkit doctor --engine ray=ADDRESS` lists them)"
            )
        os.environ.update(self.variables)
        with suppress(OSError):
            os.chdir(self.folder)


class RayWorker:
    """A worker as an actor: `begin`, then `play` for as long as it plays, and `exchange` meanwhile."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    async def begin(self, place: bytes, models: Handle | None, *spec: bytes) -> tuple[bytes | None, int]:
        """Take over what the driver sends; returns an error or None, and the id of this process."""
        try:
            pickle.loads(place).take()
            self._spec: PlaySpec = pickle.loads(b"".join(spec))
        except SimkitError as error:
            return packed_error(error), os.getpid()
        self._remote = RemoteModel if models is None else partial(HeldModel, models)
        self._into, self._orders = anyio.create_memory_object_stream[Down](1)
        self._out, self._answers = anyio.create_memory_object_stream[Up](1)
        return None, os.getpid()

    async def play(self) -> None:
        """Play what the driver orders."""
        with self._into, self._orders, self._out, self._answers:
            await serve(self._spec, self._orders.receive, self._out.send, self._remote, LINGER)

    async def exchange(self, *down: bytes) -> tuple[bytes, int]:
        """The first piece of the answer to the driver, and the number of pieces that are left."""
        await self._into.send(pickle.loads(b"".join(down)))
        first, *self._rest = pieces(pickle.dumps(await self._answers.receive()), PIECE)
        return first, len(self._rest)

    async def more(self) -> bytes:
        """The next piece of the answer."""
        return self._rest.pop(0)


class RayModels:
    """Holds models (`local/...`) in one actor, with the accelerator of the cluster if it has one."""

    def __init__(self) -> None:
        self._resources = Resources()
        self._models: dict[str, ChatModel] = {}

    async def begin(self, place: bytes) -> bytes | None:
        """Take over what the driver sends; returns an error or None."""
        try:
            pickle.loads(place).take()
        except SimkitError as error:
            return packed_error(error)
        return None

    async def open(self, spec: str, config: bytes) -> tuple[str | None, bytes | None]:
        """Open a model; returns why it cannot be given tools, or None, and an error or None."""
        try:
            loaded: ModelConfig = pickle.loads(config)
            provider = find_provider(spec, loaded)
            await provider.load(self._resources)
            self._models[spec] = model = provider.open(self._resources)
        except SimkitError as error:
            return None, packed_error(error)
        return lacks_for_tools(model), None

    async def complete(self, spec: str, *asked: bytes) -> bytes:
        """The pickle of an answer or None, and an error or None."""
        request, key = pickle.loads(b"".join(asked))
        try:
            return pickle.dumps((await self._models[spec].complete(request, key), None))
        except SimkitError as error:
            return pickle.dumps((None, packed_error(error)))


class HeldModel:
    """A model that an actor holds.

    Args:
        holder: the actor.
        name: its name in the store.
        spec: its name among the models of the actor.
        served: why it cannot be given tools, if it cannot.
    """

    def __init__(self, holder: Handle, name: str, spec: str, served: ServedModel) -> None:
        self._holder = holder
        self._name = name
        self._spec = spec
        self._served = served

    @property
    def name(self) -> str:
        """Its name in the store."""
        return self._name

    @property
    def lacks_for_tools(self) -> str | None:
        """The reason why the model cannot be given tools; None if it can."""
        return self._served.lacks_for_tools

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer.

        Raises:
            ModelFault: the model's own error, or the actor is gone.
        """
        ray = require("ray", "ray")
        call = self._holder.complete.remote(self._spec, *pieces(pickle.dumps((request, key)), INLINE))
        try:
            response, failure = pickle.loads(await call)
        except ray.exceptions.RayError as error:
            raise ModelFault(
                f"model `{self._name}`: the Ray actor that holds it is gone ({first_line(error)})"
            ) from error
        except anyio.get_cancelled_exc_class():
            ray.cancel(call)
            raise
        if failure is not None:
            raise unpacked_error(failure)
        return response


def first_line(error: BaseException) -> str:
    """The class of an error of Ray and the first line of its text; the rest is advice about Ray's logs."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}"
