"""Agents and users whose words and failures the viewer has to show."""

from __future__ import annotations

from typing import Any

from simkit.agents.scripted import ScriptedAgent
from simkit.components.agent import Act, Agent, Decision
from simkit.components.user import Speak, User, UserTurn
from simkit.core.messages import ToolCall

MARKUP = (
    "<script>globalThis.ran = 'script'; fetch('http://evil.example/a')</script>"
    "<img src=http://evil.example/b onerror=\"globalThis.ran = 'handler'\">"
    "<svg onload=\"globalThis.ran = 'svg'\"></svg><iframe srcdoc=\"<script>parent.ran = 'frame'</script>\"></iframe>"
    "<style>body { display: none }</style><base href=http://evil.example/><meta http-equiv=refresh content=0>"
    "</script></textarea></title><!-- --><a href=\"javascript:globalThis.ran = 'link'\">click</a>"
)
"""HTML that would run, load or hide something if it were ever taken for HTML."""

LINKS = "[here](javascript:globalThis.ran='markdown') ![p](http://evil.example/c.png) http://evil.example/d"
CONTROLS = "\x1b[2J\x1b]0;title\x07 admin\u202egnp.exe\u202c \u2066\u2067x\u2069 a\u200bb \x00 \x9b31m \ufeff end"
TEMPLATES = "${globalThis.ran = 'template'} {{constructor.constructor('ran=1')()}} __proto__ constructor"

TEXTS = (MARKUP, LINKS, CONTROLS, TEMPLATES)
LONG = "all work and no play "
LONGEST = 20 << 20
"""Bytes of the long message."""


class HostileAgent(Agent[Any]):
    """Says and calls what a page must not act on; in the task `long`, it says a text of 20 MB."""

    def __init__(self, long: str = "") -> None:
        self._long = long

    async def act(self, request: Act[Any]) -> Decision[Any]:
        if request.key.task_id == self._long:
            return Decision.speak(LONG * (LONGEST // len(LONG)), end=True)
        text = TEXTS[request.key.turn % len(TEXTS)]
        if request.step == 0:
            return Decision.call(
                ToolCall.of("c1", "search_hotel", '{"area": "' + MARKUP.replace('"', "'") + '"}'), text=text
            )
        return Decision.speak(text)


class HostileUser(User[Any]):
    """Says what a page must not act on, with doubts about it."""

    async def speak(self, request: Speak[Any]) -> UserTurn[Any]:
        return UserTurn(TEXTS[request.key.turn % len(TEXTS)], flags=(f"unknown_value: {MARKUP}",))


class FailingAgent(ScriptedAgent):
    """Fails in every third task, after its first turn."""

    async def act(self, request: Act[Any]) -> Decision[Any]:
        if request.key.turn > 1 and int(request.key.task_id.rpartition("-")[2]) % 3 == 0:
            raise RuntimeError("the booking system does not answer")
        return await super().act(request)
