from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import mean_reward, play

from simkit.agents.dialogue_state import DialogueState, StateTracker
from simkit.agents.scripted import ScriptedAgent
from simkit.components.agent import Act, Decision, StartAgent
from simkit.components.tools import ToolServer
from simkit.components.world import World
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage, ToolSpec
from simkit.core.ontology import Ontology
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.search.josh import Josh
from simkit.search.rollout import Rollout
from simkit.tools.builtin import BuiltinWorld

pytestmark = pytest.mark.anyio

SCHEMA = {name: {"type": "string"} for name in ("name", "area", "type", "pricerange")}


def conversation(*texts: str) -> Conversation:
    return Conversation(Entry.user(text, turn) for turn, text in enumerate(texts))


def act_on(world: BuiltinWorld, said: Conversation, state: DialogueState | None = None, step: int = 0) -> Act:
    tools = tuple(ToolSpec.of(f"search_{domain.name}", "", SCHEMA) for domain in world.ontology.domains)
    return Act(TurnKey(0, "t", 0, "", 1), said, tools, state, step)


async def test_without_errors_every_goal_is_reached(world: BuiltinWorld) -> None:
    played = await play(world, world.tasks("val")[:20], Rollout(), ScriptedAgent(world, error_rate=0))
    assert [one.task.id for one in played if one.episode.reward != 1] == []
    assert {one.episode.outcome for one in played} == {"user_ended"}


async def test_with_errors_some_goals_are_missed_and_josh_reaches_more(world: BuiltinWorld) -> None:
    tasks = world.tasks("val")[:16]
    agent = ScriptedAgent(world)
    alone = mean_reward(await play(world, tasks, Rollout(), agent))
    searched = mean_reward(await play(world, tasks, Josh(), agent))
    assert 0.3 < alone < 0.9
    assert searched > alone


async def test_one_seed_twice_gives_the_same_conversations(world: BuiltinWorld) -> None:
    tasks = world.tasks("val")[:5]
    first = await play(world, tasks, Rollout(), ScriptedAgent(world), seed=3)
    again = await play(world, tasks, Rollout(), ScriptedAgent(world), seed=3)
    other = await play(world, tasks, Rollout(), ScriptedAgent(world), seed=4)
    assert [one.messages for one in first] == [one.messages for one in again]
    assert [one.messages for one in first] != [one.messages for one in other]


async def test_call_ids_are_unique_within_a_conversation(world: BuiltinWorld) -> None:
    played = await play(world, world.tasks("val")[:8], Rollout(), ScriptedAgent(world))
    assert [len(set(one.call_ids)) for one in played] == [len(one.call_ids) for one in played]
    assert min(len(one.call_ids) for one in played) > 1


async def test_the_habit_drop_leaves_a_slot_out_of_every_call(world: BuiltinWorld) -> None:
    played = await play(world, world.tasks("val")[:12], Rollout(), ScriptedAgent(world, 0, "drop:people"))
    booked = [arguments for one in played for name, arguments in one.calls if name.startswith("book_")]
    assert booked
    assert not any("people" in arguments for arguments in booked)


async def test_the_habit_swap_writes_another_value(world: BuiltinWorld) -> None:
    played = await play(world, world.tasks("val")[:12], Rollout(), ScriptedAgent(world, 0, "swap:people"))
    pairs = [
        (arguments["people"], wish.book["people"])
        for one in played
        for name, arguments in one.calls
        for wish in one.task.agenda
        if name == f"book_{wish.domain}"
    ]
    assert pairs
    assert all(sent != wanted for sent, wanted in pairs)


async def test_the_habit_deaf_never_hears_a_slot(world: BuiltinWorld) -> None:
    played = await play(world, world.tasks("val")[:12], Rollout(), ScriptedAgent(world, 0, "deaf:area"))
    assert any("area" in wish.inform for one in played for wish in one.task.agenda)
    assert not any("area" in arguments for one in played for _, arguments in one.calls)


async def test_the_habit_no_book_claims_bookings_that_were_never_made(world: BuiltinWorld) -> None:
    played = await play(world, world.tasks("val")[:12], Rollout(), ScriptedAgent(world, 0, "no_book"))
    assert not any(name.startswith("book_") for one in played for name, _ in one.calls)
    assert any("booked" in text or "booking is confirmed" in text for one in played for text in one.said)


async def test_the_habit_hasty_searches_before_it_asks(world: BuiltinWorld) -> None:
    said = conversation(f"I need a hotel in the {hotel_value(world, 'area')}.")
    asking = await ScriptedAgent(world, 0).act(act_on(world, said))
    searching = await ScriptedAgent(world, 0, "hasty").act(act_on(world, said))
    assert asking.say is not None
    assert asking.say.endswith("?")
    assert [call.name for call in searching.calls] == ["search_hotel"]


async def test_the_habit_skip_confirm_keeps_the_details_to_itself(world: BuiltinWorld) -> None:
    played = await play(world, world.tasks("val")[:8], Rollout(), ScriptedAgent(world, 0, "skip_confirm"))
    assert not any(" It is " in text for one in played for text in one.said)


async def test_a_share_makes_a_habit_occasional(world: BuiltinWorld) -> None:
    played = await play(world, world.tasks("val")[:25], Rollout(), ScriptedAgent(world, 0, "drop:people:0.5"))
    with_people = {"people" in a for one in played for name, a in one.calls if name.startswith("book_")}
    assert with_people == {True, False}


@pytest.mark.parametrize(
    ("habits", "named"),
    [
        ("nap", "skip_confirm"),
        ("drop", "people"),
        ("drop:shoes", "people"),
        ("hasty:2", "0 to 1"),
        ("drop:people:often", "0 to 1"),
        ("hasty:0.5:0.5", "too many"),
    ],
)
def test_a_wrong_habit_is_refused_with_what_there_is(world: BuiltinWorld, habits: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        ScriptedAgent(world, habits=habits)


def test_wrong_numbers_are_refused(world: BuiltinWorld) -> None:
    with pytest.raises(UsageError, match=r"error_rate is 1\.5"):
        ScriptedAgent(world, error_rate=1.5)
    with pytest.raises(UsageError, match="steps"):
        ScriptedAgent(world, steps=1)


class Silent(World):
    """A world with no words."""

    name = "silent"
    splits = ("val",)

    def tasks(self, split: str) -> Sequence[Task]:
        return ()

    def tools(self) -> ToolServer:
        raise NotImplementedError

    @property
    def ontology(self) -> Ontology:
        return Ontology(())


def test_a_world_without_an_ontology_is_refused() -> None:
    with pytest.raises(UsageError, match="`silent` has no ontology"):
        ScriptedAgent(Silent())


def test_the_worlds_policy_follows_the_system_prompt(world: BuiltinWorld) -> None:
    started = ScriptedAgent(world).start(StartAgent((), policy="Never book on sundays."))
    assert started.system is not None
    assert started.system.endswith("Never book on sundays.")


# --- errors of tools, and any text ------------------------------------------------------------------------------------


def at_once(decision: Coroutine[Any, Any, Decision]) -> Decision:
    """The result of a coroutine that never waits, without an event loop."""
    with pytest.raises(StopIteration) as done:
        decision.send(None)
    return done.value.value


def hotel_value(world: BuiltinWorld, slot: str) -> str:
    hotel = world.ontology.domain("hotel")
    assert hotel is not None
    return next(found.values[0] for found in hotel.search if found.name == slot)


async def answered(world: BuiltinWorld, text: str, result: str) -> Decision:
    """The decision after a search for a named hotel came back with `result`."""
    agent = ScriptedAgent(world, 0)
    said = conversation(text)
    first = await agent.act(act_on(world, said))
    (call,) = first.calls
    said = said.append(Entry(first.message, "agent", turn=1))
    said = said.append(Entry(ToolMessage.of(call.id, result), "tool", turn=1))
    return await agent.act(act_on(world, said, first.state, step=1))


@pytest.mark.parametrize("result", ["ERROR: no such parameter", '{"error": "full"}', "[]", "null", '["x"]', "[[]]"])
async def test_a_search_that_brings_nothing_is_told(world: BuiltinWorld, result: str) -> None:
    name = hotel_value(world, "name")
    decision = await answered(world, f"I need the hotel called {name}.", result)
    assert decision.say is not None
    assert "sorry" in decision.say or "Unfortunately" in decision.say


@pytest.fixture(scope="session")
def erring(world: BuiltinWorld) -> ScriptedAgent:
    return ScriptedAgent(world, error_rate=0.5)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(), max_size=4), result=st.text())
def test_any_text_is_answered(world: BuiltinWorld, erring: ScriptedAgent, texts: list[str], result: str) -> None:
    agent = erring
    said = conversation("a hotel", *texts)
    call = ToolCall.of("c", "search_hotel", result)
    said = said.append(Entry(AssistantMessage.of(None, (call,)), "agent", turn=1))
    said = said.append(Entry(ToolMessage.of("c", result), "tool", turn=1))
    decision = at_once(agent.act(act_on(world, said)))
    assert decision.calls or decision.say


# --- what it understands ----------------------------------------------------------------------------------------------


def hear(world: BuiltinWorld, *texts: str) -> DialogueState:
    listener = StateTracker(world.ontology)
    return listener.fold(DialogueState(), tuple(conversation(*texts)), lambda domain, values: values)


def test_a_route_is_understood_from_prepositions_and_cues(world: BuiltinWorld) -> None:
    heard = hear(world, "Hi! I'd like a train to Kestrel Bay from Brackwell on Tuesday, arriving by 5pm, 3 people.")
    assert heard.active == "train"
    assert heard.topic("train").search == {
        "departure": "brackwell",
        "destination": "kestrel bay",
        "day": "tuesday",
        "arriveBy": "17:00",
    }
    assert heard.topic("train").book == {"people": "3"}


def test_flags_are_understood_with_their_negation(world: BuiltinWorld) -> None:
    heard = hear(world, "I want a place to stay with wifi. I don't need parking.")
    assert heard.topic("hotel").search == {"internet": "yes", "parking": "no"}


def test_the_same_as_elsewhere_is_carried_over(world: BuiltinWorld) -> None:
    heard = hear(
        world,
        "I need a restaurant. Book it for 4 people on friday at 18:30.",
        "Then a hotel for the same people and the same day, for 2 nights.",
    )
    assert heard.topic("hotel").book == {"people": "4", "day": "friday", "stay": "2"}


def test_a_comparison_does_not_change_the_subject(world: BuiltinWorld) -> None:
    heard = hear(
        world,
        "A restaurant on the hillside.",
        "I need a place to stay.",
        "It should be in the same area as the restaurant.",
    )
    assert heard.active == "hotel"
    assert heard.topic("hotel").search == {"area": "hillside"}


def test_a_number_after_for_is_the_party(world: BuiltinWorld) -> None:
    heard = hear(world, "I need a restaurant. Book it for 6 at 14:30 on tuesday")
    assert heard.topic("restaurant").book == {"people": "6", "time": "14:30", "day": "tuesday"}


def test_one_is_not_a_party(world: BuiltinWorld) -> None:
    assert hear(world, "A hotel please.", "Please look for one with parking.").topic("hotel").book == {}


def test_a_declined_booking_is_not_asked_for_again(world: BuiltinWorld) -> None:
    listener = StateTracker(world.ontology)
    state = hear(world, "I need a restaurant, book it for 2 people.")
    assert state.topic("restaurant").wanted
    state = replace(state, asked=("day", "time"))
    state = listener.hear(state, "I do not mind the day and time.", lambda domain, values: values)
    assert not state.topic("restaurant").wanted


def test_a_negation_reaches_to_the_start_of_its_phrase(world: BuiltinWorld) -> None:
    heard = hear(world, "A hotel with no internet and with parking.", "I dont need to have free internet.")
    assert heard.topic("hotel").search == {"internet": "no", "parking": "yes"}


def test_what_does_not_matter_is_not_searched_for(world: BuiltinWorld) -> None:
    heard = hear(world, "A cheap restaurant in the hillside area.", "The area does not matter after all.")
    assert heard.topic("restaurant").search == {"pricerange": "cheap"}
    assert "area" in heard.topic("restaurant").indifferent


def test_facts_asked_for_are_kept_until_they_can_be_told(world: BuiltinWorld) -> None:
    heard = hear(world, "I need a museum.", "What is the phone number and the postcode?")
    assert heard.active == "attraction"
    assert set(heard.topic("attraction").requests) == {"phone", "postcode"}


def test_a_belief_is_the_same_folded_at_once_or_piece_by_piece(world: BuiltinWorld) -> None:
    listener = StateTracker(world.ontology)
    entries = tuple(
        conversation("A cheap restaurant please.", "Greek food.", "A table for 2 people on monday at 12:00")
    )
    at_once = listener.fold(DialogueState(), entries, lambda domain, values: values)
    state = DialogueState()
    for entry in entries:
        state = listener.fold(state, (entry,), lambda domain, values: values)
    assert state == at_once
