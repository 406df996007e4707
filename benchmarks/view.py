"""How quickly the viewer's pages answer, in a real browser, beside `inspect view` on a log of as many samples.

    python benchmarks/view.py
    python benchmarks/view.py --inspect ENV/bin/python     an environment with inspect-ai, for the second column

Makes a store with 500 runs, among them one of 10,000 episodes and trees of 888, 5,000 and 20,000 branches, starts
`simkit view`, and opens each page in Chromium several times. Prints medians: of the time until the page has been drawn
and waits for no answer, of the time from a key to the next frame, and the JavaScript heap after a collection.
Needs the test extras and Chromium (docs/viewer.md).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from view_inspect import inspect_view
from view_stores import EPISODES, TREES, make

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for `support`

from simkit.store import Store
from support.browser import missing, opened_browser, served, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

KEYS = 20
HEAP = "() => { globalThis.gc?.(); return performance.memory.usedJSHeapSize }"
FIRST_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
KEYSTROKE = """key => new Promise(done => {
  const begin = performance.now();
  const target = document.activeElement?.matches('input') ? document.activeElement : document.body;
  if (target.matches('input')) {
    target.value += key;
    target.dispatchEvent(new Event('input', { bubbles: true }));
  } else target.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin)));
})"""


@dataclass(frozen=True, slots=True)
class Target:
    """A number that the design promises, in its unit, and what was measured."""

    name: str
    unit: str
    most: float
    found: float
    other: float | None = None

    def line(self) -> str:
        """The target as a row."""
        other = "" if self.other is None else f"{self.other:10.2f}"
        return f"{self.name:<44} {self.found:9.2f} {self.unit:<3} (at most {self.most:g}) {other}"


@contextmanager
def opened(browser: Browser, address: str, path: str) -> Generator[tuple[Page, float]]:
    """A page in a fresh profile, and the seconds until it was drawn."""
    with visiting(browser, address) as visit:
        begin = time.perf_counter()
        page = visit.open(path)
        yield page, time.perf_counter() - begin


def measured(browser: Browser, address: str, path: str, repeats: int) -> tuple[float, float, float]:
    """Medians of the first paint in seconds, of the seconds until the page is drawn, and of its heap in MB."""
    paints: list[float] = []
    times: list[float] = []
    heaps: list[float] = []
    for _ in range(repeats):
        with opened(browser, address, path) as (page, seconds):
            times.append(seconds)
            paints.append((page.evaluate(FIRST_PAINT) or 0) / 1e3)
            heaps.append(page.evaluate(HEAP) / 1e6)
    return median(paints), median(times), median(heaps)


def keystrokes(page: Page, keys: Sequence[str]) -> float:
    """Median milliseconds from a key to the next frame."""
    return median(page.evaluate(KEYSTROKE, key) for key in keys)


def pages(browser: Browser, address: str, ids: dict[str, str], repeats: int) -> Iterator[Target]:
    """The targets, one after another."""
    paint, runs, _ = measured(browser, address, "/", repeats)
    yield Target("first paint", "s", 1.0, paint)
    yield Target("list of 500 runs", "s", 1.5, runs)
    _, seconds, heap = measured(browser, address, f"/runs/{ids[EPISODES]}", repeats)
    yield Target("run of many episodes", "s", 2.0, seconds)
    yield Target("run of many episodes, heap", "MB", 30, heap)
    with opened(browser, address, f"/runs/{ids[EPISODES]}") as (page, _):
        page.locator("input[type=search]").first.focus()
        yield Target("run of many episodes, a letter of the filter", "ms", 100, keystrokes(page, "test-0001"))
    for name, branches in TREES.items():
        path = f"/runs/{ids[name]}/t/0"
        _, seconds, heap = measured(browser, address, path, repeats)
        yield Target(f"tree of {branches:,}", "s", 3.0 if branches > 5_000 else 2.0, seconds)
        yield Target(f"tree of {branches:,}, heap", "MB", 30, heap)
        with opened(browser, address, path) as (page, _):
            yield Target(f"tree of {branches:,}, a key", "ms", 50, keystrokes(page, ["j", "k", "h", "l"] * (KEYS // 4)))
            yield Target(f"tree of {branches:,}, open all", "ms", 150, keystrokes(page, ["e", "e", "e"]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=500, help="tasks of the run of many episodes")
    parser.add_argument("--trials", type=int, default=20, help="trials of each")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--store", type=Path, help="a store that an earlier call made with --keep")
    parser.add_argument("--keep", type=Path, help="make the store here and keep it")
    parser.add_argument("--inspect", type=Path, help="a Python with inspect-ai")
    flags = parser.parse_args()
    if (reason := missing()) is not None:
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as scratch:
        store = flags.store or flags.keep or Path(scratch) / "store"
        if flags.store is None:
            make(store, tasks=flags.tasks, trials=flags.trials, runs=flags.runs)
        ids = {run.name: run.run_id for run in Store(store).runs()}
        episodes = flags.tasks * flags.trials
        print(f"{flags.runs} runs, one of {episodes:,} episodes; medians of {flags.repeats}")
        with opened_browser("--js-flags=--expose-gc", "--enable-precise-memory-info") as browser:
            with served(store) as address:
                for target in pages(browser, address, ids, flags.repeats):
                    print(target.line(), flush=True)
            if flags.inspect is not None:
                print(f"\ninspect view, a log of {episodes:,} samples")
                for name, value in inspect_view(browser, flags.inspect, episodes, flags.repeats):
                    print(f"{name:<44} {value}", flush=True)


if __name__ == "__main__":
    main()
