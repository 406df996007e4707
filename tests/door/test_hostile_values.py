"""One component, one question, one value that cannot be: it costs one episode, and the message says whose it was."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hostile import CALLED, Oddity, Ran, players, run

from simkit.components.agent import AgentStart, Decision
from simkit.components.reward import EpisodeReward, Hit, RewardPart
from simkit.components.tools import ToolReturn, ToolsStart
from simkit.components.user import UserTurn
from simkit.core.messages import AssistantMessage, FunctionCall, ToolCall, ToolResult, ToolSpec
from simkit.core.tasks import Goal
from simkit.run.summary import summarise
from simkit.search.josh import Josh
from simkit.search.rollout import Rollout

pytestmark = pytest.mark.anyio


class Unreadable:
    """Raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __iter__(self) -> Any:
        raise RuntimeError("no iteration")

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
        raise RuntimeError("no class")


class Endless(dict[str, Any]):
    """Never comes to its end."""

    def items(self) -> Any:
        while True:
            yield "more", 1

    __iter__ = items


class Halting(Decision):
    """A decision whose fields cannot be read."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("no fields today")


class Colour(Enum):
    RED = "red"


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"v": [value]}
    return value


def circle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = [value, value]
    return value


def laughs() -> Any:
    """Forty lists, and more text than there is memory."""
    value: Any = ["ha"]
    for _ in range(40):
        value = [value, value]
    return value


def _any(value: object) -> Any:
    return value


def say(**more: Any) -> Decision:
    fields: dict[str, Any] = {"say": "hi", **more}
    return Decision(AssistantMessage.of("hi"), **fields)


def result(value: Any, **more: Any) -> ToolReturn:
    return ToolReturn(ToolResult.model_construct(value=value, error=more.pop("error", False)), (), **more)


NOT_REPLIES: dict[str, Any] = {
    "nothing": None,
    "a text": "hello",
    "a number": 7,
    "a list": [1],
    "a dict": {"text": "hello"},
    "a class": Decision,
    "what cannot be read": Unreadable(),
    "a value of another contract": AgentStart("x"),
}

NOT_JSON: dict[str, Any] = {
    "bytes": b"\xff\x00",
    "a set": {1, 2},
    "an object": object(),
    "not a number": math.nan,
    "infinite": -math.inf,
    "infinite, inside": {"a": [1, {"b": math.inf}]},
    "too deep": deep(40),
    "far too deep": deep(5_000),
    "circular": circle(),
    "a date": date(2026, 1, 1),
    "an enum": Colour.RED,
    "a uuid": UUID(int=1),
    "a decimal": Decimal(1),
    "a dataclass": Goal("g"),
    "keys that are no texts": {1: "a", "1": "b"},
    "keys that are tuples": {(1, 2): 3},
    "an integer of ten thousand digits": 10**10_000,
    "what cannot be read": Unreadable(),
    "what cannot be read, inside": [Unreadable()],
    "an endless one": Endless(),
    "a generator": (each for each in "abc"),
    "an array": np.zeros(3),
}

NO_STATE: dict[str, Any] = {
    "a generator": lambda: (each for each in "abc"),
    "an iterator": lambda: iter([1]),
    "an open file": lambda: StringIO("abc"),
}

NO_COUNT: dict[str, Any] = {
    "negative": -1,
    "a fraction": 1.5,
    "nan": math.nan,
    "a text": "12",
    "too large": 1 << 64,
    "True": True,
    "nothing": None,
}
NO_COST: dict[str, Any] = {"negative": -0.5, "nan": math.nan, "infinite": math.inf, "a text": "1", "nothing": None}
NO_VALUE: dict[str, Any] = {
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "negative": -5,
    "above": 1.0000001,
    "text": "0.7",
    "decimal": Decimal("0.5"),
    "huge": 10**400,
    "complex": 1j,
    "nothing": None,
    "a list": [0.5],
    "an array": np.zeros(2),
    "unreadable": Unreadable(),
}


def table() -> list[tuple[str, str, str, Any]]:
    """(whose fault, question, what is odd, how it is made)."""
    rows: list[tuple[str, str, str, Any]] = []

    def add(component: str, question: str, what: str, value: Any) -> None:
        rows.append((component, question, what, lambda: value))

    whose: dict[str, tuple[str, ...]] = {
        "agent": ("start_agent", "act"),
        "user": ("speak",),
        "tool": ("start_tools", "call"),
    }
    whose["reward"] = ("goals", "score_turn", "score_episode")
    for component, questions in whose.items():
        for question in questions:
            for what, value in NOT_REPLIES.items():
                if not (question == "start_agent" and type(value) is AgentStart):
                    add(component, question, what, value)
    odd: dict[str, Any] = {"a number": 7, "bytes": b"x", "a list": ["x"]}
    for what, value in odd.items():
        add("agent", "start_agent", f"system: {what}", AgentStart(value))
        add("agent", "act", f"message: {what}", Decision(value))
        add("agent", "act", f"content: {what}", Decision(AssistantMessage.model_construct(content=value)))
        add("agent", "act", f"say: {what}", say(say=value))
        add("agent", "act", f"calls: {what}", Decision(AssistantMessage.of("x"), calls=value))
        add("agent", "act", f"calls: ({what},)", Decision(AssistantMessage.of("x"), calls=(value,)))
        add("agent", "act", f"note: {what}", Decision(AssistantMessage.of("x"), note=value))
        add("agent", "act", f"end: {what}", say(end=value))
        add("agent", "act", f"observe: {what}", say(observe=value))
        add("user", "speak", f"text: {what}", UserTurn(value))
        add("user", "speak", f"end: {what}", UserTurn("x", end=value))
        add("user", "speak", f"flags: ({what},)", UserTurn("x", flags=(value,)))
        add("user", "speak", f"flags: {what}", UserTurn("x", flags=value))
        add("tool", "start_tools", f"specs: {what}", ToolsStart(value, ()))
        add("tool", "start_tools", f"specs: ({what},)", ToolsStart((value,), ()))
        add("tool", "start_tools", f"policy: {what}", ToolsStart((), (), value))
        add("tool", "call", f"result: {what}", ToolReturn(value))
        add("tool", "call", f"error: {what}", result("x", error=value))
        add("tool", "call", f"writes: {what}", result("x", writes=value))
        add("tool", "call", f"writes: ({what},)", result("x", writes=(value,)))
        add("reward", "goals", f"({what},)", (value,))
        add("reward", "goals", f"key: {what}", (Goal(value),))
        add("reward", "goals", f"detail: {what}", (Goal("g", value),))
        add("reward", "score_turn", f"({what},)", (value,))
        add("reward", "score_turn", f"goal: {what}", (Hit(value, "c"),))
        add("reward", "score_turn", f"evidence: {what}", (Hit("g", value),))
        add("reward", "score_episode", f"parts: {what}", EpisodeReward(1.0, value))
        add("reward", "score_episode", f"parts: ({what},)", EpisodeReward(1.0, (value,)))
        add("reward", "score_episode", f"part name: {what}", EpisodeReward(1.0, (RewardPart(value, 1.0),)))
        add("reward", "score_episode", f"evidence: {what}", EpisodeReward(1.0, (RewardPart("a", 1.0, 1.0, value),)))
    add("user", "speak", "flags: a text", UserTurn("x", flags=_any("abc")))
    add("agent", "act", "an unreadable field", object.__new__(Halting))
    add("agent", "act", "a call with a number for a name", _call_with(name=7))
    add("agent", "act", "a call with an object for arguments", _call_with(arguments={"book": "a"}))
    add("agent", "act", "observe gives nothing", Decision(AssistantMessage.of("x"), calls=(CALLED,), observe=_nothing))
    twice = ToolSpec.of("put", "Put.", {})
    add("tool", "start_tools", "two tools of one name", ToolsStart((twice, twice), ()))
    add("tool", "start_tools", "a tool without a name", ToolsStart((ToolSpec.of("", "Put.", {}),), ()))
    for what, value in NOT_JSON.items():
        add("tool", "call", f"value: {what}", result(value))
        add("tool", "call", f"value inside: {what}", result({"rows": [{"a": value}]}))
        add("tool", "call", f"write: {what}", result("x", writes=({"a": value},)))
        add("reward", "goals", f"detail value: {what}", (Goal("g", {"a": value}),))
    for what, make in NO_STATE.items():
        rows.append(("agent", "start_agent", f"state: {what}", lambda make=make: AgentStart("x", make())))
        rows.append(("agent", "act", f"state: {what}", lambda make=make: say(state=make())))
        rows.append(("user", "speak", f"state: {what}", lambda make=make: UserTurn("x", state=make())))
        rows.append(("tool", "start_tools", f"state: {what}", lambda make=make: ToolsStart((), make())))
        rows.append(("tool", "call", f"state: {what}", lambda make=make: ToolReturn(ToolResult(value=1), make())))
    for what, value in NO_COUNT.items():
        add("agent", "act", f"tokens: {what}", say(tokens=value))
        add("user", "speak", f"tokens: {what}", UserTurn("x", tokens=value))
        add("reward", "score_turn", f"step: {what}", (Hit("g", "c", value),))
    for what, value in NO_COST.items():
        add("agent", "act", f"cost: {what}", say(cost=value))
        add("user", "speak", f"cost: {what}", UserTurn("x", cost=value))
        add("reward", "goals", f"weight: {what}", (Goal("g", {}, value),))
        add("reward", "score_episode", f"part weight: {what}", EpisodeReward(1.0, (RewardPart("a", 1.0, value),)))
    for what, value in NO_VALUE.items():
        add("reward", "score_episode", f"value: {what}", EpisodeReward(value))
        if what not in ("negative", "above"):
            add("reward", "score_episode", f"part value: {what}", EpisodeReward(1.0, (RewardPart("a", value),)))
    return rows


def _call_with(**fields: Any) -> Decision:
    good: dict[str, Any] = {"name": "put", "arguments": "{}", **fields}
    function = FunctionCall.model_construct(None, **good)
    call = ToolCall.model_construct(id="c", type="function", function=function)
    return Decision(AssistantMessage.of("x"), calls=(call,))


def _nothing(call: ToolCall, result: ToolResult) -> Any:
    return None


TABLE = table()


def check(ran: Ran, component: str) -> None:
    """The odd episode alone has a fault, in the name of the component; everything else is as if it were not there."""
    assert ran.odd.outcome == f"{component}_fault"
    assert ran.odd.reward is None
    assert f"plain_{component}" in str(ran.odd.error) or f"plain_{component}s" in str(ran.odd.error)
    assert str(ran.odd.error).isprintable()
    assert len(str(ran.odd.error)) < 1_000
    assert len(ran.others) == 2
    for episode in ran.others:
        assert (episode.reward, episode.faults) == (1.0, 0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("component", "question", "what", "make"), TABLE, ids=[" ".join(row[:3]) for row in TABLE])
async def test_a_value_that_cannot_be_costs_one_rollout(
    component: str, question: str, what: str, make: Any, tmp_path: Path
) -> None:
    ran = await run(tmp_path, Rollout(), players(Oddity(question, make)))
    check(ran, component)
    assert "Traceback" not in str(ran.odd.error)


SOME = [row for number, row in enumerate(TABLE) if number % 7 == 0]


@pytest.mark.parametrize(("component", "question", "what", "make"), SOME, ids=[" ".join(row[:3]) for row in SOME])
async def test_a_value_that_cannot_be_costs_one_tree(
    component: str, question: str, what: str, make: Any, tmp_path: Path
) -> None:
    ran = await run(tmp_path, Josh(), players(Oddity(question, make)))
    assert ran.odd.faults >= 1
    assert ran.odd.reward is None or component in ("agent", "user")  # a search that such a fault stopped is scored
    assert [episode.reward for episode in ran.others] == [1.0] * 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_store_answers_about_every_episode_and_the_summary_is_json(tmp_path: Path) -> None:
    for number, (component, question, _, make) in enumerate(TABLE[::90]):
        ran = await run(tmp_path / str(number), Rollout(), players(Oddity(question, make)))
        rows = ran.query("SELECT task_id, reward, outcome FROM episodes ORDER BY task_id")
        assert [row["outcome"] for row in rows].count(f"{component}_fault") == 1
        assert len(rows) == 3
        assert ran.query("SELECT count(*) AS bad FROM unreadable_lines") == [{"bad": 0}]
        json.dumps(summarise(ran.episodes).to_json(), allow_nan=False)


WELCOME: dict[str, tuple[str, Any, Any]] = {
    "a reward that is a whole number": ("score_episode", EpisodeReward(1), 1.0),
    "a reward that is a boolean": ("score_episode", EpisodeReward(True), 1.0),
    "a reward of numpy": ("score_episode", EpisodeReward(_any(np.float32(0.5))), 0.5),
    "a fraction": ("score_episode", EpisodeReward(_any(Fraction(1, 4))), 0.25),
    "-0.0": ("score_episode", EpisodeReward(-0.0), 0.0),
    "the smallest number": ("score_episode", EpisodeReward(5e-324), 5e-324),
    "copies of a goal": ("goals", (Goal("g"), Goal("g")), 1.0),
    "a goal without weight": ("goals", (Goal("g", {}, 0),), 1.0),
    "an ordered dict": ("call", result(OrderedDict(a=1)), 1.0),
    "a counter": ("call", result(Counter("abca")), 1.0),
    "a tuple": ("call", result((1, (2, 3))), 1.0),
    "a float of numpy": ("call", result({"a": np.float64(0.5)}), 1.0),
    "a lone surrogate": ("call", result({"a\ud800": "\ud83d"}), 1.0),
    "zero bytes and escapes": ("call", result({"a": "\x00\x1b]0;x\x07"}), 1.0),
    "an integer of forty digits": ("call", result(10**40), 1.0),
    "nothing": ("call", result(None), 1.0),
    "sixty levels": ("call", result(deep(30)), 1.0),
    "a text of a megabyte less one": ("call", result("x" * 999_999), 1.0),
    "strange words": ("speak", UserTurn("\x00\ud800\x9b31m", flags=("a: \ud800",)), 1.0),
}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("what", WELCOME)
async def test_what_is_odd_and_right_is_taken_and_stored(what: str, tmp_path: Path) -> None:
    question, value, reward = WELCOME[what]
    ran = await run(tmp_path, Rollout(), players(Oddity(question, lambda: value)))
    assert (ran.odd.reward, ran.odd.error) == (reward, None)
    assert type(ran.odd.reward) is float
    rows = ran.query("SELECT task_id, reward FROM episodes ORDER BY task_id")
    assert [row["reward"] for row in rows] == [reward if row["task_id"] == "t2" else 1.0 for row in rows]
    assert ran.query("SELECT count(*) AS bad FROM unreadable_lines") == [{"bad": 0}]
    json.dumps([asdict(episode) for episode in ran.episodes], allow_nan=False)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("value", ["x" * 2_000_000, ["x" * 100] * 20_000, laughs()], ids=["text", "list", "laughs"])
async def test_a_result_that_is_too_large_is_an_error_that_the_model_reads(value: Any, tmp_path: Path) -> None:
    ran = await run(tmp_path, Rollout(), players(Oddity("call", lambda: result(value, writes=({"book": "a"},)))))
    assert (ran.odd.reward, ran.odd.outcome) == (1.0, "agent_ended")
    (row,) = ran.query("SELECT result, error, writes FROM tool_calls WHERE episode_id = 'run/t2/0'")
    assert row["error"] is True
    assert "1,000,000" in row["result"]
    assert len(row["result"]) < 2_000
    assert json.loads(row["writes"]) == [{"book": "a"}]
    (told,) = ran.query("SELECT message FROM messages m WHERE episode_id = 'run/t2/0' AND author = 'tool'")
    assert "left out" in told["message"]
