"""`simkit mcp`: the runs of a store, or the tools of a world, for other people's agents."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import anyio

from simkit.components.tools import opened
from simkit.components.world import load_world
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.mcp_server.playing import PlayLimits
from simkit.mcp_server.serving import serve_stdio, server_of
from simkit.mcp_server.store_tools import StoreTools
from simkit.models.config import ModelConfig
from simkit.plugins.loading import nearest
from simkit.run.settings import read_settings
from simkit.viewing.redaction import Redaction


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFlags:
    """What is offered of a store, as given."""

    store: Path | None
    redact: Sequence[str]
    read_only: bool
    most_tasks: int
    models: ModelConfig
    worlds: Sequence[str]


def serve_store(flags: StoreFlags) -> None:
    """Serve the runs of a store on standard input and output until the client leaves.

    Raises:
        UsageError: an expression cannot be used, or the package `mcp` is not installed.
    """
    plays = PlayLimits(tasks=flags.most_tasks, models=flags.models, worlds=tuple(flags.worlds))
    store = Path(flags.store or read_settings().store).absolute()
    offered = StoreTools(store=store, redaction=Redaction.of(flags.redact), plays=None if flags.read_only else plays)
    anyio.run(offered.server().run_stdio_async)


def serve_world(world: str, task: str | None, split: str | None) -> None:
    """Serve the tools of a world, in the state that a task begins with, on standard input and output.

    Raises:
        UsageError: there is no such world or task, or the package `mcp` is not installed.
    """
    with redirect_stdout(sys.stderr):  # a world that prints when it is imported would disturb the protocol
        loaded = load_world(world)
        splits = loaded.splits if split is None else (loaded.check_split(split),)
        tasks = [each for name in splits for each in loaded.tasks(name)]
        tools, chosen = loaded.tools(), _chosen(tasks, task, world)

    async def serve() -> None:
        async with opened(tools) as server:
            await serve_stdio(server_of(server, chosen, name=loaded.name))

    anyio.run(serve)


def _chosen(tasks: Sequence[Task], wanted: str | None, world: str) -> Task:
    found = next((task for task in tasks if wanted is None or task.id == wanted), None)
    if found is None:
        known = tuple(task.id for task in tasks)
        raise UsageError(
            f"the world `{world}` has no task `{wanted}`{nearest(str(wanted), known)}; it has {len(known)}, such as "
            f"{', '.join(known[:3])}"
        )
    return found
