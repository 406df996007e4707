"""Perplexity of held-out text: known answers, windows that predict every token once, and resumed runs."""

from __future__ import annotations

from math import exp, log
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_weights import CONTEXT, WORDS, write_tiny_weights

from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.plugins.extras import require
from simkit.preservation import perplexity
from simkit.preservation.local_weights import Weights, load_weights
from simkit.preservation.perplexity import Document, WindowOptions, score_documents, windows
from simkit.recipes.preserve import preserve
from simkit.run.run import Run

SHORT = "the cat sat on the mat . then a dog ran"
LONG = " ".join([SHORT, "under the tree and", SHORT, "and then the dog sat on the cat"])


@pytest.fixture(scope="module")
def weights(weights_folder: Path) -> Weights:
    return load_weights(f"local/{weights_folder},device=cpu")


def by_hand(weights: Weights, text: str, window: int, stride: int) -> float:
    """The same number, one token at a time."""
    torch: Any = require("torch", "preserve")
    ids = [weights.prefix, *weights.tokenizer(text, add_special_tokens=False)["input_ids"]]
    total, end = 0.0, min(window, len(ids))
    for place in range(1, len(ids)):
        while place >= end:
            end = min(end + stride, len(ids))
        seen = ids[max(0, end - window) : place]
        with torch.inference_mode():
            logits = weights.model(input_ids=torch.tensor([seen])).logits[0, -1]
        total -= float(torch.log_softmax(logits.double(), dim=-1)[ids[place]])
    return total


@settings(deadline=None)  # a busy machine is no failure
@given(length=st.integers(1, 200), window=st.integers(2, 40), stride=st.integers(1, 39))
def test_every_token_is_predicted_once_with_enough_before_it(length: int, window: int, stride: int) -> None:
    options = WindowOptions(window, min(stride, window - 1))
    found = list(windows(length, options))
    assert [place for each in found for place in range(each.first, each.end)] == list(range(1, length))
    for number, each in enumerate(found):
        assert each.end - each.begin <= window
        assert each.first - each.begin >= (1 if number == 0 else options.window - options.stride)


@pytest.mark.parametrize(
    "options",
    [WindowOptions(CONTEXT, 16), WindowOptions(8, 3), WindowOptions(8, 7, batch=1), WindowOptions(2, 1)],
    ids=str,
)
def test_the_numbers_are_those_counted_by_hand(weights: Weights, options: WindowOptions) -> None:
    documents = [Document.of(text) for text in (LONG, SHORT, "dog")]
    for document, score in zip(documents, score_documents(weights, documents, options), strict=True):
        assert score.nll == pytest.approx(by_hand(weights, document.text, options.window, options.stride), rel=1e-4)
        assert (score.document, score.bytes) == (document.id, len(document.text))
        assert score.tokens == len(document.text.split())


def test_a_model_without_a_preference_is_as_perplexed_as_it_has_words(tmp_path: Path, weights_folder: Path) -> None:
    even = load_weights(f"local/{write_tiny_weights(tmp_path / 'even', even=True)},device=cpu")
    (score,) = score_documents(even, [Document.of(f"{SHORT} elephant")], WindowOptions(8, 4))
    assert exp(score.nll_per_token) == pytest.approx(len(WORDS))
    assert score.bits_per_byte == pytest.approx(12 * log(len(WORDS), 2) / len(f"{SHORT} elephant"))
    assert score.unknown == 1


@pytest.mark.anyio
async def test_a_corpus_is_scored_and_a_resumed_run_reads_nothing_twice(
    tmp_path: Path, weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "held.txt"
    corpus.write_text("\n\n".join(f"{word} {SHORT}" for word in WORDS[3:20]))
    choices = ModelConfig(model=f"local/{weights_folder},device=cpu")
    read: list[int] = []

    def counted(weights: Weights, documents: list[Document], options: WindowOptions) -> Any:
        if len(read) == 2:
            raise RuntimeError("the power went out")
        read.append(len(documents))
        return score_documents(weights, documents, options)

    monkeypatch.setattr(perplexity, "CHUNK", 4)
    monkeypatch.setattr(perplexity, "score_documents", counted)
    with pytest.raises(RuntimeError):
        async with Run(store=tmp_path / "s", name="killed", models=choices) as run:
            await preserve(run, corpus=corpus)
    monkeypatch.setattr(perplexity, "score_documents", score_documents)
    async with Run(store=tmp_path / "s", resume="killed") as run:
        resumed = await preserve(run, corpus=corpus)
    async with Run(store=tmp_path / "s", models=choices) as other:
        whole = await preserve(other, corpus=corpus)
    assert read == [4, 4]
    assert resumed.extra == pytest.approx(whole.extra)
    assert whole.extra["held documents"] == 17
    rows = other.store.query(
        "select item, value, detail -> 'better' ->> metric from item_scores where suite = 'held/perplexity' and "
        "metric = 'bits_per_byte' and run_id = ?",
        [run.id],
    ).rows
    assert len({item for item, _, _ in rows}) == len(rows) == 17
    assert {better for _, _, better in rows} == {"lower"}


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [
        (CONTEXT + 1, None, "is more than the context"),
        (1, None, "must be 2 or more"),
        (8, 8, "smaller than the window"),
    ],
)
def test_a_window_that_cannot_read_is_refused(weights: Weights, window: int, stride: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WindowOptions.of(weights, window, stride)


def test_the_default_options_is_all_the_model_can_see(weights: Weights) -> None:
    assert WindowOptions.of(weights, None, None) == WindowOptions(CONTEXT, CONTEXT // 2)


def test_a_model_that_is_not_there_is_named(weights_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no model can be loaded from .*nowhere"):
        load_weights(f"local/{tmp_path / 'nowhere'}")
