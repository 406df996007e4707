"""The tests of a room, run once as they are: which lines each of them runs, and how long it takes."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from processes import PYTEST, WHOLE, end_process, forked, output_of, quick_hypothesis

OUTSIDE = ""


@dataclass(frozen=True, slots=True)
class Reach:
    """What the tests reach when nothing is changed.

    Attributes:
        status: pytest's exit status; 0 when all is well.
        seconds: of work of each test, by its id.
        lines: the tests that run each line of a file, by file and line; OUTSIDE stands for what runs before the tests.
        libraries: modules that were imported and are none of the project's.
        output: what pytest said.
    """

    status: int
    seconds: Mapping[str, float]
    lines: Mapping[str, Mapping[int, Sequence[str]]]
    libraries: Sequence[str]
    output: str

    def tests_of(self, path: str, lines: tuple[int, int], *, called: bool) -> list[str]:
        """The tests that run any of some lines, quickest first; all of them for what is run by an import."""
        if not called:
            return sorted(self.seconds, key=lambda name: self.seconds[name])
        known = self.lines.get(path, {})
        found = {name for line in range(lines[0], lines[1] + 1) for name in known.get(line, ())}
        return sorted(found & self.seconds.keys(), key=lambda name: self.seconds[name])

    def only_in_tests(self, path: str, lines: tuple[int, int]) -> bool:
        """Whether some lines run only while a test does, and not when modules are imported or tests collected."""
        known = self.lines.get(path, {})
        return all(OUTSIDE not in known.get(line, ()) for line in range(lines[0], lines[1] + 1))


def reach_of(copy: Path, tests: Sequence[str], sources: Sequence[str]) -> Reach:
    """Run the tests once as they are, and note who runs which line."""
    note = copy.parent / "reach.json"
    files = {str(copy / path): path for path in sources}

    def work() -> int:
        with suppress(ImportError):  # traced, an example takes longer than hypothesis allows
            importlib.import_module("hypothesis")
        quick_hypothesis()
        watcher = _Watcher(files)
        try:
            with watcher.tracing():
                status = int(pytest.main([*PYTEST, *tests], plugins=[watcher]))
        finally:
            known = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
            libraries = [name for name, file in known.items() if file and not file.startswith(str(copy))]
            note.write_text(json.dumps([watcher.seconds, watcher.lines, libraries]))
        return status

    pid = forked(copy, work, writes_bytecode=True, seconds=WHOLE)
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        end_process(pid)
        raise
    noted: Any = json.loads(note.read_text()) if note.is_file() else ({}, {}, [])
    seconds: dict[str, float] = noted[0]
    lines: dict[str, dict[str, list[str]]] = noted[1]
    libraries: list[str] = noted[2]
    reached = {path: {int(line): names for line, names in found.items()} for path, found in lines.items()}
    return Reach(status, seconds, reached, libraries, output_of(copy))


@dataclass(eq=False, slots=True)  # pytest 9.0 keeps plugins in a set
class _Watcher:
    """Notes which test runs which line of some files, and how long each test takes."""

    files: Mapping[str, str]
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    lines: dict[str, dict[int, list[str]]] = field(default_factory=dict[str, dict[int, list[str]]])
    _test: str = OUTSIDE

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._forget()
        self._test, before = item.nodeid, time.process_time()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - before
            self._test = OUTSIDE

    def _forget(self) -> None:
        """Empty the caches of functions: a test that is served from one depends on the lines that filled it."""
        for module in [*sys.modules.values()]:
            if getattr(module, "__file__", None) in self.files:
                for value in [*vars(module).values()]:
                    if callable(clear := getattr(value, "cache_clear", None)):
                        clear()

    @contextmanager
    def tracing(self) -> Generator[None]:
        threading.settrace(self._call)
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)  # pyright: ignore[reportArgumentType]

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        path = self.files.get(frame.f_code.co_filename)
        if path is None:
            return None
        found = self.lines.setdefault(path, {})

        def line(frame: FrameType, event: str, argument: object) -> Any:
            names = found.setdefault(frame.f_lineno, [])
            if not names or names[-1] != self._test:
                names.append(self._test)
            return line

        return line(frame, event, argument)
