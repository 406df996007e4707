"""One mutant in a private copy: the changed file is put there, a process runs the tests, and the copy is restored."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
from processes import end_after, end_process, output_of

Fate: TypeAlias = Literal["killed", "survived", "not covered", "timed out", "not run"]
"""The result of a mutant. `not run`: pytest itself failed, so that the tests say nothing."""

KILLERS = 10
"""Tests of a file that run before the others because they killed its last mutants."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Tests to be run in a copy in which one file has other bytes.

    Attributes:
        path: the file.
        source: its bytes.
        tests: seconds that each test may take, by its id.
        in_memory: whether the change is inside functions that run only while a test does.
    """

    path: str
    source: bytes
    tests: Mapping[str, float]
    in_memory: bool = False


@dataclass(frozen=True, slots=True)
class Killers:
    """The tests that killed the last mutants of each file. They are likely to kill the next one, so they run first."""

    _last: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def first(self, trial: Trial) -> Trial:
        """The trial with its tests in the order in which they should run."""
        names = [name for name in self._last.get(trial.path, ()) if name in trial.tests]
        return replace(trial, tests={name: trial.tests[name] for name in (*names, *trial.tests)})

    def note(self, trial: Trial, by: str) -> None:
        """Note which test failed first, if any did."""
        if by in trial.tests:
            others = [name for name in self._last.get(trial.path, ()) if name != by]
            self._last[trial.path] = [by, *others[: KILLERS - 1]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a trial; `by` is the test that failed first."""

    fate: Fate
    by: str = ""

    @classmethod
    def of(cls, status: int, by: str, copy: Path) -> Verdict:
        """The verdict of a process by its exit status and the test that failed first."""
        match status:
            case 0:
                return cls("survived")
            case _ if status > 0 and by:  # a test failed, whatever pytest did afterwards, or none could be imported
                return cls("killed", by)
            case _ if -status in (signal.SIGALRM, signal.SIGPROF, signal.SIGXCPU):
                return cls("timed out")
            case _ if status < 0:
                return cls("killed", f"the process died of {signal.Signals(-status).name}")
            case _:
                return cls("not run", output_of(copy)[-2000:])


@dataclass(frozen=True, slots=True)
class Running:
    """A trial whose process has been started; `pid` is 0 in that process itself."""

    number: int
    trial: Trial
    copy: Path
    original: bytes
    pid: int

    @classmethod
    def start(cls, number: int, trial: Trial, copy: Path, fork: Callable[[], int]) -> Running:
        """Change the file and start the process."""
        file = copy / trial.path
        original = file.read_bytes()
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            compiled.unlink()
        file.write_bytes(trial.source)
        (copy.parent / "failed").unlink(missing_ok=True)
        return cls(number, trial, copy, original, fork())

    def tidy(self) -> str:
        """Restore the file, and end what the tests started and left; returns the test that failed first."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        (self.copy / self.trial.path).write_bytes(self.original)
        failed = self.copy.parent / "failed"
        return failed.read_text() if failed.is_file() else ""

    def kill(self) -> None:
        """End the process and restore the file."""
        end_process(self.pid, signal.SIGKILL)
        self.tidy()


class Chosen:
    """Keeps some of the collected tests, in a given order, ends each in time, and notes the first that fails."""

    def __init__(self, tests: Mapping[str, float], failed: Path) -> None:
        self._order = {name: index for index, name in enumerate(tests)}
        self._seconds = tests
        self._failed = failed

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        end_after(self._seconds[nodeid])

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self._order), key=lambda i: self._order[i.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed and not self._failed.exists():
            self._failed.write_text(report.nodeid or "the collection")
