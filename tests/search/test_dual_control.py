"""Users with tools of their own: calls, results, records, limits and faults of an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from phones import PhoneTools, SetReward, phones, press, says, tool
from players import Played, Players, play, say, short, use

from simkit.components.agent import Act, Decision
from simkit.components.tools import CallTool, ToolReturn
from simkit.components.user import Speak, UserResult, UserTurn
from simkit.core.events import BranchExtended, EpisodeStarted, FaultTraced, ToolsetSeen
from simkit.core.limits import Limits
from simkit.errors import UsageError
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout

pytestmark = pytest.mark.anyio


def extended(played: Played, branch: str) -> BranchExtended:
    (found,) = [each for each in played.events if isinstance(each, BranchExtended) and short(each.branch_id) == branch]
    return found


async def test_a_user_calls_until_it_speaks() -> None:
    asked: list[Speak] = []
    script = says([("set", "a"), ("look", "")], [("set", "b")])

    def answer(request: Speak) -> UserTurn:
        asked.append(request)
        return script(request)

    tools = PhoneTools()
    played = await play(Rollout(Limits(turns=1)), phones(answer, tools=tools))
    opening, first, second, last = asked
    assert [request.step for request in asked] == [0, 0, 1, 2]
    assert [spec.name for spec in opening.tools] == ["set", "look", "broken", "hang_up"]
    assert opening.results == first.results == ()
    assert [(each.call.name, each.result.value) for each in second.results] == [
        ("set", "ok"),
        ("look", [["user", "a"]]),
    ]
    assert last.results == (UserResult(last.results[0].call, last.results[0].result),)
    assert last.results[0].call.parse_arguments() == {"x": "b"}
    assert tools.asked == [("user", "set"), ("user", "look"), ("user", "set")]
    assert (played.episode.outcome, played.episode.calls) == ("turn_limit", 3)
    assert played.authors(".1") == ["agent", *["user_tool"] * 5, "user"]


async def test_the_record_has_the_calls_of_both_sides() -> None:
    reward = SetReward()
    users = phones(
        says([("set", "u1")]), lambda request: use(request, ("set", "x")) if not request.step else say(), reward=reward
    )
    played = await play(Rollout(Limits(turns=1)), users)
    branch, answer = played.branches[".1"], extended(played, ".1")
    assert [call.by for call in branch.tool_calls] == ["agent"]
    (call,) = answer.tool_calls
    assert (call.by, call.name, call.arguments, call.step, call.seq) == ("user", "set", '{"x": "u1"}', 0, 6)
    assert call.writes == ({"by": "user", "x": "u1"},)
    assert [(row.seq, row.author, row.step) for row in answer.messages] == [
        (5, "user_tool", 0),
        (6, "user_tool", 0),
        (7, "user", 1),
    ]
    assert answer.messages[0].message["tool_calls"][0]["function"]["name"] == "set"
    assert answer.messages[1].message == {"role": "tool", "content": "ok", "tool_call_id": "u1.0.0"}
    assert [(row.goal, row.evidence, row.credited) for row in answer.rewards] == [("u1", "u1.0.0", True)]
    assert played.episode.achieved == ("u1",)
    assert [[each.by for each in calls] for calls in reward.turns] == [["agent"], ["user"]]
    (scored,) = reward.episodes
    assert [each.by for each in scored.calls] == ["agent", "user"]
    assert (scored.start, scored.world) == ((), (("agent", "x"), ("user", "u1")))
    (started,) = [event for event in played.events if isinstance(event, EpisodeStarted)]
    toolsets = {event.toolset_id: event for event in played.events if isinstance(event, ToolsetSeen)}
    assert started.user_toolset_id is not None
    named = [spec["function"]["name"] for spec in toolsets[started.user_toolset_id].tools]
    assert named == ["set", "look", "broken", "hang_up"]


async def test_the_agent_hears_nothing_of_it() -> None:
    views: list[tuple[Any, ...]] = []

    def plan(request: Act) -> Decision:
        views.append((request.conversation.messages(), [spec.name for spec in request.tools]))
        return say()

    await play(Rollout(Limits(turns=2)), phones(says([("set", "a")], [("look", "")]), plan))
    messages, tools = views[1]
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert [message.content for message in messages[1:]] == ["user 0", "How can I help?", "user 1"]
    assert tools == ["set", "look", "broken", "hang_up", "line"]


async def test_the_opening_may_call_tools_too() -> None:
    def answer(request: Speak) -> UserTurn:
        return press(request, ("set", "u1")) if not request.step else UserTurn("hello", end=True)

    reward = SetReward()
    played = await play(Rollout(), phones(answer, reward=reward))
    root = played.branches[".0"]
    assert [row.author for row in root.messages] == ["system", "user_tool", "user_tool", "user"]
    assert [call.by for call in root.tool_calls] == ["user"]
    assert (played.episode.outcome, played.episode.calls) == ("user_ended", 1)
    assert [each.by for each in reward.episodes[0].calls] == ["user"]


async def test_a_user_that_cannot_call_is_refused_before_anything_is_played() -> None:
    with pytest.raises(UsageError, match=r"t1 gives its user tools \(`set`, `look`.*user `planned` cannot call any"):
        await play(Rollout(), phones(says(), user_calls=False))
    many = PhoneTools(user_specs=tuple(map(tool, "abcdefg")))
    with pytest.raises(UsageError, match=r"\(`a`, `b`, `c`, `d`, `e`, \.\.\.\)"):
        await play(Rollout(), phones(says(), tools=many, user_calls=False))


async def test_calls_in_a_world_without_tools_for_users_are_the_users_fault() -> None:
    played = await play(Rollout(), Players(lambda request: say(), says([("set", "a")]), user_calls=True))
    assert played.episode.outcome == "user_fault"
    assert "called `set`, and this world gives its users no tools" in str(played.episode.error)


async def test_a_bad_call_is_an_error_for_the_user_to_read() -> None:
    seen: list[tuple[UserResult, ...]] = []

    def answer(request: Speak) -> UserTurn:
        seen.append(request.results)
        return press(request, ("fly", "a")) if request.key.turn and not request.step else UserTurn("ok")

    played = await play(Rollout(Limits(turns=1)), phones(answer))
    assert played.episode.outcome == "turn_limit"
    assert [(each.result.error, each.result.value) for each in seen[-1]] == [(True, {"error": "no tool fly"})]


async def test_a_broken_tool_is_the_tools_fault_and_leaves_complete_decisions() -> None:
    reward = SetReward()
    played = await play(Rollout(), phones(says([("set", "u1")], [("look", ""), ("broken", "")]), reward=reward))
    assert reward.turns == [()]
    assert (played.episode.outcome, played.episode.reward) == ("tool_fault", None)
    assert "tools `notes`, turn 1 of t1 at the root, call u1.1.1 of `broken` by the user" in str(played.episode.error)
    answer = extended(played, ".1")
    assert [call.name for call in answer.tool_calls] == ["set"]
    assert [row.author for row in answer.messages] == ["user_tool", "user_tool"]


async def test_a_user_that_never_speaks_is_at_fault() -> None:
    played = await play(Rollout(Limits(user_steps=3)), phones(lambda request: press(request, ("look", ""))))
    assert played.episode.outcome == "user_fault"
    assert "called tools in 3 decisions and said nothing; raise the limit (--user-steps)" in str(played.episode.error)
    assert len(played.branches[".0"].tool_calls) == 3
    played = await play(Rollout(), phones(lambda request: press(request, ("look", ""))))
    assert len(played.branches[".0"].tool_calls) == 20


async def test_a_tool_of_the_user_can_end_the_conversation() -> None:
    tools = PhoneTools()
    played = await play(Rollout(), phones(says([("hang_up", ""), ("set", "u1")]), tools=tools))
    assert played.episode.outcome == "user_ended"
    assert tools.asked == [("user", "hang_up")]
    assert [row.message.get("content") for row in extended(played, ".1").messages[1:]] == [
        "bye",
        "ERROR: not called, because the call before it ended the conversation.",
    ]


async def test_calls_carry_flags_and_usage() -> None:
    def answer(request: Speak) -> UserTurn:
        if request.key.turn and not request.step:
            return press(request, ("look", ""), flags=("unknown_value: x",), tokens=7, cost=0.5)
        return UserTurn("ok", tokens=1)

    played = await play(Rollout(Limits(tokens=8)), phones(answer))
    assert played.episode.outcome == "token_limit"
    answer_ = extended(played, ".1")
    assert [row.flags for row in answer_.messages] == [("unknown_value: x",), ()]


@pytest.mark.parametrize(
    ("limits", "outcome", "calls"),
    [
        (Limits(errors=2), "error_limit", 2),
        (Limits(errors=3), "error_limit", 4),
        (Limits(messages=4), "message_limit", 2),  # opening, the agent's words, the user's calls, their results
        (Limits(messages=5), "message_limit", 2),
        (Limits(messages=6), "message_limit", 2),  # the agent's words before the user is asked
        (Limits(messages=7), "message_limit", 4),
    ],
)
async def test_errors_and_messages_of_both_sides_are_limited(limits: Limits, outcome: str, calls: int) -> None:
    played = await play(Rollout(limits), phones(says([("fly", ""), ("fly", "")])))
    assert (played.episode.outcome, played.episode.calls) == (outcome, calls)


@pytest.mark.parametrize(
    ("messages", "authors"),
    [
        (1, []),
        (2, ["agent", "tool"]),  # a batch of results is waited for
        (3, ["agent", "tool"]),
        (4, ["agent", "tool", "agent"]),
        (5, ["agent", "tool", "agent", "user"]),
    ],
)
async def test_messages_are_counted_where_no_call_waits(messages: int, authors: list[str]) -> None:
    def plan(request: Act) -> Decision:
        return say() if request.step else use(request, ("look", ""))

    played = await play(Rollout(Limits(messages=messages)), phones(says(), plan))
    assert played.episode.outcome == "message_limit"
    assert (played.authors(".1") if ".1" in played.branches else []) == authors


@pytest.mark.parametrize(("messages", "outcome"), [(2, "message_limit"), (3, "message_limit"), (4, "user_ended")])
async def test_an_end_with_the_last_message_is_the_limit_s(messages: int, outcome: str) -> None:
    """As in tau2-bench: opening, the agent's words, the user's last words."""
    hangs_up = phones(lambda request: UserTurn("bye", end=request.key.turn == 1))
    played = await play(Rollout(Limits(messages=messages)), hangs_up)
    assert played.episode.outcome == outcome


async def test_a_tree_harvests_what_the_users_calls_reach() -> None:
    def answer(request: Speak) -> UserTurn:
        if request.key.turn and not request.step and request.key.path.endswith("R"):
            return press(request, ("set", f"u{request.key.turn}"))
        return UserTurn(f"user {request.key.turn}")

    reward = SetReward()
    users = phones(answer, goals=("u1", "u2"), reward=reward)
    played = await play(Josh(BeamSearch(beam=2)), users)
    assert (played.episode.outcome, played.episode.reward) == ("goals_done", 1.0)
    first, second = played.harvests
    assert (short(first.winner_id), first.goals, second.goals) == ("R.1", ("u1",), ("u2",))
    assert [short(name) for name in first.golden] == [".0", "R.1"]
    assert played.outcomes["L.1"] == "dropped"
    assert played.outcomes[short(second.winner_id)] == "goals_done"
    assert [row.credited for row in extended(played, "R.1").rewards] == [True]
    assert reward.episodes[0].world == (("user", "u1"), ("user", "u2"))
    assert played.episode.calls == 2


async def test_equal_hits_of_siblings_are_successful_and_one_is_credited() -> None:
    played = await play(Josh(BeamSearch(beam=2)), phones(says([("set", "u1")])))
    (harvest,) = played.harvests
    assert [short(name) for name in harvest.successful] == [".0", "L.1", "R.1"]
    assert [[row.credited for row in extended(played, name).rewards] for name in ("L.1", "R.1")] == [[True], [False]]
    assert played.outcomes == {".0": None, "L.1": "goals_done", "R.1": "dropped"}


async def test_leaves_in_the_middle_of_a_turn_are_dropped_by_a_harvest_of_an_answer() -> None:
    def plan(request: Act) -> Decision:
        return say() if request.key.path.endswith("L") else use(request, ("look", ""))

    played = await play(Josh(BeamSearch(beam=2, branch_by="action")), phones(says([("set", "u1")]), plan))
    assert (played.episode.outcome, played.episode.reward) == ("goals_done", 1.0)
    assert played.outcomes == {".0": None, "L.1": "goals_done", "R.1": "dropped"}


async def test_a_reward_that_fails_on_an_answer_ends_its_branch() -> None:
    class Failing(SetReward):
        async def score_turn(self, request: Any) -> Any:
            if any(call.by == "user" for call in request.calls):
                raise RuntimeError("no")
            return ()

    played = await play(Rollout(), phones(says([("set", "u1")]), reward=Failing()))
    assert (played.episode.outcome, played.episode.reward) == ("reward_fault", None)
    assert [call.name for call in extended(played, ".1").tool_calls] == ["set"]


class Stuck(tuple[tuple[str, str], ...]):
    """Settings that cannot be copied."""

    def fork(self) -> Stuck:
        raise LookupError("the phone is locked")


class LockedTools(PhoneTools):
    """`PhoneTools` whose state cannot be forked any more once the user has set something."""

    async def call(self, request: CallTool[Any]) -> ToolReturn[Any]:
        returned = await super().call(request)
        return replace(returned, state=Stuck(returned.state)) if request.by == "user" else returned


async def test_an_answer_whose_world_cannot_be_kept_for_scoring_has_failed_and_gives_no_goal() -> None:
    played = await play(Josh(BeamSearch(beam=2)), phones(says([("set", "u1")]), tools=LockedTools()))
    assert (played.episode.reward, played.episode.achieved, played.harvests) == (None, (), [])
    assert all("the phone is locked" in str(event) for event in played.events if isinstance(event, FaultTraced))
    assert played.episode.faults > 1


async def test_answers_without_calls_are_not_scored() -> None:
    reward = SetReward()
    await play(Rollout(Limits(turns=2)), phones(says(), reward=reward))
    assert reward.turns == [(), ()]


async def test_errors_end_an_answer_before_the_user_speaks() -> None:
    played = await play(Rollout(Limits(errors=1)), phones(says([("fly", "")], [("fly", "")])))
    assert (played.episode.outcome, played.episode.calls) == ("error_limit", 1)
    assert played.authors(".1") == ["agent", "user_tool", "user_tool"]


async def test_errors_of_the_agent_are_counted_too() -> None:
    plans = phones(says([("fly", "")]), lambda request: say() if request.step else use(request, ("fly", "")))
    played = await play(Rollout(Limits(errors=2)), plans)
    assert (played.episode.outcome, played.episode.calls) == ("error_limit", 2)
