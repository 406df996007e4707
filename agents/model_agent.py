"""What agents that ask a model have in common: the call, its seed and its price, and answers that are none."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.model_view import and_send, says_nothing
from simkit.core.conversation import Conversation
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolSpec, UserMessage, text_of, without_reasoning
from simkit.core.persistent_list import JsonList
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, is_deterministic
from simkit.plugins.prompts import Prompt, read_prompt, shipped_prompt

CUT_OFF = "ERROR: your reply was cut off because it was too long. Write a shorter one."
FILTERED = "ERROR: your reply was withheld by a content filter. Put it in other words."
EMPTY = "ERROR: your reply was empty. Call a tool or answer the customer."


@dataclass(frozen=True, slots=True)
class Sent:
    """The state of an agent that asks a model: what it has sent already, so that a call pays for what is new alone.

    It follows from the conversation, and is made anew wherever it does not belong to the one at hand.

    Attributes:
        seen: the conversation up to which `messages` goes.
        messages: what that comes to for the model.
        specs, tools: the tools, as they were given and as they are sent.
    """

    seen: Conversation = field(default_factory=Conversation)
    messages: JsonList[Message] = field(default_factory=JsonList[Message])
    specs: tuple[ToolSpec, ...] = ()
    tools: JsonList[ToolSpec] = field(default_factory=JsonList[ToolSpec])


class ModelAgent(Agent):
    """An agent whose decisions are answers of a model: one call each, seeded by the turn's key.

    An answer nobody could act on (empty, cut off, withheld by a filter) stays in the record as the model gave it, and
    the model is told; it decides again while the turn has steps left. What it is told begins with `ERROR:`, so the
    harvest takes no example from such a conversation.

    Attributes of the constructor:
        model: makes the decisions; the agent is as `deterministic` as its model.
        prompt: path of a text file to use instead of the shipped prompt.
    """

    prompt_file: ClassVar[str]
    needed_places: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: ChatModel, prompt: Path | None = None) -> None:
        self._model = model
        self._prompt = (
            read_prompt(prompt, self.needed_places) if prompt else shipped_prompt("simkit.agents", self.prompt_file)
        )
        self.deterministic = is_deterministic(model)

    @property
    def prompt(self) -> Prompt:
        """The prompt it starts from."""
        return self._prompt

    def start(self, request: StartAgent) -> AgentStart:
        """The system prompt, with the world's own rules for agents."""
        return AgentStart(self._prompt.fill(**self.places(request)))

    async def act(self, request: Act) -> Decision:
        """One call of the model, read as a decision.

        Raises:
            ModelFault: the model has no answer.
        """
        sent = self._sent(request)
        key = CallKey(request.key, "agent", request.step)
        asked = ChatRequest(messages=sent.messages, tools=sent.tools, seed=key.seed)
        response = await self._model.complete(asked, key)
        decision, usage = self.read(response, request), response.usage
        return replace(decision, state=sent, tokens=usage.tokens, cost=usage.cost)

    def places(self, request: StartAgent) -> dict[str, str]:
        """What the places of the prompt hold."""
        return {"policy": request.policy}

    def tools(self, request: Act) -> tuple[ToolSpec, ...]:
        """The tools the model is told of beside the messages; none for agents that put them in words."""
        return ()

    def mend(self, message: Message) -> Message:
        """A message of the conversation as endpoints take it; as it is by default."""
        return message

    @abstractmethod
    def read(self, response: ChatResponse, request: Act) -> Decision:
        """What the model decided."""

    def _sent(self, request: Act) -> Sent:
        """What is sent for this request, made from what was sent for the one before."""
        before = request.state if isinstance(request.state, Sent) else Sent()
        new, messages = request.conversation.since(before.seen), before.messages
        if new is None:
            new, messages = request.conversation.tail(0), JsonList[Message]()
        for entry in new:
            if entry.author != "runtime":
                messages = and_send(messages, self.mend(entry.message))
        specs = self.tools(request)
        tools = before.tools if specs is before.specs else JsonList(specs)
        return Sent(request.conversation, messages, specs, tools)


def told(message: AssistantMessage, note: str) -> Decision:
    """A decision that keeps the message, tells the model what was wrong with it, and lets it decide again."""
    return Decision(message, note=UserMessage.of(note))


def trouble(response: ChatResponse) -> str | None:
    """What to tell the model about an answer without calls that nobody could act on; None when it is fine."""
    if response.finish == "length":
        return CUT_OFF
    if response.finish == "content_filter":
        return FILTERED
    return None if aloud(written(response)) else EMPTY


def aloud(message: AssistantMessage) -> str:
    """The words of an answer without the reasoning some models write before it."""
    return without_reasoning(text_of(message)).strip()


def written(response: ChatResponse) -> AssistantMessage:
    """The message of a response; a refusal's words stand in its content, where endpoints and trainers read them."""
    message = response.message
    refusal = (message.model_extra or {}).get("refusal")
    return AssistantMessage.of(refusal) if isinstance(refusal, str) and says_nothing(message) else message


def named_calls(message: AssistantMessage, request: Act) -> tuple[ToolCall, ...]:
    """The calls of a message under ids that follow from their place: `t03s01c00`.

    Providers invent ids at random, repeat them, or leave them empty. Two branches that make the same call must be equal
    in the store, and every result must find its call. Nine letters and digits are what the strictest provider takes.
    """
    return tuple(
        call.model_copy(update={"id": call_id(request, index)}) for index, call in enumerate(message.tool_calls or ())
    )


def call_id(request: Act, index: int) -> str:
    """The id of one call of a decision."""
    return f"t{request.key.turn:02d}s{request.step:02d}c{index:02d}"
