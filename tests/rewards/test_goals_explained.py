"""What `simkit show` says about each goal: wanted, the nearest call, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from simkit import Rollout, Run
from simkit.components.reward import ExplainGoals
from simkit.rewards.composite import WeightedRewards
from simkit.rewards.goal_calls import GoalCalls
from simkit.rule_based.goals import RecordedCall, account_for
from simkit.store import Reader

pytestmark = pytest.mark.anyio

SEARCH = {"tool": "search_hotel", "parameters": {"area": "north", "stars": 4}, "id_field": "name", "entity": "Acorn"}
BOOK = {"tool": "book_hotel", "parameters": {"name": "Acorn", "people": 2}, "entity": "Acorn"}


def call(name: str, result: Any = None, /, *, error: bool = False, **parameters: Any) -> RecordedCall:
    return RecordedCall("run/t1/0/.1", f"call_{name}", name, "{}", parameters, result, error)


ACORN = [{"name": "Acorn"}]


@pytest.mark.parametrize(
    ("detail", "calls", "why"),
    [
        (SEARCH, [], "`search_hotel` was not called (called: no tool)"),
        (SEARCH, [call("search_train")], "`search_hotel` was not called (called: search_train)"),
        (SEARCH, [call("search_hotel", ACORN, area="south", stars=4)], "area is south, wanted north"),
        (SEARCH, [call("search_hotel", ACORN, area="North")], "stars is missing, wanted 4"),
        (SEARCH, [call("search_hotel", [], area="north", stars="4")], "it found nothing"),
        (SEARCH, [call("search_hotel", [{"name": "Oak"}], area="north", stars=4)], "it found Oak, wanted Acorn"),
        (BOOK, [call("book_hotel", "no room", error=True, name="acorn", people="2")], "it was answered with an error"),
        (BOOK, [call("book_hotel", {"success": False}, name="acorn", people=2)], "it was answered with an error"),
        (BOOK, [call("book_hotel", {"success": True}, name="acorn", people=2)], "nothing differs that was recorded"),
        (BOOK, [RecordedCall("b", "c", "book_hotel", "{", None, None, True)], "its arguments are not a JSON object"),
    ],
)
def test_a_missed_goal_says_what_differs(detail: Mapping[str, Any], calls: list[RecordedCall], why: str) -> None:
    account = account_for("goal", detail, calls, reached=False)
    assert account.difference.startswith(why)
    assert not account.reached


def test_the_nearest_call_is_the_one_with_the_fewest_differences() -> None:
    far, near = call("search_hotel", ACORN, area="south"), call("search_hotel", ACORN, area="north", stars=3)
    account = account_for("goal", SEARCH, [near, far], reached=False)
    assert (account.wanted, account.call) == (
        "search_hotel(area=north, stars=4) answered with Acorn",
        "search_hotel(area=north, stars=3)",
    )
    assert account.difference == "stars is 3, wanted 4"


def test_a_reached_goal_names_its_call_and_other_evidence_is_shown_as_it_is() -> None:
    made = call("book_hotel", name="Acorn", people=2)
    reached = account_for("goal", BOOK, [made], reached=True, evidence="call_book_hotel")
    assert (reached.call, reached.branch_id) == ("book_hotel(name=Acorn, people=2)", "run/t1/0/.1")
    assert account_for("goal", {}, [made], reached=True, evidence="it was polite").call == "it was polite"


def test_a_goal_without_a_call_shows_its_detail() -> None:
    assert account_for("goal", {"tone": "polite"}, [], reached=False).wanted == '{"tone": "polite"}'
    assert account_for("goal", {}, [], reached=False).wanted == ""


class Explaining(GoalCalls):
    name: ClassVar[str] = "explaining"

    async def explain_goals(self, request: ExplainGoals) -> Mapping[str, str]:
        return {goal.key: f"{goal.key} was not even tried" for goal in request.missed}


class Failing(GoalCalls):
    name: ClassVar[str] = "failing"

    async def explain_goals(self, request: ExplainGoals) -> Mapping[str, str]:
        raise LookupError("no explanation")


async def played(store: Path, reward: GoalCalls | WeightedRewards) -> Run:
    async with Run(store=store, seed=3) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent="scripted,error_rate=0.9", reward=reward)
        await run.play(Rollout(), cast, run.tasks(world, "test", 2))
    return run


async def test_a_reward_explains_its_goals_itself_also_as_a_part_of_a_composition(tmp_path: Path) -> None:
    run = await played(tmp_path, WeightedRewards.of({"mine": Explaining(), "theirs": GoalCalls()}))
    with run.store.reading() as reader:
        task = str(reader.rows("select task_id from episode_scores where achieved < goals")[0]["task_id"])
        accounts = goals_of(reader, run, task)
    missed = {name: why for name, why in accounts.items() if why is not None}
    assert missed
    for name, why in missed.items():
        own = name.startswith("mine/")
        assert (why == f"{name.removeprefix('mine/')} was not even tried") == own
        assert why


def goals_of(reader: Reader, run: Run, task: str) -> dict[str, str | None]:
    found = reader.goals(reader.tree(run.id, task))
    assert all(account.wanted for account in found)
    return {account.goal: None if account.reached else account.difference for account in found}


async def test_an_explanation_that_fails_leaves_the_reward_as_it_was(tmp_path: Path) -> None:
    run = await played(tmp_path, Failing())
    rows = run.store.query("select reward, outcome from episodes").rows
    assert all(reward is not None and not outcome.endswith("_fault") for reward, outcome in rows)
    ((trace,),) = run.store.query("select distinct regexp_extract(traceback, '[A-Za-z]+Error.*') from faults").rows
    assert trace == "LookupError: no explanation"
