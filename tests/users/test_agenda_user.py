from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simkit.components.user import Speak, UserTurn
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, ToolCall
from simkit.core.ontology import Wish
from simkit.core.tasks import Task
from simkit.errors import UsageError, UserFault
from simkit.tools.builtin import BuiltinWorld
from simkit.users.agenda import AgendaProgress, AgendaUser

pytestmark = pytest.mark.anyio

HOTEL = Wish(
    domain="hotel",
    inform={"area": "harbour", "pricerange": "cheap", "parking": "yes"},
    book={"day": "monday", "stay": "2", "people": "4"},
    requests=("phone",),
)
SIGHT = Wish(domain="attraction", inform={"type": "museum"}, requests=("address",))


def task(*wishes: Wish) -> Task:
    return Task(id="t1", world="builtin", split="val", instructions="", agenda=wishes)


class Talk:
    """A conversation with the user, one line of the agent at a time."""

    def __init__(self, user: AgendaUser, errand: Task, seed: int = 0) -> None:
        self._user, self._task, self._seed = user, errand, seed
        self.conversation = Conversation()
        self.turn: UserTurn | None = None

    async def hear(self, *lines: str) -> UserTurn:
        number = len(self.conversation)
        for line in lines:
            self.conversation = self.conversation.append(Entry.agent(line, number))
        key = TurnKey(self._seed, self._task.id, 0, "", number)
        state = self.turn.state if self.turn else None
        self.turn = await self._user.speak(Speak(key, self._task, self.conversation, state))
        self.conversation = self.conversation.append(Entry.user(self.turn.text, number))
        return self.turn


def insistent(world: BuiltinWorld) -> AgendaUser:
    return AgendaUser(world, insistence=1)


async def test_the_opening_names_the_domain_and_only_some_constraints(world: BuiltinWorld) -> None:
    turns = [await Talk(AgendaUser(world), task(HOTEL), seed).hear() for seed in range(12)]
    assert all("hotel" in turn.text and not turn.end for turn in turns)
    assert len({turn.text for turn in turns}) > 4
    told = [("harbour" in turn.text) + ("cheap" in turn.text) + ("parking" in turn.text) for turn in turns]
    assert set(told) == {1, 2}
    assert not any("monday" in turn.text for turn in turns)


async def test_it_answers_what_it_is_asked_and_says_what_does_not_matter(world: BuiltinWorld) -> None:
    talk = Talk(AgendaUser(world), task(HOTEL))
    await talk.hear()
    turn = await talk.hear("Which area and which stars would you like?")
    assert "in the harbour" in turn.text
    assert "stars" in turn.text
    assert "no preference" in turn.text or "do not mind" in turn.text


async def test_it_reveals_everything_before_it_books(world: BuiltinWorld) -> None:
    talk = Talk(AgendaUser(world, talkative=0), task(HOTEL))
    said = (await talk.hear()).text
    for _ in range(2):
        said += (await talk.hear("How about the Marble Otter? Shall I book it?")).text
    assert all(word in said for word in ("harbour", "cheap", "parking"))


async def test_questions_about_a_booking_it_does_not_want_do_not_hold_it_up(world: BuiltinWorld) -> None:
    talk = Talk(AgendaUser(world), task(Wish(domain="hotel", inform={"area": "harbour"}), SIGHT))
    await talk.hear()
    turn = await talk.hear("How about the Marble Otter? Which day would you like?")
    assert "day" in turn.text
    assert "attraction" in turn.text


@pytest.mark.parametrize(
    ("line", "correction"),
    [
        ("I found a nice place. It is in the riverside.", "in the harbour"),
        ("There is one in the expensive price range.", "in the cheap price range"),
        ("I found one with no parking.", "with parking"),
        ("I have booked it on tuesday for 2 nights for 4 people.", "on monday"),
        ("Your booking is confirmed for 5 people. The reference is AB12.", "for 4 people"),
    ],
)
async def test_it_corrects_a_mistake_it_can_hear(world: BuiltinWorld, line: str, correction: str) -> None:
    talk = Talk(insistent(world), task(HOTEL))
    await talk.hear()
    assert correction in (await talk.hear(line)).text


async def test_what_is_right_is_not_corrected(world: BuiltinWorld) -> None:
    talk = Talk(insistent(world), task(SIGHT))
    await talk.hear()
    turn = await talk.hear("I found the Old Mint. It is of the type museum and in the riverside.")
    assert "address" in turn.text


async def test_it_books_with_every_parameter_and_goes_on_to_the_next_wish(world: BuiltinWorld) -> None:
    talk = Talk(insistent(world), task(HOTEL, SIGHT))
    await talk.hear()
    said = ""
    for _ in range(3):
        said += (await talk.hear("How about the Marble Otter? Shall I book it?")).text
    assert all(words in said for words in ("on monday", "for 2 nights", "for 4 people", "phone number"))
    turn = await talk.hear("The phone number is 0199. I booked it on monday for 2 nights for 4 people. Reference AB12.")
    assert "attraction" in turn.text
    assert not turn.end


async def test_it_thanks_and_ends_when_everything_is_done(world: BuiltinWorld) -> None:
    talk = Talk(AgendaUser(world), task(SIGHT))
    await talk.hear()
    await talk.hear("I found the Old Mint. Anything else?")
    turn = await talk.hear("The address is 4 Mill Parade. Anything else?")
    assert turn.end
    assert "ye" in turn.text.lower()


async def test_it_hangs_up_when_its_patience_is_used_up(world: BuiltinWorld) -> None:
    talk = Talk(AgendaUser(world, patience=3), task(HOTEL))
    await talk.hear()
    turns = [await talk.hear("One moment please.") for _ in range(3)]
    assert [turn.end for turn in turns] == [False, False, True]


async def test_a_refused_booking_is_tried_again_then_given_up(world: BuiltinWorld) -> None:
    talk = Talk(insistent(world), task(HOTEL))
    await talk.hear()
    turns = [await talk.hear("Unfortunately I could not book the hotel.") for _ in range(3)]
    assert "on monday" in turns[0].text
    assert turns[-1].end


FAILED = [
    "I am afraid the booking for the hotel failed. What number of people would you like?",
    "The booking failed, how many people should it be for?",
    "Sorry, I was not able to book it. Which day would you prefer?",
    "The reservation was declined. Which day would you prefer?",
    "Your reservation was unsuccessful. Shall I try another day?",
    "The Marble Otter is fully booked. Would another day work?",
    "It didn't get booked. How many nights?",
    "The booking hasn’t been confirmed. How many people are you?",
    "There was an error with the reservation. Shall I try again?",
    "Something went wrong with your booking; how many nights?",
    "I tried to get it reserved but had no luck. Can I help you with anything else?",
    "The reservation system refused the booking.",
    "Your room could not be reserved, would you like to try tuesday?",
]


@pytest.mark.parametrize("line", FAILED)
@pytest.mark.parametrize("insistence", [0, 1])
async def test_a_failed_booking_is_never_taken_for_a_success(world: BuiltinWorld, line: str, insistence: float) -> None:
    for seed, wishes in enumerate([(HOTEL, SIGHT), (HOTEL,)] * 3):
        talk = Talk(AgendaUser(world, insistence=insistence), task(*wishes), seed)
        await talk.hear()
        for _ in range(3):
            await talk.hear("How about the Marble Otter? Shall I book it?")
        turn = await talk.hear(line)
        assert not any(word in turn.text.lower() for word in ("thank", "great", "perfect", "all set", "everything"))
        assert isinstance(turn.state, AgendaProgress)
        assert not turn.state.booked


@pytest.mark.parametrize("line", FAILED[:2])
async def test_a_question_after_a_failure_is_answered_when_the_answer_is_new(world: BuiltinWorld, line: str) -> None:
    talk = Talk(AgendaUser(world, insistence=0), task(HOTEL, SIGHT))
    await talk.hear()
    turn = await talk.hear(line)
    assert "for 4 people" in turn.text
    again = await talk.hear(line)
    assert "attraction" in again.text  # it does not repeat itself, and leaves it


@pytest.mark.parametrize(
    "line",
    [
        "I need the number of people for the reservation. How many?",
        "It can be booked once you tell me the day. Which day?",
        "The reservation requires a day.",
        "Before it is booked I need to know the day.",
    ],
)
async def test_a_booking_that_is_still_to_come_is_not_taken_for_one(world: BuiltinWorld, line: str) -> None:
    talk = Talk(insistent(world), task(HOTEL))
    await talk.hear()
    turn = await talk.hear(line)
    assert isinstance(turn.state, AgendaProgress)
    assert not turn.state.booked


@pytest.mark.parametrize(
    "line",
    [
        "No problem, I booked it. The reference is AB12.",
        "Your booking was successful.",
        "Sorry for the wait, your room is booked on monday.",
        "It is booked, and if you need more just ask.",
    ],
)
async def test_a_confirmation_is_heard_behind_polite_words(world: BuiltinWorld, line: str) -> None:
    talk = Talk(insistent(world), task(HOTEL))
    await talk.hear()
    turn = await talk.hear(line)
    assert isinstance(turn.state, AgendaProgress)
    assert turn.state.booked


async def test_nothing_found_is_no_reason_for_thanks(world: BuiltinWorld) -> None:
    talk = Talk(AgendaUser(world, insistence=0), task(HOTEL, SIGHT))
    await talk.hear()
    turn = await talk.hear("Unfortunately I could not find a hotel. Shall I look for something else?")
    assert "attraction" in turn.text
    assert not any(word in turn.text.lower() for word in ("thank", "great", "perfect"))


async def test_it_hears_only_what_is_said_aloud(world: BuiltinWorld) -> None:
    aloud = Talk(AgendaUser(world), task(HOTEL))
    inside = Talk(AgendaUser(world), task(HOTEL))
    for talk in (aloud, inside):
        await talk.hear()
    call = ToolCall.of("c", "search_hotel", {"area": "riverside"})
    inside.conversation = inside.conversation.append(Entry(AssistantMessage.of("area riverside", (call,)), "agent", 1))
    state = aloud.turn.state if aloud.turn else None
    turns: list[UserTurn] = []
    for talk in (aloud, inside):
        heard = talk.conversation.append(Entry.agent("Which area would you like?", 1))
        turns.append(await AgendaUser(world).speak(Speak(TurnKey(0, "t1", 0, "", 1), task(HOTEL), heard, state)))
    assert turns[0] == turns[1]


async def test_it_never_names_an_entity_it_was_not_told(world: BuiltinWorld) -> None:
    names = {
        value for domain in world.ontology.domains for s in domain.search if s.kind == "name" for value in s.values
    }
    talk = Talk(AgendaUser(world), task(HOTEL, SIGHT))
    said = (await talk.hear()).text
    for line in ("How about it?", "I found one. Shall I book it?", "Booked. Reference AB12.", "I found one."):
        said += " " + (await talk.hear(line)).text
    assert not any(name in said for name in names)


async def test_one_key_gives_one_answer_and_other_keys_others(world: BuiltinWorld) -> None:
    texts = {(await Talk(AgendaUser(world), task(HOTEL), seed).hear()).text for seed in (1, 1, 1)}
    assert len(texts) == 1
    assert len({(await Talk(AgendaUser(world), task(HOTEL), seed).hear()).text for seed in range(6)}) > 1


async def test_a_task_without_an_agenda_is_refused_at_the_opening(world: BuiltinWorld) -> None:
    with pytest.raises(UserFault, match="task t1 of builtin has no agenda"):
        await Talk(AgendaUser(world), task()).hear()


async def test_a_domain_the_ontology_lacks_is_still_asked_for(world: BuiltinWorld) -> None:
    boat = Wish(domain="boat", inform={"colour": "red"})
    turn = await Talk(AgendaUser(world), task(boat)).hear()
    assert "a boat" in turn.text
    assert "with the colour red" in turn.text


@pytest.mark.parametrize(("option", "value"), [("patience", 0), ("talkative", 2.0), ("insistence", -1.0)])
def test_wrong_options_are_refused(world: BuiltinWorld, option: str, value: float) -> None:
    with pytest.raises(UsageError, match=option):
        AgendaUser(world, **{option: value})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def someone(world: BuiltinWorld) -> AgendaUser:
    return AgendaUser(world)


@settings(max_examples=100, deadline=None)
@given(lines=st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_any_text_of_an_agent_is_answered(someone: AgendaUser, lines: list[str]) -> None:
    talk = Talk(someone, task(HOTEL, SIGHT))
    at_once(talk.hear())
    for line in lines:
        assert at_once(talk.hear(line)).text


def at_once(turn: Coroutine[Any, Any, UserTurn]) -> UserTurn:
    """The result of a coroutine that never waits, without an event loop."""
    with pytest.raises(StopIteration) as done:
        turn.send(None)
    return done.value.value
