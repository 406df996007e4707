"""Promises of a tool server: pure calls, isolated branches, an unchanging base, error results instead of exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, cast

import anyio

from simkit.components import checks
from simkit.components.state import State, fork_state
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart, opened
from simkit.components.world import World
from simkit.core.messages import ToolCall
from simkit.core.records import Side
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.testing.promises import HOSTILE_TEXTS, Promise, Unchanged, expect, expect_limits, expect_reply, run_promises
from simkit.testing.sample import MOST
from simkit.testing.snapshot import snapshot


@dataclass(frozen=True, slots=True)
class ToolSubject:
    """A tool server under test, with a task and valid calls for it, all by one side."""

    server: ToolServer
    task: Task
    calls: tuple[ToolCall, ...]
    by: Side = "agent"

    def start(self) -> ToolsStart:
        """The tools and the first state."""
        return expect_reply(self.server.start(StartTools(self.task)), checks.tools_start, "start")

    async def call(self, call: ToolCall, state: State) -> ToolReturn:
        """One call; the reply's kind is checked."""
        reply = await self.server.call(CallTool(self.task, call, state, self.by))
        return expect_reply(reply, checks.tool_return, f"the call of `{call.name[:80]}`")

    def names(self, start: ToolsStart) -> list[tuple[str, tuple[str, ...]]]:
        """The tools of this side with their parameters."""
        specs = start.specs if self.by == "agent" else start.user_specs
        return [(spec.name, tuple(spec.properties)) for spec in specs]

    async def play(self, calls: Sequence[ToolCall], state: State) -> tuple[str, ...]:
        """Snapshots of a branch's results for these calls in sequence."""
        seen: list[str] = []
        for call in calls:
            reply = await self.call(call, state)
            state = reply.state
            seen.append(snapshot((reply.result, reply.writes, state)))
            await anyio.lowlevel.checkpoint()
        return tuple(seen)


async def check_tool_server(
    tested: World | ToolServer,
    tasks: Sequence[Task] = (),
    *,
    calls: Callable[[Task], Sequence[ToolCall]] | None = None,
) -> None:
    """Check every promise of a tool server on each of the tasks, for the tools of the agent and those of the user.

    Args:
        tested: the server, or a world with a server. The server of a world is opened for the check, if it has to be.
        tasks: a few tasks, preferably with bookings or other writes; of a world, by default the first of each split.
        calls: valid calls of the agent for a task, in an order that works; by default the calls that its goals
            describe, which are always those for the user's tools.

    Raises:
        ConformanceError: a promise was broken; the message names it.
        UsageError: there are no tasks to check a server with.
    """
    server = tested.tools() if isinstance(tested, World) else tested
    if not tasks and isinstance(tested, World):
        tasks = [task for split in tested.splits for task in tested.tasks(split)[:MOST]]
    if not tasks:
        raise UsageError(f"the tool server `{server.name}` is checked by tasks; give some, or the world it belongs to")
    async with opened(server) if isinstance(tested, World) else nullcontext():
        for task in tasks:
            good = tuple(calls(task) if calls is not None else goal_calls(task))
            subject = ToolSubject(server, task, good)
            await run_promises(TOOL_PROMISES, subject, f"the tool server `{server.name}`, task {task.id},")
            if subject.start().user_specs:
                users = ToolSubject(server, task, tuple(goal_calls(task, "user")), "user")
                await run_promises(TOOL_PROMISES, users, f"the user's tools of `{server.name}`, task {task.id},")


def goal_calls(task: Task, by: Side = "agent") -> Iterator[ToolCall]:
    """The calls of one side that a task's goals describe in their detail (`tool`, `parameters`, and `by` if given)."""
    for number, goal in enumerate(task.goals):
        if "tool" in goal.detail and goal.detail.get("by", "agent") == by:
            yield ToolCall.of(f"goal_{number}", goal.detail["tool"], goal.detail.get("parameters", {}))


def hostile_calls(names: Sequence[tuple[str, Sequence[str]]]) -> Iterator[ToolCall]:
    """Invalid calls that no tool may fail on, for tools given as name and parameters."""
    for name in ("", "no_such_tool", "search", "_", "__class__", "x" * 5_000, "search_\U0001f682"):
        yield ToolCall.of("hostile", name, {})
    for name, parameters in names:
        for text in (
            "",
            "{",
            "null",
            "[]",
            "3",
            '"text"',
            "NaN",
            '{"a": NaN}',
            "[" * 5_000,
            '{"a":' * 5_000,
            "{'a': 1}",
        ):
            yield ToolCall.of("hostile", name, text)
        yield ToolCall.of("hostile", name, {"no_such_parameter": "x"})
        for value in (*_HOSTILE_VALUES, *HOSTILE_TEXTS):
            yield ToolCall.of("hostile", name, dict.fromkeys(parameters, value))


_HOSTILE_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    [],
    ["a", ["b"]],
    {},
    {"a": {"b": "c"}},
    "x" * 100_000,
)


# --- the promises -----------------------------------------------------------------------------------------------------


async def starts_alike(subject: ToolSubject) -> None:
    """Starting a task twice gives the same tools and the same world, and does not change the task."""
    watched = Unchanged(task=subject.task)
    first, second = subject.start(), subject.start()
    expect(snapshot(first) == snapshot(second), "two starts of one task differ")
    watched.check("start")


async def calls_are_pure(subject: ToolSubject) -> None:
    """The same call on the same state gives the same result, state and writes, and changes neither state nor task."""
    state = subject.start().state
    for call in subject.calls:
        watched = Unchanged(task=subject.task, state=state, call=call)
        reply, again = [await subject.call(call, fork_state(state)) for _ in range(2)]
        watched.check(f"the call of `{call.name}`")
        same = snapshot((reply.result, reply.writes, reply.state)) == snapshot(
            (again.result, again.writes, again.state)
        )
        expect(same, f"`{call.name}` with {call.arguments} answered differently the second time on the same state")
        state = reply.state


async def changes_are_logged(subject: ToolSubject) -> None:
    """A call that reports no writes does not change the world, so the log in the store is complete."""
    state = subject.start().state
    for call in subject.calls:
        before = snapshot(state)
        reply = await subject.call(call, state)
        same = snapshot(reply.state) == before
        expect(reply.writes or same, f"`{call.name}` changed the world and reports no writes")
        state = reply.state


async def branches_are_isolated(subject: ToolSubject) -> None:
    """Two concurrent branches get the same results as each one alone, and the parent does not change."""
    if not subject.server.forkable:
        return
    parent, forwards, backwards = subject.start().state, subject.calls, subject.calls[::-1]
    watched = Unchanged(parent=parent)
    alone = [await subject.play(calls, fork_state(parent)) for calls in (forwards, backwards)]
    together: dict[int, tuple[str, ...]] = {}

    async def branch(number: int, calls: Sequence[ToolCall], state: State) -> None:
        together[number] = await subject.play(calls, state)

    async with anyio.create_task_group() as group:
        for number, calls in enumerate((forwards, backwards)):
            group.start_soon(branch, number, calls, fork_state(parent))
    watched.check("a branch")
    for number, seen in enumerate(alone):
        expect(together[number] == seen, f"branch {number} saw something else beside its sibling than alone")


async def grandchildren_are_isolated(subject: ToolSubject) -> None:
    """A branch forked after each call continues from there, whatever other branches have done since."""
    if not subject.server.forkable:
        return
    state, forks = subject.start().state, list[tuple[State, str]]()
    for call in subject.calls:
        state = (await subject.call(call, state)).state
        forks.append((fork_state(state), snapshot(state)))
    for fork, before in forks:
        await subject.play(subject.calls, fork_state(fork))
        expect(snapshot(fork) == before, "a state was changed by a branch that was forked from it")


async def results_are_the_callers(subject: ToolSubject) -> None:
    """A caller's changes to a result affect neither the base nor another branch."""
    state = subject.start().state
    for call in subject.calls:
        before = snapshot((reply := await subject.call(call, fork_state(state))).result)
        _spoil(reply.result.value)
        again = await subject.call(call, fork_state(state))
        expect(snapshot(again.result) == before, f"the result of `{call.name}` is a piece of the base; return a copy")
        state = again.state


async def mistakes_are_answered(subject: ToolSubject) -> None:
    """An invalid call of a model is answered with a readable result, without an exception or a change."""
    start = subject.start()
    names = subject.names(start)
    for call in hostile_calls(names):
        try:
            reply = await subject.call(call, start.state)
            reply.result.text.encode()
        except Exception as error:
            said = f"{call.name[:80]}({call.arguments[:80]})"
            expect(False, f"{said} raised {type(error).__name__}: {str(error)[:200]}")
            raise
        if reply.result.error:
            expect(
                not reply.writes and snapshot(reply.state) == snapshot(start.state), f"an error of {call.name} wrote"
            )
    for name in ("no_such_tool", ""):
        unknown = await subject.call(ToolCall.of("hostile", name, {}), start.state)
        expect(unknown.result.error, f"the unknown tool `{name}` was answered without an error")


async def base_never_changes(subject: ToolSubject) -> None:
    """The server's data is equal before and after any number of calls."""
    start = subject.start()
    names = subject.names(start)
    calls = (*subject.calls, *hostile_calls(names[:2]))
    await subject.play(calls, fork_state(start.state))
    watched = Unchanged(base=subject.server)
    await subject.play(calls, fork_state(start.state))
    watched.check("calls")


def _spoil(value: object) -> None:
    """Change a result at all levels; an immutable one is safe."""
    with suppress(TypeError):
        if isinstance(value, dict):
            entries = cast("dict[Any, Any]", value)
            for part in list(entries.values()):
                _spoil(part)
            entries["spoiled"] = True
        elif isinstance(value, list):
            parts = cast("list[Any]", value)
            for part in parts:
                _spoil(part)
            parts.append("spoiled")


async def declares_limits(subject: ToolSubject) -> None:
    """`concurrency` and `sessions` are None or at least 1."""
    expect_limits(subject.server)


TOOL_PROMISES: tuple[Promise[ToolSubject], ...] = (
    declares_limits,
    starts_alike,
    calls_are_pure,
    changes_are_logged,
    branches_are_isolated,
    grandchildren_are_isolated,
    results_are_the_callers,
    mistakes_are_answered,
    base_never_changes,
)
"""Every promise of a tool server, for `pytest.mark.parametrize`."""
