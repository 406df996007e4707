"""Wall time of JOSH beside its critical path, and beside one leaf after another; CPU per agent turn.

    python -m benchmarks.josh [--conversations N] [--beam K] [--step-ms MS] [--repeat N]

The agent waits `step-ms` before each of its two decisions in a turn (a call, then words), as a model would. The
critical path is what no scheduler can beat: the slowest leaf of every step, one step after another, of the longest
conversation. One leaf after another is what the released JOSH does inside a conversation (it runs conversations side
by side, in threads). CPU per agent turn is taken from a run that does not wait, with everything of the search and the
actors in it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

import anyio

from simkit.actors.scope import open_scope
from simkit.components.agent import Act, Agent, Decision
from simkit.components.cast import Cast
from simkit.components.reward import Hit, Reward, ScoreTurn
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, User, UserTurn
from simkit.core.events import BranchAdded
from simkit.core.limits import Limits
from simkit.core.messages import ToolCall, ToolResult
from simkit.core.recorder import MemoryRecorder
from simkit.core.tasks import Goal, Task
from simkit.search.base import NoWatch, WorkUnit
from simkit.search.josh import BeamSearch, Josh

GOALS = tuple(Goal(f"goal {number}") for number in range(4))


class WaitingAgent(Agent):
    """Calls a tool, then speaks; waits before each."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def act(self, request: Act) -> Decision:
        """A call that reaches a goal now and then, then words."""
        if self._seconds:
            await anyio.sleep(self._seconds)
        if request.step:
            return Decision.speak("Anything else?")
        key = request.key
        lucky = request.key.rng("agent").random() < 0.05
        call = ToolCall.of(f"{key.path}.{key.turn}", "find", {"what": "goal" if lucky else "nothing"})
        return Decision.call(call)


class SameUser(User):
    """Always has one more wish."""

    async def speak(self, request: Speak) -> UserTurn:
        """One more wish."""
        return UserTurn("I also need a hotel in the centre, please.")


class Finder(ToolServer):
    """Returns what it was asked for."""

    def start(self, request: StartTools) -> ToolsStart:
        """No definitions: the agent knows its tool."""
        return ToolsStart(())

    async def call(self, request: CallTool) -> ToolReturn:
        """What was asked for."""
        return ToolReturn(ToolResult(value=request.call.parse_arguments()["what"]))


class AnyGoal(Reward):
    """A lucky call reaches the first goal that is left."""

    async def score_turn(self, request: ScoreTurn) -> tuple[Hit, ...]:
        """At most one goal a turn."""
        lucky = [record for record in request.calls if record.result == "goal"]
        return tuple(Hit(goal.key, record.call_id) for goal, record in zip(request.remaining, lucky, strict=False))


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of one run: as it went, at best, and one leaf after another; and what was played."""

    wall: float
    cpu: float
    critical: float
    in_turn: float
    turns: int


async def run(conversations: int, beam: int, seconds: float) -> Measured:
    """Play all conversations at once."""
    recorders = [MemoryRecorder() for _ in range(conversations)]
    josh = Josh(BeamSearch(beam=beam), Limits())
    async with open_scope() as scope:
        cast = Cast(
            agent=scope.spawn(WaitingAgent(seconds)),
            user=scope.spawn(SameUser()),
            tools=scope.spawn(Finder()),
            reward=scope.spawn(AnyGoal()),
        )
        began, cpu = time.perf_counter(), time.process_time()
        async with anyio.create_task_group() as group:
            for number, recorder in enumerate(recorders):
                task = Task(id=f"t{number}", world="bench", split="bench", instructions="", goals=GOALS)
                group.start_soon(josh.play, cast, WorkUnit("bench", 1, task), recorder, NoWatch())
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    added = [[event for event in recorder.events if isinstance(event, BranchAdded)] for recorder in recorders]
    return Measured(
        wall=wall,
        cpu=cpu,
        critical=max(critical_path(branches) for branches in added) * seconds,
        in_turn=max(sum(decisions(branch) for branch in branches) for branches in added) * seconds,
        turns=sum(branch.turn > 0 for branches in added for branch in branches),
    )


def decisions(branch: BranchAdded) -> int:
    """How often the agent was asked in one branch."""
    return sum(row.author == "agent" for row in branch.messages)


def critical_path(branches: list[BranchAdded]) -> int:
    """Decisions that have to follow each other in one conversation."""
    slowest: dict[int, int] = {}
    for branch in branches:
        slowest[branch.turn] = max(slowest.get(branch.turn, 0), decisions(branch))
    return sum(slowest.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--conversations", type=int, default=10)
    parser.add_argument("--beam", type=int, default=8)
    parser.add_argument("--step-ms", type=float, default=50)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    waited = [anyio.run(run, given.conversations, given.beam, given.step_ms / 1000) for _ in range(given.repeat)]
    busy = [anyio.run(run, given.conversations, given.beam, 0.0) for _ in range(given.repeat)]
    one = sorted(waited, key=lambda measured: measured.wall)[len(waited) // 2]
    cpu = statistics.median(measured.cpu / measured.turns for measured in busy)
    print(
        f"{given.conversations} conversations, beam {given.beam}, {given.step_ms:g} ms a decision, {one.turns} turns\n"
    )
    print(f"{'':38} {'seconds':>8} {'x critical path':>16}")
    for name, seconds in (
        ("critical path", one.critical),
        ("simkit, all leaves at once", one.wall),
        ("bound for one leaf after another", one.in_turn),
    ):
        print(f"{name:38} {seconds:8.2f} {seconds / one.critical:16.2f}")
    print(f"\nCPU per agent turn (two decisions, one tool call, the user, the records): {cpu * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
