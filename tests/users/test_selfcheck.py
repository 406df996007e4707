from __future__ import annotations

from dataclasses import replace

import pytest
from talking import ONTOLOGY, TASK

from simkit.core.conversation import Utterance
from simkit.core.ontology import Ontology
from simkit.core.tasks import Task
from simkit.users.reply_formats import UserReply
from simkit.users.selfcheck import SelfCheck, SelfCheckState

ALL_SAID = "A hotel in the north with parking, booked for 3 people on tuesday, and a train to ely after 9:15."


def flags(*words: str, end: bool = False, gave_up: bool = False, task: Task = TASK) -> tuple[str, ...]:
    """The doubts about the last of these words, said in turns: user, agent, user, ..."""
    check, heard, memory = SelfCheck(ONTOLOGY), list[Utterance](), SelfCheckState()
    found: tuple[str, ...] = ()
    for index, text in enumerate(words):
        if index % 2 == 0:
            last = end and index == len(words) - 1
            reply = UserReply(text, end=last, reason="gave_up" if gave_up else "done")
            found, memory = check.check(task, heard, reply, memory)
        heard.append(Utterance("agent" if index % 2 else "user", text))
    return found


@pytest.mark.parametrize(
    "text",
    [
        ALL_SAID,
        "I need a place to stay in the North, for three people.",
        "The centre will do.",
        "A train at 09:15 please, or 9:15.",
        "I do not mind which area.",
        "Is it in the south?",
        "One in the place I know.",
        "Thanks!",
    ],
)
def test_what_is_in_the_list_raises_no_doubt(text: str) -> None:
    assert flags(text) == ()


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("I want a hotel in the south.", "unknown_value: south"),
        ("Book the hotel for 4 people.", "unknown_value: 4 people"),
        ("Book it for friday.", "unknown_value: friday"),
        ("A train to london.", "unknown_value: london"),
        ("A train that leaves at 10:30.", "unknown_value: 10:30"),
        ("I would like Acorn House.", "unknown_value: acorn house"),
    ],
)
def test_a_value_that_nobody_brought_up(text: str, flag: str) -> None:
    assert flags(text) == (flag,)


def test_a_value_the_agent_brought_up_may_be_taken() -> None:
    assert flags("A hotel.", "There is Acorn House in the south.", "Acorn House in the south is fine.") == ()


def test_the_list_s_own_alternative_is_a_contradiction_once_the_wish_was_told() -> None:
    assert flags("A hotel in the centre.", "Parking?", "No, a hotel in the north.") == ()
    assert flags("A hotel in the north.", "Parking?", "In the centre.") == (
        "contradiction: hotel area north, now centre",
    )


def test_an_offer_that_is_taken_is_no_contradiction() -> None:
    assert flags("A hotel in the north.", "Only in the centre.", "Then in the centre.") == ()


def test_leaving_before_all_was_spoken_of() -> None:
    assert flags(ALL_SAID, "Done.", "Bye.", end=True) == ()
    assert flags("A hotel in the north with parking for 3 people on tuesday.", "Booked.", "Bye.", end=True) == (
        "ended_early: train destination, leaveAt",
    )
    assert flags("A hotel in the north, and a train to ely at 9:15.", "Parking?", "Bye.", end=True) == (
        "ended_early: hotel day, people, booking",
    )


def test_giving_up_is_not_leaving_early() -> None:
    assert flags("A hotel.", "No.", "Bye.", end=True, gave_up=True) == ()


def test_one_person_need_not_be_spelled_out() -> None:
    hotel = replace(TASK.agenda[0], inform={"area": "north"}, book={"people": "1"})
    alone = replace(TASK, agenda=(hotel,))
    assert flags("A room in the north for me.", "Booked.", "Bye.", end=True, task=alone) == ()


@pytest.mark.parametrize(
    "text",
    [  # said by Qwen2.5-Coder-0.5B as a simulated customer
        "I am here to help you. If you have any other trips you would like discussed, feel free to ask.",
        "I\u2019m sorry, I can\u2019t assist with that.",
        "Congratulations! I am pleased to be your travel assistant.",
        "Sorry, I did not hear back from you. Do you need help with your transportation plan?",
        "If you have any questions or need further assistance, please do not hesitate to ask.",
        "I will arrange this for you.",
    ],
)
def test_a_customer_who_offers_help_talks_like_the_agent(text: str) -> None:
    assert "as_agent" in flags(text)


@pytest.mark.parametrize(
    "text",
    [  # as people say it (MultiWOZ)
        "Can you help me find a train that arrives by 9:00?",
        "Could you book it for me? I would like to stay for 3 nights.",
        "Let me know if you have any that are cheap.",
        "I would be happy to stay at a guesthouse. What else can you find?",
        "I can't find any place to park. Is parking free?",
        "Please let me know what the reference number is.",
    ],
)
def test_a_customer_who_asks_for_help_does_not(text: str) -> None:
    assert "as_agent" not in flags(text)


def test_talking_like_the_agent_and_saying_the_same_again() -> None:
    assert flags("How can I help you?") == ("as_agent",)
    assert flags("In the north.", "Where?", "In the north.") == ("repeated",)


def test_without_a_vocabulary_only_the_words_are_checked() -> None:
    check = SelfCheck(Ontology(()))
    found, memory = check.check(
        TASK, (), UserReply("A hotel in the south.", end=True, flags=("cut_off",)), SelfCheckState()
    )
    assert found == ("cut_off",)
    assert memory.last == "A hotel in the south."


def test_a_task_without_an_agenda_has_nothing_to_compare_with() -> None:
    assert flags("A hotel in the south.", end=True, task=replace(TASK, agenda=())) == ()
