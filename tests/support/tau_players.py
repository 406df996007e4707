"""An agent that knows the calls of tau-bench's tasks, and a user who waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from simkit import Act, Agent, AgentStart, Decision, Reward, Speak, StartAgent, User, UserTurn
from simkit.actors.deadlines import AskLimits
from simkit.actors.scope import open_scope
from simkit.components.world import World
from simkit.core.events import Episode
from simkit.core.messages import ToolCall
from simkit.core.recorder import MemoryRecorder
from simkit.core.tasks import Task
from simkit.rewards.final_state import FinalState
from simkit.run.casting import Players
from simkit.search.base import NoWatch, Search, WorkUnit


class GoldAgent(Agent[int]):
    """Makes the gold calls of a task, one a decision, and then says texts, one a turn; its state counts decisions.

    With `errs`, a branch with an uneven seed wastes its turn.
    """

    name: ClassVar[str] = "gold"

    def __init__(self, task: Task, *, say: Sequence[str] = ("Done.",), errs: bool = False) -> None:
        self._calls = [(goal.detail["tool"], dict(goal.detail["arguments"])) for goal in task.goals]
        self._say, self._errs = say, errs

    def start(self, request: StartAgent) -> AgentStart[int]:
        return AgentStart(request.policy, 0)

    async def act(self, request: Act[int]) -> Decision[int]:
        done = request.state
        if self._errs and request.step == 0 and request.key.seed("agent") % 2:
            return Decision.speak("Hm.", state=done)
        if done < len(self._calls):
            name, arguments = self._calls[done]
            return Decision.call(ToolCall.of(f"c{done}", name, arguments), state=done + 1)
        said = done - len(self._calls)
        return Decision.speak(self._say[min(said, len(self._say) - 1)], state=done + 1)


class Patient(User[int]):
    """Answers a number of times, then hangs up."""

    name: ClassVar[str] = "patient"

    def __init__(self, answers: int = 0) -> None:
        self._answers = answers

    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        said = request.state or 0
        return UserTurn("Please.", end=said > self._answers, state=said + 1)


async def played(
    world: World,
    task: Task,
    search: Search,
    agent: Agent[Any],
    *,
    user: User[Any] | None = None,
    reward: Reward[Any] | None = None,
) -> Episode:
    """An episode of a task, through the real runtime and recorded nowhere."""
    players = Players(
        agent=agent,
        user=user or Patient(),
        tools=world.tools(),
        reward=reward or FinalState(world),
        limits=world.limits,
    )
    async with open_scope(AskLimits()) as scope:
        return await search.play(players.cast(scope), WorkUnit("run", 5, task), MemoryRecorder(), NoWatch())
