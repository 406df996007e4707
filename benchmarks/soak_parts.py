"""Components that fail in every way a component can, for the soak: the shipped ones with faults drawn by place.

A fault follows from the salt and from where it happens (task, branch, turn, call), so a resumed run meets the same ones
and the rest of the run is what it would be without them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import TypeVar, cast

import anyio

from simkit.agents.function_calling import FunctionCallingAgent
from simkit.components.agent import Act, Decision
from simkit.components.reward import EpisodeReward, Hit, ScoreEpisode, ScoreTurn
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, UserTurn
from simkit.components.world import World
from simkit.core.ontology import Ontology
from simkit.core.tasks import Task
from simkit.models.base import ChatModel
from simkit.rewards.goal_calls import GoalCalls
from simkit.tools.builtin import BuiltinWorld
from simkit.users.goal import GoalUser

T = TypeVar("T")


class OddError(BaseException):
    """Raised by a component that derives its errors from BaseException; its text cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Chaos:
    """Draws what goes wrong at a place.

    Args:
        salt: another one draws other faults.
        rate: share of calls that fail, 0 to 1.
    """

    def __init__(self, salt: int, rate: float) -> None:
        self._salt = salt
        self._rate = rate

    async def meet(self, place: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work, or what is drawn instead of it."""
        number = int.from_bytes(blake2b(f"{self._salt}/{place}".encode(), digest_size=8).digest(), "big")
        if number / (1 << 64) >= self._rate:
            return await work()
        match number % 10:
            case 0:
                raise ValueError("\x1b[31mdrawn\x1b[0m")
            case 1:
                raise SystemExit(0)
            case 2:
                raise asyncio.CancelledError
            case 3:
                raise OddError
            case 4:
                await anyio.sleep_forever()
            case 5:
                return cast("T", {"not": "a reply"})
            case 6:
                await anyio.sleep(0.1)  # late, and right
            case 7:
                async with anyio.create_task_group() as group:
                    group.cancel_scope.cancel()
                    await anyio.sleep_forever()
            case 8:
                raise BaseExceptionGroup("several", [ValueError("one"), SystemExit(2)])
            case _:
                raise TimeoutError("drawn")
        return await work()


class ChaosAgent(FunctionCallingAgent):
    """The function calling agent, with faults."""

    def __init__(self, model: ChatModel, *, salt: int = 0, rate: float = 0.0) -> None:
        super().__init__(model)
        self._chaos = Chaos(salt, rate)

    async def act(self, request: Act) -> Decision:
        return await self._chaos.meet(
            f"agent/{request.key}/{request.step}", lambda: super(ChaosAgent, self).act(request)
        )


class ChaosUser(GoalUser):
    """The goal user, with faults."""

    def __init__(
        self,
        model: ChatModel,
        world: World | None = None,
        *,
        salt: int = 0,
        rate: float = 0.0,
    ) -> None:
        super().__init__(model, world)
        self._chaos = Chaos(salt, rate)

    async def speak(self, request: Speak) -> UserTurn:
        return await self._chaos.meet(f"user/{request.key}", lambda: super(ChaosUser, self).speak(request))


class ChaosTools(ToolServer):
    """A world's tool server, with faults."""

    name = "chaos"

    def __init__(self, tools: ToolServer, *, salt: int = 0, rate: float = 0.0) -> None:
        self._tools = tools
        self._chaos = Chaos(salt, rate)

    def start(self, request: StartTools) -> ToolsStart:
        return self._tools.start(request)

    async def call(self, request: CallTool) -> ToolReturn:
        place = f"tools/{request.task.id}/{request.call.id}/{request.call.arguments}"
        return await self._chaos.meet(place, lambda: self._tools.call(request))


class ChaosReward(GoalCalls):
    """The reward of goal calls, with faults."""

    def __init__(self, world: World | None = None, *, salt: int = 0, rate: float = 0.0) -> None:
        super().__init__(world)
        self._chaos = Chaos(salt, rate)

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        place = f"turn/{request.task.id}/{request.conversation.digest.hex()}"
        return await self._chaos.meet(place, lambda: super(ChaosReward, self).score_turn(request))

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        place = f"episode/{request.task.id}/{request.conversation.digest.hex()}"
        return await self._chaos.meet(place, lambda: super(ChaosReward, self).score_episode(request))


class ChaosWorld(World):
    """The built-in world, with faults in its tool server."""

    name = "builtin"
    splits = BuiltinWorld.splits

    def __init__(self, *, salt: int = 0, rate: float = 0.0) -> None:
        self._world = BuiltinWorld()
        self._salt, self._rate = salt, rate

    @property
    def ontology(self) -> Ontology:
        return self._world.ontology

    def tasks(self, split: str) -> Sequence[Task]:
        return self._world.tasks(split)

    def tools(self) -> ToolServer:
        return ChaosTools(self._world.tools(), salt=self._salt, rate=self._rate)
