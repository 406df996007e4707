"""Reply formats of a user's model: the spoken text, and the signal that hangs up.

The signal is never a word in a sentence. It is a tool call (`tool`), a field of a JSON object (`json`), or, for models
that support neither, a line that consists of a token (`line`).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias, assert_never, cast

import orjson

from simkit.core.messages import AssistantMessage, ToolSpec, text_of
from simkit.core.persistent_list import JsonList
from simkit.core.reasoning import leaks_reasoning, without_reasoning
from simkit.core.text_calls import find_calls
from simkit.models.base import ChatRequest, ChatResponse
from simkit.plugins.prompts import shipped_prompt

Ending: TypeAlias = Literal["tool", "json", "line"]
Reason: TypeAlias = Literal["done", "gave_up"]

IGNORED = "format_ignored: user_turn"
"""Flag of a reply that did not follow the schema of the request."""

TOKEN = "END_CONVERSATION"
GOODBYE = "Goodbye."
"""Utterance of a model that hangs up without text."""

_TOKEN_LINE = re.compile(rf"^[^\w\n]*{TOKEN}[^\w\n]*$", re.MULTILINE)
_ADVICE = re.compile(r"^[*_\s]*ADVICE[*_]*:", re.MULTILINE)
_SAY = re.compile(r"^[*_ \t]*SAY[*_]*:[*_]*", re.MULTILINE)
_FENCE = re.compile(r"\s*```\w*\s*(.*?)\s*```\s*", re.DOTALL)

END_TOOL = ToolSpec.of(
    "end_conversation",
    "Hang up: the conversation is over, and nothing can be said after it.",
    {
        "message": {"type": "string", "description": "The last words the agent hears."},
        "reason": {
            "type": "string",
            "enum": ["done", "gave_up"],
            "description": "done: everything on the list was dealt with; gave_up: leaving without.",
        },
    },
    ("message", "reason"),
)


_END_LINE = re.compile(rf"^[^\w\n]*(?:functions\.)?{END_TOOL.name}[^\w\n]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class UserReply:
    """A user's turn as its model wrote it.

    Attributes:
        text: the spoken text.
        end: True if the user hangs up with it; `reason` says how, `done` unless the model says otherwise.
        advice: the advice that the model gave itself first (guide only).
        flags: doubts about the reply itself.
    """

    text: str
    end: bool = False
    reason: Reason = "done"
    advice: str = ""
    flags: tuple[str, ...] = ()


class ReplyFormat(ABC):
    """One way to write a reply.

    Args:
        advice: whether the model first gives itself advice.
        compact: whether the format is for small models; its schema, if it has one, says what the opening cannot do.
    """

    def __init__(self, *, advice: bool, compact: bool = False) -> None:
        self._advice = advice
        self._compact = compact

    @property
    @abstractmethod
    def wording(self) -> str:
        """The prompt's paragraph about this format."""

    @abstractmethod
    def ask(self, request: ChatRequest, *, opening: bool = False) -> ChatRequest:
        """The request with the additions of this format; `opening` if nothing has been said yet."""

    def read(self, response: ChatResponse) -> UserReply | None:
        """Read a response; None if it contains no reply."""
        if response.finish in ("content_filter", "refusal"):
            return None
        message = response.message.without_calls() if response.finish == "length" else response.message
        reply = self.parse(message, without_reasoning(text_of(message)).strip())
        if reply is None:
            return None
        if found := find_calls(reply.text, ToolFormat.tools, anywhere=True, any_tool=True):
            reply = replace(reply, text=found.words, flags=(*reply.flags, f"call_as_text: {found.notation}"))
        if leaks_reasoning(reply.text):
            reply = replace(reply, flags=(*reply.flags, "leaked_reasoning"))
        if response.finish == "unknown":
            reply = replace(reply, flags=(*reply.flags, "unknown_finish"))
        if reply.end and not reply.text:
            reply = replace(reply, text=GOODBYE, flags=(*reply.flags, "silent_end"))
        if response.finish == "length":
            reply = replace(reply, flags=(*reply.flags, "cut_off"))
        return reply if reply.text else None

    def ignored(self, response: ChatResponse) -> bool:
        """Whether a complete response does not follow the schema of its request. Most forms have none."""
        return False

    @abstractmethod
    def parse(self, message: AssistantMessage, text: str) -> UserReply | None:
        """The reply of a message with this text."""

    def _said(self, text: str) -> UserReply:
        return _advised(text) if self._advice else UserReply(text)

    def _words(self, ending: str) -> str:
        wording = shipped_prompt("simkit.users", ending).text.strip()
        return (
            f"{shipped_prompt('simkit.users', 'advice-1.txt').text.strip()}\n\n{wording}" if self._advice else wording
        )


class ToolFormat(ReplyFormat):
    """Plain text, and a tool that hangs up."""

    tools: ClassVar[JsonList[ToolSpec]] = JsonList((END_TOOL,))

    @property
    def wording(self) -> str:
        """The prompt's paragraph about the tool."""
        return self._words("ending-tool-1.txt")

    def ask(self, request: ChatRequest, *, opening: bool = False) -> ChatRequest:
        """The request with the tool."""
        return replace(request, tools=self.tools)

    def parse(self, message: AssistantMessage, text: str) -> UserReply | None:
        """The text, or otherwise the message of the tool call. A call that comes as text counts and is not spoken."""
        text, written, notation = _without_call(text)
        reply = self._said(text)
        calls = [(call.name, call.arguments) for call in message.tool_calls or ()] or written
        if notation:
            reply = replace(reply, flags=(*reply.flags, f"call_as_text: {notation}"))
        ending = next((arguments for name, arguments in calls if name == END_TOOL.name), None)
        if ending is None:
            return replace(reply, flags=(*reply.flags, "unknown_tool")) if calls else reply
        last = _arguments(ending)
        return replace(reply, text=reply.text or _text(last.get("message")), end=True, reason=_reason(last))


class JsonFormat(ReplyFormat):
    """A JSON object with a field that hangs up, asked for with the provider's structured output."""

    def ignored(self, response: ChatResponse) -> bool:
        """Whether a complete response is not the object that was asked for, and nothing else."""
        if response.finish != "stop":
            return False
        reply = self.parse(response.message, without_reasoning(text_of(response.message)).strip())
        return reply is None or IGNORED in reply.flags

    @property
    def wording(self) -> str:
        """The prompt's paragraph about the JSON fields."""
        return shipped_prompt("simkit.users", f"ending-json{'-advice' if self._advice else ''}-1.txt").text.strip()

    def ask(self, request: ChatRequest, *, opening: bool = False) -> ChatRequest:
        """The request with the schema of the object. Small models cannot hang up with their first words."""
        begins = opening and self._compact
        fields: dict[str, Any] = {"advice": {"type": "string"}} if self._advice else {}
        fields |= {"say": {"type": "string"}, "end": {"type": "boolean", **({"enum": [False]} if begins else {})}}
        fields |= {"reason": {"type": "string", "enum": [""] if begins else ["", "done", "gave_up"]}}
        schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
        named = {"name": "user_turn", "strict": True, "schema": schema}
        return replace(request, response_format={"type": "json_schema", "json_schema": named})

    def parse(self, message: AssistantMessage, text: str) -> UserReply | None:
        """The fields of the object; None if the text is not a JSON object."""
        fenced = _FENCE.fullmatch(text)
        try:
            value: object = orjson.loads(fenced[1] if fenced else text)
        except orjson.JSONDecodeError:
            return None
        fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        end = fields.get("end") is True
        reply = UserReply(_text(fields.get("say")), end, _reason(fields), _text(fields.get("advice")))
        return reply if "say" in fields else replace(reply, flags=(IGNORED,))


class LineFormat(ReplyFormat):
    """Plain text, and a token on a line of its own that hangs up."""

    @property
    def wording(self) -> str:
        """The prompt's paragraph about the token."""
        return self._words("ending-line-1.txt")

    def ask(self, request: ChatRequest, *, opening: bool = False) -> ChatRequest:
        """The unchanged request."""
        return request

    def parse(self, message: AssistantMessage, text: str) -> UserReply | None:
        """The text above the token; the token inside a sentence does not hang up, and is flagged."""
        token = _TOKEN_LINE.search(text)
        reply = self._said((text[: token.start()] if token else text).strip())
        if token is None:
            return replace(reply, flags=(*reply.flags, "stray_token")) if TOKEN in text else reply
        return replace(reply, end=True)


def form_of(ending: Ending, *, advice: bool = False, compact: bool = False) -> ReplyFormat:
    """The format with this signal."""
    match ending:
        case "tool":
            return ToolFormat(advice=advice, compact=compact)
        case "json":
            return JsonFormat(advice=advice, compact=compact)
        case "line":
            return LineFormat(advice=advice, compact=compact)
        case _:
            assert_never(ending)


def _advised(text: str) -> UserReply:
    """Split advice and speech by their labels; without labels the whole text is spoken, and flagged."""
    say = _SAY.search(text)
    if say is None:
        return UserReply(text, flags=("no_advice",) if text else ())
    advice = _ADVICE.sub("", text[: say.start()]).strip()
    return UserReply(text[say.end() :].strip(), advice=advice)


def _without_call(text: str) -> tuple[str, list[tuple[str, str]], str]:
    """The text without calls, the calls in it by name and arguments, and their notation, empty if there are none."""
    found = find_calls(text, ToolFormat.tools, anywhere=True)
    if found is not None:
        calls = [(call.name, call.arguments) for call in found.calls]
        if not calls and END_TOOL.name in text:
            calls = [(END_TOOL.name, "")]  # its arguments cannot be read, but its name says enough
        return found.words, calls, found.notation
    alone = _END_LINE.search(text) if END_TOOL.name in text else None
    return (text, [], "") if alone is None else (text[: alone.start()].strip(), [(END_TOOL.name, "")], "name")


def _arguments(arguments: str) -> dict[str, Any]:
    try:
        value: object = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _reason(fields: dict[str, Any]) -> Reason:
    return "gave_up" if fields.get("reason") == "gave_up" else "done"
