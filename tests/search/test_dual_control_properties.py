"""Branches of worlds whose users have tools equal straight replays, and a resumed run equals one without a break."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phones import PhoneTools, phones, press
from players import Played, Players, play, say, short, use

from simkit.components.agent import Act, Decision
from simkit.components.reward import Reward, ScoreEpisode
from simkit.components.user import Speak, UserTurn
from simkit.core.conversation import Entry
from simkit.core.events import BranchAdded, BranchExtended
from simkit.core.limits import Limits
from simkit.core.messages import parse_message
from simkit.core.records import CallRecord, MessageRow
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.search.tree_search import SearchTree, TreeSearch

TOOLS = ("set", "look", "fly", "line")


def drawn(random: Random) -> tuple[tuple[str, str], ...]:
    return tuple((random.choice(TOOLS), f"{random.randrange(4)}") for _ in range(random.randint(1, 3)))


def agent(request: Act) -> Decision:
    """Calls, speaks or ends at random; what it does depends on its seed and on what it sees."""
    random = request.key.rng(f"agent {request.conversation.digest.hex()}", request.step)
    match random.randrange(5):
        case 0 | 1 if request.step < 2:
            return use(request, *drawn(random))
        case 2 if request.key.turn > 3:
            return say("bye", end=True)
        case _:
            return say(f"agent {random.randrange(3)}")


def user(request: Speak) -> UserTurn:
    """Calls, speaks or hangs up at random; what it does depends on its seed, its results and its state."""
    heard = [word.text for word in request.conversation.heard()]
    seen = [(each.call.name, each.result.text) for each in request.results]
    random = request.key.rng(f"user {heard} {seen} {request.state}", request.step)
    state = (request.state or 0) + len(request.results) + 1
    match random.randrange(4):
        case 0 | 1 if request.step < 4:
            return press(request, *drawn(random), state=state)
        case 2 if request.key.turn > 2:
            return UserTurn("goodbye", end=True, state=state)
        case _:
            return UserTurn(f"user {random.randrange(3)}", state=state)


def line_of(played: Played, name: str) -> tuple[list[MessageRow], list[CallRecord]]:
    """Messages and calls on the path from the root to a branch."""
    by_id = {event.branch_id: event for event in played.events if isinstance(event, BranchAdded)}
    answers = {event.branch_id: event for event in played.events if isinstance(event, BranchExtended)}
    path: list[BranchAdded] = []
    event: BranchAdded | None = next(event for event in by_id.values() if short(event.branch_id) == name)
    while event is not None:
        path.insert(0, event)
        event = by_id.get(event.parent_id or "")
    rows, calls = list[MessageRow](), list[CallRecord]()
    for event in path:
        answer = answers.get(event.branch_id)
        rows += event.messages + (answer.messages if answer else ())
        calls += event.tool_calls + (answer.tool_calls if answer else ())
    return rows, calls


def world_after(calls: list[CallRecord]) -> tuple[tuple[str, str], ...]:
    """The state that the calls lead to when they are made one after another in a world of their own."""
    tools = PhoneTools()

    async def replayed() -> Any:
        from simkit.components.tools import CallTool, StartTools
        from simkit.core.messages import ToolCall
        from simkit.core.tasks import Task

        task = Task(id="t", world="w", split="s", instructions="")
        state = tools.start(StartTools(task)).state
        for call in calls:
            made = ToolCall.of(call.call_id, call.name, call.parameters or {})
            reply = await tools.call(CallTool(task, made, state, call.by))
            assert (reply.result.value, reply.result.error, reply.writes) == (call.result, call.error, call.writes)
            state = reply.state
        return state

    return asyncio.run(replayed())


class Ends(Reward[Any]):
    """Keeps what it is asked to score; an episode is worth the number of settings, at most 9."""

    name = "ends"
    range = (0.0, 9.0)

    def __init__(self) -> None:
        self.scored: list[ScoreEpisode[Any]] = []

    async def score_episode(self, request: ScoreEpisode[Any]) -> Any:
        from simkit.components.reward import EpisodeReward

        self.scored.append(request)
        return EpisodeReward(float(min(9, len(request.world))))


def forking(seed: int) -> TreeSearch:
    """A search that forks a random conversation into random arms, a few times, and scores every one of them."""

    class Forking(TreeSearch):
        name = "forking"

        @property
        def conversations(self) -> int:
            return 40

        async def explore(self, tree: SearchTree) -> Any:
            random, leaves = Random(seed), [tree.root]
            for _ in range(4):
                chosen = leaves.pop(random.randrange(len(leaves)))
                arms = [chosen] if chosen.closed else tree.fork(chosen, random.randint(1, 3))
                leaves += await tree.play_turn(*arms)
            scored = await tree.score(*await tree.play_out(*leaves))
            return tree.ending(scored[0])

    return Forking(limits=Limits(turns=6))


def players(seed: int, reward: Reward[Any]) -> Players:
    return phones(user, agent, reward=reward, seed=seed, goals=("a",))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_every_branch_equals_a_straight_replay_of_its_calls(seed: int) -> None:
    reward = Ends()
    played = asyncio.run(play(forking(seed), players(seed, reward)))
    assert reward.scored
    ends = {entry.branch_id for entry in played.events if isinstance(entry, BranchAdded)}
    assert len(ends) > 1
    for request in reward.scored:
        assert world_after(list(request.calls)) == request.world
    for event in played.events:
        if isinstance(event, BranchAdded):
            rows, calls = line_of(played, short(event.branch_id))
            world_after(calls)
            assert [row.seq for row in rows] == list(range(len(rows)))
            _check_views(rows)


def _check_views(rows: list[MessageRow]) -> None:
    """Each prompt digest is that of the agent's view before the message, in which the user's calls have no place."""
    from simkit.core.conversation import Conversation

    seen = Conversation()
    for row in rows:
        assert row.prompt == seen.digest.hex()
        if row.author not in ("runtime", "user_tool"):
            seen = seen.append(Entry(parse_message(row.message), "agent", turn=row.turn))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9))
def test_one_seed_gives_one_tree_and_its_paths_do_not_depend_on_siblings(seed: int) -> None:
    def episode(search: Any, reward: Reward[Any]) -> Played:
        return asyncio.run(play(search, players(seed, reward)))

    first, again = episode(forking(seed), Ends()), episode(forking(seed), Ends())
    assert _told(first) == _told(again)
    straight = episode(Rollout(Limits(turns=6)), Ends())
    alone = {name: line_of(straight, name) for name in straight.branches}
    tree = episode(forking(seed), Ends())
    for name in tree.branches:
        if name in alone and name.startswith("."):  # the path without forks
            (mine, calls), (yours, others) = line_of(tree, name), alone[name]
            assert [(row.author, row.message) for row in mine] == [(row.author, row.message) for row in yours]
            assert [(call.by, call.name, call.result) for call in calls] == [
                (call.by, call.name, call.result) for call in others
            ]


def _told(played: Played) -> list[tuple[object, ...]]:
    return [
        (short(event.branch_id), *((row.author, row.message, row.prompt) for row in event.messages))
        for event in played.events
        if isinstance(event, (BranchAdded, BranchExtended))
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["turn", "action"]))
def test_josh_scores_the_world_of_its_last_winner(seed: int, branch_by: Any) -> None:
    class Sets(Ends):
        """A goal for each setting that the user or the agent makes of one value."""

        range = (0.0, 1.0)

        async def score_turn(self, request: Any) -> Any:
            from simkit.components.reward import Hit

            keys = {goal.key for goal in request.remaining}
            calls: tuple[CallRecord, ...] = request.calls
            made = {f"{call.by[0]}{(call.parameters or {}).get('x')}": call for call in calls if call.writes}
            return tuple(Hit(key, call.call_id, call.step) for key, call in made.items() if key in keys)

        async def score_episode(self, request: ScoreEpisode[Any]) -> Any:
            from simkit.components.reward import goal_share

            self.scored.append(request)
            return goal_share(request.goals, request.achieved)

    reward = Sets()
    josh = Josh(BeamSearch(beam=4, branch_by=branch_by), Limits(turns=6, steps=3))
    goals = ("u0", "a1", "u2", "a3")
    played = asyncio.run(play(josh, phones(user, agent, reward=reward, seed=seed, goals=goals)))
    (request,) = reward.scored
    if played.episode.final_branch_id is None:
        return
    assert world_after(list(request.calls)) == request.world
    reached = {f"{call.by[0]}{(call.parameters or {}).get('x')}" for call in request.calls if call.writes}
    assert set(played.episode.achieved) <= reached
    recorded = sum(len(event.tool_calls) for event in played.events if isinstance(event, (BranchAdded, BranchExtended)))
    assert recorded == played.episode.calls


@pytest.mark.parametrize("plan", [user])
def test_the_random_user_calls_and_speaks(plan: Callable[[Speak], UserTurn]) -> None:
    """The properties above would hold of nothing, too."""
    calls = ends = 0
    for seed in range(20):
        played = asyncio.run(play(Rollout(Limits(turns=6)), players(seed, Ends())))
        calls += sum(call.by == "user" for name in played.branches for call in line_of(played, name)[1])
        ends += played.episode.outcome == "user_ended"
    assert calls > 50
    assert ends > 2
