"""Base class of model-backed agents: the seeded model call, its cost, and unusable replies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import ClassVar

from simkit.agents.few_shot import demonstrated_messages
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.model_view import and_send, says_nothing
from simkit.core.conversation import HIDDEN_FROM_AGENT, Conversation
from simkit.core.messages import (
    AssistantMessage,
    JsonObject,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSpec,
    UserMessage,
    text_of,
)
from simkit.core.persistent_list import JsonList
from simkit.core.reasoning import leaks_reasoning, without_reasoning
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, is_deterministic
from simkit.plugins.prompts import Prompt, PromptChoice, choose_prompt

CUT_OFF = "ERROR: your reply was cut off because it was too long. Write a shorter one."
FILTERED = "ERROR: your reply was withheld by a content filter. Put it in other words."
EMPTY = "ERROR: your reply was empty. Call a tool or answer the customer."
CALL_CUT_OFF = "ERROR: your reply was cut off because it was too long, so its tool calls were not executed. Call again."
UNPARSED = (
    "ERROR: your tool call could not be parsed, so nothing was executed. Call again, with a JSON object as arguments, "
    "or answer the customer."
)
UNPARSED_BESIDE = (
    "ERROR: another tool call in the same message could not be parsed, so it was not executed. If you still need it, "
    "call again, with a JSON object as arguments."
)


@dataclass(frozen=True, slots=True)
class SentMessages:
    """State of a model-backed agent: the messages already converted, so that a call converts only new ones.

    It follows from the conversation, and is rebuilt if it belongs to another one.

    Attributes:
        seen: the conversation that `messages` covers.
        messages: the messages for the model.
        specs, tools: the tools as given and as sent.
    """

    seen: Conversation = field(default_factory=Conversation)
    messages: JsonList[Message] = field(default_factory=JsonList[Message])
    specs: tuple[ToolSpec, ...] = ()
    tools: JsonList[ToolSpec] = field(default_factory=JsonList[ToolSpec])


class ModelAgent(Agent[SentMessages | None]):
    """An agent whose decisions are answers of a model: one call each, seeded by the turn's key.

    An unusable answer (empty, cut off, withheld by a filter) is recorded as it is. The model receives a note and
    decides again while the turn has steps left. The note begins with `ERROR:`, so that the harvest takes no example
    from such a conversation.

    Args:
        model: the model that makes the decisions; the agent is `deterministic` if its model is.
        prompt: `compact` for a shorter prompt, or the path of a text file to use instead of the shipped one.
        examples: path of a file of demonstrations (`simkit export sft`), which the model sees before each conversation.
            They are sent, but they are not part of the conversation, and not of training data made from it.
    """

    prompt_file: ClassVar[str]
    needed_places: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: ChatModel, prompt: PromptChoice = None, examples: Path | None = None) -> None:
        self._model = model
        self._prompt = choose_prompt("simkit.agents", self.prompt_name, prompt, self.needed_places)
        shown = demonstrated_messages(examples) if examples else ()
        self._examples = tuple(self.for_endpoint(each) for each in self.as_written(shown))
        self.deterministic = is_deterministic(model)

    @property
    def prompt_name(self) -> str:
        """File name of the shipped prompt."""
        return self.prompt_file

    @property
    def prompt(self) -> Prompt:
        """The prompt of this agent."""
        return self._prompt

    def start(self, request: StartAgent) -> AgentStart[SentMessages | None]:
        """The system prompt, with the world's own rules for agents."""
        return AgentStart(self._prompt.fill(**self.places(request)))

    async def act(self, request: Act[SentMessages | None]) -> Decision[SentMessages | None]:
        """One call of the model, read as a decision.

        Raises:
            ModelFault: the model call failed.
        """
        sent = self._sent(request)
        key = CallKey(request.key, "agent", request.step)
        form = self.response_format(request)
        asked = ChatRequest(messages=sent.messages, tools=sent.tools, response_format=form, seed=key.seed)
        response = await self._model.complete(asked, key)
        decision, usage = self.read(response, request), response.usage
        return replace(decision, state=sent, tokens=usage.tokens, cost=usage.cost)

    def places(self, request: StartAgent) -> dict[str, str]:
        """Values of the prompt's placeholders."""
        return {"policy": request.policy}

    def tools(self, request: Act[SentMessages | None]) -> tuple[ToolSpec, ...]:
        """Tools to send with the messages; empty for agents that describe tools in the prompt."""
        return ()

    def response_format(self, request: Act[SentMessages | None]) -> JsonObject | None:
        """The form that replies must have, as OpenAI's `response_format`; None by default."""
        return None

    def for_endpoint(self, message: Message) -> Message:
        """A message in a form that endpoints accept; unchanged by default."""
        return message

    def as_written(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Demonstrations in the form in which this agent's model writes; unchanged by default."""
        return messages

    @abstractmethod
    def read(self, response: ChatResponse, request: Act[SentMessages | None]) -> Decision[SentMessages | None]:
        """Read a response as a decision."""

    def _sent(self, request: Act[SentMessages | None]) -> SentMessages:
        """The messages and tools for this request, extended from those of the previous one."""
        before = request.state or SentMessages()
        new, messages = request.conversation.since(before.seen), before.messages
        if new is None:
            new, messages = request.conversation.tail(0), JsonList[Message]()
        unseen = self._examples if messages.last is None else ()
        for entry in new:
            if unseen and not isinstance(entry.message, SystemMessage):
                messages, unseen = reduce(and_send, unseen, messages), ()
            if entry.author not in HIDDEN_FROM_AGENT:
                messages = and_send(messages, self.for_endpoint(entry.message))
        specs = self.tools(request)
        tools = before.tools if specs is before.specs else JsonList(specs)
        return SentMessages(request.conversation, messages, specs, tools)


def retry_with(message: AssistantMessage, note: str, *flags: str) -> Decision[SentMessages | None]:
    """A decision that records the message, sends the model a note about its fault, and lets it decide again."""
    return Decision(message, note=UserMessage.of(note), flags=flags)


def call_beside_unparsed(
    message: AssistantMessage, calls: tuple[ToolCall, ...], *flags: str
) -> Decision[SentMessages | None]:
    """A decision that makes calls of a message in which another call could not be read, and tells the model so.

    The note stands in the last result, because endpoints and chat templates want results directly after their calls.
    It begins with `ERROR:`, so that the harvest takes no example from such a conversation.
    """

    def observe(call: ToolCall, result: ToolResult) -> Message:
        return ToolMessage.of(call.id, f"{result.text}\n{UNPARSED_BESIDE}" if call.id == calls[-1].id else result.text)

    return Decision(message, calls=calls, observe=observe, flags=flags)


def say(message: AssistantMessage, text: str, *flags: str) -> Decision[SentMessages | None]:
    """A decision that says a text, flagged if it still seems to hold reasoning."""
    return Decision(message, say=text, flags=(*flags, "leaked_reasoning") if leaks_reasoning(text) else flags)


def reply_flags(response: ChatResponse) -> tuple[str, ...]:
    """Flags for doubts about a reply: it ended for an unknown reason, or it holds a call that could not be read."""
    if response.unparsed is not None and response.finish != "length":
        return (f"unparsed_call: {response.unparsed}" if response.unparsed else "unparsed_call",)
    if response.finish != "unknown":
        return ()
    return tuple(doubt for doubt in response.doubts if doubt.startswith("unknown_finish")) or ("unknown_finish",)


def unusable_reason(response: ChatResponse) -> str | None:
    """The note for the model about an unusable answer without calls; None if the answer is usable."""
    if response.finish == "length":
        return CUT_OFF
    if response.finish == "content_filter":
        return FILTERED
    if response.unparsed is not None:
        return UNPARSED
    return None if spoken_text(response_message(response)) else EMPTY


def spoken_text(message: AssistantMessage) -> str:
    """The text of an answer without the reasoning that some models write before it."""
    return without_reasoning(text_of(message)).strip()


def response_message(response: ChatResponse) -> AssistantMessage:
    """The message of a response; the text of a refusal becomes its content, where endpoints and trainers read it."""
    message = response.message
    refusal = (message.model_extra or {}).get("refusal")
    return AssistantMessage.of(refusal) if isinstance(refusal, str) and says_nothing(message) else message


def named_calls(message: AssistantMessage, request: Act[SentMessages | None]) -> tuple[ToolCall, ...]:
    """The calls of a message under ids made from their position: `t03s01c00`.

    Providers invent ids at random, repeat them, or leave them empty. Two branches that make the same call must be equal
    in the store, and every result must find its call. The strictest provider accepts nine letters and digits.
    """
    return tuple(
        call.model_copy(update={"id": call_id(request, index)}) for index, call in enumerate(message.tool_calls or ())
    )


def call_id(request: Act[SentMessages | None], index: int) -> str:
    """The id of one call of a decision."""
    return f"t{request.key.turn:02d}s{request.step:02d}c{index:02d}"
