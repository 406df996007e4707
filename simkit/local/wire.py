"""Server side of the OpenAI chat format: parses requests; builds completions, chunks and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import ValidationError

from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolSpec, parse_message
from simkit.core.reasoning import FIELD, may_open_reasoning, reasoning_of, split_reasoning
from simkit.errors import BadRequest, ContextTooLong, ModelFault, SimkitError, UsageError
from simkit.local.calls import MARKS
from simkit.local.chat import ChatFormat
from simkit.models.base import ChatRequest, ChatResponse
from simkit.models.sampling import Sampling

_REFUSED = ("logit_bias", "top_logprobs", "functions", "function_call", "audio", "prediction", "web_search_options")
"""Unsupported fields that would change the answer."""


_LONGEST_MARK = 24
"""Maximum characters of a mark after an answer, such as `</answer>`."""


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
        BadRequest: the body is invalid, or needs a feature that local models lack.
    """
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object; send a chat completion request")
    fields = cast("dict[str, Any]", body)
    for name in _REFUSED:
        if fields.get(name):
            raise BadRequest(f"this server does not support `{name}`; omit it")
    if fields.get("n") not in (None, 1):
        raise BadRequest("this server gives one answer per request; for more, send several with different seeds")
    try:
        request = _request(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"the request is not a valid chat completion: {place}: {first['msg']}") from error
    except UsageError as error:
        raise BadRequest(str(error)) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadRequest(f"the request is not a valid chat completion: {type(error).__name__}: {error}") from error
    options: dict[str, Any] = fields.get("stream_options") or {}
    return CompletionRequest(
        request, str(fields.get("model") or ""), bool(fields.get("stream")), bool(options.get("include_usage"))
    )


def _request(fields: Mapping[str, Any]) -> ChatRequest:
    messages = tuple(_message(each) for each in fields["messages"])
    if not messages:
        raise BadRequest("`messages` is empty; send at least one")
    return ChatRequest(
        messages=messages,
        tools=tuple(ToolSpec.model_validate(each) for each in fields.get("tools") or ()),
        tool_choice=_choice(fields.get("tool_choice")),
        response_format=fields.get("response_format"),
        sampling=_sampling(fields),
        seed=None if fields.get("seed") is None else int(fields["seed"]),
    )


def _message(data: Mapping[str, Any]) -> Message:
    """Parse a message. Assistant messages with only calls may omit `content`, which becomes null."""
    return parse_message({**data, "content": data.get("content")} if data.get("role") == "assistant" else data)


def _sampling(fields: Mapping[str, Any]) -> Sampling:
    stop = fields.get("stop")
    values = {
        "temperature": _number(fields, "temperature"),
        "top_p": _number(fields, "top_p"),
        "max_tokens": fields.get("max_completion_tokens") or fields.get("max_tokens"),
        "stop": () if stop is None else (stop,) if isinstance(stop, str) else tuple(str(each) for each in stop),
        "presence_penalty": _number(fields, "presence_penalty"),
        "frequency_penalty": _number(fields, "frequency_penalty"),
        "logprobs": bool(fields.get("logprobs")),
    }
    return Sampling.model_validate(values, context=_spelled)


def _spelled(name: str, value: object) -> str:
    """A field of the body with its value, for an error."""
    return f"`{name}` is {value!r}"


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    return None if value is None else float(value)


def _choice(choice: Any) -> str | None:
    if choice is None or isinstance(choice, str):
        return choice
    return str(choice["function"]["name"])


# --- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heading:
    """Common fields of all parts of an answer: its id, the model's name and the creation time (Unix time)."""

    id: str
    model: str
    created: int

    def completion(self, response: ChatResponse, chat: ChatFormat) -> dict[str, Any]:
        """A whole answer."""
        choice: dict[str, Any] = {
            "index": 0,
            "message": _written(response.message),
            "finish_reason": _reason(response),
            "logprobs": _logprobs(response, chat),
        }
        return {**self._as("chat.completion"), "choices": [choice], "usage": _usage(response)}

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

    Text that may become a call, a stop text or an incomplete character is held back, and so is reasoning.
    """

    chat: ChatFormat
    calls: bool
    stop: Sequence[str] = ()
    said: str = ""
    _ids: list[int] = field(default_factory=list[int])

    def hear(self, ids: Sequence[int]) -> str:
        """Add tokens. Returns the text that has become certain."""
        self._ids += ids
        return self._say(self._certain(self.chat.said(self._ids)))

    def finish(self, message: AssistantMessage) -> dict[str, Any]:
        """The unsent part of the whole message: the rest of its text, and its calls."""
        whole = message.content if isinstance(message.content, str) else ""
        rest = whole[len(self.said) :] if whole.startswith(self.said) else ""
        delta: dict[str, Any] = {"content": rest} if rest else {}
        if thought := reasoning_of(message):
            delta[FIELD] = thought
        if message.tool_calls:
            delta["tool_calls"] = [_piece(index, call) for index, call in enumerate(message.tool_calls)]
        return delta

    def _say(self, text: str) -> str:
        fresh = text[len(self.said) :]
        self.said = max(self.said, text, key=len)
        return fresh

    def _certain(self, text: str) -> str:
        text = _spoken(self.chat.plain(text.rstrip("\ufffd")), self.chat.opens_reasoning)
        marks = (*self.stop, *(MARKS if self.calls else ()))
        if self.calls and (text.lstrip().startswith("{") or not text.strip()):
            return ""
        for mark in marks:
            text = text[: text.index(mark)].rstrip() if mark in text else text
        held = max((_overlap(text, mark) for mark in marks), default=0)
        text = text[: len(text) - held]
        return text.rstrip() if self.calls else text


def _spoken(text: str, thinking: bool) -> str:
    """The part of an unfinished reply that is certainly not reasoning. `thinking` if its prompt opens reasoning."""
    words = split_reasoning(text)[1]
    if words is text:
        return "" if thinking or may_open_reasoning(text) else text
    mark = words.rfind("<", max(0, len(words) - _LONGEST_MARK))
    return words if mark < 0 else words[:mark]


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of a text that is the beginning of a marker."""
    return next((length for length in range(min(len(mark), len(text)), 0, -1) if mark.startswith(text[-length:])), 0)


def _piece(index: int, call: ToolCall) -> dict[str, Any]:
    return {"index": index, **call.to_openai()}
