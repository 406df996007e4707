"""Models for the judged evaluation, as a user names them: `judges.py:Name`."""

from __future__ import annotations

import os
from pathlib import Path

from anyio.lowlevel import checkpoint

from simkit.core.messages import AssistantMessage, text_of
from simkit.errors import BadRequest, BudgetExhausted
from simkit.models.base import CallKey, ChatRequest, ChatResponse


class _FixedReplies:
    name = "fixed"

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        await checkpoint()
        return ChatResponse.of(AssistantMessage.of(self.answer(text_of(request.messages[-1]), key)), self.name)

    def answer(self, prompt: str, key: CallKey) -> str:
        raise NotImplementedError


class Terse(_FixedReplies):
    """Answers in one word."""

    name = "terse"

    def answer(self, prompt: str, key: CallKey) -> str:
        return "Yes."


class Wordy(_FixedReplies):
    """Answers in seven words."""

    name = "wordy"

    def answer(self, prompt: str, key: CallKey) -> str:
        return "Yes, and here is why so."


class Refusing(_FixedReplies):
    """Cannot answer the question `2`."""

    name = "refusing"

    def answer(self, prompt: str, key: CallKey) -> str:
        if key.turn.task_id == "2":
            raise BadRequest("this question is refused")
        return "Yes."


class Fair(_FixedReplies):
    """Grades and prefers by what is said, wherever it stands: the answer that gives a reason."""

    name = "fair"

    def answer(self, prompt: str, key: CallKey) -> str:
        if "assistant B>>>" not in prompt:
            return f"It says something.\n\nSCORE: {8 if 'here is why' in prompt else 4}"
        first, second = prompt.split("assistant A>>>")
        one, two = "here is why" in first, "here is why" in second
        return "Hm.\nVERDICT: " + ("TIE" if one == two else "A" if one else "B")


class Biased(Fair):
    """Prefers what it reads first."""

    name = "biased"

    def answer(self, prompt: str, key: CallKey) -> str:
        return "VERDICT: A" if "assistant B>>>" in prompt else super().answer(prompt, key)


class Mumbling(Fair):
    """Gives no verdict on the question `1`."""

    name = "mumbling"

    def answer(self, prompt: str, key: CallKey) -> str:
        return "Both have their charm." if key.turn.task_id == "1" else super().answer(prompt, key)


class Stopping(Fair):
    """Stops the run at the question `2` while there is a file whose name is in the environment."""

    name = "stopping"

    def answer(self, prompt: str, key: CallKey) -> str:
        if key.turn.task_id == "2" and Path(os.environ["STOP_FILE"]).exists():
            raise BudgetExhausted("the run was given no more; give it more")
        return super().answer(prompt, key)
