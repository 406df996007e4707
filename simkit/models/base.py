"""The chat model contract: a request and a call key in, a response out.

Each layer around a provider (recording, replay, budgets, limits, retries) is a `ChatModel` that wraps another one.
The layers compose in any order and are invisible to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, Protocol, TypeAlias, cast

import orjson

from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, JsonObject, Message, ToolSpec, parse_message
from simkit.core.persistent_list import json_list
from simkit.core.reasoning import reasoning_of
from simkit.core.text_calls import UNPARSED
from simkit.errors import UnparsedCall, UsageError
from simkit.models.sampling import DEFAULT, Sampling

FinishReason: TypeAlias = Literal["stop", "tool_calls", "length", "content_filter", "refusal", "empty", "unknown"]
"""Reason why a reply ended: complete, with tool calls, cut off at its limit, filtered, refused, empty, or unknown."""


@dataclass(frozen=True, slots=True)
class ReplyLimit:
    """Reply length in tokens that a budget sets for requests without a bound of their own.

    It is sent as `max_tokens` but is not part of the request's identity: the same request under another limit matches
    the same recorded call. A reply that reaches a `provisional` limit is discarded and requested again with more
    tokens.
    """

    tokens: int
    provisional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A request to a model: the messages so far, the tools it may call, and options.

    Attributes:
        messages: the conversation as this model sees it, oldest first. A `JsonList` that grows with the conversation
            avoids most of the cost of encoding a long one.
        tools: the tools it may call; empty for plain chat.
        tool_choice: "auto", "none", "required" or the name of one tool; None leaves it to the provider.
        response_format: the OpenAI `response_format`, for replies in JSON.
        sampling: the sampling options.
        seed: the seed of this call, from `CallKey.seed`; None to send no seed.
        limit: reply limit of a budget; None for no bound except that of the sampling options.
        reusable: the answer to an equal request of the run will do, as for a verdict about the same content. It is not
            part of the request's identity.
    """

    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    tool_choice: str | None = None
    response_format: JsonObject | None = None
    sampling: Sampling = DEFAULT
    seed: int | None = None
    limit: ReplyLimit | None = None
    reusable: bool = False

    def sampled(self, sampling: Sampling) -> ChatRequest:
        """A copy with other sampling options. Written out because `replace` takes twice as long and runs per call."""
        return ChatRequest(
            messages=self.messages,
            tools=self.tools,
            tool_choice=self.tool_choice,
            response_format=self.response_format,
            sampling=sampling,
            seed=self.seed,
            limit=self.limit,
            reusable=self.reusable,
        )

    def to_openai(self) -> dict[str, Any]:
        """The body of a chat completion request, without the model's name."""
        body: dict[str, Any] = {"messages": [message.to_openai() for message in self.messages]}
        if self.tools:
            body["tools"] = [tool.to_openai() for tool in self.tools]
        return body | self.settings()

    def settings(self) -> dict[str, Any]:
        """The body without messages and tools: options and seed, under their OpenAI names."""
        settings = dict(self.sampling.settings)
        if self.tool_choice is not None:
            settings["tool_choice"] = _tool_choice(self.tool_choice)
        if self.response_format is not None:
            settings["response_format"] = dict(self.response_format)
        if self.seed is not None and not self.sampling.no_seed:
            settings["seed"] = self.seed
        settings.update(self.sampling.extra_body)
        return settings

    def sent_settings(self) -> dict[str, Any]:
        """The settings as they are sent: including the reply limit of a budget."""
        settings = self.settings()
        return settings if self.limit is None else {"max_tokens": self.limit.tokens, **settings}

    def to_json(self, model: str, settings: JsonObject) -> bytes:
        """The body as JSON text, with `settings` instead of the request's own."""
        parts = [b'{"model":', orjson.dumps(model), b',"messages":[', json_list(self.messages).to_json()]
        if self.tools:
            parts += (b'],"tools":[', json_list(self.tools).to_json())
        rest = orjson.dumps(settings)
        parts += (b"],", rest[1:]) if settings else (b"]}",)
        return b"".join(parts)


def _tool_choice(choice: str) -> Any:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def request_hash(model: str, request: ChatRequest, settings: bytes | None = None) -> str:
    """Hash of a request to a model, as 32 hex digits. Equal requests to the same model have equal hashes.

    Args:
        settings: the request's own from `settings_json`, if the caller has them already.
    """
    chosen = settings_json(request) if settings is None else settings
    messages, tools = json_list(request.messages).digest, json_list(request.tools).digest
    return blake2b(
        b"%s\n%s\n%s\n%s" % (model.encode(), chosen, messages.hex().encode(), tools), digest_size=16
    ).hexdigest()


def settings_json(request: ChatRequest) -> bytes:
    """The settings of a request as canonical JSON text: equal settings give equal text."""
    return orjson.dumps(request.settings(), option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and cost (US dollars) of a call. The prompt tokens include the cached ones."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of prompt and reply together."""
        return self.prompt_tokens + self.completion_tokens

    def __reduce__(self) -> tuple[type[Usage], tuple[int, int, int, float]]:
        """For pickle, which is slow for dataclasses with slots; each exchange with a worker carries a usage."""
        return Usage, (self.prompt_tokens, self.completion_tokens, self.cached_tokens, self.cost)

    def plus(self, other: Usage) -> Usage:
        """The sum of both."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cost + other.cost,
        )


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of a call, known for models in this process: those of the prompt and those of the reply."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResponse:
    """A model's response.

    Attributes:
        message: the message, as it goes into the conversation; the reasoning is its extra field `reasoning_content`.
        finish: the reason why the reply ended.
        usage: tokens and cost.
        model: the provider's name for the model that answered.
        logprobs: one number per token, if requested.
        tokens: token ids of the call, from models in this process; stored only together with logprobs.
        doubts: what was unusual about the reply, as `kind: detail` (`unknown_finish: foo`). After `usage: ...` the
            reported usage was rejected, and `usage` is all zeros, as for a server that reports none.
        recorded_reasoning: the reasoning in a recording made when it was not yet part of the message.
    """

    message: AssistantMessage
    finish: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    logprobs: tuple[float, ...] | None = None
    tokens: Tokens | None = None
    doubts: tuple[str, ...] = ()
    recorded_reasoning: str | None = None

    @property
    def reasoning(self) -> str | None:
        """The model's reasoning, if the provider returned it."""
        return reasoning_of(self.message) or self.recorded_reasoning

    @property
    def unparsed(self) -> str | None:
        """The notation of a call that could not be read, empty if it is unknown; None without such a call."""
        found = next((doubt for doubt in self.doubts if doubt.startswith(f"{UNPARSED}:")), None)
        detail = None if found is None else found.partition(":")[2].strip()
        return detail if detail is None or detail.isidentifier() else ""

    @classmethod
    def of_unparsed(cls, error: UnparsedCall, model: str) -> ChatResponse:
        """The response for a call that its server could not parse: the model's mistake.

        What the model wrote is recorded as a doubt, which is neither spoken nor sent to a provider.
        """
        wrote = f"{error}: {error.generated}" if error.generated else str(error)
        usage = Usage(*error.usage) if error.usage else Usage()
        doubts = (f"{UNPARSED}: {wrote}",)
        return cls(message=AssistantMessage.of(None), finish="empty", usage=usage, model=model, doubts=doubts)

    @classmethod
    def of(cls, message: AssistantMessage, model: str = "") -> ChatResponse:
        """A response that holds a message; `finish` is `tool_calls` if the message has any, else `stop`."""
        return cls(message=message, finish="tool_calls" if message.tool_calls else "stop", model=model)

    def to_json(self) -> dict[str, Any]:
        """This response as JSON, in its stored form."""
        return cast("dict[str, Any]", orjson.loads(self.json_text()))

    def json_text(self) -> bytes:
        """The stored form as JSON text."""
        kept: dict[str, Any] = {"finish": self.finish, "usage": self.usage, "model": self.model}
        if self.logprobs is not None:
            kept["logprobs"] = list(self.logprobs)
            if self.tokens is not None:
                kept["tokens"] = {"prompt_ids": list(self.tokens.prompt_ids), "ids": list(self.tokens.ids)}
        if self.recorded_reasoning is not None:
            kept["reasoning"] = self.recorded_reasoning
        if self.doubts:
            kept["doubts"] = self.doubts
        return b'{"message":%s,%s' % (self.message.to_json(), orjson.dumps(kept)[1:])

    @classmethod
    def from_json(cls, data: JsonObject) -> ChatResponse:
        """The response stored by `to_json`.

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
            tokens=_tokens(data.get("tokens")),
            doubts=_doubts(data),
            recorded_reasoning=data.get("reasoning"),
        )


def _doubts(data: JsonObject) -> tuple[str, ...]:
    old = data.get("usage_doubt")
    return (f"usage: {old}",) if old is not None else tuple(data.get("doubts", ()))


def _tokens(data: JsonObject | None) -> Tokens | None:
    return None if data is None else Tokens(tuple(data["prompt_ids"]), tuple(data["ids"]))


@dataclass(frozen=True, slots=True)
class CallKey:
    """Key of one model call in a run. Recording, replay and seeds depend on it.

    `call` numbers the calls that `role` ("agent", "user", "judge", ...) makes in this turn; `attempt` numbers the
    attempts of one call, which share its seed.
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
        place = f"`{turn.path}`" if turn.path else "the root"
        return f"call {self.call} of the {self.role}, turn {turn.turn} of {turn.task_id}/{turn.trial} at {place}"


class ChatModel(Protocol):
    """Answers chat requests. Any number of tasks may call it concurrently."""

    @property
    def name(self) -> str:
        """The model's name in the store."""
        ...

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer.

        Raises:
            ModelFault: the call failed; the class and the message give the reason.
            RunStopped: no call of the run can succeed.
            LimitHit: the call would exceed the budget of its branch or episode.
        """
        ...


def is_deterministic(model: ChatModel) -> bool:
    """Whether a model gives equal requests equal answers regardless of the seed, as at temperature 0.

    A custom model declares it with an attribute `deterministic`. Without the attribute the result is False.
    """
    return bool(getattr(model, "deterministic", False))


def lacks_for_tools(model: ChatModel) -> str | None:
    """The reason why a model cannot be given tools, such as a chat template without them; None if it can.

    A custom model declares it with an attribute `lacks_for_tools`. Without the attribute the result is None.
    """
    return cast("str | None", getattr(model, "lacks_for_tools", None))


class ModelWrapper:
    """Base class of models that wrap another one. Their `complete` also raises what the wrapped model raises."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model

    @property
    def name(self) -> str:
        """The name of the model that answers."""
        return self._model.name

    @property
    def deterministic(self) -> bool:
        """Whether the wrapped model is; see `is_deterministic`."""
        return is_deterministic(self._model)

    @property
    def lacks_for_tools(self) -> str | None:
        """The reason why the wrapped model cannot be given tools; see the function `lacks_for_tools`."""
        return lacks_for_tools(self._model)


class SampledModel(ModelWrapper):
    """Fills in the sampling options that a request leaves open."""

    def __init__(self, model: ChatModel, sampling: Sampling) -> None:
        super().__init__(model)
        self._sampling = sampling

    @property
    def deterministic(self) -> bool:
        """Whether the temperature is 0, or the wrapped model is deterministic itself."""
        return self._sampling.temperature == 0 or super().deterministic

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The model's answer."""
        own = request.sampling
        sampling = self._sampling if own is DEFAULT else own.over(self._sampling)
        return await self._model.complete(request.sampled(sampling), key)
