"""The contracts: what an agent, a user, a tool server and a reward are asked, and what they answer.

A component holds no conversation. The request brings the branch's state, the reply takes the new state back, so one
component serves any number of branches at once. States are immutable values, or objects with a `fork()`; a component
whose state is neither sets `forkable = False`, and supervisors that branch refuse it before any work is done.

To write one, subclass and implement the abstract methods. `simkit.testing.conformance` checks the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias, cast

from simkit.actors import ActorRef, Request
from simkit.conversation import Conversation
from simkit.errors import InvalidArguments, Unhandled, UsageError, UserFault, boundary
from simkit.ids import TurnKey
from simkit.messages import JsonObject, Message, ToolCall, ToolMessage, ToolResult, ToolSpec
from simkit.tasks import Goal, Task

State: TypeAlias = Any
"""A component's own state in a branch: an immutable value, or an object with `fork()`; None for none."""

Observe: TypeAlias = Callable[[ToolCall, ToolResult], Message]


def observe_as_tool(call: ToolCall, result: ToolResult) -> Message:
    """A result as models with tool calling read it: a `tool` message."""
    return ToolMessage.of(call.id, result.text)


def fork_state(state: State) -> State:
    """The state for one more branch: the same reference for a value, `state.fork()` for an object that has it."""
    fork = getattr(state, "fork", None)
    return fork() if callable(fork) else state


# --- agent ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AgentStart:
    """What an agent brings to a new episode: its system prompt (None for none) and its first state."""

    system: str | None = None
    state: State = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What an agent does next. Exactly one of three: call tools, speak (ends the turn), or neither (decide again).

    Attributes:
        message: what the agent wrote, as its model will see it later; kept in the conversation.
        calls: tools to call; the results are appended to the conversation and the agent decides again.
        say: what the user hears; ends the turn. May differ from the message (a text protocol around it).
        end: the agent ends the conversation with this decision (after its calls, if any).
        state: the agent's new state.
        observe: how a result is written for this agent's model.
        note: what the model is told of a message that neither calls nor speaks (it was cut off, it holds no command);
            kept behind the message like a tool's return, heard by nobody.
        tokens, cost: what the decision used, for limits.
    """

    message: Message
    calls: tuple[ToolCall, ...] = ()
    say: str | None = None
    end: bool = False
    state: State = None
    observe: Observe = observe_as_tool
    note: Message | None = None
    tokens: int = 0
    cost: float = 0.0

    def __post_init__(self) -> None:
        if self.calls and self.say is not None:
            raise ValueError("a decision either calls tools or speaks; make two decisions of it")
        if self.note is not None and (self.calls or self.say is not None):
            raise ValueError("a note goes with a decision that neither calls nor speaks; leave it out")


@dataclass(frozen=True, slots=True)
class StartAgent(Request[AgentStart]):
    """Asks an agent what it brings to an episode; `policy` is the world's own rules for agents, often empty."""

    tools: tuple[ToolSpec, ...]
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Act(Request[Decision]):
    """Asks an agent for its next decision; `step` counts decisions within this turn from 0.

    The task is not here on purpose: what the user wants is for the agent to find out.
    """

    key: TurnKey
    conversation: Conversation
    tools: tuple[ToolSpec, ...]
    state: State
    step: int = 0


class Agent(ABC):
    """Takes the agent's turn, one decision at a time."""

    name: ClassVar[str] = "agent"
    forkable: ClassVar[bool] = True
    deterministic: bool = False
    """Whether equal requests get equal decisions whatever the seed (temperature 0): then branching is refused."""

    def start(self, request: StartAgent) -> AgentStart:
        """The system prompt and first state for an episode; nothing by default."""
        return AgentStart()

    @abstractmethod
    async def act(self, request: Act) -> Decision:
        """The next decision."""

    async def handle(self, message: object) -> object:
        """Dispatch for the actor runtime."""
        match message:
            case Act():
                return await self.act(message)
            case StartAgent():
                return self.start(message)
            case _:
                raise _unhandled(self, message)


# --- user -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UserTurn:
    """What the user says, and whether the user hangs up with it.

    `flags` are the simulator's doubts about its own turn, as `kind: detail` (`unknown_value: south`); they are recorded
    with the message and change nothing else. `tokens` and `cost` are what the turn used, for limits.
    """

    text: str
    end: bool = False
    state: State = None
    flags: tuple[str, ...] = ()
    tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Speak(Request[UserTurn]):
    """Asks the user for the next utterance; the conversation is empty for the opening.

    A user hears only `conversation.heard()`. `state` is None at the opening.
    """

    key: TurnKey
    task: Task
    conversation: Conversation
    state: State


class User(ABC):
    """Plays the customer.

    `interactive` says that a person answers at this terminal: a run then has one conversation at a time and draws no
    progress over it.
    """

    name: ClassVar[str] = "user"
    forkable: ClassVar[bool] = True
    interactive: ClassVar[bool] = False

    def check_task(self, task: Task) -> None:  # noqa: B027 (nothing to check is the rule)
        """Say before a run whether it can play a task.

        Raises:
            UsageError: it cannot; the message says what to choose instead.
        """

    @abstractmethod
    async def speak(self, request: Speak) -> UserTurn:
        """The next utterance."""

    async def handle(self, message: object) -> object:
        """Dispatch for the actor runtime."""
        match message:
            case Speak():
                return await self.speak(message)
            case _:
                raise _unhandled(self, message)


# --- tools ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolsStart:
    """The tools of an episode, the world state it starts from, and the world's rules for agents."""

    specs: tuple[ToolSpec, ...]
    state: State = None
    policy: str = ""


@dataclass(frozen=True, slots=True)
class ToolReturn:
    """A tool's answer, the world as the call left it, and what the call wrote (empty for reads)."""

    result: ToolResult
    state: State = None
    writes: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class StartTools(Request[ToolsStart]):
    """Asks a tool server for the tools and the world of one task."""

    task: Task


@dataclass(frozen=True, slots=True)
class CallTool(Request[ToolReturn]):
    """Asks a tool server to run one call in one branch's world.

    Whatever a model can get wrong (an unknown tool or parameter, arguments that do not parse) is answered with an error
    result that the agent can read. Only a broken tool server raises.
    """

    task: Task
    call: ToolCall
    state: State


class ToolServer(ABC):
    """Runs tool calls: state and call in, result and new state out."""

    name: ClassVar[str] = "tools"
    forkable: ClassVar[bool] = True

    @abstractmethod
    def start(self, request: StartTools) -> ToolsStart:
        """The tools and the first world state of a task."""

    @abstractmethod
    async def call(self, request: CallTool) -> ToolReturn:
        """The result of one call."""

    async def handle(self, message: object) -> object:
        """Dispatch for the actor runtime."""
        match message:
            case CallTool():
                return await self.call(message)
            case StartTools():
                return self.start(message)
            case _:
                raise _unhandled(self, message)


# --- rewards ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One tool call that was made: by which decision of the turn, with which result and which writes.

    `arguments` is None when they were not a JSON object.
    """

    call: ToolCall
    arguments: JsonObject | None
    result: ToolResult
    step: int
    writes: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A goal that was reached, and what earned it: the id of a tool call, or words."""

    goal: str
    evidence: str
    step: int = 0


@dataclass(frozen=True, slots=True)
class RewardPart:
    """One named part of an episode's reward."""

    name: str
    value: float
    weight: float = 1.0
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class EpisodeReward:
    """The reward of an episode, within the `range` its reward declares (0 to 1), with its parts."""

    value: float
    parts: tuple[RewardPart, ...] = ()


@dataclass(frozen=True, slots=True)
class ListGoals(Request[tuple[Goal, ...]]):
    """Asks a reward for the sparse goals of a task."""

    task: Task


@dataclass(frozen=True, slots=True)
class ScoreTurn(Request[tuple[Hit, ...]]):
    """Asks which of the remaining goals the calls of one turn reached: each copy once, in the order of the calls."""

    task: Task
    remaining: tuple[Goal, ...]
    calls: tuple[CallRecord, ...]
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class ScoreEpisode(Request[EpisodeReward]):
    """Asks for the reward of a finished episode; `calls` are those on the way from the root to the final leaf."""

    task: Task
    goals: tuple[Goal, ...]
    achieved: tuple[Hit, ...]
    calls: tuple[CallRecord, ...]
    conversation: Conversation
    world: State


class Reward:
    """Says what counts, in one turn and over an episode.

    `range` holds the least and the greatest reward an episode can get; a reward outside it is a fault. An episode that
    gets the greatest is a success.
    """

    name: ClassVar[str] = "reward"
    range: tuple[float, float] = (0.0, 1.0)

    def goals(self, task: Task) -> tuple[Goal, ...]:
        """The sparse goals of a task; by default those it comes with."""
        return task.goals

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        """The goals reached in one turn; none by default."""
        return ()

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        """The episode's reward; by default the weight of the goals reached over the weight of all."""
        return goal_share(request.goals, request.achieved)

    async def handle(self, message: object) -> object:
        """Dispatch for the actor runtime."""
        match message:
            case ScoreTurn():
                return await self.score_turn(message)
            case ScoreEpisode():
                return await self.score_episode(message)
            case ListGoals():
                return self.goals(message.task)
            case _:
                raise _unhandled(self, message)


def goal_share(goals: tuple[Goal, ...], achieved: tuple[Hit, ...]) -> EpisodeReward:
    """Weight of the goals reached over the weight of all goals; each copy of a goal needs a hit of its own."""
    left = list(achieved)
    parts: list[RewardPart] = []
    for goal in goals:
        hit = next((hit for hit in left if hit.goal == goal.key), None)
        if hit is not None:
            left.remove(hit)
        parts.append(RewardPart(goal.key, float(hit is not None), goal.weight, hit.evidence if hit else ""))
    total = sum(part.weight for part in parts)
    return EpisodeReward(sum(part.value * part.weight for part in parts) / total if total else 0.0, tuple(parts))


def _unhandled(component: object, message: object) -> Unhandled:
    kind = type(message).__name__
    return Unhandled(f"{type(component).__name__} does not handle {kind}; see simkit.components for what it is asked")


# --- cast -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cast:
    """The addresses of everybody in a simulation.

    `unforkable` names the components that cannot be branched; `deterministic` says that the agent ignores seeds, so
    that every branch would be the same; `checks` are told of each task before it is played.
    """

    agent: ActorRef
    user: ActorRef
    tools: ActorRef
    reward: ActorRef
    unforkable: tuple[str, ...] = field(default=())
    deterministic: bool = False
    reward_range: tuple[float, float] = (0.0, 1.0)
    checks: tuple[Callable[[Task], None], ...] = ()

    def check(self, task: Task) -> None:
        """Make sure, before anybody is asked anything, that everybody can play a task.

        Raises:
            UsageError: somebody cannot; the message says what to choose instead.
            UserFault: the check itself failed.
        """
        for check in self.checks:
            try:
                with boundary(UserFault, f"asking whether {task.id} can be played"):
                    check(task)
            except UserFault as fault:
                raise (fault.__cause__ if isinstance(fault.__cause__, UsageError) else fault) from fault.__cause__


def parse_call(call: ToolCall) -> JsonObject | None:
    """The arguments of a call, None when they are not a JSON object."""
    try:
        return cast("JsonObject", call.parse_arguments())
    except InvalidArguments:
        return None
