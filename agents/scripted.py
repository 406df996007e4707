"""A rule agent for worlds with an ontology: no model, no key, and mistakes on request.

A classical pipeline: it reads what the user says against the ontology, keeps a belief about each domain, asks,
searches, offers and books by rule, and speaks in templates. How often and how it errs is set by the caller, which makes
it the subject of demonstrations and of the tests of searches and harvests.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import ClassVar

from simkit.agents.dialogue_state import Belief, Listener
from simkit.agents.error_model import Slips, check_rate, parse_habits
from simkit.agents.policy import Call, Policy, Talk
from simkit.agents.templates import Spoken, Voice
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.world import World
from simkit.core.messages import ToolCall
from simkit.errors import UsageError

_PROMPT = (
    "You work for a travel agency and help customers find and book what they need. Search with everything the customer"
    " asked for, offer what you found, and book only when the customer wants it and every detail is known."
)


class ScriptedAgent(Agent):
    """A rule agent with a tunable error rate.

    Attributes of the constructor:
        world: its ontology is the agent's vocabulary.
        error_rate: probability of a slip, once for each user utterance (a value is missed or misheard) and once for
            each tool call (an argument is lost or changed, or the agent speaks instead of calling).
        habits: systematic mistakes, joined by `+`, each with a share from 0 to 1 if it is not always made:
            `drop:SLOT`, `swap:SLOT`, `deaf:SLOT`, `hasty`, `skip_confirm`, `no_book`; e.g. `drop:people:0.6+hasty`.
        steps: decisions the agent plans for in one turn, the last of them kept for speaking.

    Raises:
        UsageError: the world has no ontology, or an option is not what it should be.
    """

    name: ClassVar[str] = "scripted"

    def __init__(self, world: World, error_rate: float = 0.25, habits: str = "", steps: int = 3) -> None:
        ontology = world.ontology
        if not ontology.domains:
            raise UsageError(
                f"the world `{world.name}` has no ontology, so the scripted agent knows no words in it; choose an agent"
                " that brings a model"
            )
        if steps < 2:
            raise UsageError(f"the scripted agent needs steps of at least 2 (one to call, one to speak), not {steps}")
        domains = {domain.name: domain for domain in ontology.domains}
        self._slips = Slips(check_rate(error_rate), parse_habits(habits, ontology))
        self._listener = Listener(ontology)
        self._policy = Policy(domains, steps)
        self._voice = Voice(domains)

    def start(self, request: StartAgent) -> AgentStart:
        """The system prompt, with the world's own rules after it, and an empty belief."""
        return AgentStart(f"{_PROMPT}\n\n{request.policy}" if request.policy else _PROMPT, Belief())

    async def act(self, request: Act) -> Decision:
        """One call, or the reply that ends the turn."""
        rng = request.key.rng("agent", request.step)
        belief = self._follow(request, rng)
        tools = {tool.name for tool in request.tools}
        plan = self._policy.plan(belief, request.step, tools, hasty=self._slips.has("hasty", rng))
        match plan:
            case Call():
                return self._call(plan, belief, request, rng)
            case Talk():
                return self._say(belief, rng)

    def _follow(self, request: Act, rng: Random) -> Belief:
        belief = request.state if isinstance(request.state, Belief) else Belief()
        return self._listener.fold(belief, request.conversation.tail(belief.seen), self._slips.ear(rng))

    def _call(self, plan: Call, belief: Belief, request: Act, rng: Random) -> Decision:
        known = next(tool.properties for tool in request.tools if tool.name == plan.tool)
        right = {name: value for name, value in plan.arguments.items() if name in known}
        sent = self._slips.arguments(plan.verb, plan.domain, right, rng)
        if sent is None:
            return self._skip(plan, belief, rng)
        call = ToolCall.of(f"call_{len(request.conversation)}", plan.tool, sent)
        return Decision.call(call, state=belief)

    def _skip(self, plan: Call, belief: Belief, rng: Random) -> Decision:
        """Speak instead of calling: claim a booking that was never made, or put the user off."""
        if plan.verb == "search":
            return _decision(self._voice.filler(belief, rng))
        topic = belief.topic(plan.domain.name)
        claimed = replace(topic, booked=plan.arguments, news="booked", wanted=False, reference="")
        return self._say(belief.with_topic(plan.domain.name, claimed), rng)

    def _say(self, belief: Belief, rng: Random) -> Decision:
        return _decision(self._voice.reply(belief, rng, terse=self._slips.has("skip_confirm", rng)))


def _decision(spoken: Spoken) -> Decision:
    return Decision.speak(spoken.text, state=spoken.belief)
