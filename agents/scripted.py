"""A rule-based agent for worlds with an ontology, without a model or key, and with configurable mistakes.

A classical pipeline: it interprets the user with the ontology, keeps a state for each domain, asks,
searches, offers and books by rules, and speaks in templates. The caller sets the rate and the kinds of its errors, so
it is used in demonstrations and in tests of searches and harvests.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import ClassVar

from simkit.agents.dialogue_state import DialogueState, StateTracker
from simkit.agents.error_model import ErrorModel, check_rate, parse_habits
from simkit.agents.policy import CallAction, Policy, SpeakAction
from simkit.agents.templates import RenderedReply, ReplyTemplates
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.world import World
from simkit.core.messages import ToolCall
from simkit.errors import UsageError

_PROMPT = (
    "find and book what they need. Search with everything the customer asked for, offer what you found, and book only"
    " when the customer wants it and every detail is known."
)


class ScriptedAgent(Agent[DialogueState]):
    """A rule-based agent with a configurable error rate.

    Args:
        world: its ontology is the agent's vocabulary.
        error_rate: probability of an error, once per user utterance (a value is missed or misheard) and once per tool
            call (an argument is lost or changed, or the agent speaks instead of calling).
        habits: systematic mistakes, joined by `+`, each with an optional probability from 0 to 1:
            `drop:SLOT`, `swap:SLOT`, `deaf:SLOT`, `hasty`, `skip_confirm`, `no_book`; e.g. `drop:people:0.6+hasty`.
        steps: decisions per turn, of which the last is reserved for speaking.

    Raises:
        UsageError: the world has no ontology, or an option is invalid.
    """

    name: ClassVar[str] = "scripted"

    def __init__(self, world: World, error_rate: float = 0.25, habits: str = "", steps: int = 3) -> None:
        ontology = world.ontology
        if not ontology.domains:
            raise UsageError(
                f"the world `{world.name}` has no ontology, which the scripted agent needs; choose an agent"
                " that is played by a model, or one of your own: --agent path/to/file.py:Class"
            )
        if steps < 2:
            raise UsageError(f"the scripted agent needs steps of at least 2 (one to call, one to speak), not {steps}")
        domains = {domain.name: domain for domain in ontology.domains}
        self._prompt = f"{world.role} {_PROMPT}"
        self._needed = tuple(tool for domain in ontology.domains for tool in domain.tools)
        self._errors = ErrorModel(check_rate(error_rate), parse_habits(habits, ontology))
        self._tracker = StateTracker(ontology)
        self._policy = Policy(domains, steps)
        self._templates = ReplyTemplates(domains)

    def start(self, request: StartAgent) -> AgentStart[DialogueState]:
        """The system prompt followed by the world's own rules, and an empty dialogue state.

        Raises:
            UsageError: a domain of the world lacks its tool.
        """
        tools = {tool.name for tool in request.tools}
        lacking = tools and next((name for name in self._needed if name not in tools), None)
        if lacking:
            raise UsageError(
                f"the scripted agent needs the tool `{lacking}` for a domain of the world's ontology, and the tool"
                f" server has: {', '.join(sorted(tools))}; rename the tool or the domain"
            )
        return AgentStart(f"{self._prompt}\n\n{request.policy}" if request.policy else self._prompt, DialogueState())

    async def act(self, request: Act[DialogueState]) -> Decision[DialogueState]:
        """The next call, or the reply that ends the turn."""
        rng = request.key.rng("agent", request.step)
        state = self._follow(request, rng)
        tools = {tool.name for tool in request.tools}
        plan = self._policy.plan(state, request.step, tools, hasty=self._errors.has("hasty", rng))
        match plan:
            case CallAction():
                return self._call(plan, state, request, rng)
            case SpeakAction():
                return self._say(state, rng)

    def _follow(self, request: Act[DialogueState], rng: Random) -> DialogueState:
        state = request.state or DialogueState()
        return self._tracker.fold(state, request.conversation.tail(state.seen), self._errors.perceive(rng))

    def _call(
        self, plan: CallAction, state: DialogueState, request: Act[DialogueState], rng: Random
    ) -> Decision[DialogueState]:
        known = next(tool.properties for tool in request.tools if tool.name == plan.tool)
        right = {name: value for name, value in plan.arguments.items() if name in known}
        sent = self._errors.arguments(plan.verb, plan.domain, right, rng)
        if sent is None:
            return self._skip(plan, state, rng)
        call = ToolCall.of(f"call_{len(request.conversation)}", plan.tool, sent)
        return Decision.call(call, state=state)

    def _skip(self, plan: CallAction, state: DialogueState, rng: Random) -> Decision[DialogueState]:
        """Speak instead of calling: claim a booking that was not made, or put the user off."""
        if plan.verb == "search":
            return _decision(self._templates.filler(state, rng))
        topic = state.topic(plan.domain.name)
        claimed = replace(topic, booked=plan.arguments, news="booked", wanted=False, reference="")
        return self._say(state.with_topic(plan.domain.name, claimed), rng)

    def _say(self, state: DialogueState, rng: Random) -> Decision[DialogueState]:
        return _decision(self._templates.reply(state, rng, terse=self._errors.has("skip_confirm", rng)))


def _decision(spoken: RenderedReply) -> Decision[DialogueState]:
    return Decision.speak(spoken.text, state=spoken.state)
