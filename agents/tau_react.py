"""The text agents of tau-bench: a thought and an action, or an action alone."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Final, Literal, TypeAlias, cast, get_args

from simkit.agents.model_agent import (
    CUT_OFF,
    ModelAgent,
    SentMessages,
    call_id,
    reply_flags,
    response_message,
    retry_with,
    say,
    spoken_text,
    unusable_reason,
)
from simkit.components.agent import Act, AgentStart, Decision, StartAgent
from simkit.components.world import World
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolResult, UserMessage
from simkit.errors import UsageError
from simkit.models.base import ChatModel, ChatResponse
from simkit.plugins.prompts import Prompt, shipped_prompt

Strategy: TypeAlias = Literal["react", "act"]

ACTION: Final = "Action:"
OUTPUT: Final = "API output: "
RESPOND: Final = "respond"
UNREADABLE: Final = (
    'ERROR: your action was not understood. Write one JSON object: {"name": "the tool", "arguments": {...}}, or '
    '{"name": "respond", "arguments": {"content": "what the customer hears"}}.'
)


class TauReactAgent(ModelAgent):
    """An agent that writes `Thought: ... Action: {...}` as in tau-bench, for models without tool calling.

    What stands behind the last `Action:` is a JSON object that names a tool, or `respond` to speak. Text that is no
    JSON is said as it is, as in the release. A JSON value that is no action, which stops the release, has no effect:
    the model is told, and decides again. Results are user messages that begin with `API output:`.

    Args:
        model: see `ModelAgent`.
        world: the world, whose prompts are used word for word if it brings them (`World.prompts`); otherwise simkit's.
        strategy: `react` with a thought, `act` without one.

    Raises:
        UsageError: there is no such strategy.
    """

    name: ClassVar[str] = "tau_react"
    prompt_file: ClassVar[str] = "tau-react-1.txt"

    def __init__(self, model: ChatModel, world: World | None = None, strategy: Strategy = "react") -> None:
        if strategy not in get_args(Strategy):
            raise UsageError(f"the agent `{self.name}` has no strategy `{strategy}`; choose react or act")
        self._strategy: Strategy = strategy
        self._world = world
        super().__init__(model)

    @property
    def prompt_name(self) -> str:
        """The prompt with a thought, or the one without."""
        return f"tau-{self._strategy}-1.txt"

    def start(self, request: StartAgent) -> AgentStart[SentMessages | None]:
        """The system prompt, with the world's own rules for agents and the tools as JSON."""
        text = None if self._world is None else self._world.prompts.get(self._strategy)
        prompt = (
            shipped_prompt("simkit.agents", self.prompt_name) if text is None else Prompt("world", text, exact=True)
        )
        return AgentStart(prompt.fill(**self.places(request)))

    def places(self, request: StartAgent) -> dict[str, str]:
        """The world's rules, and its tools as JSON."""
        return {"policy": request.policy, "tools": json.dumps([tool.to_openai() for tool in request.tools])}

    def read(self, response: ChatResponse, request: Act[SentMessages | None]) -> Decision[SentMessages | None]:
        """The call or the speech of a reply, or a note about its error."""
        message, flags = response_message(response).without_calls(), reply_flags(response)
        wrong = CUT_OFF if response.finish == "length" else unusable_reason(response)
        if wrong is not None:
            return retry_with(message, wrong, *flags)
        written = spoken_text(message).rpartition(ACTION)[2].strip()
        try:
            action: object = json.loads(written)
        except (ValueError, RecursionError):
            return say(message, written, *flags) if written else retry_with(message, UNREADABLE, *flags)
        return _decided(message, action, request, flags)


def _decided(
    message: AssistantMessage, action: object, request: Act[SentMessages | None], flags: tuple[str, ...]
) -> Decision[SentMessages | None]:
    fields = cast("dict[str, Any]", action) if isinstance(action, dict) else {}
    name, arguments = fields.get("name"), fields.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return retry_with(message, UNREADABLE, *flags)
    if name == RESPOND:
        said = cast("dict[str, Any]", arguments).get("content")
        if not isinstance(said, str) or not said.strip():
            return retry_with(message, UNREADABLE, *flags)
        return say(message, said, *flags)
    call = ToolCall.of(call_id(request, 0), name, json.dumps(arguments, ensure_ascii=False))
    return Decision(message, calls=(call,), observe=_observe, flags=flags)


def _observe(call: ToolCall, result: ToolResult) -> Message:
    return UserMessage.of(f"{OUTPUT}{result.text}")
