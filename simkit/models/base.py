"""The contract of a chat model: a request and the name of the call in, a response out.

Everything around a provider (recording, replay, budgets, limits, retries) is a `ChatModel` that wraps another one, so
they compose in any order and a caller never knows how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Any, Literal, Protocol, TypeAlias, cast

import orjson

from simkit.errors import UsageError
from simkit.ids import TurnKey
from simkit.messages import AssistantMessage, JsonObject, Message, ToolSpec, parse_message

FinishReason: TypeAlias = Literal["stop", "tool_calls", "length", "content_filter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a model picks its words; None leaves a choice to the provider.

    Attributes:
        temperature: 0 and up.
        top_p: above 0, at most 1.
        max_tokens: tokens of the reply at most.
        stop: texts that end the reply.
        presence_penalty, frequency_penalty: between -2 and 2.
        logprobs: whether to ask for the log probabilities of the reply's tokens.
        extra: further fields of the provider's own, sent as they are.

    Raises:
        UsageError: a value outside its range.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0, None)
        _check("top_p", self.top_p, 0, 1)
        _check("max_tokens", self.max_tokens, 1, None)
        _check("presence_penalty", self.presence_penalty, -2, 2)
        _check("frequency_penalty", self.frequency_penalty, -2, 2)

    def to_openai(self) -> dict[str, Any]:
        """The fields that were chosen, under their OpenAI names."""
        named = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("stop", "extra")}
        chosen = {name: value for name, value in named.items() if value is not None and value is not False}
        if self.stop:
            chosen["stop"] = list(self.stop)
        return chosen | dict(self.extra)


def _check(name: str, value: float | None, low: float, high: float | None) -> None:
    if value is not None and not (low <= value and (high is None or value <= high)):
        bound = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise UsageError(f"the sampling choice `{name}` is {value}; it must be {bound}, or None for the provider's own")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a model is asked: the messages so far, the tools it may call, and how to answer.

    Attributes:
        messages: the conversation as this model sees it, oldest first.
        tools: what it may call; none for plain chat.
        tool_choice: "auto", "none", "required" or the name of one tool; None leaves it to the provider.
        response_format: the OpenAI `response_format`, for replies in JSON.
        sampling: how the model picks its words.
        seed: the seed of this call, from `CallKey.seed`; None for providers that take none.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str | None = None
    response_format: JsonObject | None = None
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None

    def to_openai(self) -> dict[str, Any]:
        """The body of a chat completion request, without the model's name."""
        body: dict[str, Any] = {"messages": [message.to_openai() for message in self.messages]}
        if self.tools:
            body["tools"] = [tool.to_openai() for tool in self.tools]
        if self.tool_choice is not None:
            body["tool_choice"] = _tool_choice(self.tool_choice)
        if self.response_format is not None:
            body["response_format"] = dict(self.response_format)
        if self.seed is not None:
            body["seed"] = self.seed
        return body | self.sampling.to_openai()


def _tool_choice(choice: str) -> Any:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def request_hash(model: str, body: JsonObject) -> str:
    """32 hex digits that are equal when the same model is asked the same; `body` is `ChatRequest.to_openai()`."""
    data = orjson.dumps({"model": model, "body": body}, option=orjson.OPT_SORT_KEYS)
    return sha256(data).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used: tokens, and money in US dollars. Cached tokens are among the prompt's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of prompt and reply together."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cost + other.cost,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResponse:
    """What a model answered: `model` is the provider's name for it, `logprobs` one number per token when asked for."""

    message: AssistantMessage
    finish: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    logprobs: tuple[float, ...] | None = None

    @classmethod
    def of(cls, message: AssistantMessage, model: str = "") -> ChatResponse:
        """A response around a message; it finished with its tool calls, or stopped."""
        return cls(message=message, finish="tool_calls" if message.tool_calls else "stop", model=model)

    def to_json(self) -> dict[str, Any]:
        """This response as JSON, as it is kept in the store."""
        usage = {each.name: getattr(self.usage, each.name) for each in fields(self.usage)}
        kept: dict[str, Any] = {
            "message": self.message.to_openai(),
            "finish": self.finish,
            "usage": usage,
            "model": self.model,
        }
        return kept if self.logprobs is None else {**kept, "logprobs": list(self.logprobs)}

    @classmethod
    def from_json(cls, data: JsonObject) -> ChatResponse:
        """The response that was kept by `to_json`.

        Raises:
            UsageError: the message is not an assistant's.
            pydantic.ValidationError, KeyError: it is not such a response.
        """
        message = parse_message(data["message"])
        if not isinstance(message, AssistantMessage):
            raise UsageError(f"a kept response holds a message of the {message.role}; it must be an assistant's")
        logprobs = cast("list[float] | None", data.get("logprobs"))
        return cls(
            message=message,
            finish=data["finish"],
            usage=Usage(**data["usage"]),
            model=data["model"],
            logprobs=None if logprobs is None else tuple(logprobs),
        )


@dataclass(frozen=True, slots=True)
class CallKey:
    """The name of one model call in a run: what it is recorded, replayed and seeded by.

    `call` counts the calls that `role` ("agent", "user", "judge", ...) makes in this turn; `attempt` counts retries of
    one call, which share its seed.
    """

    turn: TurnKey
    role: str
    call: int = 0
    attempt: int = 0

    @property
    def seed(self) -> int:
        """The seed of this call: 63 bits, the same in every rerun."""
        return self.turn.seed(self.role, self.call)

    def __str__(self) -> str:
        turn = self.turn
        return f"call {self.call} of the {self.role}, turn {turn.turn} of {turn.task_id}/{turn.trial} at `{turn.path}`"


class ChatModel(Protocol):
    """Answers chat requests; safe to call from any number of tasks at once."""

    @property
    def name(self) -> str:
        """What the store calls the model."""
        ...

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer.

        Raises:
            ModelFault: there will be none; the message says why.
        """
        ...
