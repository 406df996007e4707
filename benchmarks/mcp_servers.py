"""Real MCP servers under JOSH and under many conversations: no branch sees another's writes.

    python benchmarks/mcp_servers.py filesystem "mcp-server-filesystem {state}"
    python benchmarks/mcp_servers.py memory mcp-server-memory
    python benchmarks/mcp_servers.py git "mcp-server-git --repository {state}"
    python benchmarks/mcp_servers.py sqlite "mcp-server-sqlite --db-path {state}/notes.db"
    python benchmarks/mcp_servers.py time mcp-server-time

The command starts the server that its name says; the servers are installed by npm (`@modelcontextprotocol/server-*`)
or pip (`mcp-server-*`), in an environment of their own. An agent writes something that follows from its branch in each
turn and lists everything; each branch must have seen its own writes and no others. `time` is stateless: 200
conversations share 8 sessions.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio

import simkit
from simkit.core.messages import ToolCall
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.testing.fixed import fixed_user
from simkit.tools.mcp import McpTools

Calls = Callable[[str], Sequence[tuple[str, dict[str, Any]]]]


@dataclass(frozen=True)
class Server:
    """How a server is asked to write a mark, and to list all; `options` are those of `McpTools`."""

    write: Calls
    read: tuple[str, dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    prepare: Callable[[Path], None] = lambda folder: None


def _git(folder: Path) -> None:
    for words in (("init", "-q"), ("config", "user.email", "a@b.c"), ("config", "user.name", "a")):
        subprocess.run(["git", *words], cwd=folder, check=True)
    (folder / "notes").write_text("begin\n")
    subprocess.run(["git", "add", "notes"], cwd=folder, check=True)
    subprocess.run(["git", "commit", "-q", "-m", "begin"], cwd=folder, check=True)


def _entity(mark: str) -> dict[str, Any]:
    return {"entities": [{"name": mark, "entityType": "mark", "observations": ["seen"]}]}


SERVERS = {
    "filesystem": Server(
        lambda mark: [("write_file", {"path": f"/state/{mark}", "content": mark})],
        ("list_directory", {"path": "/state"}),
    ),
    "memory": Server(
        lambda mark: [("create_entities", _entity(mark))],
        ("read_graph", {}),
        {"env": {"MEMORY_FILE_PATH": "{state}/memory.jsonl"}},
    ),
    "git": Server(
        lambda mark: [("git_create_branch", {"repo_path": "/state", "branch_name": mark})],
        ("git_branch", {"repo_path": "/state", "branch_type": "local"}),
        prepare=_git,
    ),
    "sqlite": Server(
        lambda mark: [
            ("write_query", {"query": "INSERT INTO notes VALUES ('" + mark + "')"}),
        ],
        ("read_query", {"query": "SELECT * FROM notes"}),
        prepare=lambda folder: _table(folder / "notes.db"),
    ),
}


def _table(path: Path) -> None:
    import sqlite3

    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE notes (mark TEXT)")


class Writer(simkit.Agent[Any]):
    """Writes a mark of its branch, lists all marks, and says what it wrote."""

    name = "writer"

    def __init__(self, server: Server) -> None:
        self._server = server

    async def act(self, request: simkit.Act[Any]) -> simkit.Decision[Any]:
        key = request.key
        mark = f"mark{key.turn}x{key.rng('agent').randrange(10**9)}"
        calls = [*self._server.write(mark), self._server.read]
        if request.step < len(calls):
            name, arguments = calls[request.step]
            return simkit.Decision.call(ToolCall.of("1", name, arguments))
        return simkit.Decision.speak(f"Wrote {mark}.")


class Clock(simkit.Agent[Any]):
    """Asks for the time, once a turn."""

    name = "clock"

    async def act(self, request: simkit.Act[Any]) -> simkit.Decision[Any]:
        if request.step == 0:
            return simkit.Decision.call(ToolCall.of("1", "get_current_time", {"timezone": "Europe/Berlin"}))
        return simkit.Decision.speak("It is late.")


class Notes(simkit.World):
    """A world over an MCP server."""

    name = "notes"
    splits = ("test",)

    def __init__(self, tools: McpTools, tool: str, number: int) -> None:
        self._tools, self._tool, self._number = tools, tool, number

    def tasks(self, split: str) -> Sequence[simkit.Task]:
        goals = (simkit.Goal("never", {"tool": self._tool, "parameters": {"never": "made"}}),)
        return [
            simkit.Task(id=f"t{i}", world="notes", split="test", instructions="", goals=goals)
            for i in range(self._number)
        ]

    def tools(self) -> McpTools:
        return self._tools

    @property
    def ontology(self) -> simkit.Ontology:
        return simkit.Ontology(())


async def tree(server: Server, command: str, most: int) -> bool:
    """Play JOSH at beam 4, and check what each branch saw."""
    with tempfile.TemporaryDirectory() as folder:
        seed = Path(folder) / "seed"
        seed.mkdir()
        server.prepare(seed)
        tools = McpTools(command, state=seed, most=most, **server.options)
        world, began = Notes(tools, server.read[0], 2), perf_counter()
        async with simkit.Run(store=Path(folder) / "store") as run:
            cast = run.cast(world, agent=Writer(server), user=fixed_user(["Go on."] * 4))
            found = await run.play(Josh(BeamSearch(beam=4), simkit.Limits(turns=3)), cast, world.tasks("test"))
        seconds = perf_counter() - began
        rows = run.store.query(
            "select b.branch_id, list(m.content order by m.seq) filter (m.author = 'tool'), "
            "list(m.heard order by m.seq) filter (m.author = 'agent' and m.heard is not null) "
            "from branches b, conversation(b.branch_id) m group by all"
        ).rows
        errors = run.store.query("select distinct error from branches where error is not null").rows
    wrong = 0
    marks = re.compile(r"mark\d+x\d+")
    for _, results, said in rows:
        if said:
            wrong += set(marks.findall(results[-1])) != set(marks.findall(" ".join(said)))
    branches, faults = sum(each.branches for each in found), sum(each.faults for each in found)
    print(f"{branches} branches, {faults} faults, {wrong} saw what is not theirs; {seconds:.1f} s; load {_load()}")
    for (error,) in errors[:3]:
        print(error)
    return wrong == faults == 0 and branches > 10


async def many(command: str) -> bool:
    """200 conversations over 8 sessions of a stateless server."""
    tools = McpTools(command, stateless=True, most=8)
    world, began = Notes(tools, "get_current_time", 200), perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        async with simkit.Run(store=Path(folder), concurrency=200) as run:
            cast = run.cast(world, agent=Clock(), user=fixed_user(["Go on."] * 4))
            found = await run.play(Rollout(simkit.Limits(turns=3)), cast, world.tasks("test"))
        answers = run.store.query("select count(*) from messages where author = 'tool' and content like '%Berlin%'")
    faults, seconds = sum(each.faults for each in found), perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    count = answers.rows[0][0]
    print(f"{count} answers, {faults} faults; {seconds:.1f} s; a server had up to {memory:.0f} MB; load {_load()}")
    return count == 600 and faults == 0


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", choices=[*SERVERS, "time"])
    parser.add_argument("command")
    parser.add_argument("--most", type=int, default=4, help="sessions at once")
    chosen = parser.parse_args()
    if chosen.server == "time":
        return 0 if anyio.run(many, chosen.command) else 1
    return 0 if anyio.run(tree, SERVERS[chosen.server], chosen.command, chosen.most) else 1


if __name__ == "__main__":
    sys.exit(main())
