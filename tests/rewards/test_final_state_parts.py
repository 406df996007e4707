"""The reward final_state: states, due texts, checks, calls and the verdicts of a judge, and its sparse goals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simkit import Check, Expected, ExpectedCall, Ontology, Task, ToolServer, World
from simkit.components.reward import EpisodeReward, Hit, ScoreEpisode, ScoreTurn
from simkit.components.state import State
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolsStart
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage, ToolResult
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal
from simkit.errors import RewardFault, UsageError
from simkit.models import Answer, CallKey, ChatRequest, ScriptedModel
from simkit.rewards.final_state import ENDED, FinalState
from simkit.rewards.statements import Verdict, read_verdict, transcript

pytestmark = pytest.mark.anyio

KEY = TurnKey(7, "t", 0, "", 2)
TASK = Task(id="t", world="lamps", split="test", instructions="Light!")


class Lamps(World):
    """A world whose state is the set of lit lamps."""

    name = "lamps"
    splits = ("test",)

    def __init__(self, expected: Expected | None = None, start: frozenset[str] = frozenset()) -> None:
        self._expected, self._start = expected, start

    def tasks(self, split: str) -> tuple[Task, ...]:
        return (TASK,)

    def tools(self) -> ToolServer:
        return LampServer(self._start)

    @property
    def ontology(self) -> Ontology:
        return Ontology(())

    def expected(self, task: Task) -> Expected | None:
        return self._expected

    def digest(self, state: State) -> str:
        return ",".join(sorted(state))

    def holds(self, check: Check, state: State) -> bool:
        return check.detail["lamp"] in state


class LampServer(ToolServer):
    def __init__(self, start: frozenset[str]) -> None:
        self._start = start

    def start(self, request: StartTools) -> ToolsStart:
        return ToolsStart((), state=self._start)

    async def call(self, request: CallTool) -> ToolReturn:
        raise NotImplementedError


def lit(lamp: str) -> Check:
    return Check(f"lit {lamp}", {"lamp": lamp})


def made(name: str, by: Any = "agent", number: int = 1, **arguments: object) -> CallRecord:
    return CallRecord.of(ToolCall.of(f"c{number}", name, arguments), ToolResult(value="ok"), by=by)


SAID = Conversation([Entry.user("Light, please.", 0), Entry.agent("The hall is lit, 1,000 lumens.", 1)])


def ended(world: frozenset[str] = frozenset(), *calls: CallRecord, **more: Any) -> ScoreEpisode[Any]:
    request = ScoreEpisode[Any](TASK, (), (), calls, SAID, world, "user_ended", key=KEY)
    return replace(request, **more)


def parts(reward: EpisodeReward) -> dict[str, tuple[float, float, str]]:
    return {part.name: (part.value, part.weight, part.evidence) for part in reward.parts}


async def scored(expected: Expected, request: ScoreEpisode[Any], judge: Any = None) -> EpisodeReward:
    return await FinalState(Lamps(expected), judge=judge).score_episode(request)


WHOLE = Expected(
    digest="hall",
    said=("1000 lumens",),
    basis=("state", "said", "checks", "actions"),
    checks=(lit("hall"),),
    actions=(ExpectedCall("light", {"lamp": "hall"}, by="user"),),
)


async def test_an_end_is_good_if_every_part_holds() -> None:
    reward = await scored(WHOLE, ended(frozenset({"hall"}), made("light", "user", lamp="hall")))
    assert reward.value == 1.0
    assert parts(reward) == {
        "state": (1.0, 1.0, "hall"),
        "said:1000 lumens": (1.0, 1.0, "The hall is lit, 1,000 lumens."),
        "token:1000 lumens": (1.0, 0.0, "The hall is lit, 1,000 lumens."),
        "check:lit hall": (1.0, 1.0, "holds"),
        "action:light": (1.0, 1.0, "c1 by the user"),
    }


@pytest.mark.parametrize(
    ("expected", "request_", "missed", "evidence"),
    [
        (WHOLE, ended(frozenset({"hall"}), made("light", "agent", lamp="hall")), "action:light", "not called"),
        (WHOLE, ended(frozenset({"hall"}), made("light", "user", lamp="attic")), "action:light", "not called"),
        (replace(WHOLE, checks=(lit("attic"),)), ended(frozenset({"hall"})), "check:lit attic", "does not hold"),
        (replace(WHOLE, digest="attic"), ended(frozenset({"hall"})), "state", "hall"),
    ],
)
async def test_one_part_that_does_not_hold_makes_it_0_unless_it_decides_nothing(
    expected: Expected, request_: ScoreEpisode[Any], missed: str, evidence: str
) -> None:
    reward = await scored(expected, request_)
    assert reward.value == 0.0
    assert parts(reward)[missed] == (0.0, 1.0, evidence)
    kind: Any = {"state": "state", "check:lit attic": "checks"}.get(missed, "actions")
    without = tuple(part for part in expected.basis if part not in (kind, "actions"))
    assert (await scored(replace(expected, basis=without), request_)).value == 1.0


async def test_measures_that_decide_nothing_are_among_the_parts() -> None:
    goals = (Goal("light", {"tool": "light", "arguments": {"lamp": "hall"}}),)
    request = ended(frozenset(), task=replace(TASK, goals=goals), start=frozenset({"hall"}))
    reward = await scored(Expected("hall", basis=("state",), writes=("light",)), request)
    assert reward.value == 0.0
    assert parts(reward) == {
        "state": (0.0, 1.0, ""),
        "floor": (1.0, 0.0, ""),
        "writes_made": (0.0, 0.0, "0 of 1"),
    }


@pytest.mark.parametrize("outcome", ["turn_limit", "error_limit", "message_limit", "decision_limit"])
async def test_an_end_by_a_limit_is_no_end(outcome: str) -> None:
    request = ended(frozenset({"hall"}), made("light", "user", lamp="hall"), outcome=outcome)
    reward = await scored(WHOLE, request)
    assert (reward.value, parts(reward)["ended"]) == (0.0, (0.0, 1.0, outcome))
    assert outcome not in ENDED


async def test_one_call_may_be_several_due_calls_unless_each_needs_its_own() -> None:
    twice = (ExpectedCall("light", {"lamp": "hall"}), ExpectedCall("light", {"lamp": "hall"}))
    expected = Expected("", basis=("actions",), actions=twice)
    once, both = (made("light", lamp="hall"),), (made("light", lamp="hall"), made("light", number=2, lamp="hall"))
    assert (await scored(expected, ended(frozenset(), *once))).value == 1.0
    own = replace(expected, calls_count_once=True)
    assert (await scored(own, ended(frozenset(), *once))).value == 0.0
    assert (await scored(own, ended(frozenset(), *both))).value == 1.0
    for due, calls, evidence in (
        (expected, both, ["c1 by the agent", "c1 by the agent"]),
        (own, both, ["c2 by the agent", "c1 by the agent"]),
        (own, once, ["c1 by the agent", "not called"]),
    ):
        assert [part.evidence for part in (await scored(due, ended(frozenset(), *calls))).parts[1:]] == evidence


async def test_calls_are_given_so_that_as_many_as_possible_count() -> None:
    """The first due call would take the only call that the second one accepts."""
    due = (ExpectedCall("light", {}, ()), ExpectedCall("light", {"lamp": "hall"}))
    expected = Expected("", basis=("actions",), actions=due, calls_count_once=True)
    calls = (made("light", lamp="hall"), made("light", number=2, lamp="attic"))
    reward = await scored(expected, ended(frozenset(), *calls))
    assert [part.evidence for part in reward.parts if part.name == "action:light"] == [
        "c2 by the agent",
        "c1 by the agent",
    ]


# --- the judge --------------------------------------------------------------------------------------------------------

JUDGED = Expected("hall", basis=("state", "judged"), judged=("The agent is polite.", "The agent says goodbye."))


async def test_without_a_judge_statements_decide_nothing_and_say_so() -> None:
    reward = await scored(JUDGED, ended(frozenset({"hall"})))
    assert reward.value == 1.0
    assert parts(reward)["judged:The agent is polite."] == (0.0, 0.0, "judge not run")


def judge(*answers: str) -> tuple[ScriptedModel, list[tuple[str, CallKey]]]:
    """A judge that gives these answers to the calls of these numbers, and the questions that it got."""
    asked: list[tuple[str, CallKey]] = []

    def answer(request: ChatRequest, key: CallKey) -> Answer:
        asked.append((str(request.messages[-1].content), key))
        return answers[len(asked) - 1]

    return ScriptedModel(answer), asked


async def test_a_judge_is_asked_about_each_statement() -> None:
    model, asked = judge("Yes, it thanks the user.", "**No**: it just stops.")
    reward = await scored(JUDGED, ended(frozenset({"hall"})), model)
    assert reward.value == 0.0
    assert parts(reward)["judged:The agent is polite."] == (1.0, 1.0, "it thanks the user.")
    assert parts(reward)["judged:The agent says goodbye."] == (0.0, 1.0, "it just stops.")
    assert [(key.turn, key.role, key.call) for _, key in asked] == [(KEY, "judge", 0), (KEY, "judge", 3)]
    assert "user: Light, please.\nagent: The hall is lit, 1,000 lumens." in asked[0][0]
    assert "The agent says goodbye." in asked[1][0]


async def test_a_judge_is_asked_again_until_it_gives_a_verdict() -> None:
    model, asked = judge("Hard to say.", "", "yes", "<think>No?</think>yes.")
    assert (await scored(JUDGED, ended(frozenset({"hall"})), model)).value == 1.0
    assert [key.call for _, key in asked] == [0, 1, 2, 3]
    model, _ = judge("Maybe.", "Perhaps.", "It depends.")
    with pytest.raises(RewardFault, match=r"asked 3 times .* began no answer with yes or no"):
        await scored(JUDGED, ended(frozenset({"hall"})), model)


async def test_a_judge_is_not_asked_about_an_episode_that_a_limit_ended() -> None:
    model, asked = judge()
    reward = await scored(JUDGED, ended(frozenset({"hall"}), outcome="turn_limit"), model)
    assert (reward.value, asked) == (0.0, [])


async def test_a_judge_needs_the_place_of_its_calls() -> None:
    with pytest.raises(RewardFault, match=r"ScoreEpisode\.key"):
        await scored(JUDGED, ended(frozenset({"hall"}), key=None), judge("yes")[0])


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("yes", Verdict(True, "yes")),
        ("No.", Verdict(False, "No")),
        (" *Yes* - because", Verdict(True, "because")),
        ("No " + "x" * 600, Verdict(False, "x" * 500)),
        ("Nobody knows", None),
        ("yesterday", None),
        ("I say yes", None),
        ("", None),
    ],
)
def test_a_verdict_begins_with_yes_or_no(text: str, verdict: Verdict | None) -> None:
    assert read_verdict(text) == verdict


def test_a_judge_reads_the_calls_of_both_sides() -> None:
    call = ToolCall.of("c1", "light", {"lamp": "hall"})
    told = Conversation(
        [
            Entry.system("Be brief."),
            Entry.user("Light!", 0),
            Entry(AssistantMessage.of("Thinking", (call,)), "agent", 1),
            Entry(ToolMessage.of("c1", "ok"), "tool", 1),
            Entry.agent("Press the switch.", 1),
            Entry(AssistantMessage.of(None, (call,)), "user_tool", 1),
            Entry(ToolMessage.of("c1", "on"), "user_tool", 1),
            Entry.user("Done.", 1),
        ]
    )
    assert transcript(told).splitlines() == [
        "user: Light!",
        'agent calls light({"lamp": "hall"})',
        "result: ok",
        "agent: Press the switch.",
        'user calls light({"lamp": "hall"})',
        "result: on",
        "user: Done.",
    ]


# --- sparse goals -----------------------------------------------------------------------------------------------------


async def test_checks_are_goals_unless_they_hold_at_the_start() -> None:
    expected = Expected("", basis=("checks",), checks=(lit("hall"), lit("attic")))
    reward = FinalState(Lamps(expected, start=frozenset({"hall"})), goals="checks")
    goals = reward.goals(TASK)
    assert [goal.key for goal in goals] == ["check:lit attic"]
    calls = (made("look", number=1), made("light", "user", 2, lamp="attic"))
    before = ScoreTurn[Any](TASK, goals, (), SAID, frozenset({"hall"}))
    assert await reward.score_turn(before) == ()
    after = replace(before, calls=(*calls, replace(made("look", number=3), step=4)), world=frozenset({"hall", "attic"}))
    assert await reward.score_turn(after) == (Hit("check:lit attic", "c3", 4),)
    assert await reward.score_turn(replace(after, calls=())) == (Hit("check:lit attic", "", 0),)
    assert await reward.score_turn(replace(after, remaining=())) == ()
    assert FinalState(Lamps(Expected("")), goals="checks").goals(TASK) == ()


async def test_goals_of_calls_know_whose_call_it_is() -> None:
    goals = (Goal("a", {"tool": "light", "arguments": {}}), Goal("u", {"tool": "light", "arguments": {}, "by": "user"}))
    reward = FinalState(Lamps(WHOLE))
    request = ScoreTurn[Any](TASK, goals, (made("light", "user", 5),), SAID, frozenset())
    assert [hit.goal for hit in await reward.score_turn(request)] == ["u"]
    request = replace(request, calls=(made("light", "agent", 6),))
    assert [hit.goal for hit in await reward.score_turn(request)] == ["a"]


def test_goals_and_worlds_that_do_not_exist_are_refused() -> None:
    wrong: Any = "states"
    with pytest.raises(UsageError, match="has no goals `states`; choose one of: actions, writes, state, said, checks"):
        FinalState(Lamps(WHOLE), goals=wrong)
