from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from simkit.actors.scope import open_scope
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent, observe_as_tool
from simkit.components.reward import EpisodeReward, Hit, ListGoals, Reward, ScoreEpisode, ScoreTurn, goal_share
from simkit.components.state import fork_state
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, User, UserTurn
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage, ToolResult, parse_call
from simkit.core.tasks import Goal, Task
from simkit.plugins.loading import available

pytestmark = pytest.mark.anyio

KEY = TurnKey(7, "T1", 0, "", 1)
TASK = Task(
    id="T1", world="w", split="test", instructions="Book a hotel.", goals=(Goal("book"), Goal("book"), Goal("find"))
)
CALL = ToolCall.of("c1", "search_hotel", {"area": "north"})


class Clerk(Agent):
    async def act(self, request: Act) -> Decision:
        return Decision(AssistantMessage.of("hi"), say="hi", state=request.step)


class Caller(User):
    async def speak(self, request: Speak) -> UserTurn:
        return UserTurn(f"heard {len(request.conversation.heard())}", state=request.key.turn)


class Desk(ToolServer):
    def start(self, request: StartTools) -> ToolsStart:
        return ToolsStart((), state=request.task.id)

    async def call(self, request: CallTool) -> ToolReturn:
        return ToolReturn(ToolResult(value=request.call.name), state=request.state)


async def test_components_are_actors_and_answer_what_they_are_asked() -> None:
    conversation = Conversation([Entry.user("hello", 0)])
    async with open_scope() as scope:
        agent, user, tools, reward = (scope.spawn(each) for each in (Clerk(), Caller(), Desk(), Reward()))
        assert await agent.ask(StartAgent(())) == AgentStart()
        assert (await agent.ask(Act(KEY, conversation, (), None, 2))).state == 2
        assert await user.ask(Speak(KEY, TASK, conversation, None)) == UserTurn("heard 1", state=1)
        assert (await tools.ask(StartTools(TASK))).state == "T1"
        assert (await tools.ask(CallTool(TASK, CALL, "w"))).result.text == "search_hotel"
        assert await reward.ask(ListGoals(TASK, ())) == TASK.goals
        assert await reward.ask(ScoreTurn(TASK, TASK.goals, (), conversation)) == ()
        hits = (Hit("book", "c1"),)
        episode = await reward.ask(ScoreEpisode(TASK, TASK.goals, hits, (), conversation, None))
        assert episode.value == pytest.approx(1 / 3)


def test_a_decision_calls_or_speaks() -> None:
    with pytest.raises(ValueError, match="either calls tools or speaks"):
        Decision(AssistantMessage.of("hi"), calls=(CALL,), say="hi")


def test_each_copy_of_a_goal_needs_a_hit_of_its_own() -> None:
    assert goal_share(TASK.goals, (Hit("book", "c1"),)).value == pytest.approx(1 / 3)
    whole = goal_share(TASK.goals, (Hit("find", "c0"), Hit("book", "c1"), Hit("book", "c2")))
    assert whole.value == 1.0
    assert [part.evidence for part in whole.parts] == ["c1", "c2", "c0"]
    assert goal_share((), (Hit("book", "c1"),)) == EpisodeReward(0.0)


def test_goals_weigh_what_they_say() -> None:
    goals = (Goal("book", weight=3.0), Goal("find", weight=1.0))
    assert goal_share(goals, (Hit("book", "c1"),)).value == 0.75


def test_a_result_is_observed_as_a_tool_message() -> None:
    assert observe_as_tool(CALL, ToolResult(value=[1])) == ToolMessage.of("c1", "[1]")


def test_arguments_of_a_call_or_none() -> None:
    assert parse_call(CALL) == {"area": "north"}
    assert parse_call(ToolCall.of("c1", "search_hotel", "{")) is None


def test_only_what_has_a_fork_is_forked() -> None:
    class Opaque:
        def fork(self) -> str:
            return "forked"

    value = ("a", 1)
    assert fork_state(value) is value
    assert fork_state(None) is None
    assert fork_state(Opaque()) == "forked"


def test_what_is_installed_while_a_process_runs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "late" not in available("simkit.agents")
    package = tmp_path / "late-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[simkit.agents]\nlate = late:Agent\n")
    os.utime(tmp_path, (1, 1))  # clocks of files are coarse
    assert "late" in available("simkit.agents")
    for file in package.iterdir():
        file.unlink()
    package.rmdir()
    os.utime(tmp_path, (2, 2))
    assert "late" not in available("simkit.agents")
