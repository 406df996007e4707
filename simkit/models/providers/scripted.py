"""A model that answers from a script, for tests and demos without key, download or network."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import ClassVar, TypeAlias

import orjson
from anyio.lowlevel import checkpoint
from pydantic import TypeAdapter, ValidationError

from simkit.core.messages import AssistantMessage
from simkit.errors import ModelFault, UsageError, reason
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse
from simkit.models.prices import Price
from simkit.models.provider import Provider, Resources

Answer: TypeAlias = str | AssistantMessage | ChatResponse | Exception
"""A scripted answer: a text, a message, a whole response, or an error to raise."""

Script: TypeAlias = Callable[[ChatRequest, CallKey], Answer]


class ScriptedModel:
    """Answers with the result of a function.

    Create it from a list with `by_turn` (a pure function of the request, for callers that branch or run concurrently)
    or `in_order` (one answer after the other, for a single caller).
    """

    def __init__(self, script: Script, *, name: str = "scripted") -> None:
        self._script = script
        self._name = name

    @classmethod
    def by_turn(cls, answers: Iterable[Answer], *, name: str = "scripted") -> ScriptedModel:
        """A model that answers a request with n assistant messages with answer n, counted from 0."""
        kept = tuple(answers)

        def script(request: ChatRequest, key: CallKey) -> Answer:
            said = sum(isinstance(message, AssistantMessage) for message in request.messages)
            return kept[said] if said < len(kept) else _ran_out(name, len(kept), key)

        return cls(script, name=name)

    @classmethod
    def in_order(cls, answers: Iterable[Answer], *, name: str = "scripted") -> ScriptedModel:
        """A model that returns each answer once, in the order of the calls."""
        kept = tuple(answers)
        left = iter(kept)

        def script(request: ChatRequest, key: CallKey) -> Answer:
            answer = next(left, None)
            return _ran_out(name, len(kept), key) if answer is None else answer

        return cls(script, name=name)

    @property
    def name(self) -> str:
        """The model's name in the store."""
        return self._name

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The scripted answer. Tokens and cost are 0 unless the script holds a whole response.

        Raises:
            ModelFault: the script has no answer left.
            Exception: the error that the script holds.
        """
        await checkpoint()
        answer = self._script(request, key)
        match answer:
            case str():
                return ChatResponse.of(AssistantMessage.of(answer), self._name)
            case AssistantMessage():
                return ChatResponse.of(answer, self._name)
            case ChatResponse():
                return answer
            case Exception():
                raise answer


def _ran_out(name: str, count: int, key: CallKey) -> ModelFault:
    return ModelFault(f"the model `{name}` has no answer left for {key}: its script holds {count}; give it more")


class ScriptedProvider(Provider):
    """Answers with that text, without a network; for trying things out."""

    argument: ClassVar[str] = "TEXT"
    checks_itself: ClassVar[bool] = True

    @property
    def price(self) -> Price:
        """Zero."""
        return Price(input=0, output=0)

    @property
    def endpoint(self) -> Hashable:
        """None: a script needs no limits."""
        return None

    def open(self, resources: Resources) -> ChatModel:
        """The model, one answer for each turn: texts between `|`, or a JSON list of texts in a file."""
        answers = _read_script(self.name) if self.name.endswith(".json") else self.name.split("|")
        return ScriptedModel.by_turn(answers, name=self.model_name)


def _read_script(name: str) -> list[str]:
    try:
        return TypeAdapter(list[str]).validate_python(orjson.loads(Path(name).read_bytes()), strict=True)
    except (OSError, orjson.JSONDecodeError) as error:
        raise UsageError(
            f"the script {name} cannot be read: {reason(error)}; it must be a JSON list of texts"
        ) from error
    except ValidationError as error:
        raise UsageError(f"the script {name} must be a JSON list of texts, one for each turn") from error
