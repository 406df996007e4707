"""simkit as an MCP server, driven with the client of the package `mcp`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from simkit import FunctionTools, Rollout, Run, Task, load_world
from simkit.authoring.scaffold import init_world
from simkit.mcp_server import store_tools
from simkit.mcp_server.playing import PlayLimits
from simkit.mcp_server.serving import server_of
from simkit.mcp_server.store_tools import StoreTools
from simkit.models.config import ModelConfig
from simkit.viewing.redaction import Redaction

pytestmark = pytest.mark.anyio

TASK = Task(id="t", world="w", split="test", instructions="Print.")
SECRET = "sk-abcdefghijklmnopqrstuvwx"


@pytest.fixture
def anyio_backend() -> str:
    """The client of `mcp` is tested on asyncio by its authors."""
    return "asyncio"


async def ask(client: Client, tool: str, **arguments: Any) -> tuple[Any, bool]:
    """The answer of a tool, read as JSON if it is, and whether it is an error."""
    found = await client.call_tool(tool, arguments)
    (content,) = found.content
    text = getattr(content, "text", "")
    try:
        return json.loads(text), bool(found.is_error)
    except ValueError:
        return text, bool(found.is_error)


def print_at_import(file: Path) -> None:
    file.write_text('print("a world that prints")\n' + file.read_text())


async def played(folder: Path, **options: Any) -> str:
    """Play three tasks into a store, and return the id of the run."""
    config = {"api_key": SECRET, "note": f"a key {SECRET} in a text"}
    async with Run(store=folder, name="first", seed=1, config=config) as run:
        world = run.world("builtin")
        await run.play(Rollout(), run.cast(world), run.tasks(world, "val", "3"))
    return run.id


async def test_runs_and_conversations_are_shown(tmp_path: Path) -> None:
    run = await played(tmp_path)
    async with Client(StoreTools(store=tmp_path).server()) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [
            "list_runs",
            "show_run",
            "show_conversation",
            "sql",
        ]
        runs, error = await ask(client, "list_runs")
        assert not error, runs
        assert [one["run_id"] for one in runs] == [run]
        episodes, error = await ask(client, "show_run", run="last")
        assert not error, episodes
        assert len(episodes) == 3
        talk, error = await ask(client, "show_conversation", run="first", episode=episodes[0]["task_id"])
        assert not error, talk
        assert talk["conversation"][0]["author"] == "system"
        assert {line["author"] for line in talk["conversation"]} >= {"user", "agent"}


async def test_only_one_select_is_answered(tmp_path: Path) -> None:
    await played(tmp_path)
    (tmp_path / "secret.csv").write_text("a\n1\n")
    async with Client(StoreTools(store=tmp_path).server()) as client:
        assert await ask(client, "sql", query="from run_summary select episodes;") == ([{"episodes": 3}], False)
        rows, _ = await ask(client, "sql", query="select * from range(1000)", most=7)
        assert len(rows) == 7
        for query in (
            "drop table runs",
            "select 1; drop table runs",
            "copy runs to 'x.csv'",
            "attach 'x.db'",
            "set threads = 1",
            "",
            "select",
            f"select * from '{tmp_path}/secret.csv'",
            "select 1) union (select 2",
            "install httpfs",
            "select getenv('HOME')",
        ):
            said, error = await ask(client, "sql", query=query)
            assert error, (query, said)
        said, error = await ask(client, "sql", query="from runs", most=100_000)
        assert error


async def test_a_query_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await played(tmp_path)
    monkeypatch.setattr(store_tools, "SECONDS", 0.05)
    async with Client(StoreTools(store=tmp_path).server()) as client:
        endless = "select sum(a.range * b.range) from range(100000000) a, range(100000000) b"
        said, error = await ask(client, "sql", query=endless)
        assert error
        assert "took longer than" in str(said)
        monkeypatch.setattr(store_tools, "SECONDS", 20.0)
        assert await ask(client, "sql", query="select 1 as n") == ([{"n": 1}], False)


async def test_keys_and_redacted_texts_are_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_API_KEY", "hunter2-hunter2-99")
    await played(tmp_path)
    offered = StoreTools(store=tmp_path, redaction=Redaction.of(["(?i)hotel"]))
    async with Client(offered.server()) as client:
        for query in (
            "select config from runs",
            "select config as c from runs",
            "select config::varchar as c from runs",
            f"select '{SECRET}' as text",
            "select 'hunter2-hunter2-99' as text",
            "select content from messages where content ilike '%hotel%'",
        ):
            said, error = await ask(client, "sql", query=query)
            text = json.dumps(said)
            assert not error, said
            assert SECRET not in text, query
            assert "hunter2" not in text
            assert "hotel" not in text.lower()


async def test_characters_that_act_on_terminals_are_escaped(tmp_path: Path) -> None:
    await played(tmp_path)
    async with Client(StoreTools(store=tmp_path).server()) as client:
        found = await client.call_tool("sql", {"query": "select 'a' || chr(27) || '[31m' || chr(8238) as t"})
        text = getattr(found.content[0], "text", "")
        assert "\x1b" not in text
        assert "\u202e" not in text
        rows, _ = await ask(client, "sql", query="select 'nan'::double as x, 1 as a, 2 as a")
        assert rows == [{"x": "NaN", "a": 1, "a_1": 2}]


async def test_long_answers_are_cut_or_refused(tmp_path: Path) -> None:
    await played(tmp_path)
    async with Client(StoreTools(store=tmp_path).server()) as client:
        rows, error = await ask(client, "sql", query="select repeat('x', 1000000) as t from range(100)", most=100)
        assert not error
        assert rows[0]["t"].endswith(" [cut]")
        assert len(json.dumps(rows)) <= store_tools.LONGEST_ANSWER


async def test_a_few_tasks_can_be_played_and_no_files_be_named(tmp_path: Path) -> None:
    store = tmp_path / "store"
    offered = StoreTools(store=store, plays=PlayLimits(tasks=3))
    async with Client(offered.server()) as client:
        said, error = await ask(client, "list_runs")
        assert (error, "there is no store" in said) == (True, True)
        done, error = await ask(client, "run_recipe", recipe="rollout", tasks=2, seed=4)
        assert not error, done
        assert done["status"] == "done"
        assert done["summary"]["episodes"] == 2
        assert [one["run_id"] for one in (await ask(client, "list_runs"))[0]] == [done["run"]]
        for wrong, why in (
            ({"tasks": 4}, "4 tasks are more than the 3"),
            ({"world": "evil.py:World"}, "is not installed"),
            ({"world": "./shop"}, "is not installed"),
            ({"agent": "os:system"}, "is not installed"),
            ({"agent": "function_calling,examples=/etc/passwd"}, "name a file"),
            ({"recipe": "finetune"}, "recipe"),
            ({"agent": "function_calling"}, "played by a model, and none was named"),
        ):
            said, error = await ask(client, "run_recipe", **{"recipe": "rollout", "tasks": 1, **wrong})
            assert error, said
            assert why in str(said)


async def test_worlds_and_models_that_were_named_are_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    init_world(Path("shop"))
    limits = PlayLimits(worlds=("./shop",), models=ModelConfig.of({"model": "scripted/Hello.|Yes.|Bye."}))
    offered = StoreTools(store=tmp_path / "store", plays=limits)
    async with Client(offered.server()) as client:
        done, error = await ask(client, "run_recipe", recipe="rollout", world="./shop", tasks=1)
        assert not error, done
        assert done["summary"]["reward"]["value"] == 0


async def test_the_tools_of_a_world_keep_their_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    init_world(Path("shop"))
    world = load_world("./shop")
    task = world.tasks("train")[0]
    async with Client(server_of(world.tools(), task, name=world.name)) as client:
        assert "Say the price of an item" in (client.instructions or "")
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == ["find_items", "place_order", "cancel_order"]
        assert set(tools["place_order"].input_schema["properties"]) == {"item_id", "count"}
        ordered, error = await ask(client, "place_order", item_id="i1", count=2)
        assert (ordered["success"], error) == (True, False)
        assert (await ask(client, "find_items", text="kettle"))[0][0]["stock"] == 1
        said, error = await ask(client, "place_order", item="i1")
        assert (error, "count" in str(said)) == (True, True)
        assert (await ask(client, "no_such_tool"))[1]
    async with Client(server_of(world.tools(), task, name=world.name)) as again:
        assert (await ask(again, "find_items", text="kettle"))[0][0]["stock"] == 3


async def test_the_command_serves_a_world_over_stdio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    init_world(Path("shop"))
    print_at_import(Path("shop/tools.py"))
    args = ["-m", "simkit", "mcp", "--world", "./shop", "--task", "cancel-toaster"]
    server = StdioServerParameters(command=sys.executable, args=args, cwd=str(tmp_path))
    async with Client(stdio_client(server)) as client:
        assert await ask(client, "cancel_order", order_id=101) == ({"success": True}, False)


async def test_the_command_opens_a_tool_server_that_has_to_be_opened(tmp_path: Path) -> None:
    world = tmp_path / "notes"
    world.mkdir()
    command = shlex.join(
        [sys.executable, "-S", str(Path(__file__).parents[1] / "support" / "mcp_server.py"), "{state}"]
    )
    (world / "tools.py").write_text(
        f"from simkit.tools.mcp import McpTools\n\n\ndef server() -> McpTools:\n    return McpTools({command!r})\n"
    )
    (world / "tasks.yaml").write_text(
        "tasks: [{id: t, instructions: Write., goals: [{call: write, with: {key: a, value: b}}]}]"
    )
    args = ["-m", "simkit", "mcp", "--world", "./notes"]
    started = StdioServerParameters(command=sys.executable, args=args, cwd=str(tmp_path))
    async with Client(stdio_client(started)) as client:
        assert (await ask(client, "write", key="a", value="b"))[1] is False
        assert await ask(client, "list_all") == ("a", False)


async def test_a_failing_tool_is_an_error_and_the_server_goes_on(tmp_path: Path) -> None:
    def fail() -> str:
        """Fail."""
        raise RuntimeError("out of ink")

    def work() -> str:
        """Work."""
        return "done"

    async with Client(server_of(FunctionTools(fail, work), TASK, name="printer")) as client:
        said, error = await ask(client, "fail")
        assert (error, "out of ink" in said) == (True, True)
        assert await ask(client, "work") == ("done", False)
