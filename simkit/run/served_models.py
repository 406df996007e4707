"""Models that the driver serves to its workers, so that a machine holds their weights once and batches all calls.

Requests and answers go over a Unix socket as pickles, a connection for each call, instead of over `simkit serve`: the
answers keep their token ids and log probabilities, and names, requests and recordings are those of a run without
workers. Closing the connection cancels the call.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeAlias

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from simkit.core.child_process import HEADER, framed
from simkit.errors import ModelFault, SimkitError
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, lacks_for_tools
from simkit.models.provider import Provider
from simkit.run.contract import ServedModel, packed_error, unpacked_error

LONGEST = 1 << 30
"""Maximum bytes of one frame."""


class RemoteModel:
    """A model that the driver serves.

    Args:
        name: its name in the store.
        spec: its name among the served models.
        served: the place where it is served.
    """

    def __init__(self, name: str, spec: str, served: ServedModel) -> None:
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
            ModelFault: the model's own error, or the driver cannot be reached.
        """
        try:
            async with await anyio.connect_unix(self._served.path) as stream:
                await stream.send(framed(pickle.dumps((self._spec, request, key))))
                data = await receive_frame(stream)
        except (OSError, anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError) as error:
            raise ModelFault(f"model `{self._name}`: the process that serves it is gone ({error!r})") from error
        response, failure = pickle.loads(data)
        if failure is not None:
            raise unpacked_error(failure)
        return response


Remote: TypeAlias = Callable[[str, str, ServedModel], ChatModel]
"""Makes the model of a name, a spec and a place that another process serves."""


class ServedByDriver:
    """The host of models in a worker: those that the driver serves.

    Args:
        served: the places of the models, by spec.
        remote: makes such a model.
    """

    def __init__(self, served: Mapping[str, ServedModel], remote: Remote) -> None:
        self._served = served
        self._remote = remote

    def model(self, provider: Provider) -> ChatModel | None:
        """The model of a provider; None if the driver does not serve it."""
        served = self._served.get(provider.spec)
        return None if served is None else self._remote(provider.model_name, provider.spec, served)

    async def load(self, provider: Provider) -> bool:
        """Whether the driver serves the model; it has loaded it."""
        return provider.spec in self._served


async def receive_frame(stream: SocketStream) -> bytes:
    """Receive one frame."""
    buffered = BufferedByteReceiveStream(stream)
    head = await buffered.receive_exactly(HEADER)
    return await buffered.receive_exactly(min(int.from_bytes(head, "big"), LONGEST))


class OnThisMachine:
    """What engines share whose workers are on the machine of the driver, which serves its models to them.

    Attributes:
        host: None: the driver holds the models.
    """

    host: None = None

    def opened(self) -> AbstractAsyncContextManager[object]:
        """Nothing is shared by the plays of a run."""
        return nullcontext()

    def serving(self, models: Mapping[str, ChatModel]) -> AbstractAsyncContextManager[Mapping[str, ServedModel]]:
        """Serve models over a Unix socket."""
        return serving(models)


@asynccontextmanager
async def serving(models: Mapping[str, ChatModel]) -> AsyncGenerator[Mapping[str, ServedModel]]:
    """Serve models to the processes of this user, as long as the block; no socket is opened for none."""
    if not models:
        yield {}
        return
    folder = tempfile.mkdtemp(prefix="simkit-")  # private to this user
    path = str(Path(folder) / "models")
    try:
        async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:

            async def answer(stream: SocketStream) -> None:
                with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
                    async with stream:
                        await _answer(stream, models)

            group.start_soon(listener.serve, answer)
            yield {spec: ServedModel(path, lacks_for_tools(model)) for spec, model in models.items()}
            group.cancel_scope.cancel()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _answer(stream: SocketStream, models: Mapping[str, ChatModel]) -> None:
    spec, request, key = pickle.loads(await receive_frame(stream))
    async with anyio.create_task_group() as group:

        async def until_gone() -> None:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.receive(1)
            group.cancel_scope.cancel()

        group.start_soon(until_gone)
        try:
            reply = (await models[spec].complete(request, key), None)
        except SimkitError as error:
            reply = (None, packed_error(error))
        await stream.send(framed(pickle.dumps(reply)))
        group.cancel_scope.cancel()
