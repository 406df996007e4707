"""Worlds of tau-bench and tau2-bench: opening, forks, calls, scores, memory of a tree, trees that harvest solutions.

    simkit data tau; simkit data tau2
    python -m benchmarks.tau [--worlds tau:retail tau:airline tau2:telecom ...] [--repeat 5] [--trees 20]

Calls are those of the tasks' solutions, through the tool server, each task on fresh tables. A score is that of an
episode whose task is known already. The tree has 30 turns and 8 branches, each of which makes a call of some solution
per turn, and every state on the way is kept; memory is counted by tracemalloc, above the tables. Times are CPU seconds
of one core, medians of the repetitions. The releases' figures are those of the design, measured on the machine of
`docs/performance.md`; what is compared is the order of magnitude.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any, ClassVar

import anyio

from simkit import Act, Agent, AgentStart, Decision, Run, Speak, StartAgent, User, UserTurn, World, load_world
from simkit.components.reward import ScoreEpisode
from simkit.components.state import fork_state
from simkit.components.tools import CallTool, Side, StartTools, ToolServer
from simkit.core.conversation import Conversation, Entry
from simkit.core.limits import Limits
from simkit.core.messages import ToolCall
from simkit.core.tasks import Task
from simkit.errors import SimkitError
from simkit.rewards.final_state import FinalState
from simkit.search.josh import BeamSearch, Josh

BEAM, TURNS = 8, 30


@dataclass(frozen=True)
class Release:
    """What a release takes: gold calls per second with a new world for each task, a score, and a fork."""

    calls: str
    score: str
    fork: str
    opening: str


RELEASES = {
    "tau:retail": Release("5,950", "275 ms", "79 ms", "32 ms"),
    "tau:airline": Release("6,900", "860 ms", "225 ms", "59 ms"),
    "tau2:retail": Release("2,640", "762 ms", "202 ms", "138 ms"),
    "tau2:airline": Release("3,450", "1,567 ms", "1,026 ms", "358 ms"),
    "tau2:telecom": Release("5,130", "118 ms", "1.8 ms", "13 ms"),
}
UNKNOWN = Release("-", "-", "-", "-")

OPENING = """
import sys, time
from simkit import load_world
world = load_world(sys.argv[1])
start = time.process_time()
world.tasks(world.splits[-1])
world.tools()
print(time.process_time() - start)
"""


def solution(task: Task) -> list[tuple[Side, ToolCall]]:
    """The calls of a task's solution, each with who makes it."""
    return [
        (
            goal.detail.get("by", "agent"),
            ToolCall.of(f"c{n}", goal.detail["tool"], json.dumps(goal.detail["arguments"])),
        )
        for n, goal in enumerate(task.goals)
        if "arguments" in goal.detail
    ]


def side(task: Task, by: Side) -> tuple[ToolCall, ...]:
    """The calls of a task's solution by the agent or by the user."""
    return tuple(call for who, call in solution(task) if who == by)


async def after(server: ToolServer[Any], task: Task, calls: Sequence[tuple[Side, ToolCall]], state: Any) -> Any:
    """The state after calls."""
    for by, call in calls:
        reply = await server.call(CallTool(task, call, state, by=by))
        state = reply.state
    return state


async def seconds(work: Callable[[], Awaitable[object]], repeat: int) -> float:
    """Median CPU seconds of a piece of work."""
    found: list[float] = []
    for _ in range(repeat):
        start = time.process_time()
        await work()
        found.append(time.process_time() - start)
    return median(found)


async def call_rate(world: World, tasks: Sequence[Task], repeat: int) -> float:
    """Calls per second."""
    server, solutions = world.tools(), [(task, solution(task)) for task in tasks]

    async def play() -> None:
        for task, calls in solutions:
            await after(server, task, calls, server.start(StartTools(task)).state)

    await play()
    return sum(len(calls) for _, calls in solutions) / await seconds(play, repeat)


async def score_time(world: World, tasks: Sequence[Task], repeat: int) -> float:
    """Seconds of a score after the task's solution."""
    server, reward = world.tools(), FinalState(world)
    requests: list[ScoreEpisode[Any]] = []
    for task in tasks:
        start = server.start(StartTools(task)).state
        state = await after(server, task, solution(task), start)
        said = Conversation([Entry.agent(" ".join(["Done.", *(world.expected(task) or _no_end(world)).said]), 1)])
        requests.append(ScoreEpisode(task, task.goals, (), (), said, state, "user_ended", start))

    async def score() -> None:
        for request in requests:
            await reward.score_episode(request)

    await score()
    return await seconds(score, repeat) / len(requests)


def _no_end(world: World) -> Any:
    raise SystemExit(f"the world {world.name} does not say how its episodes should end; choose another one")


async def fork_time(world: World, task: Task, repeat: int) -> float:
    """Seconds of a fork of a branch in which the solution was carried out."""
    server = world.tools()
    state, times = await after(server, task, solution(task), server.start(StartTools(task)).state), 10_000

    async def fork() -> None:
        for _ in range(times):
            fork_state(state)

    return await seconds(fork, repeat) / times


async def tree_memory(world: World, tasks: Sequence[Task]) -> tuple[float, float]:
    """MB of a tree whose states are all kept, and kB of a branch after the largest solution."""
    server, task = world.tools(), tasks[0]
    start = server.start(StartTools(task)).state
    calls = [call for each in tasks for call in solution(each)]
    largest = max(tasks, key=lambda each: len(solution(each)))
    fresh = server.start(StartTools(largest)).state
    await after(server, task, calls[: BEAM * TURNS], start)  # fills what is computed once
    await after(server, largest, solution(largest), fresh)
    gc.collect()
    tracemalloc.start()
    kept, leaves, place = [start], [start] * BEAM, 0
    for _ in range(TURNS):
        for leaf in range(BEAM):
            leaves[leaf] = await after(server, task, [calls[place % len(calls)]], leaves[leaf])
            kept.append(leaves[leaf])
            place += 1
    tree = tracemalloc.get_traced_memory()[0]
    branch = await after(server, largest, solution(largest), fresh)
    own = tracemalloc.get_traced_memory()[0] - tree
    tracemalloc.stop()
    del kept, branch
    return tree / 1e6, own / 1e3


class GoldAgent(Agent[int]):
    """Carries out a task's solution, and wastes the turns of every second branch."""

    def __init__(self, task: Task, said: Sequence[str]) -> None:
        self._calls, self._said = side(task, "agent"), " ".join(["Done.", *said])

    def start(self, request: StartAgent) -> AgentStart[int]:
        return AgentStart(request.policy, 0)

    async def act(self, request: Act[int]) -> Decision[int]:
        done = request.state
        if request.step == 0 and request.key.seed("agent") % 2:
            return Decision.speak("Hm.", state=done)
        if done < len(self._calls):
            return Decision.call(self._calls[done], state=done + 1)
        return Decision.speak(self._said, state=done)


class Waiting(User[int]):
    """Waits for the agent, and makes the user's calls of the solution in its first answer; its state counts answers."""

    calls_tools: ClassVar[bool] = True

    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        answers, calls = request.state or 0, side(request.task, "user")
        if answers == 1 and calls and not request.results:
            return UserTurn("", calls=calls, state=answers)
        return UserTurn("Please.", state=answers + 1)


async def trees(world: World, tasks: Sequence[Task]) -> tuple[int, int, float]:
    """Trees whose goals were all reached, trees in all, and seconds of each."""
    won, search = 0, Josh(BeamSearch(beam=BEAM), Limits(turns=TURNS))
    with tempfile.TemporaryDirectory() as store:
        start = time.process_time()
        async with Run(store=store, seed=5) as run:
            for task in tasks:
                expected = world.expected(task) or _no_end(world)
                players = run.cast(world, agent=GoldAgent(task, expected.said), user=Waiting())
                (episode,) = await run.play(search, players, [task])
                won += episode.outcome == "goals_done"
        return won, len(tasks), (time.process_time() - start) / max(1, len(tasks))


def opening_time(name: str, repeat: int) -> float:
    """Median CPU seconds until a new process has the tasks and tools of a world, imports not counted."""
    command = [sys.executable, "-c", OPENING, name]
    made = [subprocess.run(command, capture_output=True, text=True) for _ in range(repeat)]
    if failed := next((each.stderr for each in made if each.returncode), ""):
        raise SystemExit(failed.strip().splitlines()[-1])
    return median(float(each.stdout) for each in made)


async def measure(name: str, opening: float, repeat: int, count: int) -> list[str]:
    """One row of the table."""
    world, release = load_world(name), RELEASES.get(name.partition(",")[0], UNKNOWN)
    tasks = [task for task in world.tasks(world.splits[-1]) if solution(task)]
    fork = await fork_time(world, tasks[0], repeat)
    rate = await call_rate(world, tasks, repeat)
    score = await score_time(world, tasks, repeat)
    tree, own = await tree_memory(world, tasks)
    won, played, each = await trees(world, list(islice(tasks, count)))
    return [
        name,
        f"{opening:.2f} s ({release.opening})",
        f"{fork * 1e6:.2f} us ({release.fork})",
        f"{rate:,.0f} ({release.calls})",
        f"{score * 1e3:.3f} ms ({release.score})",
        f"{tree:.2f} MB",
        f"{own:.1f} kB",
        f"{won} of {played}, {each * 1e3:.0f} ms",
    ]


HEADS = (
    "world (release in parentheses)",
    "opening",
    "fork",
    "calls/s",
    "score",
    "tree of 8 x 30",
    "branch, longest solution",
    "trees won",
)


def main(worlds: Sequence[str], repeat: int, count: int) -> None:
    """Print the table, a row for each world."""
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}", flush=True)
    for name in worlds:
        row = anyio.run(measure, name, opening_time(name, repeat), repeat, count)
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=["tau:retail", "tau:airline"])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--trees", type=int, default=20)
    given = parser.parse_args()
    try:
        main(given.worlds, given.repeat, given.trees)
    except SimkitError as error:
        raise SystemExit(str(error)) from error
