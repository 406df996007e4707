"""Counts of workers, added to those of their run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from simkit.core.records import ComponentLoad
from simkit.models.base import Usage
from simkit.models.middleware.metrics import CallMetrics, Health
from simkit.run.contract import CURRENT_CALLS, NUMBERS, Counts
from simkit.run.engine import RunProgress

NOTHING = Counts()


class CountedWorkers:
    """Adds what workers count to the progress of a run, as they report it."""

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress
        self._last: dict[int, Counts] = {}
        self._health: dict[int, list[Health]] = {}

    def loads(self) -> Iterator[ComponentLoad]:
        """The loads of components in all workers."""
        return (load for counts in self._last.values() for load in counts.loads)

    def last(self, worker: int) -> Counts:
        """What a worker has reported last."""
        return self._last.get(worker, NOTHING)

    def update(self, worker: int, counts: Counts) -> None:
        """Add what a worker has counted since its last report."""
        progress, last = self._progress, self._last.get(worker, NOTHING)
        if worker not in self._last:
            progress.workers += 1
        self._last[worker] = counts
        for name in ("running", "branches", "turns", "hits"):
            setattr(progress, name, getattr(progress, name) + getattr(counts, name) - getattr(last, name))
        progress.flags.update(Counter(counts.flags) - Counter(last.flags))
        progress.lag.worst = max(progress.lag.worst, counts.lag)
        if progress.metrics is not None:
            _add_calls(progress.metrics, counts, last)
            self._show_waits(progress.metrics, worker, counts)

    def gone(self, worker: int) -> None:
        """A worker has ended: what it had in progress ends with it."""
        last = self._last.get(worker)
        if last is not None:
            self.update(worker, last.at_rest())
            self._progress.workers -= 1
            del self._last[worker]

    def _show_waits(self, metrics: CallMetrics, worker: int, counts: Counts) -> None:
        """Show what a worker waits for as an endpoint of its own, for the display."""
        for health in self._health.pop(worker, ()):
            metrics.endpoints.remove(health)
        if counts.waits:
            self._health[worker] = [Health(wait=wait) for wait in counts.waits]
            metrics.endpoints += self._health[worker]


def _add_calls(metrics: CallMetrics, counts: Counts, last: Counts) -> None:
    for name in (*NUMBERS, *CURRENT_CALLS):
        setattr(metrics, name, getattr(metrics, name) + getattr(counts, name) - getattr(last, name))
    now, before = counts.usage, last.usage
    metrics.usage = metrics.usage.plus(
        Usage(
            now.prompt_tokens - before.prompt_tokens,
            now.completion_tokens - before.completion_tokens,
            now.cached_tokens - before.cached_tokens,
            now.cost - before.cost,
        )
    )
