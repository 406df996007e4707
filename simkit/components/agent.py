"""The contract of agents: their requests and replies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeAlias

from simkit.actors.actor import Request
from simkit.components.state import NO_STATE, Stateful, StateT, StateT_co
from simkit.core.conversation import Conversation
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolMessage, ToolResult, ToolSpec

Observe: TypeAlias = Callable[[ToolCall, ToolResult], Message]


def observe_as_tool(call: ToolCall, result: ToolResult) -> Message:
    """The default observation of a result: a `tool` message, for models with tool calling."""
    return ToolMessage.of(call.id, result.text)


@dataclass(frozen=True, slots=True)
class AgentStart(Stateful[StateT_co]):
    """Initial values of an agent for an episode: its system prompt (None for none) and its first state."""

    system: str | None = None
    state: StateT_co = NO_STATE


@dataclass(frozen=True, slots=True)
class Decision(Stateful[StateT_co]):
    """An agent's next action, exactly one of three: call tools, speak (ends the turn), or neither (decide again).

    Attributes:
        message: the agent's message as its model will see it later; kept in the conversation.
        calls: tools to call; the results are appended to the conversation and the agent decides again.
        say: the text that the user hears; ends the turn. It may differ from the message (e.g. in a text protocol).
        end: the agent ends the conversation with this decision (after its calls, if any).
        state: the agent's new state.
        observe: function that formats a result for this agent's model.
        note: feedback to the model about a message that neither calls nor speaks (it was truncated, or contains no
            command); stored after the message like a tool's result, and not heard by the user.
        tokens, cost: tokens and US dollars that the decision used, for limits.
        flags: doubts about the message, as `kind: detail` (`call_as_text: hermes`); recorded with it.
    """

    message: Message
    calls: tuple[ToolCall, ...] = ()
    say: str | None = None
    end: bool = False
    state: StateT_co = NO_STATE
    observe: Observe = observe_as_tool
    note: Message | None = None
    tokens: int = 0
    cost: float = 0.0
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.calls and self.say is not None:
            raise ValueError("a decision either calls tools or speaks; make two decisions of it")
        if self.note is not None:
            if self.calls or self.say is not None:
                raise ValueError("a note goes with a decision that neither calls nor speaks; leave it out")
            return
        written = getattr(self.message, "tool_calls", None)
        if written and written != self.calls and not self._renamed(written):
            raise ValueError(
                "the calls of a decision are not those of its message; make both the same (`Decision.call`), or leave "
                "them out of the message"
            )

    def _renamed(self, written: tuple[ToolCall, ...]) -> bool:
        """Whether the calls are the written ones under other ids, which the agent's own `observe` translates back."""
        own = self.observe is not observe_as_tool
        return own and [call.function for call in written] == [call.function for call in self.calls]

    @staticmethod
    def speak(text: str, *, state: StateT = NO_STATE, end: bool = False) -> Decision[StateT]:
        """Say something to the user; with `end`, this ends the conversation."""
        return Decision(AssistantMessage.of(text), say=text, state=state, end=end)

    @staticmethod
    def call(*calls: ToolCall, text: str | None = None, state: StateT = NO_STATE) -> Decision[StateT]:
        """Call tools; `text` accompanies the calls and is visible only to the agent's model."""
        return Decision(AssistantMessage.of(text, calls), calls=calls, state=state)


@dataclass(frozen=True, slots=True)
class StartAgent(Request[AgentStart[Any]]):
    """Request for an agent's initial values in an episode; `policy` holds the world's rules for agents, if any."""

    tools: tuple[ToolSpec, ...]
    policy: str = ""

    def serve(self, agent: Agent[Any], /) -> AgentStart[Any]:
        """Ask an agent."""
        return agent.start(self)


@dataclass(frozen=True, slots=True)
class Act(Stateful[StateT_co], Request[Decision[StateT_co]]):
    """Request for an agent's next decision; `step` counts decisions within this turn from 0.

    The task is deliberately not included: the agent has to find out what the user wants.
    """

    key: TurnKey
    conversation: Conversation
    tools: tuple[ToolSpec, ...]
    state: StateT_co
    step: int = 0

    def serve(self, agent: Agent[StateT_co], /) -> Awaitable[Decision[StateT_co]]:
        """Ask an agent."""
        return agent.act(self)


class Agent(ABC, Generic[StateT]):
    """Takes the agent's turn, one decision at a time."""

    name: ClassVar[str] = "agent"
    forkable: ClassVar[bool] = True
    concurrency: int | None = None
    """Maximum number of concurrent requests, None for no limit; further requests wait."""
    sessions: int | None = None
    """Maximum number of concurrently open conversations, None for no limit; further episodes wait before they start."""
    uncounted: ClassVar[str] = ""
    """What it uses that no budget of the run counts, as a clause for a note; empty if all its calls are the run's."""
    deterministic: bool = False
    """Whether equal requests get equal decisions regardless of the seed (temperature 0). Branching is then refused."""

    def start(self, request: StartAgent) -> AgentStart[StateT]:
        """The system prompt and first state for an episode; both None by default."""
        return AgentStart()

    @abstractmethod
    async def act(self, request: Act[StateT]) -> Decision[StateT]:
        """The next decision."""
