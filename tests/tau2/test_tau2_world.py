"""The worlds of tau2-bench: tasks, openings, tools, expectations, and an agent that works alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_tau2 import HISTORY, files, schemas_of

from simkit.components.tools import CallTool, StartTools, ToolReturn
from simkit.components.world import load_world
from simkit.core.messages import ToolCall, ToolResult
from simkit.core.records import CallRecord, Side
from simkit.core.tasks import Goal, Task
from simkit.errors import DataCorrupt, DataMissing, UsageError
from simkit.tools.tau.rows import Rows
from simkit.tools.tau2 import AirlineWorld, MockWorld, RetailWorld, TelecomWorld
from simkit.tools.tau2.cache import prepare
from simkit.tools.tau2.domains import PAPER
from simkit.tools.tau2.world import Tau2Domain
from support.tau2_clone import release_of, write_clone

pytestmark = pytest.mark.anyio


def task_of(world: Tau2Domain, id: str) -> Task:
    return next(task for task in world.tasks(world.splits[-1]) if task.id == id)


async def play(world: Tau2Domain, task: Task, *calls: tuple[str, Side, dict[str, Any]]) -> list[ToolReturn[Rows]]:
    """The replies to calls of both sides, each on the state after the one before."""
    server = world.tools()
    state, replies = server.start(StartTools(task)).state, list[ToolReturn[Rows]]()
    for number, (name, by, arguments) in enumerate(calls):
        reply = await server.call(CallTool(task, ToolCall.of(f"c{number}", name, arguments), state, by))
        state = reply.state
        replies.append(reply)
    return replies


def test_tasks_have_the_scenario_of_the_user_and_goals_of_the_agent(small_cache: Path) -> None:
    world = RetailWorld(cache=small_cache)
    assert [task.id for task in world.tasks("test")] == ["0", "2", "3"]
    task = world.tasks("test")[0]
    assert task.instructions == (
        "Persona:\n\tCalm\nInstructions:\n\tDomain: retail\n\tReason for call:\n\t\tA kettle leaks.\n\t\tCancel it.\n"
        "\tKnown info:\n\t\tOrder #W1\n\tTask instructions:\n\t\tBe brief."
    )
    assert [goal.key for goal in task.goals] == ["get_order_details", "cancel_pending_order"]
    assert world.tasks("train")[0].instructions == "Instructions:\n\tYou are Ada Reed.\n\tYou want help."
    assert world.tasks("test") is world.tasks("test")


def test_goals_say_whose_calls_they_are(small_cache: Path) -> None:
    task = task_of(MockWorld(cache=small_cache), "both")
    assert task.goals[0] == Goal(
        "dismiss_notification",
        {"tool": "dismiss_notification", "arguments": {"notification_id": "n1"}, "by": "user"},
    )
    assert "by" not in task.goals[1].detail


def test_an_episode_begins_with_the_greeting_or_with_earlier_messages(small_cache: Path) -> None:
    world = MockWorld(cache=small_cache)
    plain = world.tools().start(StartTools(task_of(world, "plain")))
    assert [(entry.author, entry.heard) for entry in plain.opening] == [("agent", "Good day!")]
    before = world.tools().start(StartTools(task_of(world, "history")))
    assert [(entry.author, entry.heard) for entry in before.opening] == [
        ("user", "I need a task."),
        ("agent", None),
        ("tool", None),
        ("agent", "It is there."),
    ]
    assert before.state.get("tasks", "task_2") == json.loads(HISTORY[2]["content"])
    assert before.policy == "# The rules of mock\n"


def test_a_result_that_differs_in_earlier_messages_is_refused(tmp_path: Path) -> None:
    contents = files()
    path = "domains/mock/tasks.json"
    contents[path] = contents[path].replace(b'\\"Mop\\"', b'\\"Map\\"')
    prepare(tmp_path / "cache", write_clone(tmp_path, contents), releases=(release_of(contents),))
    world = MockWorld(cache=tmp_path / "cache")
    with pytest.raises(DataCorrupt, match="the call create_task in the earlier messages of the task `history` gives"):
        world.tools().start(StartTools(task_of(world, "history")))


def test_tools_are_those_of_both_sides_or_those_that_the_task_names(small_cache: Path) -> None:
    world = MockWorld(cache=small_cache)
    start = world.tools().start(StartTools(task_of(world, "plain")))
    assert [spec.to_openai() for spec in start.specs] == schemas_of(PAPER["mock"].agent)
    assert [spec.name for spec in start.user_specs] == ["check_notifications", "dismiss_notification"]
    named = Task(id="n", world=world.name, split="all", instructions="", data={"user_tools": ["check_notifications"]})
    assert [spec.name for spec in world.tools().start(StartTools(named)).user_specs] == ["check_notifications"]
    assert RetailWorld(cache=small_cache).tools().start(StartTools(named)).user_specs == ()


async def test_calls_of_both_sides_change_one_state(small_cache: Path) -> None:
    world = MockWorld(cache=small_cache)
    task = task_of(world, "both")
    dismissed, looked, broken = await play(
        world,
        task,
        ("dismiss_notification", "user", {"notification_id": "n1"}),
        ("dismiss_notification", "agent", {"notification_id": "n1"}),
        ("update_task_status", "agent", {"task_id": "task_9", "status": "completed"}),
    )
    assert dismissed.result == ToolResult(value="Notification n1 dismissed")
    assert [write["table"] for write in dismissed.writes] == ["user.notifications"]
    assert looked.result == ToolResult(value="Error: Tool 'dismiss_notification' not found.", error=True)
    assert broken.result == ToolResult(value="Error: Task task_9 not found", error=True)
    assert not any(reply.end for reply in (dismissed, looked, broken))
    assert broken.state is dismissed.state


async def test_arguments_that_are_no_object_are_an_error(small_cache: Path) -> None:
    world = RetailWorld(cache=small_cache)
    task = world.tasks("test")[0]
    call = ToolCall.of("c", "get_order_details", {}).model_copy(
        update={"function": ToolCall.of("c", "get_order_details", {}).function.model_copy(update={"arguments": "[1]"})}
    )
    reply = await world.tools().call(CallTool(task, call, world.tools().start(StartTools(task)).state))
    assert reply.result == ToolResult(
        value="Error: the arguments of get_order_details must be one JSON object", error=True
    )


async def test_the_expected_end_is_the_state_after_gold_and_the_task_s_criteria(small_cache: Path) -> None:
    world = RetailWorld(cache=small_cache)
    task = world.tasks("test")[0]
    expected = world.expected(task)
    cancel = ("cancel_pending_order", "agent", {"order_id": "#W1", "reason": "no longer needed"})
    (reply,) = await play(world, task, cancel)
    assert world.digest(reply.state) == expected.digest
    assert world.digest(world.tools().start(StartTools(task)).state) != expected.digest
    assert (expected.said, expected.basis) == (("1000",), ("state", "said"))
    assert (expected.writes, expected.checks, expected.judged) == (("cancel_pending_order",), (), ())
    assert [due.name for due in expected.actions] == ["get_order_details", "cancel_pending_order"]
    assert world.expected(task) is expected


def test_a_task_without_gold_actions_and_checks_accepts_every_state(small_cache: Path) -> None:
    world = RetailWorld(cache=small_cache)
    assert world.expected(task_of(world, "2")).basis == ("judged",)
    assert world.expected(task_of(world, "2")).judged == ("The agent was kind.",)
    assert world.expected(task_of(world, "3")).basis == ()
    assert world.expected(task_of(world, "1")).basis == ("state", "said")


async def test_checks_hold_or_do_not_and_a_missing_row_is_no_crash(small_cache: Path) -> None:
    world = MockWorld(cache=small_cache)
    task = task_of(world, "history")
    pending, unread = world.expected(task).checks
    start = world.tools().start(StartTools(task)).state
    assert [pending.name, unread.name] == ["assert_task_status", "assert_notification_status"]
    assert world.holds(pending, start)
    assert world.holds(unread, start)
    done, read = await play(
        world,
        task,
        ("update_task_status", "agent", {"task_id": "task_2", "status": "completed"}),
        ("dismiss_notification", "user", {"notification_id": "n1"}),
    )
    assert not world.holds(pending, done.state)
    assert not world.holds(unread, read.state)
    elsewhere = world.tools().start(StartTools(task_of(world, "plain"))).state
    assert not world.holds(pending, elsewhere)


@pytest.mark.parametrize("variant", ["paper", "fixed"])
async def test_a_task_s_own_tables_replace_rows(small_cache: Path, variant: Any) -> None:
    world = MockWorld(cache=small_cache, variant=variant)
    task = task_of(world, "data")
    start = world.tools().start(StartTools(task)).state
    assert start.get("tasks", "task_1") == {
        "task_id": "task_1",
        "title": "Sweep",
        "description": "The yard",
        "status": "completed",
    }
    (reply,) = await play(world, task, ("check_notifications", "user", {}))
    lost = "Error: 'MockDB' object has no attribute 'notifications'"
    assert (reply.result.value == lost) is (variant == "paper")
    assert world.digest(start) == world.expected(task).digest


def made(name: str, by: Side = "agent", **arguments: Any) -> CallRecord:
    return CallRecord.of(ToolCall.of("c", name, arguments), ToolResult(value=""), by=by)


def test_which_calls_count_as_expected_ones(small_cache: Path) -> None:
    paper, fixed = MockWorld(cache=small_cache), MockWorld(cache=small_cache, variant="fixed")
    dismiss, update = paper.expected(task_of(paper, "both")).actions
    for world, loose in ((paper, True), (fixed, False)):
        assert world.matches(dismiss, made("dismiss_notification", "user", notification_id="n1"))
        assert world.matches(dismiss, made("dismiss_notification", "agent", notification_id="n1")) is loose
        assert world.matches(dismiss, made("dismiss_notification", "user")) is loose
        assert not world.matches(dismiss, made("dismiss_notification", "user", notification_id="n2"))
        assert not world.matches(dismiss, made("check_notifications", "user", notification_id="n1"))
        assert world.matches(update, made("update_task_status", task_id="task_1", status="other"))
        assert not world.matches(update, made("update_task_status", task_id="task_2", status="completed"))


async def test_an_agent_alone_has_all_tools_and_a_ticket_and_ends_by_a_tool(small_cache: Path) -> None:
    world = MockWorld(cache=small_cache, solo=True)
    assert [task.id for task in world.tasks("all")] == ["plain", "both"]
    task = task_of(world, "both")
    start = world.tools().start(StartTools(task))
    names = [tool["function"]["name"] for side in PAPER["mock"].sides() for tool in schemas_of(side)]
    assert [spec.name for spec in start.specs] == [*names, "done"]
    assert (start.solo, start.user_specs, start.opening) == (True, (), ())
    assert start.policy == ("<policy>\n# The rules of mock, alone\n\n</policy>\n<ticket>\nDismiss it.\n</ticket>")
    prompt = world.prompts["agent"].replace("{{policy}}", start.policy)
    assert prompt.startswith("<instructions>\nWork alone, then call done.\n</instructions>\n<policy>\n# The rules")
    *_, refused, done = await play(
        world,
        task,
        ("dismiss_notification", "agent", {"notification_id": "n1"}),
        ("update_task_status", "agent", {"task_id": "task_1", "status": "completed"}),
        ("dismiss_notification", "user", {"notification_id": "n1"}),
        ("done", "agent", {}),
    )
    assert refused.result.value == "Error: User tool calls are not allowed in solo mode"
    assert done.end
    assert done.result == ToolResult(value="###STOP###")
    assert world.digest(done.state) == world.expected(task).digest


async def test_telecom_keeps_the_phone_up_to_date_and_judges_a_synchronized_state(small_cache: Path) -> None:
    world = TelecomWorld(cache=small_cache)
    task = world.tasks("test")[0]
    assert world.tools().start(StartTools(task)).state.get("user.device", "") != world.tools()
    (reply,) = await play(world, task, ("toggle_airplane_mode", "user", {}))
    assert world.digest(reply.state) == world.expected(task).digest
    assert world.expected(task).basis == ("checks",)
    workflow = TelecomWorld(cache=small_cache, policy="workflow")
    start = workflow.tools().start(StartTools(task))
    assert start.policy == (
        "<main_policy>\n# main_policy\n\n</main_policy>\n<tech_support_policy>\n# tech_support_workflow\n\n"
        "</tech_support_policy>"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"release": "2.0"}, "no release `2.0`; it has: 1.0, 2025"),
        ({"variant": "good"}, "no variant `good`; it has: paper, fixed"),
        ({"policy": "workflow"}, "no policy `workflow`; it has: manual"),
        ({"solo": True}, "has no tasks for an agent alone"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RetailWorld(**options)


def test_worlds_are_found_by_name_with_their_options(small_cache: Path) -> None:
    world = load_world(f"tau2:airline,release=2025,variant=fixed,cache={small_cache}")
    assert isinstance(world, AirlineWorld)
    assert (world.release, world.variant, world.solo) == ("2025", "fixed", False)
    assert load_world("tau2:mock,solo=true").name == "tau2:mock"
    with pytest.raises(UsageError, match="tau2:retail, tau2:airline, tau2:telecom, tau2:mock"):
        load_world("tau2")


def test_data_that_are_not_there_are_named_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="run `simkit data tau2` once"):
        RetailWorld(cache=tmp_path).tasks("test")
