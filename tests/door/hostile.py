"""A cast of which one component answers oddly in one of three tasks, and everything that was recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simkit.actors.scope import open_scope
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.reward import EpisodeReward, Hit, Reward, RewardPart, ScoreEpisode, ScoreTurn
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, User, UserTurn
from simkit.core.events import Episode
from simkit.core.messages import AssistantMessage, ToolCall, ToolResult, ToolSpec
from simkit.core.tasks import Goal, Task
from simkit.run.casting import Players
from simkit.run.engine import PlayContext, RunProgress, play_units
from simkit.search.base import Search, WorkUnit
from simkit.store import Store
from simkit.store.journal import Journal

ODD = "t2"
"""The task in which somebody answers oddly."""

Odd = Callable[[], Any]
"""Makes the odd reply; called where the good one would be made."""

CALLED = ToolCall.of("c1", "put", {"book": "a"})


def task(name: str) -> Task:
    return Task(id=name, world="test", split="test", instructions="", goals=(Goal("g", {"tool": "put"}),))


@dataclass
class Oddity:
    """Which question is answered oddly (`act`, `speak`, `call`, ...), and how."""

    question: str = ""
    make: Odd = lambda: None

    def answer(self, question: str, task_id: str, good: Any) -> Any:
        return self.make() if question == self.question and task_id == ODD else good


class PlainAgent(Agent):
    """Calls a tool, then speaks and ends."""

    name = "plain_agent"

    def __init__(self, odd: Oddity) -> None:
        self.odd = odd

    def start(self, request: StartAgent) -> AgentStart:
        good = AgentStart("You are an agent.", ())
        return self.odd.make() if self.odd.question == "start_agent" and request.policy == ODD else good

    async def act(self, request: Act) -> Decision:
        good = Decision(AssistantMessage.of("bye"), say="bye", end=True)
        if request.step == 0:
            good = Decision(AssistantMessage.of(None, (CALLED,)), calls=(CALLED,), state=("called",))
        return self.odd.answer("act", request.key.task_id, good)


class PlainUser(User):
    """Says the number of the turn."""

    name = "plain_user"

    def __init__(self, odd: Oddity) -> None:
        self.odd = odd

    async def speak(self, request: Speak) -> UserTurn:
        return self.odd.answer("speak", request.key.task_id, UserTurn(f"turn {request.key.turn}"))


class PlainTools(ToolServer):
    """A shelf that books are put on."""

    name = "plain_tools"

    def __init__(self, odd: Oddity) -> None:
        self.odd = odd

    def start(self, request: StartTools) -> ToolsStart:
        spec = ToolSpec.of("put", "Put a book.", {"book": {"type": "string"}})
        return self.odd.answer("start_tools", request.task.id, ToolsStart((spec,), (), request.task.id))

    async def call(self, request: CallTool) -> ToolReturn:
        shelf = (*request.state, "book")
        good = ToolReturn(ToolResult(value={"put": "a"}), shelf, ({"book": "a"},))
        return self.odd.answer("call", request.task.id, good)


class PlainReward(Reward):
    """The goal is reached by any call."""

    name = "plain_reward"

    def __init__(self, odd: Oddity) -> None:
        self.odd = odd

    def goals(self, task: Task) -> tuple[Goal, ...]:
        return self.odd.answer("goals", task.id, task.goals)

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        good = (Hit("g", "c1"),) if request.calls and request.remaining else ()
        return self.odd.answer("score_turn", request.task.id, good)

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        good = EpisodeReward(1.0, (RewardPart("g", 1.0, 1.0, "c1"),))
        return self.odd.answer("score_episode", request.task.id, good)


def players(odd: Oddity) -> Players:
    return Players(agent=PlainAgent(odd), user=PlainUser(odd), tools=PlainTools(odd), reward=PlainReward(odd))


@dataclass(frozen=True)
class Ran:
    """What came of the episodes."""

    episodes: Sequence[Episode]
    folder: Path
    progress: RunProgress = field(default_factory=RunProgress)

    @property
    def odd(self) -> Episode:
        return next(episode for episode in self.episodes if episode.task_id == ODD)

    @property
    def others(self) -> list[Episode]:
        return [episode for episode in self.episodes if episode.task_id != ODD]

    def query(self, sql: str) -> list[dict[str, Any]]:
        return Store(self.folder).query(sql).dicts()


async def run(folder: Path, supervisor: Search, cast: Players, tasks: Sequence[str] = ("t1", "t2", "t3")) -> Ran:
    """Play tasks, two at a time, into a store of its own."""
    units = [WorkUnit("run", 1, task(name)) for name in tasks]
    async with Journal(folder / "journals" / "run" / "0.jsonl") as journal, open_scope() as scope:
        context = PlayContext(search=supervisor, cast=cast.cast(scope), recorder=journal, progress=RunProgress())
        return Ran(await play_units(context, units, 2), folder)
