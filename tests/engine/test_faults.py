"""Workers that are lost, hang, or cannot play: nothing acknowledged is asked again, and nothing outlives the driver."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from simkit.errors import AgentFault, JournalFailed, UsageError, WorkerLost
from simkit.run.contract import Down, Up
from simkit.run.engine import FaultPolicy
from simkit.run.processes import PipeLink, Processes
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.store.journal import Journal
from simkit.testing.behaviour import Behaviour
from simkit.testing.fixed import fixed_agent
from simkit.testing.server import serve
from support.killing import CountingReplies, acknowledged, contents
from support.memory_engine import InMemory
from support.worker_agents import Unsendable
from support.worker_runs import AGENTS, FullDisk, harvest

pytestmark = pytest.mark.anyio


class Losses:
    """Loses a worker at one of a few exchanges, drawn at random, at most `most` times."""

    def __init__(self, most: int, seed: int) -> None:
        self.left = most
        self._random = Random(seed)
        self._losing = 0
        self._seen: Counter[int] = Counter()

    def __call__(self, worker: int, up: Up) -> bool:
        self._seen[worker] += 1
        if self.left and self._seen[worker] > 3 and self._random.random() < 0.2:
            self.left -= 1
            return True
        return False


@pytest.mark.parametrize("seed", range(4))
async def test_lost_workers_change_nothing_and_ask_nothing_again(tmp_path: Path, seed: int) -> None:
    replies = CountingReplies()
    async with serve(Behaviour(reply=replies)) as server:
        whole = await harvest(tmp_path / "whole", None, server.base_url)
        replies.counts.clear()
        marks: dict[int, int] = {}
        losses = Losses(4, seed)

        def loses(worker: int, up: Up) -> bool:
            if not losses(worker, up):
                return False
            found = next((tmp_path / "lost" / "journals").iterdir()).name
            for each in acknowledged(tmp_path / "lost", found):
                marks.setdefault(each, replies.counts[each])
            return True

        lost = await harvest(tmp_path / "lost", InMemory(2, loses), server.base_url)
    assert losses.left == 0
    assert lost.progress.workers_lost == 4
    assert marks
    assert [call for call, count in marks.items() if replies.counts[call] > count] == []
    assert contents(tmp_path / "lost", lost.id) == contents(tmp_path / "whole", whole.id)


async def test_a_resumed_run_may_have_another_number_of_workers(tmp_path: Path) -> None:
    replies = CountingReplies()
    async with serve(Behaviour(reply=replies)) as server:
        whole = await harvest(tmp_path / "whole", None, server.base_url)
        replies.counts.clear()
        with pytest.raises(Interrupted):
            await harvest(tmp_path / "cut", InMemory(3, Interrupting(12)), server.base_url)
        run_id = next((tmp_path / "cut" / "journals").iterdir()).name
        marks = {each: replies.counts[each] for each in acknowledged(tmp_path / "cut", run_id)}
        resumed = await harvest(tmp_path / "cut", InMemory(2), server.base_url, resume=run_id)
    assert marks
    assert [call for call, count in marks.items() if replies.counts[call] > count] == []
    assert contents(tmp_path / "cut", resumed.id) == contents(tmp_path / "whole", whole.id)


class Interrupted(Exception):
    """The driver failed."""


class Interrupting:
    """Fails the driver at the given exchange."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, worker: int, up: Up) -> bool:
        self.left -= 1
        if self.left == 0:
            raise Interrupted
        return False


async def test_a_unit_that_ends_every_worker_becomes_a_fault_and_the_others_are_played(tmp_path: Path) -> None:
    def refuses(down: Down) -> bool:
        return any(order.index == 1 for order in down.orders)

    engine = InMemory(2, refuses=refuses)
    async with Run(store=tmp_path, engine=engine, policy=FaultPolicy(max_share=1)) as run:
        world = run.world("builtin")
        cast = run.cast(world)
        tasks = run.tasks(world, "train", "6")
        played = await run.play(Rollout(), cast, tasks)
    assert [episode.outcome == "worker_fault" for episode in played] == [False, True, *[False] * 4]
    assert played[1].error is not None
    assert "ended 3 workers" in played[1].error
    assert run.progress.workers_lost == 3
    assert run.status == "done"
    row = Store(tmp_path).query("select outcome, attempt from episodes where task_id = ?", (tasks[1].id,)).rows
    assert row == [("worker_fault", 3)]


async def test_the_first_fault_stops_all_workers(tmp_path: Path) -> None:
    async with Run(store=tmp_path, engine=InMemory(2), policy=FaultPolicy(fail_fast=True)) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=f"{AGENTS}:Broken")
        with pytest.raises(AgentFault, match="no idea") as raised:
            await run.play(Rollout(), cast, run.tasks(world, "train", "40"))
    assert "in a worker" in raised.value.__notes__[0]
    assert run.status == "failed"
    assert run.account.not_played > 0


async def test_a_disk_that_is_full_in_the_driver_ends_the_run_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def journal(self: Store, run: str, worker: str, *, durable: bool = False) -> Journal:
        return Journal(self.path / "journals" / run / f"{worker}.jsonl", opener=FullDisk)

    monkeypatch.setattr(Store, "journal", journal)
    with pytest.raises(JournalFailed, match="free some space"):
        await play_everything(Run(store=tmp_path, engine=InMemory(2)))


async def play_everything(run: Run) -> None:
    async with run:
        world = run.world("builtin")
        await run.play(Rollout(), run.cast(world), run.tasks(world, "train", "20"))


async def test_workers_that_never_begin_are_an_error_of_the_caller(tmp_path: Path) -> None:
    async with Run(store=tmp_path, engine=InMemory(2, refuses=lambda _: True)) as run:
        world = run.world("builtin")
        cast = run.cast(world)
        with pytest.raises(UsageError, match="no worker can be started: the test has lost it"):
            await run.play(Rollout(), cast, run.tasks(world, "train", "4"))


# --- what cannot be sent ----------------------------------------------------------------------------------------------


async def test_a_file_that_changes_while_the_run_plays_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "agents.py"
    file.write_text("from simkit.agents.scripted import ScriptedAgent\nclass Mine(ScriptedAgent):\n    pass\n")
    async with Run(store=tmp_path / "store", engine=Changing(2, file)) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=f"{file}:Mine")
        with pytest.raises(UsageError, match="has changed since the run began"):
            await run.play(Rollout(), cast, run.tasks(world, "train", "2"))


async def test_a_file_that_changes_between_two_plays_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "agents.py"
    file.write_text("from simkit.agents.scripted import ScriptedAgent\nclass Mine(ScriptedAgent):\n    pass\n")
    async with Run(store=tmp_path / "store", engine=InMemory(1)) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=f"{file}:Mine")
        tasks = run.tasks(world, "train", "2")
        await run.play(Rollout(), cast, tasks)
        file.write_text(f"{file.read_text()}# changed\n")
        with pytest.raises(UsageError, match=r"agents\.py has changed since the run began"):
            await run.play(Rollout(), cast, tasks)


class Changing(InMemory):
    """Changes a file before a worker starts."""

    def __init__(self, size: int, file: Path) -> None:
        super().__init__(size)
        self._file = file

    def link(self, spec: Any) -> Any:
        self._file.write_text(f"{self._file.read_text()}# changed\n")
        return super().link(spec)


async def test_objects_are_pickled_and_others_refused_with_advice(tmp_path: Path) -> None:
    async with Run(store=tmp_path, engine=InMemory(2)) as run:
        world = run.world("builtin")
        tasks = run.tasks(world, "train", "2")
        with pytest.raises(UsageError, match=r"name it as path/to/file.py:Class, or play with --workers 1"):
            await run.play(Rollout(), run.cast(world, agent=Unsendable(world)), tasks)
        played = await run.play(Rollout(), run.cast(world, agent=fixed_agent(["Hello."])), tasks)
    assert len(played) == 2


async def test_a_person_plays_in_one_process(tmp_path: Path) -> None:
    async with Run(store=tmp_path, engine=InMemory(2)) as run:
        world = run.world("builtin")
        with pytest.raises(UsageError, match="use --workers 1"):
            await run.play(Rollout(), run.cast(world, user="human"), run.tasks(world, "train", "1"))


# --- processes --------------------------------------------------------------------------------------------------------


async def test_a_worker_that_does_not_answer_is_given_up() -> None:
    command = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    async with await anyio.open_process(command) as process:
        link = PipeLink(process, 0.05)
        with pytest.raises(WorkerLost, match="did not answer for"):
            await link.exchange(Down())
        process.kill()


async def test_a_worker_that_ends_shows_its_last_output() -> None:
    command = [sys.executable, "-S", "-c", "import sys; sys.exit('no memory left')"]
    async with await anyio.open_process(command) as process, anyio.create_task_group() as group:
        link = PipeLink(process, 60)
        group.start_soon(link.errors.read, process)
        with pytest.raises(WorkerLost, match=r"(?s)ended with code 1.*no memory left"):
            await link.exchange(Down())


async def test_killed_processes_are_replaced_and_a_killer_is_found_out(tmp_path: Path) -> None:
    """The agent kills its own process in one task: first by accident, twice, then always."""
    async with Run(store=tmp_path / "store", engine=Processes(1), policy=FaultPolicy(max_share=1)) as run:
        world = run.world("builtin")
        tasks = run.tasks(world, "train", "3")
        cast = run.cast(world, agent=f"{AGENTS}:Killing,task={tasks[0].id}")
        played = await run.play(Rollout(), cast, tasks)
    assert [episode.outcome == "worker_fault" for episode in played] == [True, False, False]
    assert "was killed by signal 9" in str(played[0].error)


DRIVER = """
import anyio, sys
from simkit.run.processes import Processes
from simkit.run.run import Run
from simkit.search.rollout import Rollout

async def main():
    async with Run(store=sys.argv[1], engine=Processes(1)) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=sys.argv[2])
        await run.play(Rollout(), cast, run.tasks(world, "train", "1"))

anyio.run(main)
"""


async def test_a_worker_ends_with_its_driver_although_its_event_loop_is_held_up(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    os.mkfifo(told)
    agent = f"{AGENTS}:Hanging,told={told}"
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "store"), agent]
    async with await anyio.open_process(command, stderr=None) as driver:
        worker = int(await anyio.Path(told).read_text())
        driver.send_signal(signal.SIGKILL)
        await driver.wait()
    with anyio.fail_after(30):
        while _alive(worker):  # noqa: ASYNC110 - another process ends
            await anyio.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except OSError:
        return False
