from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from simkit.store import Store
from support.signals import heeding_signals

STUCK = '''
from pathlib import Path

import anyio

from simkit import Run, User, UserTurn

class Stuck(User):
    """Opens every conversation but one, and there says so and waits."""
    name = "stuck"
    async def speak(self, request):
        if request.task.id.endswith("2"):
            print("stuck", flush=True)
            await anyio.sleep_forever()
        return UserTurn("bye", end=True)
'''


STUBBORN = STUCK.replace(
    "await anyio.sleep_forever()", "with anyio.CancelScope(shield=True): await anyio.sleep_forever()"
)


BUSY = STUCK.replace("await anyio.sleep_forever()", "while True: pass")


def command(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "simkit", *map(str, args)]


@pytest.fixture
def stuck(tmp_path: Path) -> Path:
    (tmp_path / "stuck.py").write_text(STUCK)
    return tmp_path


@contextmanager
def started(
    folder: Path, *flags: str, ignored: Collection[signal.Signals] = ()
) -> Generator[tuple[subprocess.Popen[str], IO[str]]]:
    """A run that waits in its third episode, and its stderr. It is killed when it has not ended by itself."""
    args = ("run", "rollout", "--tasks", "4", "--concurrency", "1", "--user", folder / "stuck.py", *flags)
    line = command(*args, "--store", folder / "store")
    with heeding_signals(ignored):
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "stuck\n"
            yield process, process.stderr
        finally:
            process.kill()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_cleanly_and_keeps_what_was_played(stuck: Path, sent: signal.Signals) -> None:
    with started(stuck, "--json") as (process, _):
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert json.loads(out.splitlines()[-1])["status"] == "interrupted"
    assert "recorded results are kept" in err
    assert "Traceback" not in err
    store = Store(stuck / "store")
    assert store.query("select status from runs").rows == [("interrupted",)]
    assert store.query("select count(*) from episodes where outcome = 'user_ended'").rows == [(2,)]


def test_a_second_signal_ends_what_does_not_stop_and_keeps_what_was_played(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(STUBBORN)
    with started(tmp_path) as (process, errors):
        process.send_signal(signal.SIGINT)
        assert "again: stop at once" in errors.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    store = Store(tmp_path / "store")
    assert store.query("select status from runs").rows == [("interrupted",)]
    (told,) = store.query("select error from runs").rows[0]
    assert "2 of 4 planned episodes were not played" in told
    assert re.search(
        "stuck|busy with the recipe", told
    )  # named until its grace is over, which a slow machine may reach
    assert store.query("select count(*) from episodes where outcome = 'user_ended'").rows == [(2,)]


def test_a_second_signal_ends_code_that_never_awaits_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(BUSY)
    with started(tmp_path) as (process, errors):
        process.send_signal(signal.SIGTERM)
        assert "again: stop at once" in errors.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 130
    (row,) = Store(tmp_path / "store").query("select status, error from runs").rows
    assert row[0] == "interrupted"
    assert "it did not stop when it was cancelled" in row[1]
    assert Store(tmp_path / "store").query("select fate, count(*) from units group by all order by all").rows == [
        ("done", 2),
        ("not_played", 2),
    ]


def test_a_hangup_that_nohup_ignores_stays_ignored(stuck: Path) -> None:
    with started(stuck, ignored=(signal.SIGHUP,)) as (process, _):
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.count("again: stop at once") == 1  # a second one would have ended it at once
    assert Store(stuck / "store").query("select error from runs").rows[0][0].endswith("the run was interrupted")


def test_a_killed_run_is_readable_at_once(stuck: Path) -> None:
    with started(stuck) as (process, _):
        process.kill()
        process.communicate(timeout=60)
    done = subprocess.run(
        command("sql", "select count(*) as n from episodes where finished_at is not null", "--format", "json"),
        env={**os.environ, "SIMKIT_STORE": str(stuck / "store")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"n": 2}


def test_a_finished_process_exits_with_its_code(tmp_path: Path) -> None:
    done = subprocess.run(
        command("run", "rollout", "--tasks", "1", "--json", "--store", tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["episodes"] == 1
    wrong = subprocess.run(command("run", "nothing"), capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: no recipe is called `nothing`")
