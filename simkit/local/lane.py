"""A lane of the batch: rows of similar length, which share memory and get a token in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simkit.local.chat import ChatFormat
from simkit.local.constraints import Constraints
from simkit.local.forward import Forward, Pass
from simkit.local.job import Job
from simkit.local.memory import BLOCK, BlockKey, Prefixes, Shape, Slots, looked_at
from simkit.local.sampling import Choices, pick
from simkit.plugins.extras import require

PASS_TOKENS = 2048
"""Approximate number of prompt tokens read in one pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machinery:
    """What all rows of a model share.

    Attributes:
        forward: runs the model.
        shape: shape of its keys and values.
        prefixes: keys and values of prefixes computed before.
        chat: the tokens that end a reply, and decoding for stop texts.
        constraints: the allowed tokens of rows whose replies have a form.
    """

    forward: Forward
    shape: Shape
    prefixes: Prefixes
    chat: ChatFormat
    constraints: Constraints

    @property
    def device(self) -> str:
        """Type of the device, such as `cuda`."""
        return str(self.shape.device.type)


class Lane:
    """Rows that are generated together, in slots of one length.

    Args:
        machinery: the model and its shared memory.
        most: the number of cells that this lane may hold, given its other memory.
    """

    def __init__(self, machinery: Machinery, most: Callable[[Lane], int]) -> None:
        self._machinery = machinery
        self._most = most
        self._choices: Choices | None = None
        self.slots = Slots(machinery.shape)
        self.rows: list[Job] = []

    @property
    def longest(self) -> int:
        """Tokens that a slot may need."""
        return self.needed(0)

    def needed(self, tokens: int) -> int:
        """Tokens that a slot may need if a row of at most `tokens` joins."""
        longest = max((job.longest for job in self.rows), default=0)
        return looked_at(max(longest, tokens), self._machinery.device)

    def trim(self) -> None:
        """Release memory that the rows cannot need."""
        self.slots.reserve(len(self.rows), self.longest, len(self.rows) * self.longest)

    def read(self, joining: list[Job]) -> None:
        """Add jobs, and read their prompts up to the last token."""
        while joining:
            now, joining = self._one_round(joining)  # the others then find the shared prefixes in memory
            chunks = _chunks(now)
            for chunk in chunks:  # place all before reading any: storing one may evict prefixes that another needs
                self._place(chunk)
            for chunk in chunks:
                self._read(chunk)

    def step(self) -> list[Job]:
        """Generate one token per row. Returns the jobs that ended."""
        if not self.rows:
            return []
        tokens, logprobs = self._next()
        chat, ended = self._machinery.chat, list[Job]()
        for job, token, logprob in zip(self.rows, tokens, logprobs, strict=True):
            if job.error is None:
                try:
                    job.take(token, logprob, chat)
                except Exception as error:
                    job.error = error
            if job.ended:
                ended.append(job)
        for job in ended:
            self.leave(job)
        return ended

    def leave(self, job: Job) -> None:
        """Remove a row, and remember its tokens as a prefix."""
        slot, last = self.rows.index(job), len(self.rows) - 1
        if not job.dropped and job.error is None:
            self._machinery.prefixes.keep((job.prompt + job.ids)[: job.stored], self.slots, slot)
        if slot != last:
            self.slots.move(last, slot, self.rows[last].stored)
            self.rows[slot] = self.rows[last]
        self.rows.pop()
        self._choices = None

    def _next(self) -> tuple[list[int], list[float]]:
        torch = require("torch", "local")
        rows, device = self.rows, self._machinery.shape.device
        stored = [job.stored for job in rows]
        width = looked_at(max(stored) + 1, device.type)
        self._reserve(width)
        ids = torch.tensor([[job.last] for job in rows], device=device)
        work = Pass(ids, torch.tensor(stored, device=device)[:, None], 0, width)
        logits = self._machinery.forward(work, self.slots, True)
        choices = self._choices = self._choices or Choices.of([job.sampling for job in rows], device)
        chances = () if choices.all_greedy else [job.chance() for job in rows]
        written = [job.ids for job in rows] if choices.penalised else ()
        allowed = self._machinery.constraints.allowed(rows, logits)
        tokens, logprobs = pick(logits, choices, chances, written, allowed)
        return tokens.tolist(), logprobs.tolist()

    def _reserve(self, tokens: int) -> None:
        """Ensure space for these tokens of each row, and for what the rows hold already."""
        if len(self.rows) > self.slots.rows or tokens > self.slots.tokens:
            tokens = max(tokens, *(job.stored + 1 for job in self.rows))
            self.slots.reserve(len(self.rows), tokens, self._most(self))

    def _one_round(self, joining: list[Job]) -> tuple[list[_Start], list[Job]]:
        """The jobs to read now, and those to delay because a job of this round reads the same missing block."""
        now, later, reading = list[_Start](), list[Job](), set[BlockKey]()
        for job in joining:
            places, missing = self._machinery.prefixes.find(job.prompt[:-1])
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
        self.rows += (start.job for start in starts)
        self._reserve(self._width(starts))
        for slot, start in enumerate(starts, first):
            self._machinery.prefixes.load(start.places, self.slots, slot)
            start.slot = slot
            start.job.cached = start.known
        self._choices = None

    def _read(self, starts: list[_Start]) -> None:
        """Compute the rest of some prompts, except the last token, and store it as prefixes."""
        tokens = max(start.left for start in starts)
        if not tokens:
            return
        torch = require("torch", "local")
        device = self._machinery.shape.device
        width = min(self._width(starts), self.slots.tokens)  # slots may have become shorter for rows placed since
        ids = torch.tensor([start.padded(tokens) for start in starts], device=device)
        known = torch.tensor([[start.known] for start in starts], device=device)
        positions = (known + torch.arange(tokens, device=device)).clamp_(max=width - 1)
        self._machinery.forward(Pass(ids, positions, starts[0].slot, width), self.slots, False)
        for start in starts:
            self._machinery.prefixes.keep(start.job.prompt[:-1], self.slots, start.slot)

    def _width(self, starts: list[_Start]) -> int:
        """Tokens of memory for reading prompts. Padding beyond it is written to the end of the slot, and masked."""
        tokens = max(start.known for start in starts) + max(start.left for start in starts) + 1
        return min(looked_at(tokens, self._machinery.device), self.longest)


@dataclass(slots=True)
class _Start:
    """A job that joins, the blocks that hold the beginning of its prompt, and its slot."""

    job: Job
    places: Sequence[int]
    slot: int = field(default=-1)

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
