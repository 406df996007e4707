"""Processes for mutation testing: forked, limited in time and memory, and gone with all that they started."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

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


PYTEST = (
    *("-q", "-x", "--strict-markers", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning", "--tb=line", "--no-header"),
)
_PR_SET_PDEATHSIG = 1


def forked(copy: Path, work: Callable[[], int], *, writes_bytecode: bool, seconds: float) -> int:
    """A child process that does some work in a copy; it ends itself when that takes too long."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 3
    try:
        settle(parent, copy)
        end_after(seconds)
        _set_up(copy, writes_bytecode=writes_bytecode)
        status = work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        sys.stdout.flush()
        os._exit(status)


def settle(parent: int, copy: Path) -> None:
    """Make a forked process a session of its own that ends with its parent, with limits and an empty folder."""
    os.setsid()
    die_with(parent)
    for number in (signal.SIGPROF, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    temporary = copy.parent / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()


def end_after(seconds: float) -> None:
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


def never_end() -> None:
    """Take back what `end_after` has set up."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()


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


def end_process(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """End a child process and its session with a signal, and wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
    with suppress(ProcessLookupError):  # it may not have got its own group yet
        os.kill(pid, number)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def die_with(parent: int) -> None:
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
    os.environ.update(PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1", TMPDIR=str(copy.parent / "tmp"))


def output_of(copy: Path) -> str:
    file = copy.parent / "output"
    return file.read_text(errors="replace") if file.is_file() else ""


def quick_hypothesis() -> None:
    """A property that fails is not made smaller, and the same examples are tried each time."""
    if "hypothesis" not in sys.modules:
        return
    hypothesis: Any = sys.modules["hypothesis"]
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", phases=phases, database=None, deadline=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")
