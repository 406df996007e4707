"""Comparisons of two conversations, with scripted judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simkit.components.reward import ScoreEpisode
from simkit.core.conversation import Conversation, Entry, Utterance
from simkit.core.ids import TurnKey
from simkit.core.tasks import Task
from simkit.errors import RewardFault, UsageError
from simkit.models.base import CallKey, ChatRequest
from simkit.models.providers.scripted import ScriptedModel
from simkit.rewards.pairs import PairVerdict, PairVote, Preference
from simkit.rewards.pairwise import PairwiseReward, read_conversations

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
    undecided = PairVerdict((vote("neither", "neither"),))
    assert (undecided.better, undecided.shown_first, undecided.consistent) == ("neither", None, 1.0)


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
