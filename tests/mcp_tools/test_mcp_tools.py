"""MCP servers as tool servers: results, sessions, state that belongs to one branch, and servers that fail."""

from __future__ import annotations

import os
import random
import shlex
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from mcp.server.mcpserver import Context, MCPServer

import simkit
from simkit.actors.scope import open_scope
from simkit.components.tools import CallTool, StartTools, ToolReturn
from simkit.core.messages import ToolCall
from simkit.core.tasks import Goal, Task
from simkit.errors import NotForkable, ToolFault, UsageError
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.testing.fixed import fixed_user
from simkit.tools.mcp import McpState, McpTools

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

SERVER = f"{shlex.quote(sys.executable)} -S {shlex.quote(str(Path(__file__).parents[1] / 'support' / 'mcp_server.py'))}"
TASK = Task(
    id="t", world="notes", split="test", instructions="", goals=(Goal("never", {"tool": "refuse", "parameters": {}}),)
)


async def call(tools: McpTools, state: McpState, name: str, /, **arguments: Any) -> ToolReturn[McpState]:
    return await tools.call(CallTool(TASK, ToolCall.of("1", name, arguments), state))


async def test_tools_and_results_of_every_kind(anyio_backend: str) -> None:
    async with McpTools(SERVER, stateless=True, without=("crash",)) as tools:
        start = tools.start(StartTools(TASK))
        names = [spec.name for spec in start.specs]
        assert "list_all" in names  # `list.all` at the server
        assert "crash" not in names
        picture = await call(tools, start.state, "picture")
        assert picture.result.value == [
            "Look:",
            {"type": "image", "mimeType": "image/png", "base64_characters": 4},
            {"type": "resource", "uri": "file:///a", "text": "inside"},
        ]
        assert (await call(tools, start.state, "structured")).result.value == {"rooms": [1, 2]}
        assert (await call(tools, start.state, "fail")).result == simkit.ToolResult(value="no such room", error=True)
        for name in ("refuse", "crash", "nothing"):
            assert (await call(tools, start.state, name)).result.error
        torn = await tools.call(CallTool(TASK, ToolCall.of("1", "read", '{"key": '), start.state))
        assert torn.result.error


CANCELLED = """
import sys
import anyio
from simkit import CallTool, StartTools, Task
from simkit.core.messages import ToolCall
from simkit.tools.mcp import McpTools

task = Task(id="t", world="notes", split="test", instructions="", goals=())

async def live(*, task_status):
    async with McpTools(sys.argv[1], stateless=False) as tools:
        state = tools.start(StartTools(task)).state
        await tools.call(CallTool(task, ToolCall.of("1", "mark", {"value": "x"}), state))
        task_status.started()
        await anyio.sleep_forever()

async def main():
    async with anyio.create_task_group() as group:
        await group.start(live)
        group.cancel_scope.cancel()
    print("ended")

anyio.run(main)
"""


def test_a_cancelled_run_ends_with_its_open_sessions(anyio_backend: str) -> None:
    command = [sys.executable, "-c", CANCELLED, SERVER]  # a process of its own: what hangs here holds up its event loop
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "ended\n", done.stderr


async def test_variables_are_given_by_reference(monkeypatch: pytest.MonkeyPatch, anyio_backend: str) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "s3cret")
    monkeypatch.setenv("NOT_FOR_IT", "private")
    async with McpTools(SERVER, stateless=True, env={"TOKEN": "$SECRET_OF_MINE"}) as tools:
        assert (await call(tools, McpState(), "env", name="TOKEN")).result.value == "s3cret"
        assert (await call(tools, McpState(), "env", name="NOT_FOR_IT")).result.value == "(none)"


async def test_secrets_do_not_come_back(monkeypatch: pytest.MonkeyPatch, anyio_backend: str) -> None:
    monkeypatch.setenv("MINE", "sk-1234567890abcdef")
    env = {"SHOP_TOKEN": "$MINE", "PLACE": "$MINE/x"}
    async with McpTools(SERVER, stateless=True, env=env) as tools:
        assert (await call(tools, McpState(), "env", name="SHOP_TOKEN")).result.value == "[key]"
        with pytest.raises(ToolFault) as fault:
            await call(tools, McpState(), "tell", name="SHOP_TOKEN")
    assert "1234567890" not in str(fault.value)
    assert "[key]" in str(fault.value)


async def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch, anyio_backend: str) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(UsageError, match="the environment variable NOT_SET, to which an API or MCP server refers, is"):
        async with McpTools(SERVER, stateless=True, env={"TOKEN": "$NOT_SET"}):
            pass


async def test_a_server_that_lists_tools_without_end_is_not_waited_for(anyio_backend: str) -> None:
    with pytest.raises(UsageError, match="lists its tools without end"):
        async with McpTools(f"{SERVER} endless", stateless=True):
            pass


async def test_a_link_out_of_the_state_is_refused(tmp_path: Path, anyio_backend: str) -> None:
    state, outside = tmp_path / "state", tmp_path / "outside"
    state.mkdir()
    outside.write_text("shared")
    (state / "own").write_text("x")
    (state / "within").symlink_to("own")
    (state / "lock").symlink_to("127.0.0.1:+12")
    async with McpTools(SERVER + " {state}", state=state) as tools:
        assert (await call(tools, McpState(), "read", key="within")).result.value == "x"
    for target in (outside, state / "own", "../outside"):
        (state / "link").symlink_to(target)
        with pytest.raises(UsageError, match=r"link links to .*, which all copies of the server's state would share"):
            async with McpTools(SERVER + " {state}", state=state):
                pass
        (state / "link").unlink()


async def test_many_conversations_share_the_sessions_of_a_stateless_server(anyio_backend: str) -> None:
    tools, seen = McpTools(SERVER, stateless=True, most=4), set[str]()
    async with open_scope() as scope, anyio.create_task_group() as group:
        ref = scope.spawn(tools, name="mcp")

        async def one() -> None:
            for _ in range(2):
                reply = await ref.ask(CallTool(TASK, ToolCall.of("1", "count", {}), McpState()))
                pid, number = str(reply.result.value).split()
                assert f"{pid} {number}" not in seen
                seen.add(f"{pid} {number}")

        for _ in range(100):
            group.start_soon(one)
    assert len(seen) == 200
    pids = {each.split()[0] for each in seen}
    assert 1 < len(pids) <= 4
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


@pytest.mark.parametrize(("forks", "most"), [("copy", 8), ("copy", 2), ("replay", 3)])
async def test_branches_of_a_tree_do_not_see_each_other(
    tmp_path: Path, forks: Any, most: int, anyio_backend: str
) -> None:
    (tmp_path / "given").write_text("from the beginning")
    draw = random.Random(f"{forks} {most}")
    tools = McpTools(SERVER + " {state}", state=tmp_path, forks=forks, volatile=("at",), most=most)
    async with tools:
        branches = [(tools.start(StartTools(TASK)).state, {"given"})]
        for number in range(24):
            place = draw.randrange(len(branches))
            state, files = branches[place]
            if draw.random() < 0.4:
                state = state.fork()
                branches.append((state, files))
            written = await call(tools, state, "write", key=f"n{number}", value="x")
            branches[place] = (written.state, files | {f"n{number}"})
        for state, files in branches:
            assert (await call(tools, state, "list_all")).result.value == ",".join(sorted(files))
            assert (await call(tools, state, "read", key="given")).result.value == "from the beginning"


async def test_a_replay_with_another_result_is_the_tools_fault(anyio_backend: str) -> None:
    async with McpTools(SERVER + " {state}", forks="replay") as tools:
        first = await call(tools, McpState(), "write", key="a", value="1")
        fork = first.state.fork()
        await call(tools, first.state, "list_all")
        with pytest.raises(ToolFault, match=r"gave another result .*volatile=") as caught:
            await call(tools, fork, "list_all")
        assert "`write`" in str(caught.value)


class Notes(simkit.World):
    """A world over an MCP server."""

    name = "notes"
    splits = ("test",)
    default_reward = "goal_calls"

    def __init__(self, server: McpTools, number: int = 1) -> None:
        self._server = server
        self._number = number

    def tasks(self, split: str) -> Sequence[Task]:
        return [
            Task(id=f"t{i}", world="notes", split="test", instructions="", goals=TASK.goals)
            for i in range(self._number)
        ]

    def tools(self) -> McpTools:
        return self._server

    @property
    def ontology(self) -> simkit.Ontology:
        return simkit.Ontology(())


class Writer(simkit.Agent[int]):
    """Writes a note whose name follows from its branch, lists all notes, and says what it saw."""

    name = "writer"

    def start(self, request: simkit.StartAgent) -> simkit.AgentStart[int]:
        return simkit.AgentStart(state=0)

    async def act(self, request: simkit.Act[int]) -> simkit.Decision[int]:
        key = request.key
        match request.step:
            case 0:
                mark = f"{key.turn}-{key.rng('agent').randrange(10**9)}"
                return simkit.Decision.call(ToolCall.of("1", "write", {"key": mark, "value": "x"}), state=0)
            case 1:
                return simkit.Decision.call(ToolCall.of("2", "list_all", {}), state=0)
            case _:
                return simkit.Decision.speak("Written.", state=0)


async def test_josh_plays_with_a_stateful_server(tmp_path: Path, anyio_backend: str) -> None:
    world = Notes(McpTools(SERVER + " {state}", most=4), 2)
    async with simkit.Run(store=tmp_path) as run:
        cast = run.cast(world, agent=Writer(), user=fixed_user(["Go on."] * 4))
        search = Josh(BeamSearch(beam=4), simkit.Limits(turns=3))
        found = await run.play(search, cast, world.tasks("test"))
    assert [each.faults for each in found] == [0, 0]
    assert sum(each.branches for each in found) > 12
    rows = run.store.query(
        "select b.branch_id, list(m.content order by m.seq) from branches b, conversation(b.branch_id) m "
        "where m.author = 'tool' group by all"
    ).rows
    assert rows
    for _, results in rows:
        written = [part.split('"written": "')[1].split('"')[0] for part in results[::2]]
        assert [sorted(each.split(",")) for each in results[1::2]] == [
            sorted(written[: i + 1]) for i in range(len(results) // 2)
        ]


async def test_a_server_without_a_place_for_its_state_is_refused_where_branches_are(
    tmp_path: Path, anyio_backend: str
) -> None:
    world = Notes(McpTools(SERVER))
    async with simkit.Run(store=tmp_path) as run:
        cast = run.cast(world, agent=Writer(), user=fixed_user(["Go on."]))
        with pytest.raises(NotForkable, match=r"nothing says where .* keeps its state; put \{state\} into its command"):
            await run.play(Josh(), cast, world.tasks("test"))


class Marker(simkit.Agent[int]):
    """Leaves its task in the server's memory, and reads it in the next turns."""

    name = "marker"

    async def act(self, request: simkit.Act[int]) -> simkit.Decision[int]:
        key = request.key
        if request.step == 0 and key.turn == 1:
            return simkit.Decision.call(ToolCall.of("1", "mark", {"value": key.task_id}), state=0)
        if request.step == 0:
            return simkit.Decision.call(ToolCall.of("1", "marked", {}), state=0)
        await anyio.lowlevel.checkpoint()
        return simkit.Decision.speak("Yes.", state=0)


async def test_no_conversation_sees_the_marker_of_another(tmp_path: Path, anyio_backend: str) -> None:
    world = Notes(McpTools(SERVER, most=3), 9)
    async with simkit.Run(store=tmp_path) as run:
        cast = run.cast(world, agent=Marker(), user=fixed_user(["Go on."] * 4))
        found = await run.play(Rollout(simkit.Limits(turns=3)), cast, world.tasks("test"))
    assert not any(each.faults for each in found)
    rows = run.store.query("select episode_id, content from messages where author = 'tool' and turn > 1").rows
    assert len(rows) == 18
    assert all(content == episode.split("/")[1] for episode, content in rows)


async def test_a_server_that_ends_in_a_call_costs_one_branch(anyio_backend: str) -> None:
    async with McpTools(SERVER + " {state}") as tools:
        first = await call(tools, McpState(), "write", key="a", value="1")
        fork = first.state.fork()
        with pytest.raises(ToolFault, match="ended while answering `crash`") as caught:
            await call(tools, first.state, "crash")
        assert "the disk is \\x1b[31mon fire" in str(caught.value)
        assert (await call(tools, fork, "list_all")).result.value == "a"
    async with McpTools(SERVER, stateless=True, most=1) as tools:
        with pytest.raises(ToolFault, match="ended while answering"):
            await call(tools, McpState(), "crash")
        assert str((await call(tools, McpState(), "count")).result.value).endswith(" 0")


async def test_a_call_may_take_its_time_while_it_reports_progress(anyio_backend: str) -> None:
    async with McpTools(SERVER, stateless=True, timeout=5) as tools:
        tools._start = simkit_replace(tools._start, timeout=0.6)  # pyright: ignore[reportPrivateUsage]
        session = next(iter(tools._sessions))  # pyright: ignore[reportPrivateUsage]
        session._start = tools._start  # pyright: ignore[reportPrivateUsage]
        assert (await call(tools, McpState(), "slow", seconds=0.2, steps=6)).result.value == "done"
        with pytest.raises(ToolFault, match=r"did not answer `slow` within 0\.6 s"):
            await call(tools, McpState(), "slow", seconds=30)


def simkit_replace(start: Any, **values: Any) -> Any:
    from dataclasses import replace

    return replace(start, **values)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-program-anywhere", "cannot be started"),
        (f"{shlex.quote(sys.executable)} -c 'raise SystemExit(\"no port\")'", "no port"),
    ],
)
async def test_a_server_that_does_not_start_is_named_with_its_words(
    command: str, said: str, anyio_backend: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        async with McpTools(command, stateless=True):
            raise AssertionError
    assert caught.value.__cause__ is None  # nobody needs to see how the client failed


async def test_nothing_is_left_behind(anyio_backend: str) -> None:
    async with McpTools(SERVER + " {state}") as tools:
        one = await call(tools, McpState(), "count")
        two = await call(tools, one.state.fork(), "count")
        root = tools._opened._root  # pyright: ignore[reportPrivateUsage]
        assert root.exists()
        assert root.stat().st_mode & 0o777 == 0o700
    assert not root.exists()
    for reply in (one, two):
        with pytest.raises(ProcessLookupError):
            os.kill(int(str(reply.result.value).split()[0]), 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "a command or a url"),
        ({"command": "a", "url": "b"}, "a command or a url"),
        ({"command": "a {state}", "stateless": True}, "stateless"),
        ({"command": "a", "state": "."}, "not told where its state is"),
        ({"command": "a {state}", "state": "nowhere"}, "is no folder"),
        ({"command": "a", "most": 0}, "at least one session"),
    ],
)
async def test_options_that_contradict_each_other(options: dict[str, Any], said: str, anyio_backend: str) -> None:
    with pytest.raises(UsageError, match=said):
        McpTools(**options)


async def test_a_filter_that_names_no_tool_is_an_error(anyio_backend: str) -> None:
    with pytest.raises(UsageError, match="has no tool `reed`"):
        async with McpTools(SERVER, stateless=True, only=("reed",)):
            raise AssertionError


@asynccontextmanager
async def served() -> AsyncGenerator[str]:
    """The address of a server of the package `mcp` over HTTP, which tells the key that it was sent."""
    server = MCPServer("adder")

    @server.tool()
    def add(a: int, b: int, ctx: Context[Any, Any]) -> dict[str, Any]:
        """Add two numbers."""
        headers: Any = ctx.headers
        return {"sum": a + b, "key": headers.get("authorization", "")}

    class Quiet(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Generator[None]:
            yield

    listening = socket.create_server(("127.0.0.1", 0))
    running = Quiet(uvicorn.Config(server.streamable_http_app(), log_config=None, lifespan="on"))
    async with anyio.create_task_group() as group:
        group.start_soon(running.serve, [listening])
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        running.should_exit = running.force_exit = True
    listening.close()


async def test_a_server_over_http(monkeypatch: pytest.MonkeyPatch, anyio_backend: str) -> None:
    monkeypatch.setenv("KEY_OF_MINE", "k3y")
    async with (
        served() as url,
        McpTools(url=url, stateless=True, headers={"authorization": "Bearer $KEY_OF_MINE"}) as tools,
    ):
        assert (await call(tools, McpState(), "add", a=2, b=3)).result.value == {"sum": 5, "key": "Bearer k3y"}
        assert (await call(tools, McpState(), "add", a="two", b=3)).result.error
        assert "k3y" not in repr(tools._start)  # pyright: ignore[reportPrivateUsage]
