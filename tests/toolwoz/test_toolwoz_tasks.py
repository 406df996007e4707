"""What a dialogue becomes: goals, agenda, words and reference."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest

from simkit.core.conversation import Utterance
from simkit.core.tasks import Task
from simkit.tools.toolwoz import ToolwozWorld
from simkit.tools.toolwoz.specs import specs


@pytest.fixture(scope="module")
def world(small_cache: Path) -> ToolwozWorld:
    return ToolwozWorld(cache=small_cache)


def task(world: ToolwozWorld, task_id: str) -> Task:
    return next(task for split in ("train", "val", "test") for task in world.tasks(split) if task.id == task_id)


def test_goals_come_in_the_order_of_evaluation_with_their_entities(world: ToolwozWorld) -> None:
    goals = task(world, "STAY.json").goals
    assert [(goal.key, goal.detail["entity"]) for goal in goals] == [
        ("search_hotel", "last inn"),
        ("book_hotel", "last inn"),
        ("search_train", "TR13fr"),
        ("book_train", "TR13fr"),
    ]
    assert goals[1].detail == {
        "tool": "book_hotel",
        "parameters": {"stay": "2", "day": "friday", "people": "3", "name": "last inn"},
        "id_field": "name",
        "entity": "last inn",
    }


def test_what_does_not_matter_is_no_parameter(world: ToolwozWorld) -> None:
    stay = task(world, "STAY.json")
    assert stay.goals[0].detail["parameters"] == {"area": "north", "type": "guesthouse", "pricerange": "cheap"}
    assert stay.agenda[1].inform == stay.goals[0].detail["parameters"]


def test_a_booking_never_made_is_a_wish_but_no_goal(world: ToolwozWorld) -> None:
    eat = task(world, "EAT.json")
    assert [(goal.key, goal.detail["entity"]) for goal in eat.goals] == [("search_restaurant", None)]
    assert eat.agenda[0].book == {"people": "2", "day": "monday", "time": "18:00"}


def test_the_agenda_follows_the_words_of_the_goal(world: ToolwozWorld) -> None:
    assert [wish.domain for wish in task(world, "STAY.json").agenda] == ["train", "hotel"]


def test_instructions_are_plain_lines(world: ToolwozWorld) -> None:
    assert task(world, "STAY.json").instructions.splitlines()[1:] == [
        "You are looking for a train.",
        "It should leave after 09:15",
        "You are also looking for a place to stay",
    ]
    assert task(world, "EAT.json").instructions == "You want chinese food in the centre.\nGet the phone number."


def test_the_reference_is_the_human_dialogue(world: ToolwozWorld) -> None:
    assert task(world, "SEE.json").reference[:2] == (
        Utterance("user", "Hello, I need help."),
        Utterance("agent", "Of course."),
    )


def test_a_booking_without_a_name_is_named_by_what_the_search_finds(small_cache: Path) -> None:
    nameless = task(ToolwozWorld("fixed", small_cache), "NAMELESS.json")
    assert nameless.goals[1].detail["entity"] == "harbour view"
    assert nameless.data["hotel"]["booked"] == {"reference": "REF00003", "name": "harbour view"}


def test_paper_takes_such_a_name_from_the_column_the_release_takes(world: ToolwozWorld) -> None:
    """The release lays its list of fields over the table: the hotel's name is what the ninth column holds."""
    nameless = task(world, "NAMELESS.json")
    assert [goal.detail["entity"] for goal in nameless.goals] == ["cb2", "cb2"]
    assert nameless.goals[1].detail["parameters"]["name"] == "cb2"


def test_dialogues_with_a_taxi_are_left_out(world: ToolwozWorld) -> None:
    ids = {task.id for split in ("train", "val", "full_test") for task in world.tasks(split)}
    assert ids == {"STAY.json", "NAMELESS.json", "SEE.json", "EAT.json"}


def test_tasks_are_a_sequence_that_builds_each_once(world: ToolwozWorld) -> None:
    train = world.tasks("train")
    assert (len(train), train[-1].id) == (2, "STAY.json")
    assert train[1] is train[-1]
    assert [task.id for task in train[:1]] == ["NAMELESS.json"]
    with pytest.raises(IndexError):
        train[2]


def test_tasks_are_json_and_cannot_be_changed(world: ToolwozWorld) -> None:
    stay = task(world, "STAY.json")
    assert json.loads(json.dumps(stay.data))["hotel"]["fail_search"]["pricerange"] == "moderate"
    with pytest.raises(TypeError, match="shared"):
        stay.data["hotel"]["booked"]["name"] = "elsewhere"
    assert pickle.loads(pickle.dumps(stay)) == copy.deepcopy(stay) == stay


def test_the_ontology_knows_tables_and_what_people_ask_for(world: ToolwozWorld) -> None:
    hotel = world.ontology.domain("hotel")
    assert hotel is not None
    slots = {slot.name: slot for slot in (*hotel.search, *hotel.book)}
    assert slots["name"].values[-1] == "the elm"
    assert slots["pricerange"].values == ("cheap", "moderate")
    assert slots["day"].kind == "day"
    assert hotel.id_field == "name"
    assert all(slot.phrases for domain in world.ontology.domains for slot in (*domain.search, *domain.book))


def test_the_ontology_speaks_of_exactly_the_tools_parameters(world: ToolwozWorld) -> None:
    parameters = {spec.name: set(spec.properties) for spec in specs("paper")}
    assert {f"search_{domain.name}" for domain in world.ontology.domains} <= parameters.keys()
    assert len(world.ontology.domains) > 1
    for domain in world.ontology.domains:
        assert {slot.name for slot in domain.search} == parameters[f"search_{domain.name}"]
        assert {slot.name for slot in domain.book} == parameters[f"book_{domain.name}"]
