"""Promises of agents with a loop of their own (`AgentLoop`): they repeat their steps, ask nothing twice, and end."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

from simkit.components.agent import Agent
from simkit.components.world import WORLD, World
from simkit.core.limits import Limits
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse
from simkit.plugins.loading import load
from simkit.run.run import Run
from simkit.search.josh import BeamSearch, Josh
from simkit.testing.promises import Promise, expect, run_promises

MakeLoop: TypeAlias = Callable[[ChatModel, int], Agent]
"""Makes the agent, an `AgentLoop`: from its model, and the number of suspended loops that it keeps (`most_waiting`)."""


class DrawnModel:
    """A model whose answers follow from the seeds of its calls: it calls a tool or two, or speaks.

    Attributes:
        asked: how often each call was made.
    """

    name = "drawn"

    def __init__(self) -> None:
        self.asked: Counter[CallKey] = Counter()

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The answer to a request."""
        self.asked[key] += 1
        draw = Random(key.seed)
        tools = list(request.tools)
        wanted = draw.sample(tools, min(len(tools), draw.choice((0, 1, 2))))
        if not wanted or isinstance(request.messages[-1], ToolMessage):
            return ChatResponse.of(AssistantMessage.of(f"I say {draw.randrange(1000)}."), self.name)
        calls = tuple(ToolCall.of(f"c{number}", tool.name, {}) for number, tool in enumerate(wanted))
        return ChatResponse.of(AssistantMessage.of(None, calls), self.name)


@dataclass(frozen=True)
class PlayedTree:
    """What became of some trees.

    Attributes:
        faults: what went wrong, in words.
        messages: every message by its place.
        asked: how often each model call was made.
        open: loops that had begun and not ended when the run was over.
    """

    faults: tuple[str, ...]
    messages: Mapping[tuple[Any, ...], Any]
    asked: Counter[CallKey]
    open: int


@dataclass(frozen=True)
class LoopSubject:
    """An agent with a loop under test, and the world that it plays in."""

    make: MakeLoop
    world: World
    tasks: int
    _known: dict[tuple[int, str], PlayedTree] = field(default_factory=dict[tuple[int, str], PlayedTree])

    async def played(self, most_waiting: int, branch_by: str = "turn") -> PlayedTree:
        """Trees of the first tasks, with some suspended loops at most. Equal requests are played once."""
        place = (most_waiting, branch_by)
        if place not in self._known:
            self._known[place] = await self._play(most_waiting, branch_by)
        return self._known[place]

    async def _play(self, most_waiting: int, branch_by: Any) -> PlayedTree:
        model = DrawnModel()
        agent = self.make(model, most_waiting)
        counts = _counted(agent)
        search = Josh(BeamSearch(beam=4, branch_by=branch_by), Limits(turns=3))
        with tempfile.TemporaryDirectory() as folder:
            async with Run(store=folder, seed=4) as run:
                split = self.world.splits[0]
                await run.play(search, run.cast(self.world, agent=agent), run.tasks(self.world, split, self.tasks))
            rows = run.store.query("select branch_id, seq, author, message from messages").rows
            faults = run.store.query("select error from faults order by all").rows
        messages = {(str(branch).partition("/")[2], seq, author): message for branch, seq, author, message in rows}
        return PlayedTree(tuple(str(fault) for (fault,) in faults), messages, model.asked, counts["open"])


def _counted(agent: Agent) -> Counter[str]:
    """Counts the loops of an agent that have begun and not ended, under `open`."""
    counts, converse = Counter[str](), getattr(agent, "converse", None)
    name = type(agent).__name__
    expect(converse is not None, f"{name} has no `converse`; derive it from simkit.agents.loop.AgentLoop")
    assert converse is not None

    async def counted(dialogue: Any) -> str | None:
        counts["open"] += 1
        try:
            return await converse(dialogue)
        finally:
            counts["open"] -= 1

    vars(agent)["converse"] = counted
    return counts


async def check_loop(make: MakeLoop, *, world: World | None = None, tasks: int = 2) -> None:
    """Check every promise of an agent with a loop of its own, in trees that fork between turns and within them.

    Args:
        make: makes the agent: `lambda model, most: MyAgent(model, most)`.
        world: a world that the agent can play in; by default the built-in one.
        tasks: how many of its tasks are played.

    Raises:
        ConformanceError: a promise was broken; the message names it.
    """
    subject = LoopSubject(make, world or load(WORLD, "builtin"), tasks)
    await run_promises(LOOP_PROMISES, subject, "the agent with a loop")


# --- the promises -----------------------------------------------------------------------------------------------------


async def plays_trees(subject: LoopSubject) -> None:
    """Conversations that fork between turns and within them end without a fault."""
    for branch_by in ("turn", "action"):
        found = await subject.played(256, branch_by)
        expect(found.messages, "nothing was said")
        expect(not found.faults, f"forking by {branch_by}: {'; '.join(found.faults[:2])}")


async def repeats_its_steps(subject: LoopSubject) -> None:
    """A loop that is run again takes the same steps: the conversations do not depend on which loops were kept."""
    for branch_by in ("turn", "action"):
        kept, again = await subject.played(256, branch_by), await subject.played(1, branch_by)
        expect(not again.faults, f"run again, forking by {branch_by}: {'; '.join(again.faults[:2])}")
        other = [place for place in kept.messages if kept.messages[place] != again.messages.get(place)]
        expect(not other and len(kept.messages) == len(again.messages), f"run again, it differs at {other[:1]}")


async def asks_nothing_twice(subject: LoopSubject) -> None:
    """Every model call goes through the dialogue, and none is made again when the loop is."""
    for most in (256, 1):
        found = await subject.played(most)
        expect(found.asked, "the loop never asked its model through the dialogue")
        twice = [str(key) for key, times in found.asked.items() if times > 1]
        expect(not twice, f"{len(twice)} calls were made more than once, such as {twice[:1]}")


async def ends_with_its_branches(subject: LoopSubject) -> None:
    """No loop goes on when its run is over."""
    for most in (256, 1):
        found = await subject.played(most)
        expect(found.open == 0, f"{found.open} loops went on after the run; let cancellation through")


LOOP_PROMISES: tuple[Promise[LoopSubject], ...] = (
    plays_trees,
    repeats_its_steps,
    asks_nothing_twice,
    ends_with_its_branches,
)
"""Every promise of an agent with a loop, for `pytest.mark.parametrize`."""
