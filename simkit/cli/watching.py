"""`simkit run --view`: a viewer beside a run, in a process of its own that ends with this one."""

from __future__ import annotations

import signal
import subprocess
import sys
import webbrowser
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from simkit.cli.output import WARNING, say
from simkit.store import Store
from simkit.store.watchers import watched_at

ENDING = 5.0
"""Seconds that the viewer may take to end."""


@dataclass(frozen=True, slots=True)
class OwnViewer:
    """The viewer of this run."""

    process: subprocess.Popen[str]

    @property
    def stdin(self) -> IO[str]:
        """The pipe whose end tells the viewer that this process has gone."""
        assert self.process.stdin is not None
        return self.process.stdin

    def stay(self, store: Path) -> None:
        """Keep the viewer until Ctrl-C, where somebody is there to press it."""
        address = watched_at(store)
        if not sys.stderr.isatty() or not sys.stdin.isatty() or address is None or self.process.poll() is not None:
            return
        say(f"the viewer stays at {address} until Ctrl-C", err=True)
        with suppress(KeyboardInterrupt):
            self.process.wait()


@contextmanager
def watched(store: Path, page: str, *, wanted: bool) -> Generator[OwnViewer | None]:
    """Start a viewer of a store that opens a page in the browser, if one is wanted and none watches the store yet.

    The process has its own group: Ctrl-C stops the run, and its last results can still be looked at.
    """
    if not wanted:
        yield None
        return
    if (address := watched_at(store)) is not None:
        say(f"a viewer watches {store} already, at {address}{page}", err=True)
        webbrowser.open(f"{address}{page}", new=2)
        yield None
        return
    Store(store)  # a viewer makes none
    command = [sys.executable, "-m", __name__, str(store), page]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        viewer = OwnViewer(process)
        try:
            yield viewer
        finally:
            _end(viewer)


def _end(viewer: OwnViewer) -> None:
    process = viewer.process
    failed = process.poll()
    with suppress(OSError):
        viewer.stdin.close()
    try:
        process.wait(ENDING)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    if failed and process.stderr is not None:
        say(f"the viewer did not start: {process.stderr.read().strip()}", WARNING, err=True)


if __name__ == "__main__":
    from simkit.cli.view import ViewFlags, view

    view(Path(sys.argv[1]), ViewFlags(page=sys.argv[2], attached=True))
