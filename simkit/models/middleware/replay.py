"""Answers from a recording, used to resume and to replay runs."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from anyio.lowlevel import checkpoint

import simkit.errors as errors
from simkit.core.events import EndpointAdjusted, ModelCall
from simkit.core.ids import branch_id, episode_id
from simkit.core.messages import JsonObject
from simkit.errors import ModelFault, ReplayMiss, UnparsedCall
from simkit.models.adjustments import Adjustment, EndpointModel
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Usage, lacks_for_tools, request_hash
from simkit.models.middleware.metrics import CallMetrics
from simkit.models.middleware.request_digest import difference
from simkit.models.usage import doubt, validated


@dataclass(frozen=True, slots=True)
class _RecordedResult:
    """Result of one recorded attempt: the response as JSON text, or the error."""

    request_hash: str
    request: bytes
    response: bytes | None
    error: str | None


@dataclass(slots=True)
class Recording:
    """The model calls of a run, by call name (task, trial, path, turn, role, number) and request hash.

    Attributes:
        run_id: the recorded run.
        usage: usage of all attempts, from which the budget of a resumed run starts.
        skipped: number of calls that belong to another run.
        elsewhere: number of calls in other parts of the recording, see `of_unit`.
        adjustments: what the run learned about requests, by endpoint and model.
    """

    run_id: str
    usage: Usage = field(default_factory=Usage)
    skipped: int = 0
    elsewhere: int = 0
    adjustments: dict[EndpointModel, tuple[Adjustment, ...]] = field(
        default_factory=dict[EndpointModel, tuple[Adjustment, ...]]
    )
    _calls: dict[str, list[_RecordedResult]] = field(default_factory=dict[str, list[_RecordedResult]])
    _index: dict[str, list[str]] | None = None
    _by_request: dict[str, _RecordedResult] | None = None

    @classmethod
    def of(cls, run_id: str, calls: Iterable[ModelCall]) -> Recording:
        """A recording of these calls, for example those of a `MemoryRecorder`."""
        recording = cls(run_id)
        for call in calls:
            recording.add(call)
        return recording

    def add(self, call: ModelCall) -> None:
        """Add one attempt of a call."""
        begin = f"{self.run_id}/"
        if not call.branch_id.startswith(begin):
            self.skipped += 1
            return
        self._index = self._by_request = None
        name = _call_name(call.branch_id[len(begin) :], call.role, call.step)
        response, request = call.response, call.request
        self._calls.setdefault(name, []).append(
            _RecordedResult(
                call.request_hash,
                b"" if request is None else _text(request),
                None if response is None else _text(response),
                call.error,
            )
        )
        self.usage = self.usage.plus(_usage(call))

    def adjusted(self, event: EndpointAdjusted) -> None:
        """Add something that the run learned about requests."""
        place, learned = (event.endpoint, event.model), Adjustment(event.adjustment, event.setting, event.sent_as)
        self.adjustments[place] = (*self.adjustments.get(place, ()), learned)

    def __len__(self) -> int:
        return len(self._calls) + self.elsewhere

    def of_unit(self, task_id: str, trial: int) -> bytes:
        """The calls of one episode, for the recording of another process (`put`); empty if there are none."""
        begin = f"{episode_id('', task_id, trial)[1:]}/"
        found = self._by_episode().get(begin)
        return pickle.dumps({name: self._calls[name] for name in found}) if found else b""

    def put(self, part: bytes) -> tuple[str, ...]:
        """Add the calls of one episode (`of_unit`); returns their names."""
        if not part:
            return ()
        calls: dict[str, list[_RecordedResult]] = pickle.loads(part)
        self._calls |= calls
        self._by_request = None
        return tuple(calls)

    def drop(self, names: Iterable[str]) -> None:
        """Forget calls that are no longer needed; they still count."""
        for name in names:
            if self._calls.pop(name, None) is not None:
                self.elsewhere += 1

    def _by_episode(self) -> dict[str, list[str]]:
        """Names of the calls by episode, computed once the recording is complete."""
        if self._index is None:
            self._index = {}
            for name in self._calls:
                place = name.partition("\x1f")[0]
                self._index.setdefault(place[: place.rfind("/") + 1], []).append(name)
        return self._index

    def answer(self, key: CallKey, hashed: str) -> ChatResponse | None:
        """The recorded answer to this request; None if there is none."""
        for kept in reversed(self._calls.get(_key_name(key), ())):
            if kept.request_hash == hashed and kept.response is not None:
                return validated(ChatResponse.from_json(orjson.loads(kept.response)))
        return None

    def answer_to(self, hashed: str) -> ChatResponse | None:
        """A recorded answer to an equal request, whichever call asked for it; None if there is none."""
        if self._by_request is None:
            answered = [kept for calls in self._calls.values() for kept in calls if kept.response is not None]
            self._by_request = {kept.request_hash: kept for kept in answered}
        kept = self._by_request.get(hashed)
        if kept is None or kept.response is None:
            return None
        return validated(ChatResponse.from_json(orjson.loads(kept.response)))

    def failure(self, key: CallKey, hashed: str) -> ModelFault | None:
        """The recorded final failure of this request; None if there is none."""
        for kept in reversed(self._calls.get(_key_name(key), ())):
            if kept.request_hash == hashed and kept.response is None and kept.error:
                return _fault(kept.error)
        return None

    def miss(self, key: CallKey, request: ChatRequest, model: str) -> ReplayMiss:
        """The error for a call missing from the recording."""
        calls = self._calls.get(_key_name(key))
        if not len(self):
            return ReplayMiss(
                f"the recording of `{self.run_id}` has no model calls that this version can read;"
                f" `simkit doctor --verify {self.run_id}` checks its journals"
            )
        if not calls:
            return ReplayMiss(f"the recording of `{self.run_id}` has no {key}; replay with the configuration it had")
        recorded = cast("JsonObject | None", orjson.loads(calls[-1].request) if calls[-1].request else None)
        differing = difference(recorded, request, model)
        return ReplayMiss(
            f"the recording of `{self.run_id}` has another request for {key}: {differing}. Replay with the "
            "configuration and the code it had"
        )


def _call_name(branch: str, role: str, number: int) -> str:
    return f"{branch}\x1f{role}\x1f{number}"


def _key_name(key: CallKey) -> str:
    turn = key.turn
    place = branch_id(episode_id("", turn.task_id, turn.trial), turn.path, turn.turn)[1:]
    return _call_name(place, key.role, key.call)


def _text(value: Any) -> bytes:
    text = getattr(value, "json_text", None)
    return cast("bytes", text()) if callable(text) else orjson.dumps(value)


def _usage(call: ModelCall) -> Usage:
    usage = Usage(call.prompt_tokens, call.completion_tokens, 0, call.cost or 0.0)
    return usage if doubt(usage) is None else Usage()  # recorded by a version without usage checks


def _fault(text: str) -> ModelFault | None:
    """The model fault that a recorded error text describes; None for other texts, such as that of a cancelled call."""
    name, colon, message = text.partition(": ")
    kind = getattr(errors, name, None)
    if not colon or not isinstance(kind, type) or not issubclass(kind, ModelFault):
        return None
    return kind(message)


class ReplayedModel:
    """Answers from a recording.

    Args:
        recording: calls that were answered before.
        model: answers calls missing from the recording (resume); None makes them an error (replay).
        name: the model's name; required without `model`.
        metrics: counts the calls answered from the recording.
    """

    def __init__(
        self,
        recording: Recording,
        model: ChatModel | None = None,
        *,
        name: str = "",
        metrics: CallMetrics | None = None,
    ) -> None:
        self._recording = recording
        self._model = model
        self._name = model.name if model is not None else name
        self._metrics = metrics or CallMetrics()

    @property
    def name(self) -> str:
        """The name of the model that answered."""
        return self._name

    @property
    def lacks_for_tools(self) -> str | None:
        """The reason why the model cannot be given tools; None once it was asked: a run goes on as it began."""
        return None if self._model is None or self._recording else lacks_for_tools(self._model)

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The recorded answer.

        Raises:
            ReplayMiss: the call is not in the recording, and there is no model; the message says what differs.
            ModelFault: the recorded call had failed for good, and there is no model.
        """
        hashed = request_hash(self._name, request)
        answer = self._recording.answer(key, hashed)
        if answer is not None:
            self._metrics.replayed += 1
            await checkpoint()  # a long recording must not starve other tasks
            return answer
        if self._model is not None:
            return await self._model.complete(request, key)
        failure = self._recording.failure(key, hashed)
        if isinstance(failure, UnparsedCall):  # recorded when the agent, not a layer of the model, read such an error
            return ChatResponse.of_unparsed(failure, self._name)
        raise failure or self._recording.miss(key, request, self._name)
