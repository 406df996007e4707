from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from simkit.store import Store

KILLS = 20


def test_kill_9_loses_nothing_acknowledged_and_nothing_comes_twice(store: Store) -> None:
    moments = random.Random(7)
    acknowledged: list[str] = []
    worker = Path(__file__).with_name("killed_worker.py")
    with subprocess.Popen(
        [sys.executable, str(worker), str(store.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(KILLS):
            process.stdin.write(f"k{number}\n")
            process.stdin.flush()
            acknowledged += kill_after(process.stdout, moments.randint(1, 60))
            if number % 5 == 0:  # the next command opens it, whatever was going on
                assert stored(store).keys() >= set(acknowledged)
        process.stdin.close()
    counts = stored(store)
    assert set(acknowledged) <= counts.keys()
    assert set(counts.values()) == {1}
    assert len(acknowledged) >= KILLS
    assert store.query("FROM unreadable_lines").rows == []


def kill_after(lines: IO[str], acknowledgements: int) -> list[str]:
    """Kill the child after so many acknowledgements; returns all that it gave until it was dead."""
    found: list[str] = []
    child = 0
    for line in lines:
        match line.split():
            case ["pid", pid]:
                child = int(pid)
            case ["dead"]:
                return found
            case [name]:
                found.append(name)
            case _:
                raise AssertionError(f"unexpected line {line!r}")
        if child and len(found) >= acknowledgements:
            os.kill(child, signal.SIGKILL)
            child = 0
    raise AssertionError("the worker ended by itself")


def stored(store: Store) -> dict[str, int]:
    found = store.query("SELECT request_hash, count(*) FROM model_calls GROUP BY ALL")
    assert found.notes == ()
    return dict(found.rows)
