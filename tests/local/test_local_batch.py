"""Who joins a batch, which lanes there are, which prompts are read in one pass, and how much memory all that takes."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest

from simkit.errors import ContextTooLong, UsageError
from simkit.local.batch import Batch
from simkit.local.constraints import Constraints
from simkit.local.engine import LocalEngine
from simkit.local.forward import Forward, LlamaForward, Pass, probe
from simkit.local.job import Job
from simkit.local.lane import PASS_TOKENS, Machinery
from simkit.local.memory import BLOCK, Prefixes, Slots
from simkit.local.weights import EngineOptions
from simkit.models.sampling import Sampling
from simkit.plugins.extras import require
from support.tiny_llama import tiny_engine, tiny_model, tiny_tokenizer


class Noted:
    """Runs passes, and keeps how many rows of how many tokens each had."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.passes: list[tuple[int, int]] = []

    def __call__(self, work: Pass, slots: Slots, logits: bool) -> Any:
        self.passes.append((int(work.ids.shape[0]), int(work.ids.shape[1])))
        return self._forward(work, slots, logits)


def batch(*, max_rows: int = 8, max_cells: int = 10_000, prefixes: int = 0) -> tuple[Batch, Noted]:
    engine = tiny_engine()
    shape = probe(engine.model)
    noted = Noted(LlamaForward(engine.model, engine.context))
    machinery = Machinery(
        forward=noted,
        shape=shape,
        prefixes=Prefixes(shape, prefixes),
        chat=engine.chat,
        constraints=Constraints(engine.chat, 150),
    )
    return Batch(machinery, max_rows, max_cells), noted


def jobs(*lengths: int, room: int = 4) -> deque[Job]:
    """Replies to prompts of some lengths, in tokens."""
    sampling = Sampling(temperature=0)
    return deque(Job([5 + number] * length, sampling, number, room) for number, length in enumerate(lengths))


def stepped(made: Batch, waiting: deque[Job]) -> list[list[int]]:
    """The lengths of the prompts that are generated after one step, by lane."""
    with require("torch", "local").inference_mode():
        made.step(waiting)
    return [[len(job.prompt) for job in lane.rows] for lane in made.lanes]


@pytest.mark.parametrize(
    ("max_cells", "joined"),
    [(60, [16, 16, 16]), (59, [16, 16]), (40, [16, 16]), (39, [16]), (20, [16])],
)
def test_rows_of_one_length_share_a_lane_within_the_memory(max_cells: int, joined: list[int]) -> None:
    waiting = jobs(16, 16, 16)
    assert stepped(batch(max_cells=max_cells)[0], waiting) == [joined]
    assert len(waiting) == 3 - len(joined)


def test_one_lane_while_there_is_plenty_of_memory() -> None:
    assert stepped(batch(max_cells=1000)[0], jobs(16, 60, 30)) == [[16, 30, 60]]


def test_a_long_row_has_a_lane_of_its_own_where_memory_is_scarce() -> None:
    made, noted = batch(max_cells=300)
    assert stepped(made, jobs(16, 16, 196, 16)) == [[16, 16, 16], [196]], "4 rows of 200 tokens are 800"
    assert noted.passes[-2:] == [(3, 1), (1, 1)]
    assert sum(lane.slots.cells for lane in made.lanes) <= 300


def test_a_row_waits_until_the_memory_that_it_needs_is_free() -> None:
    made, _ = batch(max_cells=100)
    later = jobs(60, 60)
    assert stepped(made, later) == [[60]]
    assert len(later) == 1
    assert [stepped(made, later) for _ in range(4)][-1] == [[60]]
    assert not later


def test_a_lane_without_rows_gives_up_its_memory() -> None:
    made, _ = batch(max_cells=300)
    stepped(made, jobs(196, room=1))
    assert not made.rows
    assert stepped(made, jobs(*[16] * 8, room=20)) == [[16] * 8]
    assert sum(lane.slots.cells for lane in made.lanes) <= 300


def test_no_more_rows_than_there_may_be() -> None:
    waiting = jobs(4, 4, 4)
    assert stepped(batch(max_rows=2)[0], waiting) == [[4, 4]]
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


def test_prompts_that_join_together_are_read_within_the_memory_that_they_are_left_with() -> None:
    """Two prompts that are read in one pass, one of them known in part, are padded beyond both; others join too."""
    made, _ = batch(max_rows=20, max_cells=600, prefixes=1_000_000)
    (known,) = jobs(2 * BLOCK + 1, room=1)
    stepped(made, deque([known]))
    partly, fresh = [5] * 2 * BLOCK + [9] * 6, [7] * 11
    sampling = Sampling(temperature=0)
    prompts = [partly, fresh, *([20 + number] * 37 for number in range(13))]
    together = [Job(prompt, sampling, 0, 2) for prompt in prompts]
    stepped(made, deque(together))
    assert [len(job.ids) for job in together] == [1] * 15
    assert together[0].cached == 2 * BLOCK
    alone, _ = batch()
    for job, prompt in zip(together, prompts, strict=True):
        (same,) = again = deque([Job(prompt, sampling, 0, 2)])
        stepped(alone, again)
        assert same.ids == job.ids
        alone.reset()


def test_a_row_that_fails_ends_alone() -> None:
    made, _ = batch()
    good, bad = jobs(16, 16)
    bad.logprobs = None  # type: ignore[assignment]
    with require("torch", "local").inference_mode():
        ended = made.step(deque([good, bad]))
    assert ended == [bad]
    assert isinstance(bad.error, AttributeError)
    assert made.rows == [good]
    assert len(good.ids) == 1


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("seed", range(3))
def test_memory_is_a_bound_for_random_arrivals_and_replies_stay_what_they_are(kind: str, seed: int) -> None:
    """Mostly short prompts and a few long ones, which join and leave at random; some repeat earlier ones."""
    chance = random.Random(seed)
    limit = 400_000
    small = tiny_engine(kind, EngineOptions(memory=limit / 1e9, max_batch=40))
    large = tiny_engine(kind)
    known: list[list[int]] = []
    made: list[Job] = []
    waiting = deque[Job]()
    batch_of_small: Batch = small._batch  # pyright: ignore[reportPrivateUsage]
    with require("torch", "local").inference_mode():
        while len(made) < 60 or waiting or batch_of_small.rows:
            for _ in range(chance.choice((0, 0, 1, 5)) if len(made) < 60 else 0):
                length = chance.choice((10, 12, 20, 40, 60, 480))
                prompt = [chance.randrange(5, 100) for _ in range(length)]
                if known and chance.random() < 0.3:
                    prompt = chance.choice(known)[:300] + prompt[:20]
                known.append(prompt)
                sampling = Sampling(temperature=1.0, max_tokens=chance.randrange(1, 25))
                job = small.job(prompt, sampling, len(made))
                made.append(job)
                waiting.append(job)
            if chance.random() < 0.05 and batch_of_small.rows:
                chance.choice(batch_of_small.rows).dropped = True
            batch_of_small.step(waiting)
            assert batch_of_small.size <= limit
    kept = [job for job in made if not job.dropped]
    assert len(kept) > 40
    alone = large.generate([job.prompt for job in kept], [job.sampling for job in kept], [job.seed for job in kept])
    assert [job.ids for job in kept] == [reply.ids for reply in alone]


def test_memory_is_a_bound_also_while_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of parts count, too: the most that exists at once is measured at each allocation."""
    engine = tiny_engine(options=EngineOptions(memory=4e-4))
    batch_of_engine: Batch = engine._batch  # pyright: ignore[reportPrivateUsage]
    shape_type = type(batch_of_engine.machinery.shape)
    plain, most = shape_type.empty, [0]

    def empty(shape: Any, rows: int, tokens: int, planes: int | None = None) -> Any:
        new = plain(shape, rows, tokens, planes)
        most[0] = max(most[0], batch_of_engine.size + new.nbytes)
        return new

    monkeypatch.setattr(shape_type, "empty", empty)
    for length in (20, 300, 40, 480, 10):
        engine.generate([[5 + length % 90] * length] * 12, Sampling(max_tokens=20))
    assert 200_000 < most[0] <= 400_000


def test_a_conversation_that_cannot_fit_alone_is_refused_with_advice() -> None:
    engine = tiny_engine(options=EngineOptions(memory=1e-4))
    with pytest.raises(ContextTooLong, match=r"the option `memory` has space for \d+ \(raise it\)"):
        engine.generate([[5] * 400], Sampling(max_tokens=5))
    (made,) = engine.generate([[5] * 200], Sampling(max_tokens=500))
    assert len(made.ids) < 50
    with pytest.raises(UsageError, match="give it more gigabytes"):
        tiny_engine(options=EngineOptions(memory=1e-7))


def test_a_token_that_the_model_does_not_know_is_one_requests_fault() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer, vocab_size=100)
    with pytest.raises(UsageError, match="but the model knows 100 tokens"):
        LocalEngine(model, tokenizer).generate([[5, 120]])


def test_slots_keep_their_contents_when_they_grow_and_shrink() -> None:
    torch = require("torch", "local")
    shape = probe(tiny_engine().model)
    slots = Slots(shape)
    slots.reserve(2, 20, 10_000)
    assert (slots.rows, slots.tokens) == (2, 256), "there is room for whole steps"
    for plane in slots.planes(0, 2):
        plane[:] = torch.arange(256, dtype=plane.dtype)[:, None]
    slots.reserve(3, 20, 60)
    assert (slots.rows, slots.tokens) == (3, 20)
    slots.reserve(3, 40, 120)
    for plane in slots.planes(0, 2):
        assert plane[1, 0, :, 0].tolist() == [*range(20), *[0] * 20]
    assert slots.size == slots.cells * shape.token_bytes


def test_prefixes_are_found_again_over_several_pieces_of_memory() -> None:
    torch = require("torch", "local")
    shape = probe(tiny_engine().model)
    slots, prefixes = Slots(shape), Prefixes(shape, 900 * BLOCK * shape.token_bytes)
    ids = [number % 90 for number in range(300 * BLOCK)]
    slots.reserve(2, len(ids), 2 * len(ids))
    for plane in slots.planes(0, 1):
        plane[:] = torch.rand(plane.shape)
    for end in (100, 200, 300):
        prefixes.keep(ids[: end * BLOCK], slots, 0)
    places, missing = prefixes.find(ids)
    assert len(places) == 300
    assert missing is None
    prefixes.load(places, slots, 1)
    for plane in slots.planes(0, 2):
        assert torch.equal(plane[0], plane[1])
    assert prefixes.size <= 900 * BLOCK * shape.token_bytes
