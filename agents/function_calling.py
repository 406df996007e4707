"""An agent for models with tool calling (the OpenAI chat format)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from simkit.agents.model_agent import (
    CALL_CUT_OFF,
    FILTERED,
    ModelAgent,
    SentMessages,
    call_beside_unparsed,
    call_id,
    named_calls,
    reply_flags,
    response_message,
    retry_with,
    say,
    spoken_text,
    unusable_reason,
)
from simkit.components.agent import Act, AgentStart, Decision, StartAgent
from simkit.components.model_view import with_valid_calls
from simkit.components.world import World
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolSpec, parse_call
from simkit.core.text_calls import UNPARSED, TextCalls, find_calls
from simkit.errors import UsageError
from simkit.models.base import ChatModel, ChatResponse, lacks_for_tools
from simkit.plugins.prompts import COMPACT, Prompt

AgentPrompt: TypeAlias = Path | Literal["compact", "world"] | None
"""None for the usual prompt, `compact` for the one in few words, `world` for that of the world's data, or a path."""

CALL_AS_TEXT = (
    "ERROR: you wrote a tool call as text, so it was not executed, and the customer did not hear it. Use the "
    "tool-calling interface, or answer the customer in plain words."
)


class FunctionCallingAgent(ModelAgent):
    """An agent that uses its model's own tool calling, and speaks when an answer holds no call.

    All calls of an answer form one decision; text beside them stays in the conversation but is not spoken. Arguments
    that are not JSON go unchanged to the tool server, and the model reads its error. A call that could not be read does
    not spoil those beside it: they are executed, and the model is told of it with the last result. Calls of an answer
    that was cut off are not executed.

    Args:
        model, examples: see `ModelAgent`.
        prompt: as in `ModelAgent`, or `world` for the system prompt of the world's own release, word for word: the
            prompt `agent` of `World.prompts`, or else the world's rules alone (tau-bench).
        text_calls: what to do with a call that comes as text, because the server has no parser for the model's
            notation: `tell` the model, or `read` and execute it. Both flag the message, and neither speaks the call.
        calls: `all` calls of an answer are made, or only the `first`, which is then the only one in the conversation
            (as in tau-bench). The message has the flag `dropped_calls` if there were more.
        stop: name of a tool; in an answer that calls it, the other calls are dropped (`done` of tau2-bench).
        world: the world, for its prompts.

    Raises:
        UsageError: the model cannot be given tools, or an option is invalid.
    """

    name: ClassVar[str] = "function_calling"
    prompt_file: ClassVar[str] = "function-calling-1.txt"

    def __init__(
        self,
        model: ChatModel,
        prompt: AgentPrompt = None,
        text_calls: Literal["tell", "read"] = "tell",
        examples: Path | None = None,
        calls: Literal["all", "first"] = "all",
        stop: str = "",
        world: World | None = None,
    ) -> None:
        if text_calls not in ("tell", "read"):
            raise UsageError(f"text_calls is `{text_calls}`; it must be `tell` or `read`")
        if calls not in ("all", "first"):
            raise UsageError(f"calls is `{calls}`; it must be `all` or `first`")
        if (lacks := lacks_for_tools(model)) is not None:
            raise UsageError(
                f"the agent `{self.name}` gives its model tools, and `{model.name}` cannot take them: {lacks}; choose "
                "the agent `react`, which describes them in its prompt (--agent react)"
            )
        own = COMPACT if prompt == COMPACT else prompt if isinstance(prompt, Path) else None
        super().__init__(model, own, examples)
        self._text_calls = text_calls
        self._first_only = calls == "first"
        self._stop = stop
        self._of_world = prompt == "world"
        self._world = world

    def start(self, request: StartAgent) -> AgentStart[SentMessages | None]:
        """The system prompt, with the world's own rules for agents."""
        if not self._of_world:
            return super().start(request)
        text = "{{policy}}" if self._world is None else self._world.prompts.get("agent", "{{policy}}")
        return AgentStart(Prompt("world", text, exact=True).fill(policy=request.policy) or None)

    def tools(self, request: Act) -> tuple[ToolSpec, ...]:
        """All tools of the request."""
        return request.tools

    def for_endpoint(self, message: Message) -> Message:
        """The message with valid arguments and tool names, because endpoints refuse a history without them."""
        return with_valid_calls(message)

    def read(self, response: ChatResponse, request: Act) -> Decision:
        """The calls, or otherwise the spoken text."""
        message, flags = response_message(response), reply_flags(response)
        if message.tool_calls:
            if _is_cut_off(response, message.tool_calls):
                note = FILTERED if response.finish == "content_filter" else CALL_CUT_OFF
                return retry_with(message.without_calls(), note, *flags, f"cut_off_call: {message.tool_calls[-1].name}")
            calls = named_calls(message, request)
            return self._calling(message, calls, request, flags, unread=response.unparsed is not None)
        text, wrong = spoken_text(message), unusable_reason(response)
        written = find_calls(text, request.tools) if response.unparsed is None else None
        if written is not None:
            return self._written(message, written, request, wrong, flags)
        return say(message, text, *flags) if wrong is None else retry_with(message, wrong, *flags)

    def _written(
        self, message: AssistantMessage, written: TextCalls, request: Act, wrong: str | None, flags: tuple[str, ...]
    ) -> Decision:
        """The decision on an answer that holds calls as text."""
        flags = (*flags, f"call_as_text: {written.notation}")
        if wrong is not None or self._text_calls == "tell" or not written.calls:
            return retry_with(message, wrong or CALL_AS_TEXT, *flags)
        calls = tuple(
            ToolCall.of(call_id(request, index), call.name, call.arguments) for index, call in enumerate(written.calls)
        )
        flags = (*flags, f"{UNPARSED}: {written.notation}") if written.unread else flags
        rest = message.model_copy(update={"content": written.rest or None})
        return self._calling(rest, calls, request, flags, unread=bool(written.unread))

    def _calling(
        self,
        message: AssistantMessage,
        calls: tuple[ToolCall, ...],
        request: Act,
        flags: tuple[str, ...],
        *,
        unread: bool,
    ) -> Decision:
        """The decision that makes the calls; with `unread`, the model is told of another one that could not be read."""
        kept = self._kept(calls, request)
        if len(kept) < len(calls):
            flags, calls = (*flags, f"dropped_calls: {len(calls) - len(kept)}"), kept
        made = message.model_copy(update={"tool_calls": calls})
        return call_beside_unparsed(made, calls, *flags) if unread else Decision(made, calls=calls, flags=flags)

    def _kept(self, calls: tuple[ToolCall, ...], request: Act) -> tuple[ToolCall, ...]:
        """The calls that are made."""
        stops = bool(self._stop) and any(spec.name == self._stop for spec in request.tools)
        ending = tuple(call for call in calls if call.name == self._stop) if stops else ()
        return ending[:1] or (calls[:1] if self._first_only else calls)


def _is_cut_off(response: ChatResponse, calls: tuple[ToolCall, ...]) -> bool:
    """Whether the calls may be incomplete, even if their arguments can be read."""
    if response.finish == "unknown":
        return any(parse_call(call) is None for call in calls)
    return response.finish in ("length", "content_filter")
