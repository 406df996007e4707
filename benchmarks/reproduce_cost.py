"""What the commands of docs/reproduce.md cost in model calls and tokens, measured on a stand-in, and extrapolated.

    python -m benchmarks.reproduce_cost [--tasks 20] [--world toolwoz] [--tokenizer FOLDER|FILE.gguf]

The stand-in plays the requests of the real agents and users: their prompts, tools and histories are sent as they would
be, and the answers are those of the rule-based agent and user, in the form that each of them writes. A model thinks and
says more (plans, politeness) and errs in other ways, so its numbers differ; the summary of a run of a few tasks gives
them (`simkit show last`). Without a tokenizer four characters count as a token.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from simkit import BeamSearch, Josh, Rollout, Run
from simkit.agents.commands import CallCommand, Command, PlanCommand, SpeakCommand, render
from simkit.agents.function_calling import FunctionCallingAgent
from simkit.agents.model_agent import ModelAgent
from simkit.agents.react import ReactAgent
from simkit.agents.scripted import ScriptedAgent
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.user import Speak, User, UserTurn
from simkit.components.world import World
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage, text_of
from simkit.models.base import CallKey, ChatRequest, ChatResponse
from simkit.users.agenda import AgendaUser
from simkit.users.goal import GoalUser
from simkit.users.guide import GuideUser
from simkit.users.reply_formats import END_TOOL

THOUGHT = "The customer has said what they want, so the next step is clear: do it, and then tell them what was found."
ADVICE = "Say what you want next, as in the recorded conversation, and answer what the agent has asked."

Count = Callable[[str], int]


@dataclass
class Tally:
    """Calls and tokens by role."""

    numbers: Counter[str] = field(default_factory=Counter[str])

    def add(self, role: str, read: int, written: int) -> None:
        self.numbers.update({f"{role} calls": 1, f"{role} read": read, f"{role} written": written})


class Tape:
    """A model that gives the answers that it was told beforehand, and counts what it would have read and written."""

    name = "stand-in"

    def __init__(self, count: Count, tally: Tally) -> None:
        self._count = count
        self._tally = tally
        self._answers: dict[CallKey, AssistantMessage] = {}
        self.commands = False
        """Whether the agent's messages are counted in the form of `react`."""

    def put(self, key: CallKey, answer: Message) -> None:
        assert isinstance(answer, AssistantMessage)
        self._answers[key] = answer

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        answer, in_words = self._answers.pop(key), self.commands and key.role == "agent"
        shown = [tool.to_openai() for tool in request.tools] if request.tools and not in_words else []
        read, (written,) = self._counts(request.messages, in_words), self._counts([answer], in_words)
        self._tally.add(key.role, sum(read) + self._count(orjson.dumps(shown).decode()), written)
        return ChatResponse.of(answer, self.name)

    def _counts(self, messages: Iterable[Message], in_words: bool) -> list[int]:
        return [self._count((as_commands(each) if in_words else each).to_json().decode()) for each in messages]


def as_commands(message: Message) -> Message:
    """A message as `react` has it: a plan and commands, and results from the user."""
    match message:
        case ToolMessage():
            return UserMessage.of(f"APIRETURN {text_of(message)}")
        case AssistantMessage():
            acts: list[Command] = [CallCommand(call.name, call.parse_arguments()) for call in message.tool_calls or ()]
            return AssistantMessage.of(render([PlanCommand(THOUGHT), *(acts or [SpeakCommand(text_of(message))])]))
        case _:
            return message


class PricedAgent(Agent[Any]):
    """The requests of a model agent, answered by the rule-based agent.

    Conversations are played with tool calls, which the rule-based agent reads; `prompt` is the agent whose system
    prompt they have.
    """

    name = "priced"

    def __init__(self, prompt: ModelAgent, rules: ScriptedAgent, tape: Tape) -> None:
        self._prompt, self._rules, self._tape = prompt, rules, tape
        self._inner = FunctionCallingAgent(tape)
        tape.commands = isinstance(prompt, ReactAgent)

    def start(self, request: StartAgent) -> AgentStart[Any]:
        return replace(self._prompt.start(request), state=(None, self._rules.start(request).state))

    async def act(self, request: Act[Any]) -> Decision[Any]:
        own, rules = request.state
        plan = await self._rules.act(replace(request, state=rules))
        self._tape.put(CallKey(request.key, "agent", request.step), plan.message)
        made = await self._inner.act(replace(request, state=own))
        return replace(made, state=(made.state, plan.state))


class PricedUser(User[Any]):
    """The requests of a user that is played by a model, answered by the rule-based user."""

    name = "priced"

    def __init__(self, inner: GoalUser, rules: AgendaUser, tape: Tape) -> None:
        self._inner, self._rules, self._tape = inner, rules, tape

    async def speak(self, request: Speak[Any]) -> UserTurn[Any]:
        own, rules = request.state or (None, None)
        said = await self._rules.speak(replace(request, state=rules))
        text = f"ADVICE: {ADVICE}\nSAY: {said.text}" if self._inner.advised else said.text
        calls = (ToolCall.of("c0", END_TOOL.name, {}),) if said.end else ()
        self._tape.put(CallKey(request.key, "user", 0), AssistantMessage.of(text, calls))
        turn = await self._inner.speak(replace(request, state=own))
        return replace(turn, state=(turn.state, said.state))


AGENTS: Mapping[str, type[ModelAgent]] = {"react": ReactAgent, "function_calling": FunctionCallingAgent}
USERS: Mapping[str, type[GoalUser]] = {"goal": GoalUser, "guide": GuideUser}


async def measured(world: str, agent: str, user: str, search: str, tasks: int, count: Count) -> Mapping[str, float]:
    """Calls and tokens of an episode, on average."""
    tally = Tally()
    tape = Tape(count, tally)
    with tempfile.TemporaryDirectory() as folder:
        async with Run(store=folder, seed=0) as run:
            place = run.world(world)
            cast = run.cast(place, agent=_agent(place, agent, tape), user=_user(place, user, tape))
            played = run.tasks(place, "train" if search == "josh" else "test", tasks)
            await run.play(Josh(BeamSearch(beam=8)) if search == "josh" else Rollout(), cast, played)
    return {name: number / tasks for name, number in tally.numbers.items()}


def _agent(world: World, name: str, tape: Tape) -> PricedAgent:
    return PricedAgent(AGENTS[name](tape), ScriptedAgent(world, error_rate=0.25), tape)


def _user(world: World, name: str, tape: Tape) -> PricedUser:
    return PricedUser(USERS[name](tape, world), AgendaUser(world), tape)


def counter(path: str | None) -> Count:
    """A function that counts the tokens of a text."""
    if path is None:
        return lambda text: (len(text) + 3) // 4
    from simkit.local.chat import ChatFormat

    tokenizer: Any = ChatFormat.of(path).tokenizer
    known: defaultdict[str, int] = defaultdict(int)

    def count(text: str) -> int:
        if text not in known:
            known[text] = len(tokenizer(text)["input_ids"])
        return known[text]

    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--world", default="toolwoz")
    parser.add_argument("--tokenizer", default=None)
    given = parser.parse_args()
    count = counter(given.tokenizer)
    names = [f"{role} {what}" for role in ("agent", "user") for what in ("calls", "read", "written")]
    print(f"| search | agent | user | {' | '.join(names)} |\n|---|---|---|{'---:|' * len(names)}")
    for search, agent, user in (
        ("rollout", "react", "goal"),
        ("rollout", "react", "guide"),
        ("rollout", "function_calling", "goal"),
        ("rollout", "function_calling", "guide"),
        ("josh", "react", "goal"),
        ("josh", "function_calling", "goal"),
    ):
        found = asyncio.run(measured(given.world, agent, user, search, given.tasks, count))
        cells = " | ".join(f"{found.get(name, 0):,.0f}" for name in names)
        print(f"| {search} | {agent} | {user} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
