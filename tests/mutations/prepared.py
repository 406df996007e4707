"""Mutants in memory: one process imports the project and collects the tests once, and forks for each mutant.

A fork replaces the code of the changed functions and runs the tests, so a mutant costs its tests alone. This holds for
changes inside functions that run only while a test does. Everything else is imported again by a process of its own.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import NoReturn, TypeAlias

import pytest
from processes import PYTEST, WHOLE, end_after, end_process, forked, never_end, quick_hypothesis, settle
from trials import Chosen, Killers, Running, Trial

Numbered: TypeAlias = tuple[int, Trial]


@dataclass(frozen=True, slots=True)
class Functions:
    """The functions of some files that are in memory.

    Attributes:
        original: the code of each file, by its path in the project.
        live: functions by file, first line and name.
    """

    original: Mapping[str, CodeType]
    live: Mapping[tuple[str, int, str], Sequence[FunctionType]]

    @classmethod
    def of(cls, copy: Path, paths: Iterable[str]) -> Functions:
        """Those of some files in a private copy."""
        original = {path: _compiled((copy / path).read_bytes(), copy / path) for path in paths}
        names = {code.co_filename for code in original.values()}
        live: dict[tuple[str, int, str], list[FunctionType]] = {}
        for found in gc.get_objects():
            if type(found) is FunctionType and found.__code__.co_filename in names:
                live.setdefault(_key(found.__code__), []).append(found)
        return cls(original, live)

    def changed(self, path: str, source: bytes) -> list[tuple[FunctionType, CodeType]] | None:
        """The functions that another text of a file changes, with their new code; None if it changes more."""
        before = self.original[path]
        after = _compiled(source, before.co_filename)
        if _frame(before) != _frame(after):
            return None
        changed: list[tuple[FunctionType, CodeType]] = []
        for old, new in zip(_functions(before), _functions(after), strict=True):
            if old == new:
                continue
            found = self.live.get(_key(old), ())
            if not found or old.co_freevars != new.co_freevars:
                return None
            changed += [(function, new) for function in found]
        return changed or None


def _compiled(source: bytes, name: Path | str) -> CodeType:
    return compile(source, str(name), "exec", dont_inherit=True)


def _key(code: CodeType) -> tuple[str, int, str]:
    return (code.co_filename, code.co_firstlineno, code.co_qualname)


def _parts(code: CodeType) -> Iterator[CodeType]:
    return (part for part in code.co_consts if isinstance(part, CodeType))


def _functions(code: CodeType) -> Iterator[CodeType]:
    """The code of all functions of a file or class, without those inside functions."""
    for part in _parts(code):
        if part.co_flags & inspect.CO_OPTIMIZED:
            yield part
        else:
            yield from _functions(part)


def _frame(code: CodeType) -> list[object]:
    """What a file or class does when it is imported, without the code of its functions."""
    constants = [(type(value).__name__, repr(value)) for value in code.co_consts if not isinstance(value, CodeType)]
    inner = [_frame(part) for part in _parts(code) if not part.co_flags & inspect.CO_OPTIMIZED]
    functions = [(part.co_name, part.co_freevars) for part in _parts(code) if part.co_flags & inspect.CO_OPTIMIZED]
    return [code.co_code, code.co_names, constants, functions, inner]


def run_prepared(copies: Sequence[Path], trials: Sequence[Numbered]) -> Iterator[tuple[int, str, int]]:
    """The process statuses of numbered trials as they come, with the first failed test; some may not come.

    Those that do not come change more than functions in memory, or pytest itself failed.
    """
    if not trials:
        return
    readable, writable = os.pipe()
    hosts: list[int] = []
    try:
        for index, copy in enumerate(copies):
            share = trials[index :: len(copies)]
            hosts.append(forked(copy, _Host(copy, share, writable).serve, writes_bytecode=False, seconds=WHOLE))
        os.close(writable)
        with os.fdopen(readable, encoding="utf-8") as lines:
            for line in lines:
                number, by, status = json.loads(line)
                yield number, by, status
    finally:
        for host in hosts:
            end_process(host, signal.SIGTERM)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


@dataclass(eq=False, slots=True)  # pytest 9.0 keeps plugins in a set
class _Host:
    """Collects the tests once, and forks for each trial."""

    copy: Path
    trials: Sequence[Numbered]
    report: int
    _killers: Killers = field(default_factory=Killers)

    def serve(self) -> int:
        quick_hypothesis()
        files = dict.fromkeys(name.partition("::")[0] for _, trial in self.trials for name in trial.tests)
        return int(pytest.main([*PYTEST, *files], plugins=[self]))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run all trials; in the process of a trial pytest goes on with the tests that were chosen."""
        never_end()
        signal.signal(signal.SIGTERM, _leave)
        functions = Functions.of(self.copy, {trial.path for _, trial in self.trials})
        gc.collect()
        gc.freeze()
        for number, unordered in self.trials:
            trial = self._killers.first(unordered)
            changed = functions.changed(trial.path, trial.source)
            if changed is not None and not self._forked(number, trial, changed):
                chosen = Chosen(trial.tests, self.copy.parent / "failed")
                session.config.pluginmanager.register(chosen)
                chosen.pytest_collection_modifyitems(session.items)
                return None
        return True

    def _forked(self, number: int, trial: Trial, changed: Sequence[tuple[FunctionType, CodeType]]) -> bool:
        """Whether this is still the host; its child is the process of the trial."""
        parent = os.getpid()
        running = Running.start(number, trial, self.copy, os.fork)
        if running.pid == 0:
            os.close(self.report)
            settle(parent, self.copy)
            end_after(max(trial.tests.values()))
            for function, code in changed:
                function.__code__ = code
            return False
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(running.pid, 0)[1])
        except BaseException:
            running.kill()
            raise
        by = running.tidy()
        self._killers.note(trial, by)
        line = json.dumps([number, by[-400:], status]) + "\n"
        os.write(self.report, line.encode())
        return True
