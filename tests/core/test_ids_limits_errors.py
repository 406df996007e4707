from __future__ import annotations

import inspect
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simkit import errors
from simkit.core.boundary import boundary
from simkit.core.ids import TurnKey, branch_id, child_path, derive_seed, episode_id
from simkit.core.limits import ASK_TIMEOUT, Limits, Spent
from simkit.errors import AgentFault, Fault, JournalFailed, SimkitError, ToolFault, UsageError

# --- ids --------------------------------------------------------------------------------------------------------------


def test_paths_of_forks() -> None:
    assert child_path("", 0, 1) == ""
    assert [child_path("L", arm, 2) for arm in range(2)] == ["LL", "LR"]
    assert [child_path("", arm, 3) for arm in range(3)] == ["0", "1", "2"]
    assert child_path(child_path(child_path("", 0, 3), 3, 4), 1, 3) == "0.3.1"


@given(st.integers(2, 12), st.integers(1, 3))
def test_no_two_leaves_of_a_tree_share_a_path(factor: int, depth: int) -> None:
    paths = [""]
    for _ in range(depth):
        paths = [child_path(path, arm, factor) for path in paths for arm in range(factor)]
    assert len(set(paths)) == factor**depth


def test_names_of_episodes_and_branches() -> None:
    episode = episode_id("run", "MUL0003", 2)
    assert (episode, branch_id(episode, "", 0), branch_id(episode, "LR", 7)) == (
        "run/MUL0003/2",
        "run/MUL0003/2/.0",
        "run/MUL0003/2/LR.7",
    )


KEY = TurnKey(7, "MUL0003", 1, "LR", 4)


@given(st.lists(st.text(st.characters(exclude_characters="\x1f", codec="utf-8"), max_size=3), max_size=4))
def test_a_seed_fits_63_bits_and_repeats(parts: list[str]) -> None:
    assert 0 <= derive_seed(*parts) < 2**63
    assert derive_seed(*parts) == derive_seed(*parts)


def test_a_seed_keeps_its_parts_apart() -> None:
    assert derive_seed("a", "bc") != derive_seed("ab", "c")
    assert derive_seed(7, "MUL0003", 1) == 6557752647018544714  # written down: seeds must not change between releases


def test_each_place_has_a_seed_of_its_own() -> None:
    keys = [KEY, *(replace(KEY, **change) for change in _changes())]
    seeds = {key.seed(role, call) for key, role, call in itertools.product(keys, ("agent", "user"), (0, 1))}
    assert len(seeds) == len(keys) * 4
    assert KEY.rng("agent", 1).random() == KEY.rng("agent", 1).random()
    assert KEY.rng("agent", 1).random() != KEY.rng("agent", 2).random()


def _changes() -> list[dict[str, Any]]:
    return [{"run_seed": 8}, {"task_id": "MUL0004"}, {"trial": 2}, {"path": "LL"}, {"turn": 5}]


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"turns": 0}, "`turns` is 0; it must be at least 1"),
        ({"steps": -1}, "`steps` is -1; it must be at least 1"),
        ({"decisions": 0}, "`decisions` is 0; it must be at least 1"),
        ({"wall_seconds": 0}, "`wall_seconds` is 0; it must be positive"),
        ({"tokens": -5}, "`tokens` is -5; it must be positive"),
        ({"cost": 0.0}, r"`cost` is 0\.0; it must be positive"),
    ],
)
def test_a_limit_that_leaves_no_room_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Limits(**wrong)


@pytest.mark.parametrize(
    ("spent", "outcome"),
    [
        (Spent(), None),
        (Spent(turns=4, tokens=99, cost=0.99), None),
        (Spent(turns=5), "turn_limit"),
        (Spent(tokens=100), "token_limit"),
        (Spent(cost=1.0), "cost_limit"),
        (Spent(turns=5, tokens=100, cost=1.0), "turn_limit"),
    ],
)
def test_the_first_limit_used_up_names_the_outcome(spent: Spent, outcome: str | None) -> None:
    assert spent.exceeded(Limits(turns=5, tokens=100, cost=1.0)) == outcome


def test_decisions_count_only_if_they_are_limited() -> None:
    assert Spent(decisions=10**9).exceeded(Limits()) is None
    assert Spent(decisions=4).exceeded(Limits(decisions=5)) is None
    assert Spent(decisions=5).exceeded(Limits(decisions=5)) == "decision_limit"
    assert Spent().plus(decisions=2).plus(turns=1) == Spent(turns=1, decisions=2)


def test_limits_take_from_others_what_they_leave_open() -> None:
    worlds = Limits(turns=30, steps=20, decisions=10)
    assert Limits().or_else(worlds) == worlds
    assert Limits(turns=2, cost=1.0).or_else(worlds) == Limits(turns=2, steps=20, decisions=10, cost=1.0)


def test_a_child_starts_from_what_its_parent_spent() -> None:
    parent = Spent(2, 30, 0.25)
    assert parent.plus(turns=1, tokens=12, cost=0.5) == Spent(3, 42, 0.75)
    assert parent.plus(turns=1) == Spent(3, 30, 0.25)
    assert parent.plus(tokens=1) == Spent(2, 31, 0.25)
    assert parent == Spent(2, 30, 0.25)
    assert Spent() == Spent(0, 0, 0.0)


def test_a_component_has_ten_minutes_for_an_answer_as_documented() -> None:
    store = (Path(__file__).parents[2] / "docs" / "store.md").read_text("utf-8")
    assert ASK_TIMEOUT == 600.0
    assert "`--ask-timeout` seconds (600;" in store


def test_without_bounds_only_turns_end_a_branch() -> None:
    assert Spent(14, 10**9, 10.0**9).exceeded(Limits()) is None
    assert Spent(15).exceeded(Limits()) == "turn_limit"


# --- errors -----------------------------------------------------------------------------------------------------------


def test_the_tree_at_the_top_of_the_file_is_the_tree() -> None:
    drawn = {
        line.split("── ")[1].split()[0]: line.index("──")
        for line in (errors.__doc__ or "").splitlines()
        if "──" in line
    }
    defined = {
        name: each for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, Exception)
    }
    assert set(drawn) == set(defined) - {"SimkitError"}
    for name, column in drawn.items():
        parents = [
            each for each, at in drawn.items() if at < column and list(drawn).index(each) < list(drawn).index(name)
        ]
        parent = next((each for each in reversed(parents) if drawn[each] == column - 4), "SimkitError")
        assert defined[name].__bases__ == (defined[parent],)


def test_a_boundary_attributes_what_is_raised() -> None:
    original = KeyError("area")
    with pytest.raises(AgentFault, match="agent `scripted`, turn 3: KeyError: 'area'") as caught, _agent_turn():
        raise original
    assert caught.value.__cause__ is original
    assert caught.value.component == "agent"


@pytest.mark.parametrize("error", [ToolFault("theirs"), JournalFailed("disk full")])
def test_a_boundary_lets_typed_faults_and_store_errors_pass(error: SimkitError) -> None:
    with pytest.raises(type(error)) as caught, _agent_turn():
        raise error
    assert caught.value is error


def _agent_turn() -> Any:
    return boundary(AgentFault, "agent `scripted`, turn 3")


@pytest.mark.anyio
async def test_a_boundary_lets_cancellation_pass() -> None:
    with anyio.CancelScope() as scope, _agent_turn():
        scope.cancel()
        await anyio.sleep_forever()
    assert scope.cancelled_caught


def test_every_kind_of_fault_names_its_component() -> None:
    kinds = {kind.component for kind in Fault.__subclasses__() if kind.__module__ == Fault.__module__}
    assert kinds == {"agent", "user", "tool", "model", "reward", "worker"}
