"""Who joins a batch, and which prompts are read in one pass."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from simkit.local.batch import PASS_TOKENS, Batch, Job
from simkit.local.forward import Forward, LlamaForward, Pass, probe
from simkit.local.memory import Prefixes, Slots
from simkit.models.sampling import Sampling
from simkit.plugins.extras import require
from support.tiny_llama import tiny_engine


class Noted:
    """Runs passes, and keeps how many rows of how many tokens each had."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.passes: list[tuple[int, int]] = []

    def __call__(self, work: Pass, slots: Slots, logits: bool) -> Any:
        self.passes.append((int(work.ids.shape[0]), int(work.ids.shape[1])))
        return self._forward(work, slots, logits)


def batch(*, max_rows: int = 8, max_cells: int = 10_000) -> tuple[Batch, Noted]:
    engine = tiny_engine()
    shape = probe(engine.model)
    noted = Noted(LlamaForward(engine.model, engine.context))
    made = Batch(
        forward=noted,
        slots=Slots(shape),
        prefixes=Prefixes(shape, 0),
        chat=engine.chat,
        max_rows=max_rows,
        max_cells=max_cells,
    )
    return made, noted


def jobs(*lengths: int, room: int = 4) -> deque[Job]:
    """Replies to prompts of some lengths, in tokens."""
    sampling = Sampling(temperature=0)
    return deque(Job([5 + number] * length, sampling, number, room) for number, length in enumerate(lengths))


def stepped(made: Batch, waiting: deque[Job]) -> list[int]:
    """The lengths of the prompts that are generated after one step."""
    with require("torch", "local").inference_mode():
        made.step(waiting)
    return [len(job.prompt) for job in made.rows]


@pytest.mark.parametrize(
    ("max_cells", "joined"),
    [(60, [16, 16, 16]), (59, [16, 16]), (40, [16, 16]), (39, [16]), (1, [16])],
)
def test_rows_times_their_longest_stay_within_the_memory_and_one_row_may_always_run(
    max_cells: int, joined: list[int]
) -> None:
    waiting = jobs(16, 16, 16)
    assert stepped(batch(max_cells=max_cells)[0], waiting) == joined
    assert len(waiting) == 3 - len(joined)


def test_a_long_row_counts_for_those_that_are_generated_already() -> None:
    made, _ = batch(max_cells=100)
    assert stepped(made, jobs(16)) == [16]
    later = jobs(60)
    assert stepped(made, later) == [16], "2 rows of 64 tokens are 128"
    assert len(later) == 1
    assert stepped(made, jobs(46)) == [16, 46], "2 rows of 50 tokens are 100"


def test_the_memory_of_a_long_row_that_is_generated_counts_for_those_that_join() -> None:
    made, _ = batch(max_cells=100)
    assert stepped(made, jobs(60)) == [60]
    later = jobs(4)
    assert stepped(made, later) == [60], "2 rows of 64 tokens are 128"
    assert len(later) == 1


def test_no_more_rows_than_there_may_be() -> None:
    waiting = jobs(4, 4, 4)
    assert stepped(batch(max_rows=2)[0], waiting) == [4, 4]
    assert len(waiting) == 1


def test_prompts_of_about_one_length_are_read_together_in_whatever_order_they_come() -> None:
    made, noted = batch()
    stepped(made, jobs(101, 5, 103, 7, 102, 6))
    assert noted.passes == [(3, 6), (3, 102), (6, 1)]


def test_a_pass_reads_no_more_tokens_than_it_may() -> None:
    made, noted = batch()
    stepped(made, jobs(*[PASS_TOKENS // 4 + 1] * 6))
    reading = noted.passes[:-1]
    assert reading == [(4, PASS_TOKENS // 4), (2, PASS_TOKENS // 4)]
