"""The tools of the built-in world: searches that mislead, bookings that take places, branches that are alone."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simkit.components.tools import CallTool, StartTools, ToolReturn
from simkit.core.frozen import FrozenMap
from simkit.core.messages import ToolCall
from simkit.core.tasks import Goal, Task
from simkit.tools.builtin import BuiltinWorld, TravelState
from simkit.tools.builtin.bookings import free_places

pytestmark = pytest.mark.anyio

WORLD = BuiltinWorld()
SERVER = WORLD.tools()
NO_TASK = Task(id="none", world="builtin", split="val", instructions="")


async def call(
    name: str, arguments: dict[str, Any] | str, state: TravelState | None = None, task: Task = NO_TASK
) -> ToolReturn:
    return await SERVER.call(CallTool(task, ToolCall.of("c", name, arguments), state or TravelState()))


def some_place(kind: str, at_least: int) -> tuple[str, ...]:
    return next(place for place, free in WORLD.town.free.items() if place[0] == kind and free >= at_least)


def test_tools_are_those_of_toolwoz_and_the_care_of_bookings() -> None:
    names = [spec.name for spec in SERVER.start(StartTools(NO_TASK)).specs]
    searches = {f"search_{domain}" for domain in ("restaurant", "hotel", "attraction", "train")}
    bookings = {f"book_{domain}" for domain in ("restaurant", "hotel", "train")}
    assert set(names) == searches | bookings | {"find_booking", "cancel_booking"}


async def test_every_goal_can_be_reached_from_the_start() -> None:
    tasks = WORLD.tasks("val")[:100]
    assert len(tasks) == 100
    assert all(task.goals for task in tasks)
    for task in tasks:
        state = TravelState()
        for goal in task.goals:
            reply = await call(goal.key, goal.detail["parameters"], state, task)
            state, value = reply.state, reply.result.value
            if goal.key.startswith("book_"):
                assert value["success"] is True
            else:
                assert goal.detail["entity"] in (None, value[0][goal.detail["id_field"]])


async def test_a_search_with_a_part_of_the_goal_misleads() -> None:
    tried = 0
    for task in WORLD.tasks("val")[:100]:
        for goal in (goal for goal in task.goals if goal.key.startswith("search_")):
            wanted = goal.detail["parameters"]
            for left_out in wanted:
                part = {slot: value for slot, value in wanted.items() if slot != left_out}
                (found,) = (await call(goal.key, part, task=task)).result.value
                assert not satisfies(found, goal), (task.id, part)
                tried += 1
    assert tried > 100


def satisfies(row: dict[str, str], goal: Goal) -> bool:
    return all(meets(slot, row[slot], value) for slot, value in goal.detail["parameters"].items())


def meets(slot: str, own: str, asked: str) -> bool:
    match slot:
        case "leaveAt":
            return own >= asked
        case "arriveBy":
            return own <= asked
        case _:
            return own == asked


async def test_times_are_inclusive_and_case_does_not_matter() -> None:
    train = WORLD.town.entity("train", WORLD.town.tables["train"].rows[40]["trainID"])
    assert train is not None
    asked = {"departure": train["departure"].upper(), "destination": f" {train['destination']} ", "day": train["day"]}
    for slot in ("leaveAt", "arriveBy"):
        (found,) = (await call("search_train", {**asked, slot: train[slot]})).result.value
        assert found[slot] >= train[slot] if slot == "leaveAt" else found[slot] <= train[slot]
    both = {**asked, "leaveAt": train["leaveAt"], "arriveBy": train["arriveBy"]}
    assert (await call("search_train", both)).result.value == [train]


async def test_a_preference_for_nothing_is_no_constraint() -> None:
    everything = (await call("search_hotel", {})).result.value
    for nothing in ("", "don't care", "any", None):
        assert (await call("search_hotel", {"area": nothing})).result.value == everything
    assert (await call("search_hotel", {"area": "the moon"})).result.value == []


async def test_tables_run_out_and_come_back() -> None:
    _, name, day, time = some_place("restaurant", at_least=2)
    asked = {"name": name, "day": day, "time": time, "people": "5"}
    state, made = TravelState(), list[str]()
    while (reply := await call("book_restaurant", asked, state)).result.value["success"]:
        state = reply.state
        made.append(reply.result.value["return"]["reference"])
    assert len(made) == WORLD.town.free["restaurant", name, day, time] // 2
    assert len(set(made)) == len(made)
    assert "not enough tables" in reply.result.value["reason"]
    assert reply.state is state
    state = (await call("cancel_booking", {"reference": made[0].lower()}, state)).state
    assert (await call("book_restaurant", asked, state)).result.value["success"] is True


async def test_a_stay_takes_a_room_every_night() -> None:
    free = WORLD.town.free
    names = [row["name"] for row in WORLD.town.tables["hotel"].rows]
    hotel = next(name for name in names if free["hotel", name, "sunday"] and free["hotel", name, "monday"])
    reply = await call("book_hotel", {"name": hotel, "day": "sunday", "stay": 2, "people": 2})
    assert reply.result.value["success"] is True
    for day in ("sunday", "monday"):
        place = ("hotel", hotel, day)
        assert free_places(WORLD.town, reply.state, place) == WORLD.town.free[place] - 1
    assert {write["table"] for write in reply.writes} == {"free", "bookings"}
    assert len(reply.writes) == 3


async def test_a_booking_is_found_and_cancelled_once() -> None:
    _, train = some_place("train", at_least=3)
    booked = await call("book_train", {"trainID": train.lower(), "people": "3"})
    reference = booked.result.value["return"]["reference"]
    assert free_places(WORLD.town, booked.state, ("train", train)) == WORLD.town.free["train", train] - 3
    found = await call("find_booking", {"reference": reference}, booked.state)
    assert found.result.value == booked.result.value
    assert not found.writes
    cancelled = await call("cancel_booking", {"reference": reference}, booked.state)
    assert cancelled.result.value["return"]["status"] == "cancelled"
    assert free_places(WORLD.town, cancelled.state, ("train", train)) == WORLD.town.free["train", train]
    again = await call("cancel_booking", {"reference": reference}, cancelled.state)
    assert again.result.value["reason"].endswith("already cancelled")
    assert (await call("find_booking", {"reference": reference})).result.value["success"] is False


async def test_siblings_do_not_see_each_other() -> None:
    _, train = some_place("train", at_least=1)
    seats, before = WORLD.town.free["train", train], dict(WORLD.town.free)
    parent = TravelState()
    asked = {"trainID": train, "people": str(min(seats, 8))}
    left, right = await call("book_train", asked, parent), await call("book_train", asked, parent)
    assert left.state == right.state != parent
    assert parent == TravelState()
    assert WORLD.town.free == before


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("book_attraction", {}, "there is no tool `book_attraction`"),
        ("search_hotel", {"colour": "red"}, "no parameter `colour`; it has: type"),
        ("search_hotel", {"area": ["hillside"]}, "`area` is a JSON list"),
        ("search_hotel", {"area": {"a": 1}}, "`area` is a JSON dict"),
        ("search_hotel", {"area": True}, "`area` is a JSON bool"),
        ("search_hotel", {"stars": 1.5}, "`stars` is a JSON float"),
        ("search_hotel", "{not json", "not valid JSON"),
        ("search_train", {"leaveAt": "noon"}, "must be a time, HH:MM"),
        ("book_train", {"people": "2"}, "book_train needs `trainID`"),
        ("book_train", {"trainID": "TR1", "people": "two"}, "must be a whole number"),
        ("book_restaurant", {"name": "x", "day": "someday", "time": "12:00", "people": "2"}, "must be one of: monday"),
    ],
)
async def test_mistakes_are_answered_as_errors(name: str, arguments: dict[str, Any] | str, said: str) -> None:
    reply = await call(name, arguments)
    assert reply.result.error
    assert said in reply.result.text
    assert reply.state == TravelState()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"name": "nowhere", "day": "monday", "stay": "1", "people": "1"}, "there is no hotel with name nowhere"),
        ({"day": "monday", "stay": "6", "people": "1"}, "1 to 5 nights"),
        ({"day": "monday", "stay": "1", "people": "9"}, "1 to 8 people"),
    ],
)
async def test_what_cannot_be_booked_is_refused_with_a_reason(arguments: dict[str, str], reason: str) -> None:
    name = WORLD.town.tables["hotel"].rows[0]["name"]
    value = (await call("book_hotel", {"name": name, **arguments})).result.value
    assert value["success"] is False
    assert reason in value["reason"]


@settings(deadline=None)  # a busy machine is no failure
@given(st.dictionaries(st.text(), st.integers()), st.dictionaries(st.text(), st.integers()))
def test_a_frozen_map_is_put_to_without_changing(items: dict[str, int], changes: dict[str, int]) -> None:
    frozen = FrozenMap(items)
    grown = frozen.put(changes)
    assert dict(grown) == {**items, **changes}
    assert dict(frozen) == items
    assert frozen == FrozenMap(items)
    assert hash(frozen) == hash(FrozenMap(items))


def test_a_frozen_map_refuses_to_change_and_is_its_own_copy() -> None:
    frozen = FrozenMap({"a": 1})
    with pytest.raises(TypeError, match="cannot be changed"):
        frozen["a"] = 2
    for change in ("__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
        with pytest.raises(TypeError, match="cannot be changed"):
            getattr(frozen, change)("a")
    assert copy.deepcopy(frozen) is frozen
    assert pickle.loads(pickle.dumps(frozen)) == frozen == {"a": 1}
