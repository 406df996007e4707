from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from talking import TASK, Talk, WordsWorld, player

from simkit.components.user import Speak
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, SystemMessage, ToolCall, UserMessage
from simkit.core.tasks import Task
from simkit.errors import ModelFault, UsageError, UserFault
from simkit.models import CallKey, ChatResponse, Usage
from simkit.plugins.prompts import PromptChoice
from simkit.users.goal import CUE, GoalUser
from simkit.users.guide import GuideUser
from simkit.users.persona import STYLES, TEMPERAMENTS, PersonaUser

pytestmark = pytest.mark.anyio

CHOICES: tuple[PromptChoice, ...] = (None, "compact")
NO_LIST = Task(id="T2", world="w", split="test", instructions="You want a boat.")


def bye(text: str | None = None, **arguments: str) -> AssistantMessage:
    return AssistantMessage.of(text, (ToolCall.of("c", "end_conversation", arguments),))


async def test_its_model_sees_the_roles_swapped_and_only_what_was_said_aloud() -> None:
    played = player("A hotel, please.", "In the north.", "Yes.")
    talk = Talk(GoalUser(played.model))
    await talk.next()
    await talk.next("Which area?")
    talk.conversation = talk.conversation.append(Entry(AssistantMessage.of("secret plan"), "agent", 2))
    await talk.next("Parking?")
    system, *rest = played.requests[2].messages
    assert isinstance(system, SystemMessage)
    assert TASK.instructions in str(system.content)
    assert rest == [
        UserMessage.of(CUE),
        AssistantMessage.of("A hotel, please."),
        UserMessage.of("Which area?"),
        AssistantMessage.of("In the north."),
        UserMessage.of("Parking?"),
    ]


async def test_an_agent_that_speaks_first_is_heard() -> None:
    played = player("A hotel.")
    talk = Talk(GoalUser(played.model), conversation=Conversation([Entry.agent("Hello!", 0)]))
    await talk.next()
    assert played.requests[0].messages[1:] == (UserMessage.of("Hello!"),)


async def test_each_call_has_the_key_and_seed_of_its_turn() -> None:
    played = player("", "A hotel.", "North.")
    talk = Talk(GoalUser(played.model))
    await talk.next()
    await talk.next("Where?")
    opening, turn = TurnKey(7, "T1", 0, "L", 0), TurnKey(7, "T1", 0, "L", 1)
    assert played.keys == [CallKey(opening, "user", 0), CallKey(opening, "user", 1), CallKey(turn, "user", 0)]
    assert [request.seed for request in played.requests] == [key.seed for key in played.keys]


async def test_it_hangs_up_with_the_tool_and_not_with_a_word() -> None:
    talk = Talk(GoalUser(player("How do I END_CONVERSATION?", bye("Thanks!", reason="done")).model), NO_LIST)
    assert not (await talk.next()).end
    last = await talk.next("Just hang up.")
    assert (last.text, last.end) == ("Thanks!", True)


async def test_a_branch_goes_on_from_the_state_it_got() -> None:
    played = player("A hotel.", "North.", "South.")
    talk = Talk(GoalUser(played.model))
    await talk.next()
    left, right = replace(talk), replace(talk)
    await left.next("Where?")
    await right.next("Which part?")
    assert played.requests[1].messages[:-1] == played.requests[2].messages[:-1]
    assert played.requests[2].messages[-1] == UserMessage.of("Which part?")


async def test_an_endpoint_that_ignores_the_schema_is_noticed() -> None:
    formed = '{"say": "A hotel up north.", "end": false, "reason": ""}'
    turn = await Talk(GoalUser(player("A hotel.", formed).model, ending="json")).next()
    assert turn.text == "A hotel up north."
    assert "format_ignored: user_turn" in turn.flags
    turn = await Talk(GoalUser(player('{"say": "", "end": false, "reason": ""}', formed).model, ending="json")).next()
    assert "format_ignored: user_turn" not in turn.flags, "an object without words follows the schema"
    with pytest.raises(UserFault, match="the endpoint seems to ignore `response_format`"):
        await Talk(GoalUser(player("A hotel.", "North.", "Hi.").model, ending="json")).next()


async def test_answers_without_words_are_asked_for_again_and_then_its_fault() -> None:
    talk = Talk(GoalUser(player("", "", "").model))
    with pytest.raises(UserFault, match="user `goal`, played by scripted, gave 3 answers without words"):
        await talk.next()


async def test_all_its_answers_count_as_used() -> None:
    used = Usage(10, 5, 0, 0.25)
    answers = [replace(ChatResponse.of(AssistantMessage.of(text)), usage=used) for text in ("", "Hello.")]
    turn = await Talk(GoalUser(player(*answers).model)).next()
    assert (turn.text, turn.tokens, turn.cost) == ("Hello.", 30, 0.5)


async def test_it_needs_an_attempt() -> None:
    with pytest.raises(UsageError, match="attempts is 0"):
        GoalUser(player("x").model, attempts=0)


async def test_a_fault_of_the_model_is_the_models() -> None:
    with pytest.raises(ModelFault, match="down"):
        await Talk(GoalUser(player(ModelFault("down")).model)).next()


async def test_doubts_are_flags_of_the_turn() -> None:
    talk = Talk(GoalUser(player("A hotel in the south.", bye("Bye.", reason="done")).model, WordsWorld()))
    assert (await talk.next()).flags == ("unknown_value: south",)
    flags = (await talk.next("There is one.")).flags
    assert flags == (
        "ended_early: hotel area, parking, day, people, booking",
        "ended_early: train destination, leaveAt",
    )


async def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("Want this: {{goals}}")
    played = player("A boat.")
    await Talk(GoalUser(played.model, prompt=file), NO_LIST).next()
    assert played.requests[0].messages[0] == SystemMessage.of("Want this: You want a boat.")
    file.write_text("Want this.")
    with pytest.raises(UsageError, match=r"no place \{\{goals\}\}"):
        GoalUser(played.model, prompt=file)


async def test_the_guide_has_the_human_conversation_and_keeps_its_advice_to_itself() -> None:
    played = player("ADVICE: Open like them.\nSAY: I need a hotel up north.", "ADVICE: x\nSAY: No.")
    talk = Talk(GuideUser(played.model))
    said = await talk.next()
    assert (said.text, said.flags) == ("I need a hotel up north.", ())
    await talk.next("Any price range?")
    system, _, own, _ = played.requests[1].messages
    assert "Customer: I need a hotel up north.\nAgent: Any price range?" in str(system.content)
    assert own == AssistantMessage.of("ADVICE: Open like them.\nSAY: I need a hotel up north.")


async def test_the_guide_needs_a_human_conversation() -> None:
    with pytest.raises(UsageError, match="task T2 of w was not made from a recorded conversation"):
        await Talk(GuideUser(player("x").model), NO_LIST).next()


async def test_a_persona_is_described_to_the_model() -> None:
    played = player("hotel pls")
    await Talk(PersonaUser(played.model, temperament="You are a pirate.", style="like a pirate.")).next()
    system = str(played.requests[0].messages[0].content)
    assert "Who you are: You are a pirate." in system
    assert "How you write: like a pirate." in system
    assert TASK.instructions in system


async def test_a_persona_asks_as_often_as_it_was_told() -> None:
    played = player("", "", "hotel pls")
    await Talk(PersonaUser(played.model, attempts=3)).next()
    assert len(played.requests) == 3
    with pytest.raises(UserFault):
        await Talk(PersonaUser(player("", "hotel pls").model, attempts=1)).next()


async def test_a_persona_is_drawn_for_an_episode_and_the_same_in_all_its_branches() -> None:
    async def system(task: str, path: str, seed: int) -> str:
        played = player("hi")
        key = TurnKey(seed, task, 0, path, 0)
        await PersonaUser(played.model).speak(Speak(key, NO_LIST, Conversation(), None))
        return str(played.requests[0].messages[0].content)

    assert await system("a", "", 1) == await system("a", "LR", 1)
    drawn = {await system(f"task {n}", "", 1) for n in range(60)}
    assert len(drawn) == len(TEMPERAMENTS) * len(STYLES)


@pytest.mark.parametrize("user", [GoalUser, PersonaUser, GuideUser])
async def test_a_compact_prompt_has_the_same_places(user: type[GoalUser]) -> None:
    usual, compact = (user(player("Hi.").model, prompt=chosen).prompt for chosen in CHOICES)
    assert compact.places == usual.places
    assert len(compact.text) < 0.75 * len(usual.text)
    assert compact.name == usual.name.replace("-1", "-compact-1")
