"""Values made at random, JSON and not: an episode is scored and stored, or its component is at fault; nothing else."""

from __future__ import annotations

import gc
import math
import tempfile
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from hostile import Oddity, Ran, players, run
from hypothesis import given, settings
from hypothesis import strategies as st

from simkit.components.reward import EpisodeReward
from simkit.components.tools import ToolReturn
from simkit.components.user import UserTurn
from simkit.core.messages import ToolResult
from simkit.core.values import JSON_DEPTH, plain_json, plain_object, shown, within_depth
from simkit.errors import WrongValue
from simkit.search.rollout import Rollout

TEXTS = st.text(st.characters(codec=None), max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
ODD = st.sampled_from([math.nan, math.inf, b"x", {1}, object(), 1j, range(3), ..., NotImplemented, type, math])
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    JSON | ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXTS | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def played(question: str, value: Any) -> Ran:
    with tempfile.TemporaryDirectory() as folder:
        return anyio.run(run, Path(folder), Rollout(), players(Oddity(question, lambda: value)))


def check(ran: Ran, component: str) -> None:
    assert [episode.reward for episode in ran.others] == [1.0] * 2
    reward, outcome = ran.odd.reward, ran.odd.outcome
    assert outcome == f"{component}_fault" if reward is None else (0.0 <= reward <= 1.0 and type(reward) is float)


@settings(max_examples=15)
@given(ANYTHING)
def test_any_value_of_a_tool(value: Any) -> None:
    check(played("call", ToolReturn(ToolResult.model_construct(value=value, error=False), ())), "tool")
    check(played("call", ToolReturn(ToolResult(value=1), (), ({"v": value},))), "tool")


@settings(max_examples=15)
@given(ANYTHING)
def test_any_value_as_a_reply(value: Any) -> None:
    check(played("act", value), "agent")
    check(played("score_turn", value), "reward")
    check(played("score_episode", value), "reward")


@settings(max_examples=15)
@given(ANYTHING)
def test_any_value_as_a_reward_and_as_a_state(value: Any) -> None:
    check(played("score_episode", EpisodeReward(value)), "reward")
    assert played("speak", UserTurn("x", state=value)).odd.reward == 1.0


def taken(value: Any) -> tuple[Any, str, str]:
    """The plain value and its text, or why there is none."""
    try:
        return *plain_json(value), ""
    except WrongValue as wrong:
        return None, "", str(wrong)


@given(JSON)
def test_json_is_taken_as_it_is(value: Any) -> None:
    plain, text = plain_json(value)
    assert plain == value
    assert text == value if isinstance(value, str) else text
    assert plain_object({"v": value}) == {"v": value}


@given(ANYTHING)
def test_what_is_taken_is_json_and_what_is_not_is_told_in_printable_words(value: Any) -> None:
    plain, text, wrong = taken(value)
    assert wrong.isprintable()
    assert len(wrong) < 500
    if not wrong:
        assert isinstance(value, str) or plain_json(plain) == (plain, text)
    assert shown(value).isprintable()


@given(st.integers(1, 200))
def test_depth_has_one_bound(levels: int) -> None:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    assert within_depth(value) == (levels <= JSON_DEPTH)
    plain, text, wrong = taken(value)
    assert bool(wrong) == (levels > JSON_DEPTH)
    assert wrong or orjson.loads(text) == plain == value


class Own(dict[str, int]):
    """A dict of one's own, whose references lead to its class and from there to all modules."""

    def __sizeof__(self) -> int:
        raise AssertionError("code of the value's own was run")


@pytest.mark.parametrize("many", [1, 1_000])
def test_only_the_value_is_looked_at_not_what_its_classes_lead_to(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    met = 0
    referents = gc.get_referents

    def counted(*values: object) -> list[object]:
        nonlocal met
        found = referents(*values)
        met += len(found)
        return found

    monkeypatch.setattr(gc, "get_referents", counted)
    value = [Own(a=1) for _ in range(many)]
    assert plain_json(value) == ([{"a": 1}] * many, "[" + ", ".join(['{"a": 1}'] * many) + "]")
    assert plain_object({"v": value}) == {"v": [{"a": 1}] * many}
    assert met < 20_000
