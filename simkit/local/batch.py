"""The rows that are generated together: admission, one pass for all, removal."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from simkit.local.chat import ChatFormat
from simkit.local.forward import Forward, Pass
from simkit.local.memory import BLOCK, BlockKey, Prefixes, Slots, looked_at
from simkit.local.sampling import Choices, pick, uniforms
from simkit.models.sampling import Sampling
from simkit.plugins.extras import require

PASS_TOKENS = 2048
"""Approximate number of prompt tokens read in one pass."""

_FIRST = 128
_TAIL = 8


@dataclass(slots=True, eq=False)
class Job:
    """One reply, while it is generated.

    Attributes:
        prompt: token ids before the reply.
        sampling: sampling options.
        seed: seed of the random numbers that pick its tokens.
        room: maximum tokens of the reply.
        ids, logprobs: tokens generated so far, and their log probabilities.
        finish: the reason why it ended; None while it is generated.
        text: the reply up to the stop text that ended it; None without one.
        cached: tokens of the prompt that were not computed again.
        dropped: whether its caller has stopped waiting.
    """

    prompt: list[int]
    sampling: Sampling
    seed: int
    room: int
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    finish: Literal["stop", "length"] | None = None
    text: str | None = None
    cached: int = 0
    dropped: bool = False
    _chances: list[float] = field(default_factory=list[float])

    @property
    def stored(self) -> int:
        """Number of tokens whose keys and values are in memory once it runs: all but the last."""
        return len(self.prompt) + len(self.ids) - 1

    @property
    def last(self) -> int:
        """The newest token."""
        return self.ids[-1] if self.ids else self.prompt[-1]

    @property
    def longest(self) -> int:
        """Maximum tokens of prompt and reply together."""
        return len(self.prompt) + self.room

    def chance(self) -> float:
        """The random number in [0, 1) that picks the next token."""
        index = len(self.ids)
        if index >= len(self._chances):
            self._chances = uniforms(self.seed, self.room if index else min(self.room, _FIRST))
        return self._chances[index]


@dataclass(slots=True, kw_only=True)
class Batch:
    """The replies that are being generated.

    Attributes:
        forward: runs the model.
        slots: keys and values, one slot per row.
        prefixes: keys and values of prefixes computed before.
        chat: the tokens that end a reply, and decoding for stop texts.
        max_rows: maximum number of rows.
        max_cells: maximum of rows times tokens; a single row may always run.
        rows: the jobs in the batch, in the order of their slots.
    """

    forward: Forward
    slots: Slots
    prefixes: Prefixes
    chat: ChatFormat
    max_rows: int
    max_cells: int
    rows: list[Job] = field(default_factory=list[Job])
    _choices: Choices | None = None

    def step(self, waiting: deque[Job]) -> list[Job]:
        """Admit waiting jobs, generate one token per row, and return the jobs that ended."""
        dropped = [job for job in self.rows if job.dropped]
        for job in dropped:
            self._leave(job)
        self._admit(waiting)
        if not self.rows:
            return []
        tokens, logprobs = self._next()
        ended: list[Job] = []
        ends = self.chat.ends
        for job, token, logprob in zip(self.rows, tokens, logprobs, strict=True):
            job.ids.append(token)
            job.logprobs.append(logprob)
            if token in ends:
                job.finish = "stop"
                ended.append(job)
            elif (job.sampling.stop and self._stopped(job)) or len(job.ids) >= job.room:
                job.finish = job.finish or "length"
                ended.append(job)
        for job in ended:
            self._leave(job)
        return ended

    def reset(self) -> None:
        """Drop all rows and prefixes."""
        self.rows.clear()
        self.prefixes.clear()
        self._choices = None

    def _next(self) -> tuple[list[int], list[float]]:
        torch = require("torch", "local")
        rows, device = self.rows, self.slots.data.device
        stored = [job.stored for job in rows]
        width = looked_at(max(stored) + 1, device.type)
        self.slots.reserve(len(rows), width)
        ids = torch.tensor([[job.last] for job in rows], device=device)
        work = Pass(ids, torch.tensor(stored, device=device)[:, None], 0, width)
        logits = self.forward(work, self.slots, True)
        if self._choices is None:
            self._choices = Choices.of([job.sampling for job in rows], device)
        choices = self._choices
        chances = () if choices.all_greedy else [job.chance() for job in rows]
        tokens, logprobs = pick(logits, choices, chances, [job.ids for job in rows] if choices.penalised else ())
        return tokens.tolist(), logprobs.tolist()

    # --- joining ------------------------------------------------------------------------------------------------------

    def _admit(self, waiting: deque[Job]) -> None:
        joining = self._fitting(waiting)
        while joining:
            now, joining = self._one_round(joining)  # the others then find the shared prefixes in memory
            chunks = _chunks(now)
            for chunk in chunks:  # place all before reading any: storing one may evict prefixes that another needs
                self._place(chunk)
            for chunk in chunks:
                self._read(chunk)

    def _fitting(self, waiting: deque[Job]) -> list[Job]:
        joining: list[Job] = []
        longest = max((job.longest for job in self.rows), default=0)
        while waiting and len(self.rows) + len(joining) < self.max_rows:
            count = len(self.rows) + len(joining) + 1
            longest = max(longest, waiting[0].longest)
            if count > 1 and count * longest > self.max_cells:
                break
            job = waiting.popleft()
            if not job.dropped:
                joining.append(job)
        return joining

    def _one_round(self, joining: list[Job]) -> tuple[list[_Start], list[Job]]:
        """The jobs to read now, and those to delay because a job of this round reads the same missing block."""
        now, later, reading = list[_Start](), list[Job](), set[BlockKey]()
        for job in joining:
            places, missing = self.prefixes.find(job.prompt[:-1])
            if missing is not None and missing in reading:
                later.append(job)
                continue
            if missing is not None:
                reading.add(missing)
            now.append(_Start(job, places))
        return now, later

    def _place(self, starts: list[_Start]) -> None:
        """Assign slots to prompts, and load their known prefixes."""
        first = len(self.rows)
        tokens = max(start.left for start in starts)
        self.slots.reserve(first + len(starts), max(start.known for start in starts) + tokens + 1)
        for slot, start in enumerate(starts, first):
            self.prefixes.load(start.places, self.slots, slot)
            start.slot = slot
            start.job.cached = start.known
            self.rows.append(start.job)
        self._choices = None

    def _read(self, starts: list[_Start]) -> None:
        """Compute the rest of some prompts, except the last token, and store it as prefixes."""
        tokens = max(start.left for start in starts)
        if not tokens:
            return
        torch = require("torch", "local")
        device = self.slots.data.device
        ids = torch.tensor([start.padded(tokens) for start in starts], device=device)
        known = torch.tensor([[start.known] for start in starts], device=device)
        positions = known + torch.arange(tokens, device=device)
        width = looked_at(max(start.known for start in starts) + tokens, device.type)
        self.forward(Pass(ids, positions, starts[0].slot, width), self.slots, False)
        for start in starts:
            self.prefixes.keep(start.job.prompt[:-1], self.slots, start.slot)

    # --- leaving ------------------------------------------------------------------------------------------------------

    def _leave(self, job: Job) -> None:
        slot, last = self.rows.index(job), len(self.rows) - 1
        if not job.dropped:
            self.prefixes.keep((job.prompt + job.ids)[: job.stored], self.slots, slot)
        if slot != last:
            self.slots.move(last, slot, self.rows[last].stored)
            self.rows[slot] = self.rows[last]
        self.rows.pop()
        self._choices = None

    def _stopped(self, job: Job) -> bool:
        """Whether the reply contains one of its stop texts. If so, sets the text before it and the finish reason."""
        longest = max(len(text) for text in job.sampling.stop)
        tail = self.chat.text(job.ids[-(longest + _TAIL) :])  # nearly every token is at least one character
        if not any(text in tail for text in job.sampling.stop):
            return False
        whole = self.chat.text(job.ids)
        places = [place for text in job.sampling.stop if (place := whole.find(text)) >= 0]
        if not places:
            return False
        job.text, job.finish = whole[: min(places)], "stop"
        return True


@dataclass(slots=True)
class _Start:
    """A job that joins the batch, the blocks that hold the beginning of its prompt, and its slot."""

    job: Job
    places: Sequence[int]
    slot: int = -1

    @property
    def known(self) -> int:
        """Number of tokens in those blocks."""
        return len(self.places) * BLOCK

    @property
    def left(self) -> int:
        """Number of tokens to read, without the prompt's last, which the pass for the first new token reads."""
        return len(self.job.prompt) - 1 - self.known

    def padded(self, length: int) -> list[int]:
        """The tokens to read, padded at the end. The padding's memory is overwritten later."""
        ids = self.job.prompt[self.known : -1]
        return ids + [0] * (length - len(ids))


def _chunks(starts: list[_Start]) -> list[list[_Start]]:
    """Group starts of similar length, so that there is little padding and no pass is too large."""
    chunks: list[list[_Start]] = []
    for start in sorted(starts, key=lambda each: each.left):
        current = chunks[-1] if chunks else []
        fits = current and (len(current) + 1) * start.left <= PASS_TOKENS and start.left <= 2 * current[0].left + 16
        if fits:
            current.append(start)
        else:
            chunks.append([start])
    return chunks
