"""Stand-ins for models: a clerk who is sorry, and a judge who looks for one word."""

from __future__ import annotations

import json
import re
from typing import ClassVar

from simkit.agents.solution import SolutionAgent, Steps
from simkit.components.agent import Act, Decision
from simkit.core.messages import AssistantMessage, text_of
from simkit.models.base import CallKey, ChatRequest, ChatResponse


class KindClerk(SolutionAgent):
    """Plays the solutions of the tasks, and begins each reply with an apology."""

    name: ClassVar[str] = "kind_clerk"

    async def act(self, request: Act[Steps]) -> Decision[Steps]:
        """The next call, or a reply that begins with an apology."""
        decision = await super().act(request)
        if decision.say is None:
            return decision
        return Decision.speak(f"I am sorry about that. {decision.say}", state=decision.state)


class WordJudge:
    """A model that says of each criterion that it is met if the agent says that it is sorry."""

    name = "word_judge"

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The verdict on each criterion of the prompt, with the reason."""
        prompt = text_of(request.messages[-1])
        sorry = re.findall(r"^\[\d+\] agent: (.*sorry.*)", prompt, re.MULTILINE)
        reason = f"It says: {sorry[0][:60]}" if sorry else "It never says that it is sorry."
        criteria = re.findall(r"^- (\S+) \(met or not\)", prompt, re.MULTILINE)
        verdict = json.dumps({name: {"reason": reason, "met": bool(sorry)} for name in criteria})
        return ChatResponse.of(AssistantMessage.of(verdict), self.name)
