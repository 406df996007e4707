"""What an episode leaves in the record, field by field: the store, resumes and trainings know nothing else of it."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib import import_module

import pytest
from players import NoteTools, Players, ReachReward, play, reach, say, unit_of, use

from simkit.components.agent import Act, Decision
from simkit.components.reward import EpisodeReward, RewardPart, ScoreEpisode
from simkit.components.tools import CallTool, ToolReturn
from simkit.components.user import Speak, UserTurn
from simkit.core.events import BranchAdded, BranchExtended, Episode, EpisodeStarted, ToolsetSeen, succeeded
from simkit.core.limits import Limits
from simkit.core.messages import AssistantMessage, SystemMessage, ToolResult, ToolSpec
from simkit.core.records import MessageRow
from simkit.search.base import Search, WorkUnit
from simkit.search.episode import toolset
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.store.encoding import decode, encode

pytestmark = pytest.mark.anyio


class Marks(ReachReward):
    """Marks from 0 to 10: 5 for every conversation."""

    range = (0.0, 10.0)

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        return EpisodeReward(5.0, (RewardPart("half", 5.0, 2.0, "because"),))


class FailingNotes(NoteTools):
    """`read` fails, in order: with a result that says so."""

    async def call(self, request: CallTool) -> ToolReturn:
        if request.call.name == "read":
            return ToolReturn(ToolResult(value="no notes", error=True), request.state)
        return await super().call(request)


def three_steps(request: Act) -> Decision:
    """Two calls, a thought, and words; then a goal, and the end."""
    match request.key.turn, request.step:
        case 1, 0:
            return use(request, ("write", "x"), ("read", "y"))
        case 1, 1:
            return Decision(AssistantMessage.of("hm"), note=SystemMessage.of("Speak."))
        case 1, _:
            return say("Done.")
        case _:
            return reach(request, "a", end=True)


def doubtful(request: Speak) -> UserTurn:
    return UserTurn(f"user {request.key.turn}", flags=("vague: yes",) if request.key.turn else ())


PLAYERS = Players(three_steps, doubtful, goals=("a", "b"), tools=FailingNotes(), reward=Marks())


def second(players: Players) -> WorkUnit:
    """The third trial of a task, started for the second time."""
    return replace(unit_of(players), trial=2, attempt=1)


async def test_every_message_of_a_conversation_is_recorded_with_its_place_and_who_heard_it() -> None:
    played = await play(Rollout(), PLAYERS, unit=second(PLAYERS))
    rows = [
        (event.branch_id, row.seq, row.turn, row.step, row.author, row.heard, row.flags)
        for event in played.events
        if isinstance(event, BranchAdded | BranchExtended)
        for row in event.messages
    ]
    assert rows == [
        ("run/t1/2/.0", 0, 0, 0, "system", None, ()),
        ("run/t1/2/.0", 1, 0, 0, "user", "user 0", ()),
        ("run/t1/2/.1", 2, 1, 0, "agent", None, ()),
        ("run/t1/2/.1", 3, 1, 0, "tool", None, ()),
        ("run/t1/2/.1", 4, 1, 0, "tool", None, ()),
        ("run/t1/2/.1", 5, 1, 1, "agent", None, ()),
        ("run/t1/2/.1", 6, 1, 1, "tool", None, ()),
        ("run/t1/2/.1", 7, 1, 2, "agent", "Done.", ()),
        ("run/t1/2/.1", 8, 1, 0, "user", "user 1", ("vague: yes",)),
        ("run/t1/2/.2", 9, 2, 0, "agent", None, ()),
        ("run/t1/2/.2", 10, 2, 0, "tool", None, ()),
    ]


async def test_every_tool_call_is_recorded_with_its_result_and_what_it_wrote() -> None:
    began = time.perf_counter()
    played = await play(Rollout(), PLAYERS)
    longest = time.perf_counter() - began
    calls = [row for branch in played.branches.values() for row in branch.tool_calls]
    assert [(row.seq, row.step, row.call_id, row.name, row.arguments) for row in calls] == [
        (3, 0, "1.0.0", "write", '{"x": "x"}'),
        (4, 0, "1.0.1", "read", '{"x": "y"}'),
        (10, 0, "2.0.0", "reach", '{"x": "a"}'),
    ]
    assert [(row.result, row.error, row.writes) for row in calls] == [
        ("ok", False, ({"note": "x"},)),
        ("no notes", True, ()),
        ("a", False, ()),
    ]
    assert all(0 < row.seconds < longest for row in calls)


async def test_an_episode_is_recorded_with_its_names_its_numbers_and_its_parts() -> None:
    before = time.time()
    played = await play(Rollout(), PLAYERS, unit=second(PLAYERS))
    (tools,) = (event for event in played.events if isinstance(event, ToolsetSeen))
    (began,) = (event for event in played.events if isinstance(event, EpisodeStarted))
    (ended,) = (event for event in played.events if isinstance(event, Episode))
    assert played.events[:2] == [tools, began]
    assert tools.toolset_id == "ddcb01d6eb7a9b4c", "the tools of older stores keep their names"
    assert played.events[-1] is ended
    assert replace(began, at=0.0) == EpisodeStarted(
        "run/t1/2", "run", "t1", 2, "rollout", tools.toolset_id, ("a", "b"), 0.0, attempt=1
    )
    assert replace(ended, at=0.0) == Episode(
        episode_id="run/t1/2",
        reward=5.0,
        outcome="agent_ended",
        achieved=("a",),
        parts=({"name": "half", "value": 5.0, "weight": 2.0, "evidence": "because"},),
        final_branch_id="run/t1/2/.2",
        turns=2,
        branches=2,
        faults=0,
        error=None,
        at=0.0,
        calls=3,
        full_reward=10.0,
        goals=("a", "b"),
    )
    times = [event.at for event in played.events if isinstance(event, EpisodeStarted | BranchAdded | Episode)]
    assert len(times) == 5
    assert all(abs(at - before) < 3600 for at in times), "seconds since 1970"


@pytest.mark.parametrize("supervisor", [Rollout(), Josh(BeamSearch(beam=2), Limits(turns=2))])
async def test_an_episode_as_it_was_recorded_is_the_episode_that_was_played(supervisor: Search) -> None:
    unit = second(PLAYERS)
    played = await play(supervisor, PLAYERS, unit=unit)
    (ended,) = (event for event in played.events if isinstance(event, Episode))
    assert decode(encode(ended)) == ended == played.episode
    assert (played.episode.task_id, played.episode.trial, played.episode.success) == ("t1", 2, False)


def test_a_unit_is_the_first_start_of_the_first_trial_unless_it_says_more() -> None:
    unit = unit_of(PLAYERS)
    assert (unit.episode_id, unit.attempt) == ("run/t1/0", 0)


@pytest.mark.parametrize(
    ("reward", "full", "success"),
    [
        (1.0, 1.0, True),
        (1 - 1e-9, 1.0, True),  # shares of weights
        (1 - 2e-9, 1.0, False),
        (0.5, 1.0, False),
        (0.1 - 5e-10, 0.1, True),
        (0.1 - 2e-9, 0.1, False),
        (1e6 - 1e-3, 1e6, True),
        (1e6 - 2e-3, 1e6, False),
        (-1e6 - 5e-4, -1e6, True),
        (0.0, 0.0, True),
    ],
)
def test_a_success_is_the_full_reward_but_for_rounding(reward: float, full: float, success: bool) -> None:
    assert succeeded(reward, full) is success


@pytest.mark.parametrize(("supervisor", "name"), [(Rollout(), "rollout"), (Josh(), "josh")])
async def test_an_episode_says_what_kind_of_search_it_is(supervisor: Search, name: str) -> None:
    played = await play(supervisor, PLAYERS)
    assert [event.supervisor for event in played.events if isinstance(event, EpisodeStarted)] == [name]


def test_the_name_of_tools_follows_from_them_and_stays_that_of_older_stores() -> None:
    assert toolset((ToolSpec.of("look", "Look.", {}),)).toolset_id == "23c3fdb9e0ea4bfd"


def test_tools_with_integers_of_any_length_are_recorded_exactly() -> None:
    seen = toolset((ToolSpec.of("pay", "Pay.", {"wei": {"type": "integer", "maximum": 10**30}}),))
    read = decode(encode(seen))
    assert isinstance(read, ToolsetSeen)
    assert "1000000000000000000000000000000" in encode(seen).decode()
    assert read.toolset_id == seen.toolset_id


def test_a_message_that_nobody_hears_is_decoded() -> None:
    row = MessageRow(1, 0, 0, "agent", {"role": "assistant", "content": None}, None, "ab")
    branch = BranchExtended("branch", (row,))
    assert decode(encode(branch)) == branch


def test_contracts_can_be_imported_from_their_former_place() -> None:
    found = import_module("simkit.components")
    assert found.ScoreEpisode is ScoreEpisode
    assert found.CallTool is CallTool
    with pytest.raises(ImportError, match="Path"):
        exec("from simkit.components import Path")
