"""What a run costs more while it is watched, and by how much the page is behind.

    python benchmarks/view_watched.py
    python benchmarks/view_watched.py --tasks 100 --trials 20 --pairs 3

Plays a run of 10,000 episodes on one core, alone and watched by `simkit view` with a page in Chromium on the other, in
five interleaved pairs, and as many pairs of unwatched runs for the noise. Prints the user and system seconds of each
run, the median difference, and the seconds by which the number on the page was behind the journal. Needs Linux with two
cores, the test extras and Chromium.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for `support`

from simkit.store import Store
from support.browser import missing, opened_browser, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RUN_CORE, VIEW_CORE = 0, 1
EVERY = 0.5
"""Seconds between two looks at the page."""


def cpu_of_children() -> float:
    """User and system seconds of all processes that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def on_core(core: int) -> Generator[None]:
    """Let this process, and those that it starts, use one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start_run(store: Path, tasks: int, trials: int) -> subprocess.Popen[bytes]:
    """A run on its core."""
    command = ["run", "rollout", "--tasks", str(tasks), "--trials", str(trials), "--quiet", "--store", str(store)]
    with on_core(RUN_CORE):
        return subprocess.Popen([sys.executable, "-m", "simkit", *command], stdout=subprocess.DEVNULL)


def unwatched(tasks: int, trials: int) -> float:
    """User and system seconds of a run alone."""
    with tempfile.TemporaryDirectory() as scratch:
        before = cpu_of_children()
        start_run(Path(scratch) / "store", tasks, trials).wait()
        return cpu_of_children() - before


def watched(browser: Browser, tasks: int, trials: int) -> tuple[float, list[float]]:
    """User and system seconds of a watched run, and by how many seconds each look at its page was behind."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"
        Store(store)
        with served(store) as address:
            page = browser.new_page()
            page.goto(f"{address}/", wait_until="domcontentloaded")
            before = cpu_of_children()
            process, journal = start_run(store, tasks, trials), Journal(store)
            looks = list(_looks(process, journal, page, address))
            used = cpu_of_children() - before
            page.close()
    return used, [journal.behind(at, shown) for at, shown in looks if shown < tasks * trials]


def _looks(process: subprocess.Popen[bytes], journal: Journal, page: Page, address: str) -> Iterator[tuple[float, int]]:
    """The times at which the page was looked at while the run went, and the number of episodes that it showed."""
    while process.poll() is None:
        journal.look()
        if journal.run and "/runs/" not in page.url:
            page.goto(f"{address}/runs/{journal.run}", wait_until="domcontentloaded")
        if "/runs/" in page.url:
            text = page.evaluate("document.querySelector('.run-title .num')?.textContent ?? '0 of'")
            yield time.monotonic(), int(text.partition(" of")[0].replace(",", ""))
        time.sleep(EVERY)


class Journal:
    """The journal of the newest run, and when it had how many finished episodes."""

    def __init__(self, store: Path) -> None:
        self._folder = store / "journals"
        self._read = 0
        self.run = ""
        self.episodes = 0
        self.times: list[tuple[float, int]] = []

    def look(self) -> None:
        """Count the episodes that have been finished since the last look."""
        if not self.run:
            self.run = next((path.name for path in self._folder.glob("*")), "")
        path = self._folder / self.run / "main.jsonl"
        if not self.run or not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        self._read += len(text)
        self.episodes += text.count(b'{"e":"EpisodeFinished"')
        self.times.append((time.monotonic(), self.episodes))

    def behind(self, at: float, shown: int) -> float:
        """Seconds between a look at a page, and the last moment at which its number was the journal's."""
        passed = [when for when, count in self.times if count > shown and when <= at]
        return at - passed[0] if passed else 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=5)
    flags = parser.parse_args()
    if (reason := missing()) is not None:
        sys.exit(reason)
    size = (flags.tasks, flags.trials)
    shares: list[float] = []
    noise: list[float] = []
    behind: list[float] = []
    with on_core(VIEW_CORE), opened_browser() as browser:
        for number in range(flags.pairs):
            alone = unwatched(*size)
            seen, late = watched(browser, *size)
            again = unwatched(*size)
            shares.append(seen / alone - 1)
            noise.append(again / alone - 1)
            behind += late
            print(f"{number + 1}: alone {alone:.1f} s, watched {seen:.1f} s, alone {again:.1f} s", flush=True)
    print(f"watched: median {median(shares):+.1%} of {flags.tasks * flags.trials:,} episodes' user and system seconds")
    print(f"noise: unwatched pairs differ by {', '.join(f'{each:+.1%}' for each in noise)}")
    if len(behind) > 1:
        late = quantiles(behind, n=20)[-1]
        print(f"the page is behind by {median(behind):.1f} s (median), {late:.1f} s (95th percentile)")


if __name__ == "__main__":
    main()
