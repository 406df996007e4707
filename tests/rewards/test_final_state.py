"""What `final_state` makes of the end of an episode, and of the turns before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from simkit.components.reward import EpisodeReward, Hit, ScoreEpisode, ScoreTurn
from simkit.components.tools import ToolServer
from simkit.components.world import Expected, World
from simkit.core.conversation import Conversation, Entry
from simkit.core.messages import AssistantMessage, ToolCall, ToolResult
from simkit.core.ontology import Ontology
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal, Task, goals_of_calls
from simkit.errors import UsageError
from simkit.rewards.final_state import FinalState

pytestmark = pytest.mark.anyio

GOALS = goals_of_calls([("look", {"order": 1}), ("cancel", {"order": 1}), ("look", {"order": 1})])
GOOD = Expected("right", ("20.5", "Ada"), writes=("cancel",))
TASK = Task(id="t", world="shop", split="test", instructions="", goals=GOALS)


class Shop(World):
    """A world whose states are their own digests."""

    name = "shop"
    splits = ("test",)

    def __init__(self, expected: Expected | None = GOOD, variant: str = "") -> None:
        self._good = expected
        self.variant = variant

    def tasks(self, split: str) -> Sequence[Task]:
        return [TASK]

    def tools(self) -> ToolServer:
        raise NotImplementedError

    @property
    def ontology(self) -> Ontology:
        raise NotImplementedError

    def expected(self, task: Task) -> Expected | None:
        return self._good

    def digest(self, state: Any) -> str:
        return state


def call(
    name: str, id: str, step: int = 0, *, writes: bool = False, user: bool = False, **arguments: Any
) -> CallRecord:
    made = ToolCall.of(id, name, arguments)
    rows = ({"table": "orders"},) if writes else ()
    return CallRecord.of(made, ToolResult(value=None), step, rows, by="user" if user else "agent")


def talk(*replies: str) -> Conversation:
    thought = Entry(AssistantMessage.of("20.5 Ada"), "agent", turn=1)
    entries = [thought, Entry.user("Ada 20.5", 1), *(Entry.agent(reply, 1) for reply in replies)]
    return Conversation(entries)


async def scored(
    *replies: str, world: Shop | None = None, state: str = "right", outcome: str = "user_ended", said: Any = None
) -> EpisodeReward:
    reward = FinalState(world or Shop(), said=said)
    task = replace(TASK, goals=())
    return await reward.score_episode(ScoreEpisode(task, (), (), (), talk(*replies), state, outcome))


def parts(reward: EpisodeReward) -> list[tuple[str, float, float, str]]:
    return [(part.name, part.value, part.weight, part.evidence) for part in reward.parts]


@pytest.mark.parametrize(
    ("replies", "state", "outcome", "value"),
    [
        (("It is 20.5.", "Bye, Ada."), "right", "user_ended", 1.0),
        (("It is 20.5, Ada.",), "right", "agent_ended", 1.0),
        (("It is 20.5, Ada.",), "right", "goals_done", 1.0),
        (("It is 20.5, Ada.",), "right", "turn_limit", 0.0),
        (("It is 20.5, Ada.",), "wrong", "user_ended", 0.0),
        (("It is 20.5.",), "right", "user_ended", 0.0),
        ((), "right", "user_ended", 0.0),
    ],
)
async def test_an_episode_is_good_if_all_parts_hold_at_an_end_of_its_own(
    replies: tuple[str, ...], state: str, outcome: str, value: float
) -> None:
    assert (await scored(*replies, state=state, outcome=outcome)).value == value


async def test_each_part_is_recorded_with_its_evidence_and_the_other_comparison_decides_nothing() -> None:
    assert parts(await scored("x", f"It is 120.5{'.' * 300}", state="wrong", outcome="turn_limit")) == [
        ("state", 0.0, 1.0, "wrong"),
        ("said:20.5", 1.0, 1.0, f"It is 120.5{'.' * 300}"[:200]),
        ("token:20.5", 0.0, 0.0, ""),
        ("said:Ada", 0.0, 1.0, ""),
        ("token:Ada", 0.0, 0.0, ""),
        ("ended", 0.0, 1.0, "turn_limit"),
    ]
    assert (await scored("It is 120.5, Ada.")).value == 1.0


@pytest.mark.parametrize(("variant", "said"), [("fixed", None), ("", "token")])
async def test_whole_words_and_numbers_decide_where_they_are_chosen_or_usual(variant: str, said: str | None) -> None:
    found = await scored("It is 120.5, Ada.", world=Shop(variant=variant), said=said)
    assert found.value == 0.0
    assert [part.name for part in found.parts][1:3] == ["said:20.5", "substring:20.5"]
    assert [part.value for part in found.parts][1:3] == [0.0, 1.0]
    assert (await scored("It is 20.5, Ada.", world=Shop(variant=variant), said=said)).value == 1.0
    assert (await scored("It is 120.5, Ada.", world=Shop(variant="fixed"), said="substring")).value == 1.0


async def test_the_world_says_which_parts_decide() -> None:
    only_said = await scored("20.5 Ada", world=Shop(replace(GOOD, basis=("said",))), state="wrong")
    assert (only_said.value, [part.weight for part in only_said.parts]) == (1.0, [0.0, 1.0, 0.0, 1.0, 0.0])
    only_state = await scored(world=Shop(replace(GOOD, basis=("state",))))
    assert (only_state.value, [part.weight for part in only_state.parts]) == (1.0, [1.0, 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("goals", "keys"),
    [
        ("actions", ["look", "cancel", "look"]),
        ("writes", ["cancel"]),
        ("state", ["state"]),
        ("said", ["said:20.5", "said:Ada"]),
    ],
)
def test_the_chosen_goals_are_those_of_the_task(goals: Any, keys: list[str]) -> None:
    assert [goal.key for goal in FinalState(Shop(), goals).goals(TASK)] == keys
    nothing = FinalState(Shop(Expected("right")), goals).goals(TASK)
    assert nothing == (GOALS if goals == "actions" else ())


async def hits(goals: Any, *calls: CallRecord, said: Sequence[str] = (), state: str = "right") -> list[Hit]:
    reward = FinalState(Shop(), goals)
    remaining = reward.goals(TASK)
    return list(await reward.score_turn(ScoreTurn(TASK, remaining, calls, talk(*said), state)))


async def test_a_call_reaches_one_copy_of_its_goal() -> None:
    look, cancel = call("look", "a", 1, order=1), call("cancel", "b", 2, order=1)
    assert await hits("actions", look) == [Hit("look", "a", 1)]
    three = [look, cancel, call("look", "c", 3, order=1), call("look", "d", 4, order=1)]
    assert await hits("actions", *three) == [Hit("look", "a", 1), Hit("cancel", "b", 2), Hit("look", "c", 3)]
    assert await hits("writes", *three) == [Hit("cancel", "b", 2)]


@pytest.mark.parametrize(
    "made",
    [
        call("look", "a", order=2),
        call("look", "a", order=1, more=1),
        call("find", "a", order=1),
        call("look", "a", user=True, order=1),
    ],
)
async def test_another_call_reaches_no_goal(made: CallRecord) -> None:
    assert await hits("actions", made) == []


async def test_a_call_of_the_users_own_tools_reaches_the_goals_of_the_user() -> None:
    goal = Goal("pay", {"tool": "pay", "arguments": {}, "by": "user"})
    reward = FinalState(Shop())
    for made, count in ((call("pay", "a", user=True), 1), (call("pay", "a"), 0)):
        assert len(await reward.score_turn(ScoreTurn(TASK, (goal,), (made,), talk()))) == count


async def test_the_right_state_is_reached_by_the_last_call_that_changed_something() -> None:
    writing = tuple(call("cancel", f"c{step}", step, writes=True, order=step) for step in range(4))
    assert await hits("state", *writing, call("look", "d", 4, order=1)) == [Hit("state", "c3", 3)]
    assert await hits("state", *writing, state="wrong") == []
    assert await hits("state", call("look", "d", order=1)) == []
    assert await FinalState(Shop(), "state").score_turn(ScoreTurn(TASK, (), writing, talk(), "right")) == ()


async def test_due_texts_are_looked_for_in_the_last_reply() -> None:
    long = f"Ada: {'x' * 300}"
    assert await hits("said", said=["20.5", long]) == [Hit("said:Ada", long[:200])]
    assert await hits("said", said=[]) == []
    reward, twice = FinalState(Shop(), "said"), (Goal("said:Ada"), Goal("said:Ada"))
    assert await reward.score_turn(ScoreTurn(TASK, twice, (), talk("Ada"))) == (Hit("said:Ada", "Ada"),)


async def test_a_task_without_an_end_is_named() -> None:
    reward = FinalState(Shop(None), "writes")
    with pytest.raises(UsageError) as found:
        reward.goals(TASK)
    assert str(found.value) == (
        "the world `shop` does not say how t should end; leave the task out, or choose another reward"
    )
    assert [goal.key for goal in FinalState(Shop(None)).goals(TASK)] == ["look", "cancel", "look"]


def test_it_judges_ends_and_has_the_name_it_is_chosen_by() -> None:
    assert (FinalState.name, FinalState.final) == ("final_state", True)


def test_what_cannot_be_judged_is_refused() -> None:
    class Silent(Shop):
        expected = World.expected

    with pytest.raises(UsageError, match="the world `shop` does not say how its episodes should end"):
        FinalState(Silent())
    with pytest.raises(UsageError, match="final_state has no goals `reads`; choose one of: actions, writes"):
        FinalState(Shop(), cast("Any", "reads"))
    with pytest.raises(UsageError, match="final_state cannot look for texts by `reads`; choose substring or token"):
        FinalState(Shop(), said=cast("Any", "reads"))
