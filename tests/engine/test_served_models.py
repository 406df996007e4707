"""Models that the driver serves to its workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, UserMessage
from simkit.errors import ContextTooLong, ModelFault
from simkit.models.base import CallKey, ChatRequest, ChatResponse, Tokens, Usage
from simkit.run.contract import ServedModel
from simkit.run.served_models import RemoteModel, serving

pytestmark = pytest.mark.anyio

KEY = CallKey(TurnKey(0, "task", 0, "", 1), "agent")
ASKED = ChatRequest(messages=(UserMessage.of("Hello"),), seed=4)
TOKENS = Tokens((1, 2), (3,))
ANSWER = ChatResponse(message=AssistantMessage.of("Hi"), usage=Usage(3, 2), model="local/tiny", tokens=TOKENS)


class Tiny:
    """A model in this process."""

    name = "local/tiny"
    lacks_for_tools = "its template has no tools"

    def __init__(self, answer: Callable[[ChatRequest], Awaitable[ChatResponse]]) -> None:
        self._answer = answer
        self.keys: list[CallKey] = []

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        self.keys.append(key)
        return await self._answer(request)


async def test_an_answer_arrives_whole_with_its_tokens() -> None:
    async def answer(request: ChatRequest) -> ChatResponse:
        assert request == ASKED
        return ANSWER

    tiny = Tiny(answer)
    async with serving({"local/tiny,threads=1": tiny}) as served:
        remote = RemoteModel("local/tiny", "local/tiny,threads=1", served["local/tiny,threads=1"])
        assert await remote.complete(ASKED, KEY) == ANSWER
        assert (remote.name, remote.lacks_for_tools) == ("local/tiny", tiny.lacks_for_tools)
        folder = Path(served["local/tiny,threads=1"].path).parent
        assert folder.stat().st_mode & 0o077 == 0
    assert tiny.keys == [KEY]
    assert not folder.exists()


async def test_an_error_of_the_model_is_raised_in_the_worker() -> None:
    async def answer(request: ChatRequest) -> ChatResponse:
        raise ContextTooLong("it is too long")

    async with serving({"tiny": Tiny(answer)}) as served:
        with pytest.raises(ContextTooLong, match="it is too long"):
            await RemoteModel("tiny", "tiny", served["tiny"]).complete(ASKED, KEY)


async def test_cancelling_the_call_cancels_the_model() -> None:
    begun, cancelled = anyio.Event(), anyio.Event()

    async def answer(request: ChatRequest) -> ChatResponse:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        raise AssertionError

    async with serving({"tiny": Tiny(answer)}) as served, anyio.create_task_group() as group:
        group.start_soon(RemoteModel("tiny", "tiny", served["tiny"]).complete, ASKED, KEY)
        await begun.wait()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await cancelled.wait()


async def test_a_driver_that_is_gone_is_a_fault_of_the_model(tmp_path: Path) -> None:
    gone = ServedModel(str(tmp_path / "models"))
    with pytest.raises(ModelFault, match="the process that serves it is gone"):
        await RemoteModel("tiny", "tiny", gone).complete(ASKED, KEY)


async def test_no_socket_is_opened_for_no_model() -> None:
    async with serving({}) as served:
        assert served == {}
