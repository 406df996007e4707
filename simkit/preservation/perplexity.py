"""Perplexity of held-out text under a local model, in nats per token and in bits per byte.

Bits per byte can be compared across tokenizers. A text longer than the model's context is read through a window that
advances by `stride` tokens, so that every token is predicted exactly once and, after the first window, from at least
`window - stride` tokens before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from math import exp, log
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio.to_thread
import orjson

from simkit.errors import UsageError, reason
from simkit.plugins.extras import require
from simkit.preservation.local_weights import Weights

if TYPE_CHECKING:
    from simkit.run.run import Run


@dataclass(frozen=True, slots=True)
class Document:
    """A held-out text with an id that is the same in every run."""

    id: str
    text: str

    @classmethod
    def of(cls, text: str, name: object = None) -> Document:
        """A document; without a name its id is a digest of its text."""
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return cls(digest if name is None else str(name), text)

    @property
    def bytes(self) -> int:
        """Length of the text in UTF-8, which does not depend on the tokenizer."""
        return len(self.text.encode("utf-8", "surrogatepass"))


def read_corpus(path: Path, limit: int | None = None) -> tuple[Document, ...]:
    """Read the documents of a corpus, without duplicates, at most the first `limit`.

    A `.jsonl` file holds one document per line, `{"text": "..."}` with an optional `id`. In any other file, empty lines
    separate documents. In a folder, each `.txt` file is a document.

    Raises:
        UsageError: the corpus cannot be read or holds no text, a line has no text, or two texts share an id.
    """
    try:
        if path.is_dir():
            found = [Document.of(each.read_text(encoding="utf-8"), each.name) for each in sorted(path.glob("*.txt"))]
        elif path.suffix == ".jsonl":
            found = list(_lines(path))
        else:
            found = [Document.of(text) for text in _paragraphs(path.read_text(encoding="utf-8").splitlines())]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the corpus {path} cannot be read: {reason(error)}; give a text file, JSON lines or a folder"
        ) from (error)
    documents = _distinct([each for each in found if each.text.strip()], path)
    if not documents:
        raise UsageError(f"the corpus {path} holds no text; give documents separated by empty lines, or JSON lines")
    return tuple(documents[:limit])


def _lines(path: Path) -> Iterator[Document]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"{path}, line {number} is not JSON ({error}); write one document per line") from error
        fields = cast("dict[str, Any]", row) if isinstance(row, dict) else {}
        text: object = fields.get("text")
        if not isinstance(text, str):
            raise UsageError(f'{path}, line {number} has no text; write {{"text": "..."}}')
        yield Document.of(text, fields.get("id"))


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    gathered: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            gathered.append(line)
        elif gathered:
            yield "\n".join(gathered)
            gathered = []


def _distinct(documents: list[Document], path: Path) -> list[Document]:
    known: dict[str, Document] = {}
    for document in documents:
        if known.setdefault(document.id, document) != document:
            raise UsageError(
                f"{path} has two texts with the id {document.id}; give each its own id, or leave the ids out"
            )
    return list(known.values())


CHUNK = 32
"""Documents that are scored between two writes to the journal."""

MAX_WINDOW = 2048
"""Tokens of the default window at most: longer windows cost much and change little."""

LOWER_IS_BETTER = {"nll_per_token": "lower", "bits_per_byte": "lower"}
"""Direction of the metrics, as it is stored with each score."""


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """Options of the sliding window, all in tokens.

    Attributes:
        window: size of the window.
        stride: distance by which it advances.
        batch: tokens that are computed at once.

    Raises:
        UsageError: the window holds fewer than two tokens, or the stride is not smaller than the window.
    """

    window: int
    stride: int
    batch: int = 4096

    def __post_init__(self) -> None:
        if self.window < 2 or not 1 <= self.stride < self.window:
            raise UsageError(
                f"a window of {self.window} tokens cannot be combined with a stride of {self.stride}; --window must be "
                "2 or more, --stride at least 1 and smaller than the window"
            )

    @classmethod
    def of(cls, weights: Weights, window: int | None, stride: int | None) -> WindowOptions:
        """Window options for a model; default: its context, at most 2,048 tokens, and a stride of half the window.

        Raises:
            UsageError: the window is longer than the model's context, or the stride does not fit the window.
        """
        if window is not None and window > weights.context:
            raise UsageError(
                f"--window {window} is more than the context of {weights.name}; give {weights.context} or less"
            )
        size = window or min(weights.context, MAX_WINDOW)
        return cls(size, stride or max(1, size // 2))


@dataclass(frozen=True, slots=True)
class HeldOutCorpus:
    """A corpus to be scored: its name, its documents, and the window and stride in tokens if chosen."""

    name: str
    documents: Sequence[Document]
    window: int | None = None
    stride: int | None = None

    @property
    def suite(self) -> str:
        """Name of the suite that its documents are scored in."""
        return f"{self.name}/perplexity"


@dataclass(frozen=True, slots=True)
class Window:
    """One position of the sliding window: tokens `begin` to `end`, of which those from `first` on are predicted."""

    begin: int
    end: int
    first: int


@dataclass(frozen=True, slots=True)
class DocumentScore:
    """Score of a document: `nll` in nats over all its tokens, of which `unknown` are the unknown token."""

    document: str
    nll: float
    tokens: int
    bytes: int
    unknown: int

    @property
    def nll_per_token(self) -> float:
        """Nats per token."""
        return self.nll / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of UTF-8."""
        return self.nll / log(2) / self.bytes


@dataclass(frozen=True, slots=True)
class CorpusScore:
    """Score of a whole corpus, in which every token has the same weight."""

    documents: int
    tokens: int
    bytes: int
    nll: float
    unknown: int

    @property
    def perplexity(self) -> float:
        """Exponential of the nats per token."""
        return exp(self.nll / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of UTF-8."""
        return self.nll / log(2) / self.bytes

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens, which make the other figures look better than they are."""
        return self.unknown / self.tokens


def windows(length: int, options: WindowOptions) -> Iterator[Window]:
    """Windows over `length` tokens: the first token is given, every other one is predicted once."""
    end = 1
    while end < length:
        first = end
        end = min(length, options.window if first == 1 else first + options.stride)
        yield Window(max(0, end - options.window), end, first)


def score_documents(weights: Weights, documents: Sequence[Document], options: WindowOptions) -> list[DocumentScore]:
    """Scores of the documents; blocks while the model computes.

    Raises:
        UsageError: the tokenizer finds no token in one of them.
    """
    texts = [_tokens(weights, document) for document in documents]
    pieces = [(place, piece) for place, text in enumerate(texts) for piece in windows(len(text), options)]
    pieces.sort(key=lambda each: each[1].end - each[1].begin, reverse=True)
    nats = [0.0] * len(texts)
    for batch in _batches(pieces, options.batch):
        found = _nll(weights, [(texts[place][piece.begin : piece.end], piece) for place, piece in batch])
        for (place, _), value in zip(batch, found, strict=True):
            nats[place] += value
    unknown: Any = weights.tokenizer.unk_token_id
    return [
        DocumentScore(document.id, value, len(text) - 1, document.bytes, text[1:].count(unknown))
        for document, text, value in zip(documents, texts, nats, strict=True)
    ]


async def measure_corpus(run: Run, weights: Weights, held_out: HeldOutCorpus) -> CorpusScore:
    """Score a corpus into the store, document by document; documents that this run has scored already are skipped.

    Raises:
        UsageError: window and stride do not fit this model, or the tokenizer finds no token in a document.
    """
    options = WindowOptions.of(weights, held_out.window, held_out.stride)
    done = await _scored_documents(run, held_out.suite)
    left = [document for document in held_out.documents if document.id not in done]
    for start in range(0, len(left), CHUNK):
        run.progress.note = f"{held_out.suite}: {len(done)} of {len(held_out.documents)} documents"
        work = partial(score_documents, weights, left[start : start + CHUNK], options)
        for score in await anyio.to_thread.run_sync(work):
            _keep(run, held_out.suite, score)
            done[score.document] = score
    scores = [done[document.id] for document in held_out.documents]
    return CorpusScore(
        documents=len(scores),
        tokens=sum(each.tokens for each in scores),
        bytes=sum(each.bytes for each in scores),
        nll=sum(each.nll for each in scores),
        unknown=sum(each.unknown for each in scores),
    )


def _keep(run: Run, suite: str, score: DocumentScore) -> None:
    counts = {"tokens": score.tokens, "bytes": score.bytes, "nll": score.nll, "unknown": score.unknown}
    run.score_item(
        suite,
        score.document,
        detail={**counts, "better": LOWER_IS_BETTER},
        nll_per_token=score.nll_per_token,
        bits_per_byte=score.bits_per_byte,
    )


async def _scored_documents(run: Run, suite: str) -> dict[str, DocumentScore]:
    found = await run.query(
        "select item, (detail ->> 'nll')::double, (detail ->> 'tokens')::bigint, (detail ->> 'bytes')::bigint, "
        "(detail ->> 'unknown')::bigint from item_scores where run_id = ? and suite = ? and metric = 'nll_per_token'",
        run.id,
        suite,
        runs=(run.id,),
    )
    return {row[0]: DocumentScore(*row) for row in found.rows}


def _tokens(weights: Weights, document: Document) -> list[int]:
    ids = weights.tokenizer(document.text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise UsageError(f"the tokenizer of {weights.name} finds no token in the document {document.id}; remove it")
    return [weights.prefix, *ids]


def _batches(pieces: Sequence[tuple[int, Window]], tokens: int) -> Iterator[list[tuple[int, Window]]]:
    """Batches of at most `tokens` tokens with padding, but at least one window each; the longest come first."""
    batch: list[tuple[int, Window]] = []
    for piece in pieces:
        longest = (batch or [piece])[0][1]
        if batch and (len(batch) + 1) * (longest.end - longest.begin) > tokens:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _nll(weights: Weights, batch: Sequence[tuple[list[int], Window]]) -> list[float]:
    """Negative log-likelihood of the predicted tokens of each window, in nats."""
    torch = require("torch", "preserve")
    width = max(len(ids) for ids, _ in batch)
    padded = [ids + [weights.prefix] * (width - len(ids)) for ids, _ in batch]
    ids = torch.tensor(padded, device=weights.device)
    seen = torch.tensor([[1] * len(own) + [0] * (width - len(own)) for own, _ in batch], device=weights.device)
    targets = torch.tensor([_targets(own, piece, width) for own, piece in batch], device=weights.device)
    with torch.inference_mode():
        logits: Any = weights.model(input_ids=ids, attention_mask=seen).logits[:, :-1].float()
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), targets[:, 1:], ignore_index=-100, reduction="none"
        )
    return each.double().sum(dim=1).tolist()


def _targets(ids: Sequence[int], piece: Window, width: int) -> list[int]:
    """The tokens to be predicted, and -100 for all others."""
    given = piece.first - piece.begin
    return [-100] * given + list(ids[given:]) + [-100] * (width - len(ids))


def corpus_figures(name: str, score: CorpusScore) -> dict[str, Any]:
    """Summary figures of a corpus, without intervals; `compare` gives the interval of a difference."""
    found: dict[str, Any] = {
        f"{name} bits per byte": score.bits_per_byte,
        f"{name} perplexity": score.perplexity,
        f"{name} documents": score.documents,
        f"{name} tokens": score.tokens,
    }
    if score.unknown:
        found[f"{name} share of unknown tokens"] = score.unknown_share
    return found
