"""Tool calls per second on ToolWOZ, beside the published release's own code.

    python benchmarks/toolwoz.py [--wheel josh_train-0.1.4-py3-none-any.whl] [--release-python PYTHON]

The release runs in a Python of its own that has pandas (`--release-python`, or `SIMKIT_RELEASE_PYTHON`), straight
from its wheel (`--wheel`, or `SIMKIT_RELEASE_WHEEL`; get it with `pip download --no-deps josh-train==0.1.4`). Without
them the recorded speed of the release, 60 to 200 calls per second, stands in the table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from simkit.components.tools import CallTool, StartTools
from simkit.core.messages import ToolCall
from simkit.core.tasks import Task
from simkit.tools.toolwoz import ToolwozWorld
from simkit.tools.toolwoz.source import TOOLWOZ

RECORDED = (60, 200)
"""Calls per second of the release on a quiet machine of this kind, from its recording."""

_RELEASE = r"""
import json, sys, time, types
for name in ("dotenv", "tiktoken", "colorama", "pandasql"):  # imported by the release, not needed for its tools
    sys.modules[name] = types.ModuleType(name)
sys.modules["dotenv"].load_dotenv = lambda: None
for name in ("Back", "Fore", "Style"):
    setattr(sys.modules["colorama"], name, None)
from josh_train.utils import create_dbs, handle_api_calls
work = json.load(open(sys.argv[1]))
dbs = create_dbs()
class State:
    def __init__(self, apis): self.apis, self.dbs = apis, dbs
    def add_api_call(self, *call): pass
def run(kind):
    calls = [(State(item["apis"]), call) for item in work for call in item["calls"] if kind in call["name"]]
    started = time.perf_counter()
    answers = [handle_api_calls(call["name"], call["args"], state) for state, call in calls]
    return len(calls) / (time.perf_counter() - started), answers
import io, contextlib
with contextlib.redirect_stdout(io.StringIO()):
    search, found = run("search_"); book, booked = run("book_"); both, _ = run("_")
print(json.dumps({"search": search, "book": book, "both": both, "answers": found + booked}))
"""


@dataclass(frozen=True, slots=True)
class Work:
    """One task and the calls that are made on it."""

    task: Task
    calls: tuple[tuple[str, dict[str, Any]], ...]


def workload(world: ToolwozWorld, tasks: int) -> list[Work]:
    """Each goal's call, whole and with one parameter left out."""
    return [Work(task, tuple(_calls(task))) for task in world.tasks("test")[:tasks]]


def _calls(task: Task) -> list[tuple[str, dict[str, Any]]]:
    calls: list[tuple[str, dict[str, Any]]] = []
    for goal in task.goals:
        whole = dict(cast("Mapping[str, Any]", goal.detail["parameters"]))
        calls += [(goal.key, whole), (goal.key, dict(list(whole.items())[:-1]))]
    return calls


def rate(count: int, work: Callable[[], object]) -> float:
    """Calls per second, the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return count / best


def ours(work: list[Work], variant: str, kind: str) -> float:
    """Calls per second of the tool server, through its own contract."""
    world = ToolwozWorld("paper" if variant == "paper" else "fixed")
    server = world.tools()
    requests = [
        CallTool(item.task, ToolCall.of("c", name, arguments), server.start(StartTools(item.task)).state)
        for item in work
        for name, arguments in item.calls
        if kind in name
    ]

    async def all_of_them() -> None:
        for request in requests:
            await server.call(request)

    return rate(len(requests), lambda: asyncio.run(all_of_them()))


def answers(work: list[Work]) -> list[Any]:
    """What the tool server answers, searches first, as JSON."""
    server = ToolwozWorld().tools()

    async def all_of_them() -> list[Any]:
        found: list[Any] = []
        for kind in ("search_", "book_"):
            for item in work:
                for name, arguments in item.calls:
                    if kind in name:
                        reply = await server.call(CallTool(item.task, ToolCall.of("c", name, arguments), None))
                        found.append(reply.result.value)
        return found

    return json.loads(json.dumps(asyncio.run(all_of_them())))


def release(work: list[Work], python: str | None, wheel: str | None) -> dict[str, Any] | str:
    """The release's calls per second and answers, or why it was not run."""
    if not python or not wheel:
        return "not run: no --release-python and --wheel"
    TOOLWOZ.check(Path(wheel))
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        given = Path(folder) / "work.json"
        given.write_text(json.dumps([_for_release(item) for item in work]))
        command = [python, "-c", _RELEASE, str(given)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"not run: {done.stderr.strip().splitlines()[-1]}"
    return json.loads(done.stdout)


def _for_release(item: Work) -> dict[str, Any]:
    apis: dict[str, Any] = {name: {"success": {}, "failure": {}} for name in item.task.data}
    for goal in item.task.goals:
        domain = goal.key.split("_")[1]
        entry: dict[str, Any] = {"parameters": goal.detail["parameters"]}
        if goal.key.startswith("book_"):
            entry |= {"returns": item.task.data[domain]["booked"], "unique_id": goal.detail["entity"]}
        apis[domain]["success"][goal.key] = entry
    return {"apis": apis, "calls": [{"name": name, "args": arguments} for name, arguments in item.calls]}


def table(work: list[Work], theirs: dict[str, Any] | str) -> Table:
    """The speeds side by side."""
    shown = Table(title=f"ToolWOZ tool calls per second ({sum(len(item.calls) for item in work)} calls)")
    for heading in ("calls", "simkit paper", "simkit fixed", "release", "paper / release"):
        shown.add_column(heading, justify="right")
    for label, kind in (("search", "search_"), ("book", "book_"), ("both", "_")):
        paper, fixed = ours(work, "paper", kind), ours(work, "fixed", kind)
        if isinstance(theirs, dict):
            speed, ratio = f"{theirs[label]:,.0f}", f"{paper / theirs[label]:,.1f}"
        elif label == "book":
            speed, ratio = "-", "-"
        else:
            speed, ratio = f"{RECORDED[0]}-{RECORDED[1]}", f"{paper / RECORDED[1]:,.0f}-{paper / RECORDED[0]:,.0f}"
        shown.add_row(label, f"{paper:,.0f}", f"{fixed:,.0f}", speed, ratio)
    return shown


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=60, help="tasks of the test split")
    parser.add_argument("--wheel", default=os.environ.get("SIMKIT_RELEASE_WHEEL"))
    parser.add_argument("--release-python", default=os.environ.get("SIMKIT_RELEASE_PYTHON"))
    options = parser.parse_args()
    work = workload(ToolwozWorld(), options.tasks)
    theirs = release(work, options.release_python, options.wheel)
    console = Console()
    console.print(table(work, theirs))
    if isinstance(theirs, str):
        console.print(f"The release: {theirs}; its recorded speed is shown. Python {sys.version.split()[0]}.")
    else:
        same = json.dumps(theirs["answers"]).replace("NaN", "null") == json.dumps(answers(work))
        console.print(f"Answers of both: {'the same' if same else 'DIFFERENT'}.")


if __name__ == "__main__":
    main()
