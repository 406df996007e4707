"""Server side of the OpenAI chat format: parses requests; builds completions, chunks and errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from pydantic import ValidationError

from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolSpec, parse_message
from simkit.core.reasoning import FIELD, may_open_reasoning, reasoning_of, split_reasoning
from simkit.core.text_calls import certain_words
from simkit.errors import BadRequest, ContextTooLong, ModelFault, SimkitError, UsageError
from simkit.local.chat import ChatFormat
from simkit.local.incremental import GrowingText
from simkit.models.base import ChatRequest, ChatResponse
from simkit.models.sampling import Sampling

_REFUSED = ("logit_bias", "top_logprobs", "functions", "function_call", "audio", "prediction", "web_search_options")
"""Unsupported fields that would change the answer."""


_ROLES = frozenset(("system", "developer", "user", "assistant", "tool"))
_T = TypeVar("_T")

_LONGEST_MARK = 24
"""Maximum characters of a mark after an answer, such as `</answer>`."""

_DECIDED = 64
"""Characters after which only the end of a mark can decide whether a reply begins with reasoning."""

_MAY_END_MARK = re.compile(r"[>\]▷:]")


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A parsed request.

    Attributes:
        request: the chat request.
        model: the requested model.
        stream: whether to stream the answer.
        usage: whether the stream ends with the number of tokens.
    """

    request: ChatRequest
    model: str
    stream: bool = False
    usage: bool = False


def read_request(body: object) -> CompletionRequest:
    """The request in a body.

    Raises:
        BadRequest: the body is invalid, or needs a feature that local models lack; the message names the field.
    """
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object; send a chat completion request")
    fields = cast("dict[str, Any]", body)
    for name in _REFUSED:
        if fields.get(name):
            raise BadRequest(f"this server does not support `{name}`; omit it")
    if _whole(fields, "n") not in (None, 1):
        raise BadRequest("`n` is not 1: this server gives one answer per request; for more, send several with seeds")
    request = ChatRequest(
        messages=tuple(_message(f"messages.{index}", each) for index, each in enumerate(_messages(fields))),
        tools=_tools(fields),
        tool_choice=_choice(fields.get("tool_choice")),
        response_format=_typed(fields, "response_format", dict, "an object"),
        sampling=_sampling(fields),
        seed=_whole(fields, "seed"),
    )
    options: dict[str, Any] = _typed(fields, "stream_options", dict, "an object") or {}
    return CompletionRequest(
        request,
        _typed(fields, "model", str, "a text") or "",
        bool(_typed(fields, "stream", bool, "true or false")),
        bool(_typed(options, "include_usage", bool, "true or false")),
    )


def _messages(fields: Mapping[str, Any]) -> list[object]:
    found: list[object] | None = _typed(fields, "messages", list, "a list of messages")
    if not found:
        raise BadRequest("`messages` is missing or empty; send at least one")
    return found


def _message(place: str, data: object) -> Message:
    """Parse a message. Assistant messages with only calls may omit `content`, which becomes null."""
    fields = _object(place, data)
    if fields.get("role") == "assistant":
        fields = {**fields, "content": fields.get("content")}
    return _parsed(place, lambda: parse_message(fields))


def _tools(fields: Mapping[str, Any]) -> tuple[ToolSpec, ...]:
    given: list[object] = _typed(fields, "tools", list, "a list of tools") or []
    places = [(f"tools.{index}", each) for index, each in enumerate(given)]
    return tuple(_parsed(place, lambda each=each: ToolSpec.model_validate(each)) for place, each in places)


def _sampling(fields: Mapping[str, Any]) -> Sampling:
    most = _whole(fields, "max_completion_tokens")
    values = {
        "temperature": _number(fields, "temperature"),
        "top_p": _number(fields, "top_p"),
        "max_tokens": _whole(fields, "max_tokens") if most is None else most,
        "stop": _stop(fields.get("stop")),
        "presence_penalty": _number(fields, "presence_penalty"),
        "frequency_penalty": _number(fields, "frequency_penalty"),
        "logprobs": bool(_typed(fields, "logprobs", bool, "true or false")),
    }
    try:
        return Sampling.model_validate(values, context=_spelled)
    except UsageError as error:
        raise BadRequest(str(error)) from error


def _spelled(name: str, value: object) -> str:
    """A field of the body with its value, for an error."""
    return f"`{name}` is {value!r:.80}"


def _stop(value: object) -> tuple[str, ...]:
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in cast("list[object]", texts)):
        raise BadRequest(f"{_spelled('stop', value)}; send a text or a list of texts")
    return tuple(cast("list[str]", texts))


def _choice(choice: object) -> str | None:
    if choice is None or isinstance(choice, str):
        return choice
    function = _object("tool_choice", choice).get("function")
    name = _object("tool_choice.function", function).get("name")
    if not isinstance(name, str):
        raise BadRequest(f"{_spelled('tool_choice.function.name', name)}; send the name of a tool")
    return name


def _object(place: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"{_spelled(place, value)}; send a JSON object")
    return cast("dict[str, Any]", value)


def _typed(fields: Mapping[str, Any], name: str, kind: type, wanted: str) -> Any:
    """A field of this type; None if it is missing or null."""
    value = fields.get(name)
    if value is not None and not isinstance(value, kind):
        raise BadRequest(f"{_spelled(name, value)}; send {wanted}")
    return value


def _whole(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and type(value) is not int:
        raise BadRequest(f"{_spelled(name, value)}; send a whole number of at most 64 bits")
    return value


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is not None and type(value) not in (int, float):
        raise BadRequest(f"{_spelled(name, value)}; send a number")
    return None if value is None else float(value)


def _parsed(place: str, parse: Callable[[], _T]) -> _T:
    """The result of a parser of pydantic.

    Raises:
        BadRequest: the value is invalid; the message names the innermost field.
    """
    try:
        return parse()
    except ValidationError as error:
        first = error.errors()[0]
        inner = [str(part) for part in first["loc"] if part not in _ROLES]
        raise BadRequest(f"`{'.'.join([place, *inner])}`: {first['msg']:.200}") from error


# --- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heading:
    """Common fields of all parts of an answer: its id, the model's name and the creation time (Unix time)."""

    id: str
    model: str
    created: int

    def completion(self, response: ChatResponse, chat: ChatFormat | None = None) -> dict[str, Any]:
        """A whole answer; log probabilities need the format, which has the texts of tokens."""
        choice: dict[str, Any] = {
            "index": 0,
            "message": _written(response.message),
            "finish_reason": _reason(response),
            "logprobs": None if chat is None else _logprobs(response, chat),
        }
        return {**self._as("chat.completion"), "choices": [choice], "usage": _usage(response)}

    def whole(self, response: ChatResponse) -> dict[str, Any]:
        """The delta that holds a whole message."""
        written = _written(response.message)
        if response.message.tool_calls:
            written["tool_calls"] = [_piece(index, call) for index, call in enumerate(response.message.tool_calls)]
        return written

    def chunk(self, delta: Mapping[str, Any], response: ChatResponse | None = None) -> dict[str, Any]:
        """A chunk of an answer. The last one takes the response, for its finish reason."""
        choice = {"index": 0, "delta": dict(delta), "finish_reason": _reason(response) if response else None}
        return {**self._as("chat.completion.chunk"), "choices": [choice]}

    def count(self, response: ChatResponse) -> dict[str, Any]:
        """The chunk after the last, with the number of tokens."""
        return {**self._as("chat.completion.chunk"), "choices": [], "usage": _usage(response)}

    def _as(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def error_body(error: SimkitError) -> tuple[int, dict[str, Any]]:
    """Status and body of an error, in the form that OpenAI clients expect."""
    match error:
        case ContextTooLong():
            status, kind, code = 400, "invalid_request_error", "context_length_exceeded"
        case BadRequest() | UsageError():
            status, kind, code = 400, "invalid_request_error", None
        case ModelFault():
            status, kind, code = 500, "server_error", None
        case _:
            status, kind, code = 500, "server_error", None
    return status, refusal(str(error), kind, code)


def refusal(message: str, kind: str, code: str | None) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _written(message: AssistantMessage) -> dict[str, Any]:
    return {"refusal": None, **message.to_openai()}


def _reason(response: ChatResponse) -> str:
    return response.finish if response.finish in ("length", "tool_calls") else "stop"


def _usage(response: ChatResponse) -> dict[str, Any]:
    usage = response.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _logprobs(response: ChatResponse, chat: ChatFormat) -> dict[str, Any] | None:
    if response.logprobs is None or response.tokens is None:
        return None
    pairs = zip(response.tokens.ids, response.logprobs, strict=True)
    return {"content": [{"token": chat.text([one]), "logprob": chance, "top_logprobs": []} for one, chance in pairs]}


# --- answers in pieces ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Speech:
    """The text of a reply that can be streamed while it is generated.

    Text that may become a call, a stop text or an incomplete character is held back, and so is reasoning. Only text
    that was not yet sent is looked at again.
    """

    chat: ChatFormat
    calls: bool
    stop: Sequence[str] = ()
    _growing: GrowingText = field(init=False)
    _said: list[str] = field(default_factory=list[str])
    _held: str = ""
    _stage: Literal["thinking", "speaking", "stopped"] = "thinking"
    _thought: bool = False

    def __post_init__(self) -> None:
        self._growing = GrowingText(self.chat.text)

    def hear(self, ids: Sequence[int]) -> str:
        """Add tokens. Returns the text that has become certain."""
        new = self._growing.add([each for each in ids if each not in self.chat.ends])
        self._held += new
        if self._stage == "thinking" and new:
            self._begin(new)
        return self._speak() if self._stage == "speaking" and new else ""

    def finish(self, message: AssistantMessage) -> dict[str, Any]:
        """The unsent part of the whole message: the rest of its text, and its calls."""
        whole, said = message.content if isinstance(message.content, str) else "", "".join(self._said)
        rest = whole[len(said) :] if whole.startswith(said) else ""
        delta: dict[str, Any] = {"content": rest} if rest else {}
        if thought := reasoning_of(message):
            delta[FIELD] = thought
        if message.tool_calls:
            delta["tool_calls"] = [_piece(index, call) for index, call in enumerate(message.tool_calls)]
        return delta

    def _begin(self, new: str) -> None:
        """Begin to speak if the text so far is certainly not reasoning, or reasoning has ended."""
        if self.calls and (self._held.lstrip().startswith("{") or not self._held.strip()):
            return
        if len(self._held) - len(new) > _DECIDED and not _MAY_END_MARK.search(new):
            return
        held = self._held
        words = split_reasoning(held)[1]
        if words is held:
            if not (self.chat.opens_reasoning or may_open_reasoning(held)):
                self._stage = "speaking"
            return
        self._thought = True
        mark = words.rfind("<", max(0, len(words) - _LONGEST_MARK))
        if words[:mark] if mark >= 0 else words:
            self._held = words + held[len(held.rstrip()) :]
            self._stage = "speaking"

    def _speak(self) -> str:
        """The text that is certain, without what was sent. The rest is held back."""
        end, is_call = certain_words(self._held, offered=self.calls)
        text, rest = self.chat.plain(self._held[:end]), self._held[end:]
        places = [place for mark in self.stop if (place := text.find(mark)) >= 0]
        if places or is_call:
            self._stage = "stopped"
        certain = text[: min(places, default=len(text) - max((_overlap(text, mark) for mark in self.stop), default=0))]
        if self._thought and (mark := certain.rfind("<", max(0, len(certain) - _LONGEST_MARK))) >= 0:
            certain = certain[:mark]
        if self.calls or self._thought:
            certain = certain.rstrip()
        self._held = text[len(certain) :] + rest
        if certain:
            self._said.append(certain)
        return certain


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of a text that is the beginning of a marker."""
    return next((length for length in range(min(len(mark), len(text)), 0, -1) if mark.startswith(text[-length:])), 0)


def _piece(index: int, call: ToolCall) -> dict[str, Any]:
    return {"index": index, **call.to_openai()}
