"""A small cast for the tests of the supervisors: every player does what a function says."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from simkit.actors.scope import open_scope
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.cast import Cast
from simkit.components.reward import Hit, Reward, ScoreTurn
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, User, UserTurn
from simkit.core.events import BranchAdded, BranchEnded, BranchExtended, Episode, Event, TreeHarvested
from simkit.core.limits import Limits
from simkit.core.messages import AssistantMessage, ToolCall, ToolResult, ToolSpec
from simkit.core.recorder import MemoryRecorder
from simkit.core.tasks import Goal, Task
from simkit.search.base import NoWatch, Search, Watch, WorkUnit

Plan = Callable[[Act], "Decision | Awaitable[Decision]"]


def say(text: str = "How can I help?", **more: Any) -> Decision:
    return Decision(AssistantMessage.of(text), say=text, **more)


def use(request: Act, *calls: tuple[str, str], **more: Any) -> Decision:
    """Call tools by name with one argument each."""
    made = tuple(
        ToolCall.of(f"{request.key.path}{request.key.turn}.{request.step}.{i}", name, {"x": x})
        for i, (name, x) in enumerate(calls)
    )
    return Decision(AssistantMessage.of(None, made), calls=made, **more)


def reach(request: Act, *goals: str, **more: Any) -> Decision:
    return use(request, *(("reach", goal) for goal in goals), **more)


class PlannedAgent(Agent):
    name = "planned"

    def __init__(self, plan: Callable[[Act], Any], start: Callable[[StartAgent], AgentStart]) -> None:
        self._plan = plan
        self._start = start

    def start(self, request: StartAgent) -> AgentStart:
        return self._start(request)

    async def act(self, request: Act) -> Decision:
        made: Any = self._plan(request)
        return (await made) if inspect.isawaitable(made) else made


class PlannedUser(User):
    name = "planned"

    def __init__(self, answer: Callable[[Speak], Any]) -> None:
        self._answer = answer

    async def speak(self, request: Speak) -> UserTurn:
        made: Any = self._answer(request)
        return (await made) if inspect.isawaitable(made) else made


def introduced(request: StartAgent) -> AgentStart:
    return AgentStart(system="You are an agent.")


def talkative(request: Speak) -> UserTurn:
    return UserTurn(f"user {request.key.turn}")


class NoteTools(ToolServer):
    """A world that is a tuple of notes: `write` appends, `read` returns them, `reach` does nothing, `broken` raises."""

    name = "notes"

    def start(self, request: StartTools) -> ToolsStart:
        names = ("write", "read", "reach", "broken")
        return ToolsStart(tuple(ToolSpec.of(name, name, {"x": {"type": "string"}}) for name in names), state=())

    async def call(self, request: CallTool) -> ToolReturn:
        notes: tuple[str, ...] = request.state
        x = str(request.call.parse_arguments()["x"])
        match request.call.name:
            case "write":
                return ToolReturn(ToolResult(value="ok"), (*notes, x), ({"note": x},))
            case "read":
                return ToolReturn(ToolResult(value=list(notes)), notes)
            case "reach":
                return ToolReturn(ToolResult(value=x), notes)
            case _:
                raise RuntimeError("the tool server is broken")


class ReachReward(Reward):
    """A goal is reached by calling `reach` with its key; each copy once."""

    name = "reach"

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        left = [goal.key for goal in request.remaining]
        hits: list[Hit] = []
        for record in request.calls:
            wanted = str((record.parameters or {}).get("x"))
            if record.name == "reach" and wanted in left:
                left.remove(wanted)
                hits.append(Hit(wanted, record.call_id, record.step))
        return tuple(hits)


@dataclass(frozen=True)
class Players:
    """Who plays; every field can be replaced."""

    plan: Callable[[Act], Any]
    answer: Callable[[Speak], Any] = talkative
    start: Callable[[StartAgent], AgentStart] = introduced
    goals: Sequence[str] = ("a",)
    tools: ToolServer = field(default_factory=NoteTools)
    reward: Reward = field(default_factory=ReachReward)
    unforkable: tuple[str, ...] = ()
    deterministic: bool = False
    seed: int = 7
    limits: Limits = field(default_factory=Limits)
    user_calls: bool = False

    def with_(self, **more: Any) -> Players:
        return replace(self, **more)


@dataclass(frozen=True)
class Played:
    """An episode with what was recorded of it."""

    episode: Episode
    events: list[Event]

    @property
    def branches(self) -> dict[str, BranchAdded]:
        """Branches by `path.turn`, in the order they were recorded."""
        added = [event for event in self.events if isinstance(event, BranchAdded)]
        return {short(event.branch_id): event for event in added}

    @property
    def harvests(self) -> list[TreeHarvested]:
        return [event for event in self.events if isinstance(event, TreeHarvested)]

    @property
    def outcomes(self) -> dict[str, str | None]:
        """How each branch ended, by `path.turn`."""
        found = {name: event.outcome for name, event in self.branches.items()}
        for event in self.events:
            if isinstance(event, BranchEnded):
                assert found[short(event.branch_id)] is None, "a branch ends once"
                found[short(event.branch_id)] = event.outcome
        return found

    def authors(self, branch: str) -> list[str]:
        """Who wrote the messages of a branch, the user's answer included."""
        rows = list(self.branches[branch].messages)
        for event in self.events:
            if isinstance(event, BranchExtended) and short(event.branch_id) == branch:
                rows.extend(event.messages)
        return [row.author for row in rows]


def short(branch_id: str) -> str:
    return branch_id.rsplit("/", 1)[1]


def shorts(ids: Sequence[str]) -> list[str]:
    return [short(name) for name in ids]


def unit_of(players: Players) -> WorkUnit:
    goals = tuple(Goal(key) for key in players.goals)
    return WorkUnit("run", players.seed, Task(id="t1", world="test", split="test", instructions="", goals=goals))


async def play(
    supervisor: Search,
    players: Players,
    *,
    recorder: MemoryRecorder | None = None,
    watch: Watch | None = None,
    unit: WorkUnit | None = None,
) -> Played:
    recorder = recorder or MemoryRecorder()
    async with open_scope() as scope:
        cast = Cast(
            agent=scope.spawn(PlannedAgent(players.plan, players.start), name="planned"),
            user=scope.spawn(PlannedUser(players.answer), name="planned"),
            tools=scope.spawn(players.tools, name="notes"),
            reward=scope.spawn(players.reward, name="reach"),
            unforkable=players.unforkable,
            deterministic=players.deterministic,
            reward_range=players.reward.range,
            final=players.reward.final,
            limits=players.limits,
            user_calls=players.user_calls,
        )
        episode = await supervisor.play(cast, unit or unit_of(players), recorder, watch or NoWatch())
    return Played(episode, recorder.events)
