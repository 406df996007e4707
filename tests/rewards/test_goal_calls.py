"""When a tool call reaches a goal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simkit.components.reward import Hit, ScoreEpisode, ScoreTurn
from simkit.components.world import World
from simkit.core.conversation import Conversation
from simkit.core.messages import ToolCall, ToolResult, ToolSpec
from simkit.core.ontology import Ontology
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.rewards.goal_calls import GoalCalls

pytestmark = pytest.mark.anyio

ELM = {"name": "The Elm's", "area": "north", "stars": "4"}
OAK = {"name": "the oak", "area": "north", "stars": "3"}


def goal(tool: str, entity: str | None = None, **parameters: Any) -> Goal:
    return Goal(tool, {"tool": tool, "parameters": parameters, "id_field": "name", "entity": entity})


SEARCH = goal("search_hotel", area="north", stars="4")
SEARCH_ELM = goal("search_hotel", "The Elm's", area="north", stars="4")
BOOK_ELM = goal("book_hotel", "The Elm's", people="2", name="The Elm's")


def record(tool: str, arguments: Any, value: Any, *, error: bool = False, id: str = "c1", step: int = 0) -> CallRecord:
    call = ToolCall.of(id, tool, arguments)
    return CallRecord.of(call, ToolResult(value=value, error=error), step)


def search(row: dict[str, str] | None, **arguments: Any) -> CallRecord:
    return record("search_hotel", arguments, [row] if row else [])


async def hits(reward: GoalCalls, goals: list[Goal], *calls: CallRecord) -> list[Hit]:
    task = Task(id="t", world="w", split="test", instructions="", goals=tuple(goals))
    return list(await reward.score_turn(ScoreTurn(task, tuple(goals), calls, Conversation())))


async def reached(goals: list[Goal], *calls: CallRecord, reward: GoalCalls | None = None) -> list[str]:
    return [hit.goal for hit in await hits(reward or GoalCalls(), goals, *calls)]


@pytest.mark.parametrize(
    ("wanted", "call", "counts"),
    [
        (SEARCH, search(ELM, area="north", stars="4"), True),
        (SEARCH, search(ELM, area="NORTH", stars="4", name="", pricerange="don't care"), True),
        (SEARCH, search(OAK, area="north", stars="4"), True),
        (SEARCH, search(None, area="north", stars="4"), False),
        (SEARCH, search(ELM, area="north"), True),
        (SEARCH, search(OAK, area="north"), False),
        (SEARCH, search(ELM), True),
        (SEARCH, search(ELM, area="north", pricerange="cheap"), False),
        (SEARCH, search(ELM, area="south", stars="4"), False),
        (SEARCH_ELM, search(ELM, area="north", stars="4"), True),
        (SEARCH_ELM, search(OAK, area="north", stars="4"), False),
        (SEARCH_ELM, search(ELM, area="north"), True),
        (SEARCH_ELM, search(OAK, area="north"), False),
        (SEARCH, record("search_hotel", {"area": "north", "stars": "4"}, "ERROR: no", error=True), False),
        (SEARCH, record("search_hotel", "{not json", [ELM]), False),
        (SEARCH, record("find_hotel", {"area": "north", "stars": "4"}, [ELM]), False),
    ],
)
async def test_a_search_counts_when_it_brings_what_was_wanted(wanted: Goal, call: CallRecord, counts: bool) -> None:
    assert await reached([wanted], call) == (["search_hotel"] if counts else [])


def book(value: Any, *, error: bool = False, **arguments: Any) -> CallRecord:
    return record("book_hotel", arguments, value, error=error)


DONE = {"success": True, "return": {"reference": "X"}}


@pytest.mark.parametrize(
    ("call", "counts"),
    [
        (book(DONE, people="2", name="the elms"), True),
        (book(DONE, people=2, name="The Elm's", day="friday"), True),
        (book(DONE, people="2"), False),
        (book(DONE, people="3", name="The Elm's"), False),
        (book({"success": False, "reason": "full"}, people="2", name="The Elm's"), False),
        (book("ERROR: no", error=True, people="2", name="The Elm's"), False),
    ],
)
async def test_a_booking_counts_when_it_covers_the_goal_and_succeeded(call: CallRecord, counts: bool) -> None:
    assert await reached([BOOK_ELM], call) == (["book_hotel"] if counts else [])


async def test_each_copy_of_a_goal_is_credited_once() -> None:
    call = search(ELM, area="north", stars="4")
    assert await reached([SEARCH], call, call) == ["search_hotel"]
    assert await reached([SEARCH, SEARCH], call) == ["search_hotel"]
    assert await reached([SEARCH, SEARCH], call, call, call) == ["search_hotel", "search_hotel"]


async def test_hits_follow_the_calls_and_name_what_earned_them() -> None:
    calls = [
        record("book_hotel", {"people": "2", "name": "The Elm's"}, DONE, id="first", step=0),
        record("search_hotel", {"area": "north", "stars": "4"}, [ELM], id="second", step=2),
    ]
    assert await hits(GoalCalls(), [SEARCH_ELM, BOOK_ELM], *calls) == [
        Hit("book_hotel", "first", 0),
        Hit("search_hotel", "second", 2),
    ]


async def test_times_of_an_entity_keep_the_bounds_unless_read_literally() -> None:
    wanted = Goal(
        "search_train",
        {"tool": "search_train", "parameters": {"leaveAt": "09:15"}, "id_field": "trainID", "entity": None},
    )
    later = record("search_train", {}, [{"trainID": "TR1", "leaveAt": "10:00"}])
    exactly = record("search_train", {}, [{"trainID": "TR1", "leaveAt": "09:15"}])
    earlier = record("search_train", {}, [{"trainID": "TR1", "leaveAt": "09:00"}])
    assert await reached([wanted], later) == ["search_train"]
    assert await reached([wanted], exactly) == ["search_train"]
    assert await reached([wanted], earlier) == []
    assert await reached([wanted], later, reward=GoalCalls(literal=True)) == []
    assert await reached([wanted], exactly, reward=GoalCalls(literal=True)) == ["search_train"]


@pytest.mark.parametrize(("arrival", "counts"), [("09:00", True), ("09:15", True), ("09:16", False)])
async def test_an_arrival_may_be_at_the_time_asked_for_or_before_it(arrival: str, counts: bool) -> None:
    wanted = Goal(
        "search_train",
        {"tool": "search_train", "parameters": {"arriveBy": "09:15"}, "id_field": "trainID", "entity": None},
    )
    call = record("search_train", {}, [{"trainID": "TR1", "arriveBy": arrival}])
    assert bool(await reached([wanted], call)) is counts


async def test_of_two_goals_with_one_key_a_call_takes_the_first_it_reaches() -> None:
    wider = goal("search_hotel", area="north")
    both = search(ELM, area="north", stars="4")
    only_narrower = search(ELM, stars="4")
    assert await reached([wider], only_narrower) == []
    assert await reached([wider, SEARCH], both, only_narrower) == ["search_hotel", "search_hotel"]
    assert await reached([SEARCH, wider], both, only_narrower) == ["search_hotel"]


async def test_literal_reading_takes_numbers_and_odd_spellings_as_they_are() -> None:
    for call in (search(ELM, area="north", stars=4), search(ELM, area="north", stars="4", pricerange="DONTCARE")):
        assert await reached([SEARCH], call) == ["search_hotel"]
    literal = GoalCalls(literal=True)
    assert await reached([SEARCH], search(ELM, area="north", stars=4), reward=literal) == []
    covered = search(ELM, area="north", stars="4", pricerange="DONTCARE")
    assert await reached([SEARCH], covered, reward=literal) == ["search_hotel"]
    partial = search(ELM, area="north", pricerange="DONTCARE")
    assert await reached([SEARCH], partial) == ["search_hotel"]
    assert await reached([SEARCH], partial, reward=literal) == []


async def test_a_search_forgets_its_booking_only_behind_the_switch() -> None:
    call = search(OAK, area="north", stars="4")
    forgetful = GoalCalls(search_forgets_booking=True)
    assert await reached([SEARCH_ELM], call) == []
    assert await reached([SEARCH_ELM], call, reward=forgetful) == ["search_hotel"]
    assert await reached([SEARCH_ELM, BOOK_ELM], call, reward=forgetful) == []


class Variant(World):
    name = "variant"
    splits = ("test",)

    def __init__(self, variant: str) -> None:
        self.variant = variant

    def tasks(self, split: str) -> tuple[Task, ...]:
        return ()

    def tools(self) -> Any:
        raise NotImplementedError

    @property
    def ontology(self) -> Ontology:
        return Ontology(())


@pytest.mark.parametrize(("variant", "counts"), [("paper", True), ("fixed", False)])
async def test_the_worlds_variant_decides_whether_refused_bookings_count(variant: str, counts: bool) -> None:
    call = book("ERROR: no", error=True, people="2", name="The Elm's")
    assert bool(await reached([BOOK_ELM], call, reward=GoalCalls(Variant(variant)))) is counts
    assert (
        bool(await reached([BOOK_ELM], call, reward=GoalCalls(Variant(variant), errors_count=not counts))) is not counts
    )


async def test_an_episode_is_worth_the_share_of_its_goals() -> None:
    goals = (SEARCH_ELM, BOOK_ELM)
    task = Task(id="t", world="w", split="test", instructions="", goals=goals)
    achieved = (Hit("book_hotel", "c1"),)
    scored = await GoalCalls().score_episode(ScoreEpisode(task, goals, achieved, (), Conversation(), None))
    assert scored.value == 0.5
    assert [(part.name, part.value, part.evidence) for part in scored.parts] == [
        ("search_hotel", 0.0, ""),
        ("book_hotel", 1.0, "c1"),
    ]


async def test_literally_an_entity_is_its_exact_name_and_a_row_its_exact_values() -> None:
    literal = GoalCalls(literal=True)
    spelled = search({**ELM, "name": "the elms"}, area="north", stars="4")
    assert await reached([SEARCH_ELM], spelled) == ["search_hotel"]
    assert await reached([SEARCH_ELM], spelled, reward=literal) == []
    assert await reached([SEARCH_ELM], search(ELM, area="north", stars="4"), reward=literal) == ["search_hotel"]
    numbers = record("search_hotel", {"area": "north"}, [{"name": "x", "area": "north", "stars": 4}])
    assert await reached([SEARCH], numbers) == ["search_hotel"]
    assert await reached([SEARCH], numbers, reward=literal) == []


async def test_numbers_of_a_goal_are_their_text_unless_read_literally() -> None:
    wanted = goal("search_hotel", stars=4)
    call = search(ELM, stars="4")
    assert await reached([wanted], call) == ["search_hotel"]
    assert await reached([wanted], call, reward=GoalCalls(literal=True)) == []


@pytest.mark.parametrize("row", [{"trainID": "TR1"}, {"trainID": "TR1", "leaveAt": ["10:00"]}])
async def test_an_entity_without_a_time_keeps_no_bound(row: dict[str, Any]) -> None:
    wanted = Goal(
        "search_train",
        {"tool": "search_train", "parameters": {"leaveAt": "09:15"}, "id_field": "trainID", "entity": None},
    )
    assert await reached([wanted], record("search_train", {}, [row])) == []


async def test_a_bound_that_is_no_time_is_kept_by_nothing() -> None:
    wanted = Goal(
        "search_train",
        {"tool": "search_train", "parameters": {"leaveAt": ["09:15"]}, "id_field": "trainID", "entity": None},
    )
    assert await reached([wanted], record("search_train", {}, [{"trainID": "TR1", "leaveAt": "10:00"}])) == []


async def test_the_search_of_a_booking_differs_from_it_in_its_first_word_alone() -> None:
    twin = Goal("search_book_club", {**SEARCH_ELM.detail})
    booking = Goal("book_book_club", {**BOOK_ELM.detail})
    forgetful = GoalCalls(search_forgets_booking=True)
    call = search(OAK, area="north", stars="4")
    assert await reached([twin], call, reward=forgetful) == ["search_book_club"]
    assert await reached([twin, booking], call, reward=forgetful) == []


def test_rewards_have_the_names_they_are_chosen_by() -> None:
    assert GoalCalls().name == "goal_calls"


def test_a_goal_that_can_never_be_reached_is_refused_with_its_reason() -> None:
    tools = [ToolSpec.of(name, "", {}) for name in ("search_hotel", "book_hotel")]
    task = Task(id="t", world="w", split="test", instructions="", goals=(SEARCH, BOOK_ELM))
    GoalCalls().check_task(task, tools)
    with pytest.raises(UsageError, match=r"the goal `book_hotel` of task `t`.* can never be reached by `goal_calls`"):
        GoalCalls().check_task(task, tools[:1])


@pytest.mark.parametrize(
    ("detail", "problem"),
    [
        ({"tool": "fly", "parameters": {}}, "names the tool `fly`; the tool server has: book_hotel, search_hotel"),
        ({"parameters": {}}, "names no `tool`; the tool server has: book_hotel, search_hotel"),
        ({"tool": "book_hotel"}, "has no `parameters`; add the arguments that a call of `book_hotel` must have"),
        ({"tool": "book_hotel", "parameters": {}, "entity": "Elm"}, "names an `entity` but no `id_field`; add"),
        ({"tool": "book_hotel", "parameters": {}, "entity": "Elm", "id_field": "name"}, None),
        ({"tool": "book_hotel", "parameters": {}, "entity": None}, None),
    ],
)
def test_a_detail_says_all_that_a_call_is_compared_with(detail: dict[str, Any], problem: str | None) -> None:
    tools = [ToolSpec.of(name, "", {}) for name in ("search_hotel", "book_hotel")]
    task = Task(id="t", world="w", split="test", instructions="", goals=(Goal("g", detail),))
    if problem is None:
        GoalCalls().check_task(task, tools)
        return
    with pytest.raises(UsageError) as found:
        GoalCalls().check_task(task, tools)
    assert f"its detail {problem}" in str(found.value)


async def test_a_detail_may_say_that_a_call_is_a_booking() -> None:
    wanted = Goal("hire", {"tool": "hire", "parameters": {}, "booking": True})
    assert await reached([wanted], record("hire", {}, DONE)) == ["hire"], "its result need not be an entity"
    assert await reached([wanted], record("hire", {}, {"success": False})) == []


async def test_a_call_reaches_the_goals_of_the_side_that_made_it() -> None:
    users = Goal("hire", {"tool": "hire", "parameters": {}, "booking": True, "by": "user"})
    call = record("hire", {}, DONE)
    assert await reached([users], call) == []
    assert await reached([users], replace(call, by="user")) == ["hire"]
    assert await reached([SEARCH], replace(search(ELM, area="north", stars="4"), by="user")) == []
