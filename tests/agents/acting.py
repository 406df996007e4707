"""What the tests of agents share: a model that answers, and a conversation to act in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from simkit.components.agent import Act, Decision
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, ToolCall, ToolSpec
from simkit.models import Answer, CallKey, ChatRequest, ChatResponse, FinishReason, ScriptedModel, Usage

KEY = TurnKey(7, "T1", 0, "L", 3)
FIND = ToolSpec.of("find", "Find a bicycle.", {"day": {"type": "string", "description": "The day."}}, ("day",))


@dataclass
class RecordingModel:
    """A model that gives one answer and keeps what it was asked."""

    answer: Answer
    requests: list[ChatRequest] = field(default_factory=list[ChatRequest])
    keys: list[CallKey] = field(default_factory=list[CallKey])

    def script(self, request: ChatRequest, key: CallKey) -> Answer:
        self.requests.append(request)
        self.keys.append(key)
        return self.answer

    @property
    def model(self) -> ScriptedModel:
        return ScriptedModel(self.script)


def conversation(*entries: Entry) -> Conversation:
    return Conversation([Entry.system("S"), Entry.user("A bicycle, please.", 0), *entries])


def act(*entries: Entry, step: int = 0) -> Act:
    return Act(KEY, conversation(*entries), (FIND,), None, step)


def answered(text: str | None = None, *calls: ToolCall, finish: FinishReason = "stop", **more: Any) -> ChatResponse:
    message = AssistantMessage.of(text, calls)
    message = message.model_copy(update=more) if more else message
    usage = Usage(prompt_tokens=20, completion_tokens=5, cost=0.25)
    return ChatResponse(message=message, finish=finish, usage=usage)


def note_of(decision: Decision) -> str:
    assert decision.note is not None
    assert (decision.calls, decision.say, decision.end) == ((), None, False)
    assert decision.note.role == "user"
    return str(decision.note.content)
