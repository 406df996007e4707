"""An agent that says something else in each branch, and the replies of a load server that judges it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.user import Speak, User, UserTurn


class Talking(Agent):
    """Says one of a few words, by its seed; with `alike` always the same."""

    name = "talking"

    def __init__(self, alike: bool = False) -> None:
        self._alike = alike

    def start(self, request: StartAgent) -> AgentStart:
        return AgentStart(system="Talk.")

    async def act(self, request: Act) -> Decision:
        words = ("please", "no", "perhaps")
        said = "please" if self._alike else words[request.key.seed("agent") % len(words)]
        return Decision.speak(f"I say {said}.")


class Replies:
    """Judges by a word, and counts what it was asked."""

    def __init__(self, broken: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.temperatures: list[float] = []
        self.broken = broken

    def __call__(self, body: Mapping[str, Any]) -> str:
        prompt = str(body["messages"][0]["content"])
        self.counts[f"{body.get('seed')} {prompt}"] += 1
        self.temperatures.append(body["temperature"])
        met = "I say please." in prompt
        return "I will not say." if self.broken else json.dumps({"polite": {"reason": "it says please", "met": met}})


class Brief(User):
    """Asks one thing, always the same."""

    name = "brief"

    async def speak(self, request: Speak) -> UserTurn:
        return UserTurn("What do you say?")
