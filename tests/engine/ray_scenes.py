"""Scenes on a Ray cluster of two nodes with a core each, and a head without: `test_ray.py` runs them.

This process is connected to the cluster, as a trainer is that runs simkit.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import anyio
import orjson
import pytest

from simkit.core.limits import Limits
from simkit.errors import AgentFault, JournalFailed, UsageError, WorkerLost
from simkit.models.config import ModelConfig
from simkit.plugins.extras import require
from simkit.run import ray_engine
from simkit.run.contract import Down, Link, PlaySpec, Up
from simkit.run.engine import FaultPolicy
from simkit.run.ray_actor import Versions
from simkit.run.ray_engine import RayActors, RayLink
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.store.journal import Journal
from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve
from support.killing import CountingReplies, acknowledged, contents
from support.signals import heeding_signals
from support.worker_runs import AGENTS, ASKING, SEARCHES, FullDisk, Played, harvest, played

ray: Any = require("ray", "ray")

pytestmark = pytest.mark.anyio

SCALE = Path(__file__).parents[2] / "docs" / "scale.md"
SMALL = {"object_store_memory": 80 << 20}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Generator[Any]:
    made = require("ray.cluster_utils", "ray").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL}
    )
    for _ in range(2):
        made.add_node(num_cpus=1, **SMALL)
    ray.init(address=made.address, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    """The runs of one process."""
    folder = tmp_path_factory.mktemp("alone")

    async def play(search: str) -> Played:
        return await played(folder / search, SEARCHES[search]())

    return {search: anyio.run(play, search) for search in SEARCHES}


@pytest.mark.parametrize(("search", "workers"), [("josh", 1), ("josh", 2), ("rollout", 2), ("best_of_n", 2)])
async def test_each_episode_and_each_table_equals_that_of_one_process(
    tmp_path: Path, alone: dict[str, Played], search: str, workers: int
) -> None:
    shared = await played(tmp_path, SEARCHES[search](), RayActors(workers=workers))
    assert shared.episodes == alone[search].episodes
    assert shared.tables == alone[search].tables
    assert ray.is_initialized()


async def test_without_a_number_there_is_an_actor_for_each_core(tmp_path: Path, alone: dict[str, Played]) -> None:
    engine = RayActors()
    shared = await played(tmp_path, SEARCHES["josh"](), engine)
    assert engine.size == 2
    assert shared.tables == alone["josh"].tables


# --- losses -----------------------------------------------------------------------------------------------------------


class Deadly(RayActors):
    """Kills actors before some of their exchanges.

    Attributes:
        left: number of kills that are left.
        kill: kills the process of an actor.
        before: called before each kill.
    """

    def __init__(self, workers: int, kills: int, before: Callable[[], None], kill: Callable[[int], None]) -> None:
        super().__init__(workers=workers)
        self.left = kills
        self.before = before
        self.kill = kill
        self.random = Random(7)

    @asynccontextmanager
    async def link(self, spec: PlaySpec) -> AsyncGenerator[Link]:
        async with super().link(spec) as link:
            assert isinstance(link, RayLink)
            yield _DeadlyLink(self, link)


@dataclass
class _DeadlyLink:
    engine: Deadly
    link: RayLink
    seen: int = 0

    async def exchange(self, down: Down) -> Up:
        self.seen += 1
        if self.engine.left and self.seen > 3 and self.engine.random.random() < 0.2:
            self.engine.left -= 1
            self.engine.before()
            self.engine.kill(self.link.process)
        return await self.link.exchange(down)


@dataclass
class Acknowledged:
    """Model calls whose answers were in the journal at a kill."""

    store: Path
    replies: CountingReplies
    marks: dict[int, int] = field(default_factory=dict[int, int])

    def __call__(self) -> None:
        run_id = next((self.store / "journals").iterdir()).name
        for each in acknowledged(self.store, run_id):
            self.marks.setdefault(each, self.replies.counts[each])

    @property
    def asked_again(self) -> list[int]:
        return [call for call, count in self.marks.items() if self.replies.counts[call] > count]


async def test_killed_actors_change_nothing_and_no_acknowledged_call_is_asked_again(tmp_path: Path) -> None:
    replies = CountingReplies()
    async with serve(Behaviour(reply=replies)) as server:
        whole = await harvest(tmp_path / "whole", None, server.base_url)
        replies.counts.clear()
        marks = Acknowledged(tmp_path / "lost", replies)
        engine = Deadly(2, 2, marks, lambda process: os.kill(process, signal.SIGKILL))
        lost = await harvest(tmp_path / "lost", engine, server.base_url)
    assert (engine.left, lost.progress.workers_lost) == (0, 2)
    assert marks.marks
    assert marks.asked_again == []
    assert contents(tmp_path / "lost", lost.id) == contents(tmp_path / "whole", whole.id)


async def test_a_unit_that_ends_every_actor_becomes_a_fault(tmp_path: Path) -> None:
    async with Run(store=tmp_path, engine=RayActors(workers=1), policy=FaultPolicy(max_share=1)) as run:
        world = run.world("builtin")
        tasks = run.tasks(world, "train", "3")
        cast = run.cast(world, agent=f"{AGENTS}:Killing,task={tasks[0].id}")
        found = await run.play(Rollout(), cast, tasks)
    assert [episode.outcome == "worker_fault" for episode in found] == [True, False, False]
    assert "the Ray actor in process" in str(found[0].error)
    assert run.progress.workers_lost == 3


async def test_an_actor_that_hangs_is_killed_though_its_event_loop_is_held_up(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    async with Run(store=tmp_path / "store", engine=Impatient(told)) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=f"{AGENTS}:HangingOnce,told={told}")
        await run.play(Rollout(), cast, run.tasks(world, "train", "1"))
    assert (run.status, run.progress.workers_lost) == ("done", 1)
    with anyio.fail_after(30):
        while is_alive(int(told.read_text())):  # noqa: ASYNC110 - another process ends
            await anyio.sleep(0.01)


class Impatient(RayActors):
    """Waits for no answer any longer once an agent has said that it hangs."""

    def __init__(self, told: Path) -> None:
        super().__init__(workers=1)
        self._told = told

    @asynccontextmanager
    async def link(self, spec: PlaySpec) -> AsyncGenerator[Link]:
        async with super().link(spec) as link:
            assert isinstance(link, RayLink)
            yield _ImpatientLink(link, None if self._told.exists() else self._told)


@dataclass
class _ImpatientLink:
    link: RayLink
    told: Path | None

    async def exchange(self, down: Down) -> Up:
        async with anyio.create_task_group() as group:
            group.start_soon(self._until_it_hangs, group.cancel_scope)
            up = await self.link.exchange(down)
            group.cancel_scope.cancel()
            return up
        raise WorkerLost("it hangs")

    async def _until_it_hangs(self, exchange: anyio.CancelScope) -> None:
        while self.told is None or not self.told.exists():  # noqa: ASYNC110 - another process tells
            await anyio.sleep(0.05)
        exchange.cancel()


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except OSError:
        return False


async def test_the_first_fault_stops_all_actors(tmp_path: Path) -> None:
    async with Run(store=tmp_path, engine=RayActors(workers=2), policy=FaultPolicy(fail_fast=True)) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=f"{AGENTS}:Broken")
        with pytest.raises(AgentFault, match="no idea") as raised:
            await run.play(Rollout(), cast, run.tasks(world, "train", "40"))
    assert "in a worker" in raised.value.__notes__[0]
    assert run.account.not_played > 0


async def test_a_disk_that_is_full_in_the_driver_ends_the_run_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def journal(self: Store, run: str, worker: str, *, durable: bool = False) -> Journal:
        return Journal(self.path / "journals" / run / f"{worker}.jsonl", opener=FullDisk)

    monkeypatch.setattr(Store, "journal", journal)
    with pytest.raises(JournalFailed, match="free some space"):
        await play_everything(Run(store=tmp_path, engine=RayActors(workers=1)))


async def play_everything(run: Run) -> None:
    async with run:
        world = run.world("builtin")
        await run.play(Rollout(), run.cast(world), run.tasks(world, "train", "20"))


# --- what actors are told ---------------------------------------------------------------------------------------------


async def test_variables_reach_actors_in_a_call_alone_and_no_file_of_ray_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hush-hush-4711"
    monkeypatch.setenv("SIMKIT_TEST_TOLD", secret)
    monkeypatch.setenv("OTHER_TEST_TOLD", "unasked")
    assert secret in await said(tmp_path / "one", RayActors(workers=1))
    assert f"{secret} None {os.getcwd()}" == await said(tmp_path / "two", RayActors(workers=1))
    assert f"{secret} unasked {os.getcwd()}" == await said(
        tmp_path / "three", RayActors(workers=1, variables=["OTHER_TEST_TOLD"])
    )
    assert files_of_ray(secret) == []
    assert files_of_ray("raylet")


def files_of_ray(text: str) -> list[Path]:
    """The files of this Ray that hold a text."""
    files = [path for path in Path(os.environ["RAY_TMPDIR"]).rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes()]


async def said(store: Path, engine: RayActors) -> str:
    """What the agent says first."""
    async with Run(store=store, engine=engine) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=f"{AGENTS}:Telling")
        await run.play(Rollout(), cast, run.tasks(world, "train", "1"))
    (row,) = Store(store).query("select content from messages where author = 'agent' order by seq limit 1").rows
    return str(row[0])


async def test_a_file_that_changes_while_the_run_plays_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "agents.py"
    file.write_text("from simkit.agents.scripted import ScriptedAgent\nclass Mine(ScriptedAgent):\n    pass\n")
    async with Run(store=tmp_path / "store", engine=RayActors(workers=1)) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=f"{file}:Mine")
        tasks = run.tasks(world, "train", "2")
        await run.play(Rollout(), cast, tasks)
        file.write_text(f"{file.read_text()}# changed\n")
        with pytest.raises(UsageError, match="has changed since the run began"):
            await run.play(Rollout(), cast, tasks)


async def test_other_versions_on_a_node_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "own_versions", lambda: Versions("1.0", "3.2", "0.0"))
    with pytest.raises(UsageError, match=r"a node of the cluster has Ray .*, and this process Ray 1.0, Python 3.2"):
        await played(tmp_path, Rollout(), RayActors(workers=1))
    assert Store(tmp_path).query("select count(*) from episodes").rows == [(0,)]


async def test_a_trainer_that_runs_ray_calls_simkit_as_documented(tmp_path: Path) -> None:
    found = re.search(r"^```python\n(import ray\n.*?)^```", SCALE.read_text(), re.M | re.S)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found[1], names)
    async with serve(Behaviour()) as server:
        rewards = await names["collect"](str(tmp_path), "openai/load", server.base_url)
    assert len(rewards) == 20
    assert ray.is_initialized()


# --- models of the machine --------------------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed: pip install '.[local]'")
async def test_one_actor_holds_a_local_model_for_all_workers_and_the_driver(tmp_path: Path) -> None:
    from support.tiny_llama import write_tiny

    models = ModelConfig(model=f"local/{write_tiny(tmp_path / 'tiny')}", max_tokens=8)

    async def talk(store: Path, engine: RayActors | None) -> Run:
        async with Run(store=store, engine=engine, models=models, seed=3, concurrency=1) as run:
            world = run.world("builtin")
            cast = await run.open_cast(world, agent=ASKING)
            await run.play(Rollout(Limits(turns=3)), cast, run.tasks(world, "train", "2"))
            assert engine is None or engine.host.actor is not None
        return run

    apart = await talk(tmp_path / "apart", None)
    engine = RayActors(workers=1)
    shared = await talk(tmp_path / "shared", engine)
    assert engine.host.actor is None
    assert apart.progress.metrics is not None
    assert apart.progress.metrics.calls > 0
    assert contents(tmp_path / "shared", shared.id) == contents(tmp_path / "apart", apart.id)


# --- other processes --------------------------------------------------------------------------------------------------


async def simkit(*arguments: str) -> tuple[int, str]:
    """The exit code and the output of a command."""
    ran = await anyio.run_process([sys.executable, "-m", "simkit", *arguments], check=False, stderr=-2)
    return ran.returncode, ran.stdout.decode()


async def test_doctor_lists_the_versions_of_all_nodes(cluster: Any) -> None:
    code, printed = await simkit("doctor", "--engine", f"ray={cluster.address}", "--json")
    assert code == 0, printed
    found = orjson.loads(printed[printed.index("{") :])
    assert len(found["nodes"]) == 3
    assert {each["simkit"] for each in found["nodes"]} == {found["own"]["simkit"]}


async def test_a_driver_that_was_killed_is_resumed_by_another_engine(tmp_path: Path, cluster: Any) -> None:
    replies, store = CountingReplies(), tmp_path / "cut"
    async with serve(Behaviour(reply=replies)) as server:
        model = ["--model", "openai/load", "--base-url", server.base_url]
        flags = ["--tasks", "4", "--seed", "3", "--agent", ASKING, *model]
        code, printed = await simkit("run", "josh", *flags, "--store", str(tmp_path / "whole"), "--quiet")
        assert code == 0, printed
        replies.counts.clear()
        engine = ["--engine", f"ray={cluster.address}", "--workers", "2", "--store", str(store), "--quiet"]
        command = [sys.executable, "-m", "simkit", "run", "josh", *flags, *engine]
        async with await anyio.open_process(command, stdout=None, stderr=None) as driver:
            with anyio.fail_after(120):
                while replies.counts.total() < 60:  # noqa: ASYNC110 - another process asks
                    await anyio.sleep(0.002)
            driver.kill()
            await driver.wait()
        marks = Acknowledged(store, replies)
        marks()
        run_id = next((store / "journals").iterdir()).name
        code, printed = await simkit("resume", run_id, "--engine", "processes", "--store", str(store), "--quiet")
        assert code == 0, printed
    assert marks.marks
    assert marks.asked_again == []
    assert contents(store, run_id) == contents(
        tmp_path / "whole", next((tmp_path / "whole" / "journals").iterdir()).name
    )


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
async def test_a_run_that_is_stopped_ends_in_order_with_its_actors(
    tmp_path: Path, cluster: Any, sent: signal.Signals
) -> None:
    """Ray handles SIGTERM itself, by aborting the process."""
    told, store = tmp_path / "told", tmp_path / "store"
    flags = ["--tasks", "1", "--agent", f"{AGENTS}:Waiting,told={told}", "--store", str(store), "--quiet"]
    command = [sys.executable, "-m", "simkit", "run", "rollout", "--engine", f"ray={cluster.address}", *flags]
    with heeding_signals():
        started = await anyio.open_process(command, stdout=None, stderr=None)
    async with started as driver:
        with anyio.fail_after(120):
            while not (told.exists() and told.read_text().endswith("\n")):  # noqa: ASYNC110 - another process tells
                await anyio.sleep(0.02)
        driver.send_signal(sent)
        assert await driver.wait() == 130
    with anyio.fail_after(30):
        while is_alive(int(told.read_text())):  # noqa: ASYNC110 - another process ends
            await anyio.sleep(0.01)
    assert Store(store).query("select status from runs").rows == [("interrupted",)]


async def test_a_lost_node_changes_nothing(tmp_path: Path) -> None:
    """The last scene: the node stays away, so its worker finds no other place, and the rest plays everything."""
    replies = CountingReplies()

    def lose(process: int) -> None:
        raylet = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        for each in [*descendants(raylet), raylet]:
            os.kill(each, signal.SIGKILL)

    async with serve(Behaviour(reply=replies)) as server:
        whole = await harvest(tmp_path / "whole", None, server.base_url)
        replies.counts.clear()
        marks = Acknowledged(tmp_path / "lost", replies)
        engine = Deadly(2, 1, marks, lose)
        lost = await harvest(tmp_path / "lost", engine, server.base_url)
    assert engine.left == 0
    assert lost.progress.workers_lost >= 1  # Ray may place an actor on the lost node before it notices
    assert marks.marks
    assert marks.asked_again == []
    assert contents(tmp_path / "lost", lost.id) == contents(tmp_path / "whole", whole.id)


def descendants(pid: int) -> list[int]:
    """All processes below a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, re.findall(r"\d+", (task / "children").read_text())):
            found += [child, *descendants(child)]
    return found
