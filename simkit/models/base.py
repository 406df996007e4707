"""The contract of a chat model: a request and the name of the call in, a response out.

Everything around a provider (recording, replay, budgets, limits, retries) is a `ChatModel` that wraps another one, so
they compose in any order and a caller never knows how many there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any, Literal, Protocol, TypeAlias, cast

import orjson
from pydantic import AfterValidator, BeforeValidator, Field

from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, JsonObject, Message, ToolSpec, parse_message
from simkit.core.persistent_list import json_list
from simkit.errors import UsageError
from simkit.models.options import Flag, Options

Number: TypeAlias = float | int
"""A number that stays as it was given, since requests with 1 and with 1.0 have different hashes."""

FinishReason: TypeAlias = Literal["stop", "tool_calls", "length", "content_filter", "refusal", "empty"]
"""How a reply ended: said or called what it wanted, was cut off, was filtered, refused, or holds nothing at all."""


def _texts(value: object) -> object:
    """One text as a list of one; a JSON list, as an environment variable holds it, as what it says."""
    if not isinstance(value, str):
        return value
    return _from_json(value) if value.startswith("[") else (value,)


def _from_json(value: object) -> object:
    """The value of a JSON text; other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f'it is not JSON ({error}); write it like {{"top_k": 20}}') from error


def _without_secrets(value: JsonObject) -> JsonObject:
    for name, inner in value.items():
        if _SECRET.fullmatch(str(name)):
            raise UsageError(  # not a ValueError, whose message would show the value
                f"--extra-body has a field `{name}`, which would be recorded with the run; set keys in OPENAI_API_KEY, "
                "or as headers"
            )
        if isinstance(inner, Mapping):
            _without_secrets(cast("Mapping[str, Any]", inner))
    return value


_SECRET = re.compile(r"(.*[-_])?(api[-_]?key|password|secret|authorization|access[-_]?token)", re.IGNORECASE)


class Sampling(Options):
    """Sampling options of a request; None leaves a choice to the provider.

    Attributes:
        temperature: 0 and up.
        top_p: above 0, at most 1.
        max_tokens: tokens of the reply at most.
        stop: texts that end the reply.
        presence_penalty, frequency_penalty: between -2 and 2.
        logprobs: whether to ask for the log probabilities of the reply's tokens.
        reasoning_effort: how long a reasoning model thinks: "minimal", "low", "medium", "high" or what it knows.
        parallel_tool_calls: whether one reply may hold several calls.
        no_seed: whether requests are sent without a seed, for endpoints that refuse one.
        extra_body: further fields of the request body, sent as they are. They are recorded, so they hold no secrets.

    Raises:
        UsageError: a value outside its range.
    """

    temperature: Annotated[Number | None, Field(ge=0), Flag(help="How the agent samples.", shared=False)] = None
    top_p: Annotated[
        Number | None,
        Field(ge=0, le=1),
        Flag(help="Nucleus sampling: the agent's words come from this share of the probability.", shared=False),
    ] = None
    max_tokens: Annotated[int | None, Field(ge=1), Flag(help="Tokens of one reply at most.")] = None
    stop: Annotated[
        tuple[str, ...],
        BeforeValidator(_texts),
        Flag(help="A text that ends a reply of the agent; may be repeated.", shared=False),
    ] = ()
    presence_penalty: Annotated[Number | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[Number | None, Field(ge=-2, le=2)] = None
    logprobs: bool = False
    reasoning_effort: Annotated[
        str | None,
        Flag(help="How long a reasoning model thinks: minimal, low, medium, high, or what it knows.", shared=False),
    ] = None
    parallel_tool_calls: bool | None = None
    no_seed: Annotated[bool, Flag(help="Send no seeds, for endpoints that refuse them.")] = False
    extra_body: Annotated[
        Mapping[str, Any],
        BeforeValidator(_from_json),
        AfterValidator(_without_secrets),
        Flag(help="Further fields of every request, as a JSON object; recorded with the run."),
    ] = Field(default_factory=dict[str, Any])

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The options that were chosen, under their OpenAI names."""
        fields = Sampling.model_fields
        values = {name: getattr(self, name) for name in fields if name not in ("no_seed", "extra_body")}
        sent = {name: value for name, value in values.items() if value != fields[name].default}
        return {**sent, "stop": list(self.stop)} if self.stop else sent


DEFAULT = Sampling()
"""Everything left to the provider."""


@dataclass(frozen=True, slots=True)
class ReplyLimit:
    """How long a reply may be for a budget's sake, in tokens, where the request does not say.

    It is sent as `max_tokens`, and is no part of what is asked: the same request under another limit is the same call
    of the recording. A reply that comes to a `provisional` limit is asked for again with more, and is no answer.
    """

    tokens: int
    provisional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a model is asked: the messages so far, the tools it may call, and how to answer.

    Attributes:
        messages: the conversation as this model sees it, oldest first. A `JsonList` that grows with the conversation
            saves most of what a long one costs.
        tools: what it may call; none for plain chat.
        tool_choice: "auto", "none", "required" or the name of one tool; None leaves it to the provider.
        response_format: the OpenAI `response_format`, for replies in JSON.
        sampling: how the model picks its words.
        seed: the seed of this call, from `CallKey.seed`; None to send none.
        limit: how long a budget lets the reply be; None for no bound but the sampling's.
    """

    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    tool_choice: str | None = None
    response_format: JsonObject | None = None
    sampling: Sampling = DEFAULT
    seed: int | None = None
    limit: ReplyLimit | None = None

    def sampled(self, sampling: Sampling) -> ChatRequest:
        """The request with another sampling. Written out, since `replace` takes twice as long, once a call."""
        return ChatRequest(
            messages=self.messages,
            tools=self.tools,
            tool_choice=self.tool_choice,
            response_format=self.response_format,
            sampling=sampling,
            seed=self.seed,
            limit=self.limit,
        )

    def to_openai(self) -> dict[str, Any]:
        """The body of a chat completion request, without the model's name."""
        body: dict[str, Any] = {"messages": [message.to_openai() for message in self.messages]}
        if self.tools:
            body["tools"] = [tool.to_openai() for tool in self.tools]
        return body | self.settings()

    def settings(self) -> dict[str, Any]:
        """The body without messages and tools: choices and seed, under their OpenAI names."""
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
        """The settings as they are sent: with the limit of a budget."""
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
    """32 hex digits that are equal when the same model is asked the same.

    Args:
        settings: the request's own as `settings_json` writes them, where that is at hand already.
    """
    chosen = settings_json(request) if settings is None else settings
    messages, tools = json_list(request.messages).digest, json_list(request.tools).digest
    return blake2b(
        b"%s\n%s\n%s\n%s" % (model.encode(), chosen, messages.hex().encode(), tools), digest_size=16
    ).hexdigest()


def settings_json(request: ChatRequest) -> bytes:
    """The settings of a request as JSON text that is equal when they are."""
    return orjson.dumps(request.settings(), option=orjson.OPT_SORT_KEYS)


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


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a call, as a model in this process knows them: what it read and what it wrote."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResponse:
    """What a model answered.

    Attributes:
        message: what it wrote, as it goes into the conversation.
        finish: how the reply ended.
        usage: tokens and money.
        model: the provider's name for the model that answered.
        logprobs: one number per token, when asked for.
        reasoning: what a reasoning model thought, when the provider tells; kept in the store, never sent back.
        tokens: of the call, from models that run in this process; kept in the store beside logprobs only.
        usage_doubt: why the usage that was reported is not believed; `usage` is then that of a server that does not
            count.
    """

    message: AssistantMessage
    finish: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    logprobs: tuple[float, ...] | None = None
    reasoning: str | None = None
    tokens: Tokens | None = None
    usage_doubt: str | None = None

    @classmethod
    def of(cls, message: AssistantMessage, model: str = "") -> ChatResponse:
        """A response around a message; it finished with its tool calls, or stopped."""
        return cls(message=message, finish="tool_calls" if message.tool_calls else "stop", model=model)

    def to_json(self) -> dict[str, Any]:
        """This response as JSON, as it is kept in the store."""
        return cast("dict[str, Any]", orjson.loads(self.json_text()))

    def json_text(self) -> bytes:
        """The same as text."""
        kept: dict[str, Any] = {"finish": self.finish, "usage": self.usage, "model": self.model}
        if self.logprobs is not None:
            kept["logprobs"] = list(self.logprobs)
            if self.tokens is not None:
                kept["tokens"] = {"prompt_ids": list(self.tokens.prompt_ids), "ids": list(self.tokens.ids)}
        if self.reasoning is not None:
            kept["reasoning"] = self.reasoning
        if self.usage_doubt is not None:
            kept["usage_doubt"] = self.usage_doubt
        return b'{"message":%s,%s' % (self.message.to_json(), orjson.dumps(kept)[1:])

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
            reasoning=data.get("reasoning"),
            tokens=_tokens(data.get("tokens")),
            usage_doubt=data.get("usage_doubt"),
        )


def _tokens(data: JsonObject | None) -> Tokens | None:
    return None if data is None else Tokens(tuple(data["prompt_ids"]), tuple(data["ids"]))


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
            ModelFault: there will be none; the class and the message say why.
            RunStopped: there will be none for anybody.
            LimitHit: it would not fit into what the branch or episode may use.
        """
        ...


def is_deterministic(model: ChatModel) -> bool:
    """Whether a model gives equal requests equal answers whatever their seed, as it does at temperature 0.

    A model of your own says so with an attribute `deterministic`; without one it does not.
    """
    return bool(getattr(model, "deterministic", False))


class ModelWrapper:
    """Base of the models that wrap another one; their `complete` raises what that of the wrapped model raises."""

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


class SampledModel(ModelWrapper):
    """Fills what the sampling of a request leaves open."""

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
