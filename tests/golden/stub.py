"""The stub protocol of the golden recordings (their README), as an agent, a user, a tool server and a reward.

Everything is a pure function of a trace and of the place in the tree, so the search under test is the only moving part.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from simkit.components.agent import Act, Agent, Decision
from simkit.components.reward import Hit, Reward, ScoreTurn
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, User, UserTurn
from simkit.core.messages import (
    AssistantMessage,
    Message,
    ToolCall,
    ToolMessage,
    ToolResult,
    UserMessage,
    parse_message,
)
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError

Json = dict[str, Any]

DIED = "(the agent died here)"
"""Stands where the release's agent raised, in runs that reproduce what the release does then."""
REJECTED = "rejected"
"""Name of a call that the release's agent would not execute."""
FAILURE = '"FAILURE INCORRECTLY FORMATTED APICALL"'
SPEAKS = (
    "Could you tell me more?",
    "I am looking into it.",
    "Is there anything else?",
    "Let me check that for you.",
)
BAD_SPEAKS = ("Error: something went wrong.", "I got APIRETURN [] for that.")


TRACES = "josh_traces.jsonl.gz"


class ScriptError(Exception):
    """What the stub raises when its plan says so."""


def golden_folder() -> Path:
    """The recordings: `SIMKIT_GOLDEN`, or `shared/golden` beside the checkout.

    Raises:
        UsageError: `SIMKIT_GOLDEN` names no folder, so that everything would be skipped without being asked for.
    """
    chosen = os.environ.get("SIMKIT_GOLDEN")
    if not chosen:
        return Path(__file__).parents[2].parent / "shared" / "golden"
    if not Path(chosen).is_dir():
        raise UsageError(f"SIMKIT_GOLDEN is {chosen}, and there is no such folder; name the folder of the recordings")
    return Path(chosen)


def available() -> list[Any]:
    """All recorded searches as parameters of a test; one that is skipped when there are none."""
    path = golden_folder() / TRACES
    if path.exists() and traces():
        return list(traces())
    reason = f"{path} has no line" if path.exists() else _absent(path)
    return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]


def _absent(path: Path) -> str:
    return f"no recordings at {path}: set SIMKIT_GOLDEN to their folder"


def recorded(name: str) -> Iterator[Json]:
    """The lines of one file of the recordings; skips the test when it is absent."""
    path = golden_folder() / name
    if not path.exists():
        pytest.skip(_absent(path))
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


@lru_cache(maxsize=1)
def traces() -> tuple[Trace, ...]:
    """All recorded searches."""
    return tuple(Trace(line) for line in recorded(TRACES))


def draw(seed: int, conversation: str, path: str, turn: int, label: str) -> float:
    """The protocol's number in [0, 1) for one decision."""
    text = f"{seed}|{conversation}|{path}|{turn}|{label}"
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") / 2**64


@dataclass(frozen=True)
class Planned:
    """One entry of a plan: a call of a menu entry, words, or an exception."""

    call: Mapping[str, Any] | None = None
    text: str | None = None

    @property
    def raises(self) -> bool:
        return self.call is None and self.text is None


class Trace:
    """One recorded search, and the stub's decisions in it."""

    def __init__(self, data: Json) -> None:
        self.data = data
        self.name: str = data["trace"]
        self.conversation: str = data["conversation"]
        self.style: str = data["style"]
        self.cfg: Json = data["cfg"]
        self.steps: list[Json] = data["steps"]
        self.messages: list[Json] = data["messages"]

    @property
    def decisions(self) -> int:
        """Requests in one turn: of the agent's own loop, or of the search's in `single`."""
        return int(self.data["max_turn_tries"]) if self.style == "single" else 3

    def task(self) -> Task:
        goals = tuple(Goal(goal["name"], goal["args"]) for goal in self.data["goals"])
        return Task(id=self.conversation, world="golden", split="test", instructions="", goals=goals)

    def u(self, path: str, turn: int, label: str) -> float:
        return draw(self.cfg["seed"], self.conversation, path, turn, label)

    def plan(self, path: str, turn: int) -> list[Planned]:
        """What the agent does in one turn, turns counted from 0."""

        def pick(n: int, label: str) -> int:
            return int(self.u(path, turn, label) * n)

        n, x, total = len(self.cfg["n_weights"]) - 1, self.u(path, turn, "n"), 0.0
        for index, weight in enumerate(self.cfg["n_weights"]):
            total += weight
            if total > x:
                n = index
                break
        plan: list[Planned] = []
        for i in range(n):
            kind = "goal" if self.u(path, turn, f"kind{i}") < self.cfg["p_goal"] else "wrong"
            menu = self.data[f"{kind}s"]
            plan.append(Planned(call=menu[pick(len(menu), f"{kind}{i}")]))
        if n < 3:
            bad = self.u(path, turn, "bad") < self.cfg["p_bad_speak"]
            plan.append(Planned(text=BAD_SPEAKS[pick(2, "badtext")] if bad else SPEAKS[pick(4, "text")]))
        if self.u(path, turn, "exc") < self.cfg["p_exc"]:
            plan = [*plan[: pick(n + 1 if n < 3 else 3, "excat")], Planned()]
        return plan

    def entry(self, path: str, turn: int, step: int) -> Planned:
        plan = self.plan(path, turn)
        return plan[step % len(plan)] if self.style == "single" else plan[step]

    def kills(self, entry: Planned) -> bool:
        """Whether this entry kills the leaf in the release: a scripted exception, or a call its agent chokes on."""
        if entry.call is None:
            return entry.raises
        return self.style != "react" and entry.call["kind"] in {"malformed", "raising_api"}

    def user(self, path: str, n: int) -> UserTurn:
        """What the user says on a leaf with n user messages."""
        if n > 0 and self.u(path, n, "uexc") < self.cfg["p_user_exc"]:
            raise ScriptError("scripted user exception")
        patience = self.cfg["k_min"] + int(self.u("", 0, "K") * self.cfg["k_span"])
        if n >= patience or (n > 0 and self.u(path, n, "hang") < self.cfg["p_hang"]):
            return UserTurn("Thanks, bye. END_CONVERSATION", end=True)
        sentences = self.data["sentences"]
        return UserTurn(f"Customer message {n}: {sentences[n % len(sentences)]}")

    @cached_property
    def rewards(self) -> dict[tuple[str, int, int], list[str]]:
        """Goals earned, by path, turn and request."""
        return {
            (call["path"], call["turn"], call["req"]): call["reward"]
            for step in self.steps
            for call in step["agent_calls"]
        }

    @cached_property
    def returns(self) -> dict[str, str]:
        """What calls returned, by the text of the call, wherever the recording kept it."""
        paths: list[list[int]] = [indices for leaf in self.data["final_leaves"].values() for indices in leaf]
        paths += [indices for indices, _, _ in self.data["training_examples"]]
        found: dict[str, str] = {}
        for indices in paths:
            for call, answer in pairwise(indices):
                key = _call_key(self.messages[call])
                if key is not None and self.messages[answer]["role"] in {"user", "tool"}:
                    found[key] = str(self.messages[answer]["content"]).removeprefix("APIRETURN ")
        return found


def _call_key(message: Json) -> str | None:
    """Name and arguments of the call a recorded message makes, None when it makes none that was executed."""
    if message.get("tool_calls"):
        function = message["tool_calls"][0]["function"]
        return json.dumps([function["name"], json.loads(function["arguments"])])
    text = str(message.get("content"))
    try:
        if text.startswith("CALL "):
            return json.dumps(json.loads(text.removeprefix("CALL ")))
        if " APICALL " in text:
            body = json.loads(text.split(" APICALL ")[1].removesuffix(" <COMMAND_END>"))
            return json.dumps([body["name"], body["parameters"]])
    except json.JSONDecodeError:
        return None
    return None


class StubAgent(Agent):
    """The scripted agent. With `faults` it raises where the release's agent raised; without, it ends there, which
    is what the release makes of it: a dead leaf whose calls still count.
    """

    name = "stub"

    def __init__(self, trace: Trace, *, faults: bool) -> None:
        self._trace = trace
        self._faults = faults

    async def act(self, request: Act) -> Decision:
        turn = request.key.turn - 1
        entry = self._trace.entry(request.key.path, turn, request.step)
        if self._trace.kills(entry):
            if self._faults:
                raise ScriptError("scripted exception")
            return Decision(AssistantMessage.of(DIED), end=True)
        if entry.call is None:
            return self._speak(str(entry.text))
        return self._call(entry.call, f"{request.key.path}|{turn}|{request.step}")

    def _speak(self, text: str) -> Decision:
        wrote = f"PLAN I will answer. <COMMAND_END> SPEAK {text} <COMMAND_END>"
        return Decision(AssistantMessage.of(wrote if self._trace.style == "react" else text), say=text)

    def _call(self, entry: Mapping[str, Any], place: str) -> Decision:
        match self._trace.style:
            case "react":
                return self._react(entry, place)
            case "fc":
                _, turn, step = place.split("|")
                call = ToolCall.of(f"call_{turn}_{step}", entry["name"], json.dumps(entry["args"]))
                message = parse_message({"role": "assistant", "tool_calls": [call.to_openai()]})
                return self._decision(message, entry, place)
            case _:
                message = AssistantMessage.of("CALL " + json.dumps([entry["name"], entry["args"]]))
                return self._decision(message, entry, place)

    def _react(self, entry: Mapping[str, Any], place: str) -> Decision:
        rejected = entry["kind"] in {"malformed", "raising_api", "unknown_api"}
        body = entry.get("raw") or json.dumps({"name": entry["name"], "parameters": entry["args"]})
        message = AssistantMessage.of(f"PLAN I will use an api. <COMMAND_END> APICALL {body} <COMMAND_END>")

        rejection: Json = {"name": REJECTED, "args": {}}
        return self._decision(message, rejection if rejected else entry, place)

    def _decision(self, message: Message, entry: Mapping[str, Any], place: str) -> Decision:
        call = ToolCall.of(place, entry["name"], json.dumps(entry["args"]))
        return Decision(message, calls=(call,), observe=self._observe)

    def _observe(self, call: ToolCall, result: ToolResult) -> Message:
        text = FAILURE if call.name == REJECTED else json.dumps(result.value)
        if self._trace.style == "react":
            return UserMessage.of(f"APIRETURN {text}")
        _, turn, step = call.id.split("|")
        return ToolMessage.of(f"call_{turn}_{step}" if self._trace.style == "fc" else f"|{turn}|{step}", text)


class StubUser(User):
    """The scripted user."""

    name = "stub"

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    async def speak(self, request: Speak) -> UserTurn:
        said = sum(utterance.speaker == "user" for utterance in request.conversation.heard())
        return self._trace.user(request.key.path, said)


class RecordedTools(ToolServer):
    """Answers every call as the recording does; what it did not keep (trailing returns) is answered with words."""

    name = "recorded"

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def start(self, request: StartTools) -> ToolsStart:
        return ToolsStart(())

    async def call(self, request: CallTool) -> ToolReturn:
        key = json.dumps([request.call.name, request.call.parse_arguments()])
        recorded = self._trace.returns.get(key, '"(not recorded)"')
        value = json.loads(recorded, parse_constant=lambda _: None)  # a missing field is NaN there, null in our worlds
        return ToolReturn(ToolResult(value=value))


class RecordedReward(Reward):
    """The goals the recording says a turn earned."""

    name = "recorded"

    def __init__(self, trace: Trace, *, first_round_only: bool = True) -> None:
        self._trace = trace
        self._first_round_only = first_round_only

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        hits = tuple(self._earned(request.calls))
        left = [goal.key for goal in request.remaining]
        taken: list[Hit] = []
        for hit in hits:
            if hit.goal in left:
                left.remove(hit.goal)
                taken.append(hit)
        return first_round(taken) if self._first_round_only and self._trace.style == "single" else tuple(taken)

    def _earned(self, calls: Sequence[CallRecord]) -> Iterator[Hit]:
        if not calls:
            return
        path, turn, _ = calls[0].call_id.split("|")
        requests = range(self._trace.decisions) if self._trace.style == "single" else range(1)
        for request in requests:
            for goal in self._trace.rewards.get((path, int(turn), request), ()):
                yield Hit(goal, calls[0].call_id, request)


class FirstRound(Reward):
    """Another reward, of whose hits only the first rewarded round counts (quirk 17)."""

    def __init__(self, inner: Reward) -> None:
        self._inner = inner

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        return first_round(await self._inner.score_turn(request))


def first_round(hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """What the release takes of a turn of several rounds: the goals of the first rewarded round (quirk 17)."""
    earliest = min((hit.step for hit in hits), default=0)
    return tuple(hit for hit in hits if hit.step == earliest)
