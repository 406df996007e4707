"""The rows that are generated together: who joins, one pass for all, who leaves."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from simkit.local.chat import ChatFormat
from simkit.local.forward import Forward, Pass
from simkit.local.memory import BLOCK, BlockKey, Prefixes, Slots, looked_at
from simkit.local.sampling import Choices, pick, uniforms
from simkit.models.base import Sampling
from simkit.plugins.extras import require

PASS_TOKENS = 2048
"""Tokens of prompts that are read in one pass, about."""

_FIRST = 128
_TAIL = 8


@dataclass(slots=True, eq=False)
class Job:
    """One reply, while it is generated.

    Attributes:
        prompt: what is before it.
        sampling: how its tokens are picked.
        seed: what its luck comes from.
        room: tokens it may have.
        ids, logprobs: what was generated so far.
        finish: how it ended; None as long as it goes on.
        text: the reply up to the stop text that ended it.
        cached: tokens of the prompt that were not computed.
        dropped: nobody waits for it any more.
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
        """Tokens whose keys and values are in memory once it runs: all but the last."""
        return len(self.prompt) + len(self.ids) - 1

    @property
    def last(self) -> int:
        """The newest token."""
        return self.ids[-1] if self.ids else self.prompt[-1]

    @property
    def longest(self) -> int:
        """Tokens it may come to."""
        return len(self.prompt) + self.room

    def chance(self) -> float:
        """The number that picks the next token."""
        index = len(self.ids)
        if index >= len(self._chances):
            self._chances = uniforms(self.seed, self.room if index else min(self.room, _FIRST))
        return self._chances[index]


@dataclass(slots=True, kw_only=True)
class Batch:
    """Everything that is generated now.

    Attributes:
        forward: runs the model.
        slots: memory, one slot per row.
        prefixes: memory of what was read before.
        chat: for texts that stop a reply, and the tokens that end one.
        max_rows: rows at most.
        max_cells: rows times tokens at most; a single row may always run.
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
        """Let those in that wait, give every row a token, and return those that ended."""
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
        """Forget all rows and prefixes."""
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
            now, joining = self._one_round(joining)  # the rest finds in memory what it shares with these
            chunks = _chunks(now)
            for chunk in chunks:  # all before any is read: remembering one may push out what another one needs
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
        """Those that read now, and those that wait because somebody in this round reads the same first block."""
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
        """Give prompts their slots, and put what is known of them there."""
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
        """Read the rest of some prompts but for the last token, and remember it."""
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
        """Whether one of its stop texts has come; then the reply's text ends before it."""
        longest = max(len(text) for text in job.sampling.stop)
        tail = self.chat.text(job.ids[-(longest + _TAIL) :])  # a token is a character at least, but for parts of one
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
    """A job that joins, the blocks that hold the beginning of its prompt, and its slot."""

    job: Job
    places: Sequence[int]
    slot: int = -1

    @property
    def known(self) -> int:
        """Tokens in those blocks."""
        return len(self.places) * BLOCK

    @property
    def left(self) -> int:
        """Tokens to read, without the prompt's last: that one is read in the pass that makes the first token."""
        return len(self.job.prompt) - 1 - self.known

    def padded(self, length: int) -> list[int]:
        """The tokens to read, filled up at the end with some that are overwritten later."""
        ids = self.job.prompt[self.known : -1]
        return ids + [0] * (length - len(ids))


def _chunks(starts: list[_Start]) -> list[list[_Start]]:
    """Starts of about the same length together, so that little is padding and no pass is too large."""
    chunks: list[list[_Start]] = []
    for start in sorted(starts, key=lambda each: each.left):
        current = chunks[-1] if chunks else []
        fits = current and (len(current) + 1) * start.left <= PASS_TOKENS and start.left <= 2 * current[0].left + 16
        if fits:
            current.append(start)
        else:
            chunks.append([start])
    return chunks
