"""Workers as actors of Ray, on this machine or on a cluster.

Ray starts processes, carries calls and tells which processes were lost; nothing else of it is used. An actor is never
restarted and no call is repeated: the driver plays the open units of a lost actor again, as with any other worker.
Secrets travel in calls alone, from memory to memory. Runtime environments and constructors of actors are kept and shown
by Ray, so they hold nothing.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from math import ceil
from typing import Any

import anyio

from simkit.errors import UsageError, WorkerLost
from simkit.models.base import ChatModel, lacks_for_tools
from simkit.models.provider import Provider
from simkit.plugins.extras import check_installed, require
from simkit.run.contract import Down, Link, PlaySpec, ServedModel, Up, unpacked_error
from simkit.run.processes import PATIENCE
from simkit.run.ray_actor import (
    INLINE,
    Handle,
    HeldModel,
    Place,
    RayModels,
    RayWorker,
    first_line,
    own_versions,
    pieces,
)
from simkit.run.ray_cluster import Connection

ROOM = 300.0
"""Seconds that an actor may wait for a free core, and for its process, before it counts as lost."""

PAUSE = 10.0
"""Seconds before another actor is asked for if one was lost at its start. Ray goes on to place actors on a node that is
gone until it notices, half a minute later, and a run is given up after three failed starts."""

AT_ONCE = 100_000
"""Calls that an actor works on at once."""

PASSED = ("SIMKIT_", "OPENAI_", "ANTHROPIC_", "TAU2_")
"""Beginnings of the names of environment variables that actors get."""

PASSED_TOO = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "HF_TOKEN"}
)
"""Other variables that actors get, in capital or small letters."""


class RayActors:
    """Plays with actors of Ray, each of which is a worker.

    If the process has connected to Ray already, as a trainer does, that connection is used and stays. Otherwise the
    engine joins the cluster at `address`, or at RAY_ADDRESS, or starts Ray on this machine, and leaves it with the run.
    Ray that is started here listens on every interface (docs/scale.md).

    Attributes:
        size: maximum number of workers, known once it is open.

    Args:
        address: `auto`, or `HOST:PORT`; None to start Ray here.
        workers: number of actors; None for one per core of the cluster.
        cpus: cores that an actor reserves. Ray counts them, but binds no process to them.
        variables: names of environment variables that the actors get, in addition to SIMKIT_*, OPENAI_*, ANTHROPIC_*,
            those of proxies, and the variables of keys that the run names.
        patience: seconds without any answer after which an actor counts as hung.
        room: seconds that an actor may wait for a free core.

    Raises:
        UsageError: the package `ray` is not installed, or the address is one of Ray Client.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        *,
        cpus: float = 1,
        variables: Sequence[str] = (),
        patience: float = PATIENCE,
        room: float = ROOM,
    ) -> None:
        check_installed("ray", "ray")
        if address is not None and "://" in address:
            raise UsageError(
                f"`{address}` is an address of Ray Client, which simkit does not use; start the run on a node of the "
                "cluster, with ray=auto or ray=HOST:PORT"
            )
        if workers is not None and workers < 1:
            raise UsageError(f"the number of workers is {workers}; it must be at least 1")
        self._address = address
        self._workers = workers
        self._cpus = cpus
        self._variables = tuple(variables)
        self._patience = patience
        self._room = room
        self._open = 0  # runs that hold it: one, and its parts
        self.size = workers or 1
        self.host = RayHost(self)

    # --- the connection -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Hold a connection to Ray.

        Raises:
            UsageError: Ray cannot be started or joined, versions differ, or the event loop is not asyncio's.
        """
        if "asyncio" not in anyio.get_cancelled_exc_class().__module__:
            raise UsageError("--engine ray needs asyncio; under trio play with --workers")
        if self._open:
            yield
            return
        connection = Connection(self._address, ceil((self._workers or 1) * self._cpus))
        async with connection.held():
            if self._workers is None:
                self.size = max(1, int(connection.cores / self._cpus))
            self._open += 1
            try:
                yield
            finally:
                self._open -= 1
                self.host.close()

    # --- workers ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def link(self, spec: PlaySpec) -> AsyncGenerator[Link]:
        """A worker, which is killed at the end of the block.

        Raises:
            WorkerLost: it has found no room, or could not be started.
            UsageError: the node has other versions.
        """
        actor = self.actor(RayWorker, num_cpus=self._cpus)
        try:
            link = RayLink(actor, self._patience)
            names = (spec.cast.models, spec.cast.options, spec.cast.user_options, spec.cast.judge_options)
            keys = {key for each in names if each is not None for key in (each.api_key_env, each.user_api_key_env)}
            try:
                await link.begin(self.place(keys), self.host.actor, spec, self._room)
            except WorkerLost:
                await anyio.sleep(PAUSE)
                raise
            yield link
        finally:
            kill(actor)

    def serving(self, models: Mapping[str, ChatModel]) -> Any:
        """The models are in an actor already, which workers ask."""
        return _served(models)

    def actor(self, kind: type, **resources: Any) -> Handle:
        """Make an actor that is never restarted, and whose calls are never repeated."""
        ray = require("ray", "ray")
        options = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": AT_ONCE, **resources}
        return ray.remote(kind).options(**options).remote()

    def place(self, keys: set[str | None] | None = None) -> Place:
        """What an actor takes over: versions, variables and the folder."""
        from simkit.run.settings import read_settings

        own = {each.strip() for each in read_settings().worker_variables.split(",")}
        wanted = {*self._variables, *own, *(keys or ())}
        variables = {
            name: value
            for name, value in os.environ.items()
            if name in wanted or name.startswith(PASSED) or name.upper() in PASSED_TOO
        }
        return Place(versions=own_versions(), variables=variables, folder=os.getcwd())


class RayLink:
    """The link to a worker that is an actor.

    Attributes:
        patience: seconds without any answer after which it counts as hung.
        process: id of its process on its node; 0 before it has begun.
    """

    def __init__(self, actor: Handle, patience: float) -> None:
        self._actor = actor
        self.patience = patience
        self.process = 0

    async def begin(self, place: Place, models: Handle | None, spec: PlaySpec, room: float) -> None:
        """Send what the worker plays.

        Raises:
            WorkerLost: it has found no room, or was lost.
            UsageError: the node has other versions, or cannot rebuild what it was sent.
        """
        try:
            with anyio.fail_after(room):
                data = pieces(pickle.dumps(spec), INLINE)
                error, self.process = await self._call("begin", pickle.dumps(place), models, *data)
        except TimeoutError as late:
            raise WorkerLost(
                f"no Ray actor could be started within {room:g} s: the cluster has no free core, or its nodes are slow "
                "to start processes; ask for fewer --workers, or look at `ray status`"
            ) from late
        if error is not None:
            raise unpacked_error(error)
        self._playing = self._actor.play.remote()  # its end says nothing that an exchange does not

    async def exchange(self, down: Down) -> Up:
        """Send to the worker and return its answer.

        Raises:
            WorkerLost: it was lost, is not reachable, or did not answer in time. It must not be asked again: an actor
                that is not reachable may come back.
        """
        try:
            with anyio.fail_after(self.patience):
                first, left = await self._call("exchange", *pieces(pickle.dumps(down), INLINE))
                rest = [await self._call("more") for _ in range(left)]
        except TimeoutError as error:
            raise WorkerLost(
                f"the Ray actor in process {self.process} did not answer for {self.patience:g} s: a component holds "
                "up its event loop; let it await, or work in a thread"
            ) from error
        return pickle.loads(b"".join((first, *rest)))

    async def _call(self, method: str, *arguments: Any) -> Any:
        ray = require("ray", "ray")
        try:
            return await getattr(self._actor, method).remote(*arguments)
        except ray.exceptions.RayError as error:
            raise WorkerLost(f"the Ray actor in process {self.process} was lost ({reason(error)})") from error


class RayHost:
    """The host of models of a cluster: an actor that holds them for all workers and for the driver.

    Attributes:
        actor: the actor; None while no model was asked for.
    """

    def __init__(self, engine: RayActors) -> None:
        self._engine = engine
        self._known: dict[str, ServedModel] = {}
        self.actor: Handle = None

    def model(self, provider: Provider) -> ChatModel | None:
        """The model of a provider, from the actor; None if it is not one that a machine should hold only once."""
        if not provider.shared:
            return None
        if provider.spec not in self._known:
            with _loading(provider):
                self._take(provider, *require("ray", "ray").get(self._asked(provider)))
        return HeldModel(self.actor, provider.model_name, provider.spec, self._known[provider.spec])

    async def load(self, provider: Provider) -> bool:
        """Load a model in the actor, unless it is there or is none for it."""
        if provider.shared and provider.spec not in self._known:
            with _loading(provider):
                self._take(provider, *[await each for each in self._asked(provider)])
        return provider.shared

    def close(self) -> None:
        """End the actor."""
        if self.actor is not None:
            kill(self.actor)
        self.actor, self._known = None, {}

    def _asked(self, provider: Provider) -> list[Any]:
        ray = require("ray", "ray")
        begun: list[Any] = []
        if self.actor is None:
            accelerated = ray.cluster_resources().get("GPU", 0) >= 1
            self.actor = self._engine.actor(RayModels, num_cpus=0, num_gpus=1 if accelerated else 0)
            begun = [self.actor.begin.remote(pickle.dumps(self._engine.place()))]
        return [*begun, self.actor.open.remote(provider.spec, pickle.dumps(provider.config))]

    def _take(self, provider: Provider, *answers: Any) -> None:
        *begun, (lacks, failed) = answers
        for error in (*begun, failed):
            if error is not None:
                raise unpacked_error(error)
        self._known[provider.spec] = ServedModel("", lacks)


@contextmanager
def _loading(provider: Provider) -> Generator[None]:
    ray = require("ray", "ray")
    try:
        yield
    except ray.exceptions.RayError as error:
        raise UsageError(f"`{provider.spec}` cannot be loaded by a Ray actor: {reason(error)}") from error


@asynccontextmanager
async def _served(models: Mapping[str, ChatModel]) -> AsyncGenerator[Mapping[str, ServedModel]]:
    yield {spec: ServedModel("", lacks_for_tools(model)) for spec, model in models.items()}


def kill(actor: Handle) -> None:
    """Kill an actor, wherever it is; it may be dead already."""
    ray = require("ray", "ray")
    if ray.is_initialized():
        ray.kill(actor, no_restart=True)


def reason(error: BaseException) -> str:
    """Why Ray lost an actor, without its advice on logs."""
    lines = [line.strip() for line in str(error).splitlines()]
    detail = next((line for line in lines if line.startswith("The actor is dead because")), "")
    return f"{type(error).__name__}: {detail}" if detail else first_line(error)
