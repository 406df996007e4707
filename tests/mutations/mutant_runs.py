"""Tests under one change: a private copy of the project, the tests that reach a line, a process for each mutant.

The process is forked from this one, which has imported pytest and the libraries but nothing of the project, so a
mutant costs its tests and little more. Nothing is written outside the copies.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeAlias

import pytest

Fate: TypeAlias = Literal["killed", "survived", "not covered", "timed out", "not run"]
"""What became of a mutant. `not run`: pytest itself failed, so that the tests say nothing."""

MEMORY = 6 << 30
"""Bytes of address space of one process."""

WHOLE, IMPORTING = 600.0, 30.0
"""Seconds of work that all tests of a room may take without a change, and importing some of them with one."""

WAITING = 3.0
"""Seconds that a test may be idle for one that it may work."""

LOOK = 0.25
"""Seconds between two looks at whether it is."""

CPU = 900
"""Seconds of work of any one process, those that tests start included."""

ENDLESS = 10.0
"""After how many times that long a process ends that a signal does not reach."""


_BASE = (
    *("-q", "-x", "--strict-markers", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning", "--tb=line", "--no-header"),
)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Reach:
    """What the tests reach when nothing is changed.

    Attributes:
        status: pytest's exit status; 0 when all is well.
        seconds: of work of each test, by its id.
        lines: the tests that run each line of a file, by file and line.
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


@dataclass(frozen=True, slots=True)
class Trial:
    """Tests to be run in a copy in which one file has other bytes, with the seconds that each may take."""

    path: str
    source: bytes
    tests: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a trial; `by` is the test that failed first."""

    fate: Fate
    by: str = ""


def private_copy(root: Path, names: Iterable[str], into: Path) -> Path:
    """The named files and folders of a project, in a folder of their own."""
    copy = into / "project"
    for name in names:
        source, target = root / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(".hypothesis", "*.egg-info"), symlinks=True)
        else:
            shutil.copy2(source, target)
    return copy


def reach_of(copy: Path, tests: Sequence[str], sources: Sequence[str]) -> Reach:
    """Run the tests once as they are, and note who runs which line."""
    note = copy.parent / "reach.json"
    files = {str(copy / path): path for path in sources}

    def work() -> int:
        with suppress(ImportError):  # traced, an example takes longer than hypothesis allows
            importlib.import_module("hypothesis")
        _quick_hypothesis()
        watcher = _Watcher(files)
        try:
            with watcher.tracing():
                status = int(pytest.main([*_BASE, *tests], plugins=[watcher]))
        finally:
            known = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
            libraries = [name for name, file in known.items() if file and not file.startswith(str(copy))]
            note.write_text(json.dumps([watcher.seconds, watcher.lines, libraries]))
        return status

    pid = _forked(copy, work, writes_bytecode=True, seconds=WHOLE)
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        _end(pid)
        raise
    noted: Any = json.loads(note.read_text()) if note.is_file() else ({}, {}, [])
    seconds: dict[str, float] = noted[0]
    lines: dict[str, dict[str, list[str]]] = noted[1]
    libraries: list[str] = noted[2]
    reached = {path: {int(line): names for line, names in found.items()} for path, found in lines.items()}
    return Reach(status, seconds, reached, libraries, _output(copy))


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
        free, running = list(self._copies), dict[int, _Running]()
        waiting = iter(trials)
        upcoming = next(waiting, None)
        try:
            while upcoming is not None or running:
                while upcoming is not None and free:
                    number, trial = upcoming
                    started = _Running.start(number, trial, free.pop())
                    running[started.pid] = started
                    upcoming = next(waiting, None)
                pid, status = os.waitpid(-1, 0)
                ended = running.pop(pid, None)
                if ended is not None:
                    free.append(ended.copy)
                    yield ended.number, ended.end(os.waitstatus_to_exitcode(status))
        finally:
            for left in running.values():
                left.kill()


@dataclass(frozen=True, slots=True)
class _Running:
    number: int
    trial: Trial
    copy: Path
    original: bytes
    pid: int

    @classmethod
    def start(cls, number: int, trial: Trial, copy: Path) -> _Running:
        file = copy / trial.path
        original = file.read_bytes()
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            compiled.unlink()
        file.write_bytes(trial.source)
        (copy.parent / "failed").unlink(missing_ok=True)
        pid = _forked(copy, lambda: _tested(copy, trial.tests), writes_bytecode=False, seconds=IMPORTING)
        return cls(number, trial, copy, original, pid)

    def end(self, status: int) -> Verdict:
        self._tidy()
        failed = self.copy.parent / "failed"
        by = failed.read_text() if failed.is_file() else ""
        match status:
            case 0:
                return Verdict("survived")
            case 1 | 2 if by:  # a test failed, or the tests could not be imported
                return Verdict("killed", by)
            case _ if -status in (signal.SIGALRM, signal.SIGPROF, signal.SIGXCPU):
                return Verdict("timed out")
            case _ if status < 0:
                return Verdict("killed", f"the process died of {signal.Signals(-status).name}")
            case _:
                return Verdict("not run", _output(self.copy)[-2000:])

    def kill(self) -> None:
        _end(self.pid)
        self._tidy()

    def _tidy(self) -> None:
        with suppress(ProcessLookupError):  # what the tests started and left
            os.killpg(self.pid, signal.SIGKILL)
        (self.copy / self.trial.path).write_bytes(self.original)


def _tested(copy: Path, tests: Mapping[str, float]) -> int:
    _quick_hypothesis()
    files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
    return int(pytest.main([*_BASE, *files], plugins=[_Chosen(tests, copy.parent / "failed")]))


def _quick_hypothesis() -> None:
    """A property that fails is not made smaller, and the same examples are tried each time."""
    if "hypothesis" not in sys.modules:
        return
    hypothesis: Any = sys.modules["hypothesis"]
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", phases=phases, database=None, deadline=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")


class _Chosen:
    """Keeps some of the collected tests, in a given order, ends each in time, and notes the first that fails."""

    def __init__(self, tests: Mapping[str, float], failed: Path) -> None:
        self._order = {name: index for index, name in enumerate(tests)}
        self._seconds = tests
        self._failed = failed

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        _end_after(self._seconds[nodeid])

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self._order), key=lambda i: self._order[i.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed and not self._failed.exists():
            self._failed.write_text(report.nodeid or "the collection")


@dataclass(eq=False, slots=True)  # pytest 9.0 keeps plugins in a set
class _Watcher:
    """Notes which test runs which line of some files, and how long each test takes."""

    files: Mapping[str, str]
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    lines: dict[str, dict[int, list[str]]] = field(default_factory=dict[str, dict[int, list[str]]])
    _test: str | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._forget()
        self._test, before = item.nodeid, time.process_time()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - before
            self._test = None

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
            if self._test is not None:
                names = found.setdefault(frame.f_lineno, [])
                if not names or names[-1] != self._test:
                    names.append(self._test)
            return line

        return line(frame, event, argument)


def _forked(copy: Path, work: Callable[[], int], *, writes_bytecode: bool, seconds: float) -> int:
    """A child process that does some work in a copy; it ends itself when that takes too long."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 3
    try:
        os.setsid()
        _die_with(parent)
        for number in (signal.SIGPROF, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        _end_after(seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
        _set_up(copy, writes_bytecode=writes_bytecode)
        status = work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        sys.stdout.flush()
        os._exit(status)


def _end_after(seconds: float) -> None:
    """End this process when it has worked that long, or has been idle several times as long.

    It is idle while neither it nor a process that it started runs, reads, or could run: a busy machine ends nothing.
    """
    idle, busy_until = 0.0, _scheduled()

    def look(number: int, frame: FrameType | None) -> None:
        nonlocal idle, busy_until
        before, busy_until = busy_until, _scheduled()
        if busy_until - before < LOOK / 2 and not _others_run():
            idle += LOOK
        if idle >= WAITING * seconds:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGALRM)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)
    # waiting in foreign code, where Python sees no signal: pytest fails and the mutant counts as not run
    faulthandler.dump_traceback_later(ENDLESS * WAITING * seconds, exit=True, file=2)


def _scheduled() -> float:
    """Seconds that the main thread has run or stood in line for a processor (Linux; otherwise 0)."""
    try:
        ran, waited, _ = Path(f"/proc/self/task/{os.getpid()}/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0.0
    return (int(ran) + int(waited)) / 1e9


def _others_run() -> bool:
    """Whether another thread of this session (what a test has started) runs, or waits for a processor or a disk."""
    session, own = str(os.getsid(0)), str(os.getpid())
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # a process or thread that has ended meanwhile
            if _words(status)[3] != session:
                continue
            for thread in status.parent.glob("task/*/stat"):
                if thread.parent.name != own and _words(thread)[0] in ("R", "D"):
                    return True
    return False


def _words(status: Path) -> list[str]:
    """What /proc says of a thread, from its state on: the name before it may hold anything."""
    return status.read_text().rpartition(")")[2].split()


def _end(pid: int) -> None:
    """End a child process and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):  # it may not have got its own group yet
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _die_with(parent: int) -> None:
    """End this process when its parent is killed, where the system can do that (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(3)


def _set_up(copy: Path, *, writes_bytecode: bool) -> None:
    os.chdir(copy)
    output = os.open(copy.parent / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    sys.dont_write_bytecode = not writes_bytecode
    sys.path.insert(0, str(copy))
    temporary = copy.parent / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    os.environ.update(PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1", TMPDIR=str(temporary))


def _output(copy: Path) -> str:
    file = copy.parent / "output"
    return file.read_text(errors="replace") if file.is_file() else ""
