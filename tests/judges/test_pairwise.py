"""Comparisons of two conversations, with scripted judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simkit.components.reward import ScoreEpisode
from simkit.core.conversation import Conversation, Entry, Utterance
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, SystemMessage, ToolCall, ToolMessage, UserMessage
from simkit.core.tasks import Task
from simkit.errors import RewardFault, UsageError
from simkit.models.base import CallKey, ChatRequest
from simkit.models.providers.scripted import ScriptedModel
from simkit.rewards.pairs import PairVerdict, PairVote, Preference
from simkit.rewards.pairwise import PairwiseReward, entry_of, read_conversations

pytestmark = pytest.mark.anyio

HUMAN = (Utterance("user", "A bicycle?"), Utterance("agent", "None left."))
TASK = Task(id="t", world="w", split="test", instructions="I want a red bicycle.", reference=HUMAN)
TALK = Conversation([Entry.user("A bicycle?", 0), Entry.agent("Here you are.", 1)])
KEY = TurnKey(7, "t", 0, "", 2)


def preferring(words: str, otherwise: str = "neither") -> ScriptedModel:
    """A judge that prefers the conversation with these words, wherever it stands."""

    def answer(request: ChatRequest, key: CallKey) -> str:
        first, second = str(request.messages[0].content).split("first>>>")
        side = "first" if words in first else "second" if words in second else otherwise
        return json.dumps({"reason": f"it says {words}", "better": side})

    return ScriptedModel(answer)


def episode(task: Task = TASK) -> ScoreEpisode[Any]:
    return ScoreEpisode(task, (), (), (), TALK, None, "user_ended", key=KEY)


@pytest.mark.parametrize(("words", "value"), [("Here you are", 1.0), ("None left", 0.0), ("elsewhere", 0.5)])
async def test_the_better_one_wins_wherever_it_is_shown(words: str, value: float) -> None:
    found = await PairwiseReward(preferring(words)).score_episode(episode())
    assert found.value == value
    assert [(part.name, part.value, part.weight) for part in found.parts] == [
        ("better", value, 1.0),
        ("consistent", 1.0, 0.0),
    ]
    assert found.parts[0].evidence == f"it says {words}"


async def test_a_judge_that_prefers_what_it_reads_first_decides_nothing() -> None:
    found = await PairwiseReward(preferring("", otherwise="first")).score_episode(episode())
    assert (found.value, found.parts[1].value) == (0.5, 0.0)
    assert found.parts[0].evidence.startswith("undecided")


def test_votes_are_averaged_and_show_the_judges_preference_for_a_place() -> None:
    def vote(straight: Any, swapped: Any) -> PairVote:
        return PairVote(Preference(straight, ""), Preference(swapped, ""))

    verdict = PairVerdict((vote("first", "second"), vote("first", "first"), vote("first", "second")))
    assert verdict.value == pytest.approx(2.5 / 3)
    assert verdict.better == "first"
    assert verdict.consistent == pytest.approx(2 / 3)
    assert verdict.shown_first == pytest.approx(4 / 6)
    second = PairVerdict((vote("second", "first"), vote("neither", "neither"), vote("second", "first")))
    assert (second.value, second.better) == (pytest.approx(1 / 6), "second")
    assert PairVerdict((vote("second", "first"),)).better == "second"
    undecided = PairVerdict((vote("neither", "neither"),))
    assert (undecided.better, undecided.shown_first, undecided.consistent) == ("neither", None, 1.0)


def test_the_first_vote_gives_the_reason() -> None:
    agreeing = PairVote(Preference("first", "it is kind"), Preference("second", "it is kinder"))
    torn = PairVote(Preference("first", "one is short"), Preference("first", "two is clear"))
    assert PairVerdict((agreeing, torn, torn)).reason == "it is kind"
    undecided = "undecided. Shown first: one is short Shown second: two is clear"
    assert PairVerdict((torn, agreeing, agreeing)).reason == undecided


SHOWN = "[1] user: A bicycle?\n[2] agent: Here you are."
REFERENCE = "[1] user: A bicycle?\n[2] agent: None left."


async def test_the_judge_gets_both_conversations_in_both_orders_and_the_form_of_an_answer() -> None:
    asked: list[ChatRequest] = []
    places: list[int] = []

    def answer(request: ChatRequest, key: CallKey) -> str:
        asked.append(request)
        places.append(key.call)
        return '{"reason": "r", "better": "neither"}'

    await PairwiseReward(ScriptedModel(answer), votes=3).score_episode(episode())
    assert places == [0, 3, 6, 9, 12, 15]
    for request, first, second in ((asked[0], SHOWN, REFERENCE), (asked[3], REFERENCE, SHOWN)):
        prompt = str(request.messages[0].content)
        assert f"<<<first\n{first}\nfirst>>>\n\n<<<second\n{second}\nsecond>>>" in prompt
        assert request.response_format == {
            "type": "json_schema",
            "json_schema": {
                "name": "preference",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {
                        "reason": {"type": "string"},
                        "better": {"type": "string", "enum": ["first", "second", "neither"]},
                    },
                    "required": ["reason", "better"],
                    "additionalProperties": False,
                },
            },
        }


def test_a_prompt_of_ones_own_shows_one_of_the_two(tmp_path: Path) -> None:
    judge, prompt = preferring("x"), tmp_path / "pair.txt"
    for text in ("Is {{first}} good?", "Is {{second}} good?"):
        prompt.write_text(text)
        PairwiseReward(judge, prompt=prompt)
    prompt.write_text("Is {{task}} good?")
    with pytest.raises(UsageError, match=r"has no place \{\{first\}\} or \{\{second\}\}; write it"):
        PairwiseReward(judge, prompt=prompt)


async def test_no_preference_is_a_fault() -> None:
    judge = ScriptedModel(lambda request, key: '{"reason": "x", "better": "both"}')
    with pytest.raises(RewardFault, match="gave no verdict"):
        await PairwiseReward(judge).score_episode(episode())


async def test_it_compares_with_the_conversation_of_a_file(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "It costs nine pounds."}]
    file = tmp_path / "others.jsonl"
    file.write_text(json.dumps({"task_id": "t", "messages": messages}) + "\n\n")
    found = await PairwiseReward(preferring("nine pounds"), file).score_episode(episode())
    assert found.value == 0.0
    other = Task(id="u", world="w", split="test", instructions="")
    with pytest.raises(UsageError, match="no conversation of the task u"):
        PairwiseReward(preferring("x"), file).check_task(other, ())
    with pytest.raises(UsageError, match="the task u has no human dialogue"):
        PairwiseReward(preferring("x")).check_task(other, ())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        '{"task_id": "t"}',
        '{"task_id": "t", "messages": []}',
        '{"task_id": "t", "messages": [{"role": "x"}]}',
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "others.jsonl"
    file.write_text(line)
    with pytest.raises(UsageError, match=r"(?s)others\.jsonl.*task_id"):
        read_conversations(file)


def line(task: str, *messages: tuple[str, str]) -> str:
    return json.dumps({"task_id": task, "messages": [{"role": role, "content": text} for role, text in messages]})


def test_conversations_are_read_as_the_entries_of_their_messages(tmp_path: Path) -> None:
    file = tmp_path / "others.jsonl"
    file.write_text(
        line("t", ("system", "Help."), ("user", "Hi."), ("assistant", "Bye."))
        + "\n"
        + line("t", ("assistant", "Again."))
    )
    found = read_conversations(file)
    assert {task: tuple(talk) for task, talk in found.items()} == {"t": (Entry.user("Hi.", 1), Entry.agent("Bye.", 1))}


def test_the_entry_of_a_message_is_heard_unless_it_is_internal() -> None:
    calls = AssistantMessage.of(None, (ToolCall.of("c1", "find", {}),))
    result = ToolMessage.of("c1", "none")
    assert entry_of(SystemMessage.of("Help.")) is None
    assert entry_of(UserMessage.of("Hi.")) == Entry.user("Hi.", 1)
    assert entry_of(AssistantMessage.of("Bye.")) == Entry.agent("Bye.", 1)
    assert entry_of(calls) == Entry(calls, "agent", turn=1)
    assert entry_of(result) == Entry(result, "tool", turn=1)


def test_files_are_refused_with_the_line_in_which_the_agent_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "others.jsonl"
    file.write_text(f"{line('t', ('assistant', 'Bye.'))}\n\n{line('u', ('user', 'Hi.'))}")
    with pytest.raises(UsageError, match=r"others\.jsonl, line 3 is not a .* the agent says nothing in it"):
        read_conversations(file)
    assert tuple(read_conversations(file, None)["u"]) == (Entry.user("Hi.", 1),)
    with pytest.raises(UsageError, match=r"nowhere\.jsonl cannot be read: .*; give a file of JSON lines"):
        read_conversations(tmp_path / "nowhere.jsonl")
