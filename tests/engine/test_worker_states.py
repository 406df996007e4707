"""What the driver knows of its workers is seen during the run, by the display and by simkit doctor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simkit.cli.doctor import doctor
from simkit.cli.progress import describe, describe_worker
from simkit.models.config import ModelConfig
from simkit.monitoring.doctor import Diagnosis, diagnose
from simkit.run.contract import Up
from simkit.run.engine import RunProgress
from simkit.run.run import Run
from simkit.run.worker_states import FILE, StatesFile, WorkerState, read_workers
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve
from support.memory_engine import InMemory

pytestmark = pytest.mark.anyio

ASKING = f"{Path(__file__).parent.parent / 'resume' / 'asking.py'}:AskingAgent"


class Watching:
    """Calls what watches a run at each answer of a worker, and loses the first worker once it has open episodes."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.states: list[tuple[WorkerState, ...]] = []
        self.found: list[Diagnosis] = []
        self.written: list[bool] = []
        self.lose = True

    def __call__(self, worker: int, up: Up) -> bool:
        run = self.run
        assert run is not None
        states = tuple(run.progress.worker_states())
        self.states.append(states)
        folder = run.store.path / "journals" / run.id
        self.written.append((folder / FILE).exists())
        if self.lose and worker == 1 and states[0].open and states[0].done:
            self.lose = False
            StatesFile(folder).write(states)
            self.found.append(diagnose(run.store, run.id))
            return True
        return False


async def test_the_driver_tells_what_each_worker_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simkit.run.observers.EVERY", 0.001)
    monkeypatch.setattr("simkit.run.background.LOAD_EVERY", 0.0)
    watching = Watching()
    async with serve(Behaviour()) as server:
        models = ModelConfig(
            model="openai/load", base_url=server.base_url, max_tokens_total=1_000_000, api_concurrency=4
        )
        run = watching.run = Run(store=tmp_path, engine=InMemory(2, watching), models=models, concurrency=4)
        async with run:
            world = run.world("builtin")
            await run.play(Rollout(), run.cast(world, agent=ASKING), run.tasks(world, "train", "12"))
            assert tuple(run.progress.worker_states()) == ()
    seen = [state for states in watching.states for state in states]
    assert {state.worker for state in seen} == {0, 1}
    assert {state.place.partition(" on ")[0] for state in seen} == {"", f"pid {os.getpid()}"}
    assert max(state.open for state in seen) >= 2
    assert max(sum(state.done for state in states) for states in watching.states) >= 10
    assert max(state.tokens for state in seen) > 0
    assert 0 < max(state.places for state in seen) <= 4
    assert max(state.lost for state in seen) == 1
    assert all(0 <= state.heard < 60 for state in seen)
    assert any(watching.written)
    assert not (tmp_path / "journals" / run.id / FILE).exists()

    (found,) = watching.found
    assert found.alive
    assert [row["worker"] for row in found.workers] == [0, 1]
    assert found.workers[0]["open"] > 0
    (lost,) = diagnose(run.store, run.id).lost_workers
    assert (lost["worker"], lost["open_episodes"]) == (0, found.workers[0]["open"])
    assert "the test has lost it" in lost["reason"]
    ((worker, place, episodes),) = run.store.query("select worker, place, episodes from lost_workers").rows
    assert (worker, len(episodes)) == (0, lost["open_episodes"])
    assert place.startswith(f"pid {os.getpid()} on ")
    assert all(episode.startswith(f"{run.id}/") for episode in episodes)


@pytest.fixture
def killed(tmp_path: Path) -> str:
    """A run whose driver was killed while two workers played."""
    from simkit.core.events import RunStarted
    from simkit.store.encoding import encode
    from simkit.store.lines import journal_seed, seal

    folder = Store(tmp_path).path / "journals" / "r1"
    folder.mkdir(parents=True)
    start = encode(RunStarted("r1", "", "josh", 7, {}, "0.1.0", 1000.0, 0))
    (folder / "main.jsonl").write_bytes(seal(start, 0, journal_seed(folder / "main.jsonl")))
    busy = WorkerState(worker=0, place="pid 7 on host", open=3, done=5, lag=0.25, heard=40.0, lost=2, tokens=1500.0)
    StatesFile(folder).write([busy, WorkerState(worker=1, places=3, calls=2, cost=0.5)])
    return "r1"


def test_doctor_shows_what_the_workers_of_a_killed_driver_did(
    tmp_path: Path, killed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor(tmp_path, killed, as_json=False)
    printed = capsys.readouterr().out
    assert "pid 7 on host" in printed
    assert "250 ms" in printed
    assert "40.0 s ago" in printed  # as far as it was known
    assert "has not answered" not in printed


async def test_doctor_names_a_silent_worker(tmp_path: Path, killed: str) -> None:
    async with Store(tmp_path).journal(killed):
        found = diagnose(Store(tmp_path), killed)
    assert [line for line in found.advice if "worker 0 (pid 7 on host) has not answered for 4" in line]
    assert not [line for line in found.advice if "worker 1" in line]


async def test_a_run_that_goes_on_without_workers_has_none(tmp_path: Path) -> None:
    async with Run(store=tmp_path) as run:
        run.measure("one", 1, value=1.0)
        await run.commit()
        StatesFile(tmp_path / "journals" / run.id).write([WorkerState(worker=0)])
    assert read_workers(tmp_path / "journals" / run.id) is None


@pytest.mark.parametrize("data", [b"", b"[]", b'{"at":1}', b'{"at":1,"workers":[{}]}', b'{"at":"x","workers":[]}'])
def test_a_file_that_cannot_be_read_is_no_workers(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    assert read_workers(tmp_path) is None


def test_the_display_names_losses_leases_and_the_silent_worker() -> None:
    progress = RunProgress(planned=10, workers=2, workers_lost=1)
    progress.worker_states = lambda: (
        WorkerState(worker=0, tokens=1500.0, cost=0.25, heard=0.1),
        WorkerState(worker=1, heard=9.0),
    )
    told = describe(progress)
    assert "2 workers, 1 lost, worker 1 silent for 9 s, leased 1.5k tokens, $0.25" in told
    state = WorkerState(worker=3, place="pid 7 on host", open=2, done=4, lag=0.02, heard=0.4, lost=1, places=5, calls=2)
    assert describe_worker(state) == (
        "worker 3 (pid 7 on host): 2 open, 4 done, 20 ms late at worst, 2 of 5 calls, 1 lost before it, heard 0.4 s ago"
    )
