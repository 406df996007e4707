"""What the tests of the models share: a call, a request, a clock that only moves when somebody sleeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from anyio.lowlevel import checkpoint

from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, SystemMessage, UserMessage
from simkit.models import CallKey, ChatRequest, ChatResponse, Clock, Usage
from simkit.models.transport.http1 import HttpReply

KEY = CallKey(TurnKey(7, "MUL0003", 1, "LR", 4), "agent", 2)
HELLO = ChatRequest(messages=(SystemMessage.of("You are a clerk."), UserMessage.of("hello")))


def key(path: str = "", *, task: str = "t", turn: int = 1, call: int = 0) -> CallKey:
    return CallKey(TurnKey(7, task, 0, path, turn), "agent", call)


def said(text: str = "hi", usage: Usage | None = None) -> ChatResponse:
    return ChatResponse(message=AssistantMessage.of(text), usage=usage or Usage())


@dataclass
class Timeline:
    """Virtual time: a sleep moves it at once."""

    time: float = 100.0
    slept: list[float] = field(default_factory=list[float])

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: 1_000_000 + self.time, timer=lambda: self.time, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await checkpoint()


class Played:
    """A model that answers with what a function of the number of the call gives, or raises it; keeps the keys."""

    name = "played"

    def __init__(self, play: Callable[[int], ChatResponse | Exception]) -> None:
        self._play = play
        self.keys: list[CallKey] = []

    @classmethod
    def of(cls, answers: Iterable[ChatResponse | Exception]) -> Played:
        kept = list(answers)
        return cls(lambda number: kept[number])

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        await checkpoint()
        self.keys.append(key)
        answer = self._play(len(self.keys) - 1)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Canned:
    """A transport that gives one reply and keeps what was posted."""

    def __init__(self, reply: HttpReply) -> None:
        self.reply = reply
        self.posted: list[dict[str, Any]] = []

    async def post(self, body: bytes) -> HttpReply:
        self.posted.append(orjson.loads(body))
        return self.reply

    async def aclose(self) -> None:
        return None
