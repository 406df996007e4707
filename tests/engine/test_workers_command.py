"""`--workers` on the command line."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from simkit.cli.resume import _values, _workers  # pyright: ignore[reportPrivateUsage]
from simkit.errors import UsageError
from simkit.plugins.recipe import load_recipe
from simkit.run.processes import number_of_workers, workers_of
from simkit.run.resume import RunStart
from simkit.store import Store
from support.signals import heeding_signals

pytestmark = pytest.mark.anyio

AGENTS = Path(__file__).parent.parent / "support" / "worker_agents.py"


async def test_ctrl_c_ends_the_workers_and_a_resume_may_have_none(tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    store = tmp_path / "store"
    flags = ["--tasks", "4", "--store", str(store), "--quiet", "--agent", f"{AGENTS}:Waiting,told={told}"]
    command = [sys.executable, "-m", "simkit", "run", "rollout", "--workers", "2", *flags]
    with heeding_signals():
        started = await anyio.open_process(command, cwd=tmp_path)
    async with started as driver:
        workers = {int(line) for line in (await anyio.Path(told).read_text()).split()}
        driver.send_signal(signal.SIGINT)
        assert await ended(driver) == 130
    assert workers
    assert not any(map(is_alive, workers))
    (run,) = Store(store).query("select status, config from runs").rows
    assert run[0] == "interrupted"
    assert '"workers":"2"' in str(run[1]).replace(" ", "") or '"workers":2' in str(run[1]).replace(" ", "")


async def ended(process: Process) -> int:
    with anyio.fail_after(60):
        return await process.wait()


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except OSError:
        return False


def test_a_number_of_workers_is_checked() -> None:
    assert [workers_of("3"), workers_of("auto")] == [3, "auto"]
    with pytest.raises(UsageError, match="give a number of at least 1, or `auto`"):
        workers_of("0")
    with pytest.raises(UsageError, match="it must be at least 1"):
        number_of_workers(0, 16)


def test_auto_needs_many_conversations_for_a_second_worker() -> None:
    cores = len(os.sched_getaffinity(0))
    assert number_of_workers("auto", 256) == 1
    assert number_of_workers("auto", 257) == min(2, cores)
    assert number_of_workers(3, 1) == 3


def test_seeds_at_once_of_an_earlier_selftrain_is_not_a_number_of_workers() -> None:
    recipe = load_recipe("selftrain")
    before = RunStart("", "selftrain", 0, {"target": "selftrain", "workers": 5}, "0")
    assert _workers(before) is None
    assert _values("run", recipe, before, {})["seeds_at_once"] == 5
    since = RunStart("", "selftrain", 0, {"target": "selftrain", "workers": 5, "seeds_at_once": 2}, "0")
    assert _workers(since) == "5"
    assert _values("run", recipe, since, {})["seeds_at_once"] == 2
