"""Tests under one change each: a private copy of the project, and a process for each mutant.

Processes are forked from one that has imported the libraries, and where possible the project and its tests, too
(prepared.py). Nothing is written outside the copies.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from prepared import run_prepared
from processes import IMPORTING, PYTEST, forked, quick_hypothesis
from trials import Chosen, Killers, Running, Trial, Verdict


def private_copy(root: Path, names: Iterable[str], into: Path) -> Path:
    """The named files and folders of a project, in a folder of their own."""
    copy = into / "project"
    for name in names:
        source, target = root / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_ignored, symlinks=True)
        else:
            shutil.copy2(source, target)
    return copy


def _ignored(folder: str, names: list[str]) -> set[str]:
    """What a copy does without: links to folders, too, because modules would have another path than their files."""
    linked = {name for name in names if Path(folder, name).is_symlink() and Path(folder, name).is_dir()}
    return linked | shutil.ignore_patterns(".hypothesis", "*.egg-info")(folder, names)


def import_libraries(names: Iterable[str], project: Iterable[str]) -> None:
    """Import what the tests import, but for the project itself: the forked processes find it in memory."""
    own = tuple(project)
    for name in names:
        if name.partition(".")[0] in own or name == "__main__":
            continue
        with suppress(Exception):  # what cannot be imported alone is imported by the tests
            importlib.import_module(name)


class Runner:
    """Runs trials, one at a time in each copy."""

    def __init__(self, copies: Sequence[Path]) -> None:
        self._copies = copies

    def run(self, trials: Iterable[tuple[int, Trial]]) -> Iterator[tuple[int, Verdict]]:
        """The verdicts of numbered trials, as they come."""
        left = dict(trials)
        for number, by, status in run_prepared(self._copies, [pair for pair in left.items() if pair[1].in_memory]):
            verdict = Verdict.of(status, by, self._copies[0])
            if verdict.fate != "not run":
                del left[number]
                yield number, verdict
        yield from self._imported(iter(left.items()))

    def _imported(self, waiting: Iterator[tuple[int, Trial]]) -> Iterator[tuple[int, Verdict]]:
        """The verdicts of trials whose processes import the project themselves."""
        free, running, killers = list(self._copies), dict[int, Running](), Killers()
        upcoming = next(waiting, None)
        try:
            while upcoming is not None or running:
                while upcoming is not None and free:
                    number, trial = upcoming
                    started = _imported(number, killers.first(trial), free.pop())
                    running[started.pid] = started
                    upcoming = next(waiting, None)
                pid, status = os.waitpid(-1, 0)
                ended = running.pop(pid, None)
                if ended is not None:
                    free.append(ended.copy)
                    by = ended.tidy()
                    killers.note(ended.trial, by)
                    yield ended.number, Verdict.of(os.waitstatus_to_exitcode(status), by, ended.copy)
        finally:
            for left in running.values():
                left.kill()


def _imported(number: int, trial: Trial, copy: Path) -> Running:
    def fork() -> int:
        return forked(copy, lambda: _tested(copy, trial.tests), writes_bytecode=False, seconds=IMPORTING)

    return Running.start(number, trial, copy, fork)


def _tested(copy: Path, tests: Mapping[str, float]) -> int:
    quick_hypothesis()
    files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
    return int(pytest.main([*PYTEST, *files], plugins=[Chosen(tests, copy.parent / "failed")]))
