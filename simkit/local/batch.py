"""The replies that are being generated, within a bound on the memory for their keys and values."""

from __future__ import annotations

from collections import deque

from simkit.local.job import Job
from simkit.local.lane import Lane, Machinery
from simkit.local.memory import looked_at

_WORTH_A_LANE = 2  # another lane costs another pass, so it has to save half of the memory


class Batch:
    """Rows in lanes, each of which gets a token in a pass of its own.

    Usually there is one lane. If memory becomes scarce, rows of other lengths get another one, so that one long
    conversation among short ones does not give all of them slots of its length.

    Args:
        machinery: the model and its shared memory.
        max_rows: maximum number of rows.
        max_cells: maximum number of tokens for which there is memory, in all lanes together.
    """

    def __init__(self, machinery: Machinery, max_rows: int, max_cells: int) -> None:
        self.machinery = machinery
        self._max_rows = max_rows
        self._max_cells = max_cells
        self.lanes: list[Lane] = []

    @property
    def longest(self) -> int:
        """Tokens of the longest conversation with its reply that fits."""
        step = looked_at(1, self.machinery.device)
        return self._max_cells // step * step

    @property
    def rows(self) -> list[Job]:
        """The jobs in the batch."""
        return [job for lane in self.lanes for job in lane.rows]

    @property
    def size(self) -> int:
        """Bytes of memory for keys and values, including prefixes."""
        return sum(lane.slots.size for lane in self.lanes) + self.machinery.prefixes.size

    def step(self, waiting: deque[Job]) -> list[Job]:
        """Admit waiting jobs, generate one token per row, and return the jobs that ended."""
        for lane in self.lanes:
            for job in [job for job in lane.rows if job.dropped]:
                lane.leave(job)
        self._admit(waiting)
        return [job for lane in self.lanes for job in lane.step()]

    def reset(self) -> None:
        """Drop all rows and prefixes."""
        self.lanes.clear()
        self.machinery.prefixes.clear()

    def _admit(self, waiting: deque[Job]) -> None:
        joining = dict[Lane, list[Job]]()
        count = len(self.rows)
        while waiting and count < self._max_rows:
            job = waiting[0]
            if not job.dropped:
                lane = self._lane_for(job, joining)
                if lane is None:
                    break
                joining.setdefault(lane, []).append(job)
                count += 1
            waiting.popleft()
        if len(self.lanes) > 1:
            self.lanes = [lane for lane in self.lanes if lane.rows or lane in joining]
        for lane, jobs in joining.items():
            lane.read(jobs)

    def _lane_for(self, job: Job, joining: dict[Lane, list[Job]]) -> Lane | None:
        """The lane for a job, perhaps a new one; None if it has to wait."""
        cells = {lane: _cells(lane, joining.get(lane, ())) for lane in self.lanes}
        costs = {lane: _cells(lane, (*joining.get(lane, ()), job)) - cells[lane] for lane in self.lanes}
        held, alone = sum(cells.values()), looked_at(job.longest, self.machinery.device)
        best = min(costs, key=costs.__getitem__, default=None)
        if best is not None and held + costs[best] <= self._max_cells:
            plenty = 2 * (held + costs[best]) <= self._max_cells
            if plenty or costs[best] <= _WORTH_A_LANE * alone:
                return best
        if held + alone <= self._max_cells:
            self.lanes.append(Lane(self.machinery, self._most))
            return self.lanes[-1]
        return None

    def _most(self, lane: Lane) -> int:
        """The cells that a lane may hold beside the others, which give up what they do not need."""
        others = [each for each in self.lanes if each is not lane]
        wanted = len(lane.rows) * lane.longest
        if sum(each.slots.cells for each in others) + wanted > self._max_cells:
            for each in others:
                each.trim()
        return self._max_cells - sum(each.slots.cells for each in others)


def _cells(lane: Lane, joining: tuple[Job, ...] | list[Job]) -> int:
    """Tokens of memory that a lane needs at most once these jobs have joined."""
    longest = max((job.longest for job in joining), default=0)
    return (len(lane.rows) + len(joining)) * lane.needed(longest)
