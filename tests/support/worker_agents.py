"""Agents that fail in a worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio

from simkit.agents.scripted import ScriptedAgent
from simkit.components.agent import Act, Decision
from simkit.components.world import World
from simkit.core.messages import AssistantMessage


class Broken(ScriptedAgent):
    """Fails in its first turn."""

    async def act(self, request: Act) -> Decision:
        raise RuntimeError("no idea")


class Killing(ScriptedAgent):
    """Kills its process in one task."""

    def __init__(self, world: World, task: str) -> None:
        super().__init__(world)
        self._task = task

    async def act(self, request: Act) -> Decision:
        if request.key.task_id == self._task:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().act(request)


class Hanging(ScriptedAgent):
    """Says its process id, and holds up the event loop for good."""

    def __init__(self, world: World, told: Path) -> None:
        super().__init__(world)
        self._told = told

    async def act(self, request: Act) -> Decision:
        self._told.write_text(str(os.getpid()))
        while True:
            signal.pause()


class HangingOnce(Hanging):
    """Hangs unless it has done so before."""

    async def act(self, request: Act) -> Decision:
        return await (ScriptedAgent if self._told.exists() else Hanging).act(self, request)


class Unsendable(ScriptedAgent):
    """An agent that cannot be pickled."""

    def __reduce__(self) -> str:
        raise TypeError("it holds a connection")


class Waiting(ScriptedAgent):
    """Says its process id, and never answers."""

    def __init__(self, world: World, told: Path) -> None:
        super().__init__(world)
        self._told = told

    async def act(self, request: Act) -> Decision:
        async with await anyio.open_file(self._told, "w") as file:
            await file.write(f"{os.getpid()}\n")
        await anyio.sleep_forever()
        raise AssertionError


class Telling(ScriptedAgent):
    """Says the value of an environment variable, and where it plays."""

    async def act(self, request: Act) -> Decision:
        said = f"{os.environ.get('SIMKIT_TEST_TOLD')} {os.environ.get('OTHER_TEST_TOLD')} {os.getcwd()}"
        return Decision(AssistantMessage.of(said), say=said, state=request.state)
