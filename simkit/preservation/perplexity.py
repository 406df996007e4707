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

from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.preservation.local_weights import Weights

if TYPE_CHECKING:
    from simkit.run.run import Run


@dataclass(frozen=True, slots=True)
class Document:
    """A text under a name that stays the same while the text does."""

    id: str
    text: str

    @classmethod
    def of(cls, text: str, name: object = None) -> Document:
        """A document; without a name it is called after its content."""
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return cls(digest if name is None else str(name), text)

    @property
    def bytes(self) -> int:
        """Its length in UTF-8, which is the same for every tokenizer."""
        return len(self.text.encode("utf-8", "surrogatepass"))


def read_corpus(path: Path, limit: int | None = None) -> tuple[Document, ...]:
    """The documents of a corpus, each text once, at most the first `limit`.

    `.jsonl`: a document a line, as `{"text": "..."}` with an `id` if you like. Another file: documents are parted by
    empty lines. A folder: each of its `.txt` files is a document.

    Raises:
        UsageError: it cannot be read, a line has no text, two texts share an id, or there is nothing in it.
    """
    try:
        if path.is_dir():
            found = [Document.of(each.read_text(encoding="utf-8"), each.name) for each in sorted(path.glob("*.txt"))]
        elif path.suffix == ".jsonl":
            found = list(_lines(path))
        else:
            found = [Document.of(text) for text in _paragraphs(path.read_text(encoding="utf-8").splitlines())]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the corpus {path} cannot be read: {error}; give a text file, JSON lines or a folder") from (
            error
        )
    documents = _distinct([each for each in found if each.text.strip()], path)
    if not documents:
        raise UsageError(f"the corpus {path} holds no text; give documents parted by empty lines, or JSON lines")
    return tuple(documents[:limit])


def _lines(path: Path) -> Iterator[Document]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"{path}, line {number} is not JSON ({error}); write one document a line") from error
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
            raise UsageError(f"{path} has two texts with the id {document.id}; give each its own, or none")
    return list(known.values())


AT_ONCE = 32
"""Documents between two lines in the journal."""

LONGEST = 2048
"""Tokens of a window when nobody says: longer ones cost much and change little."""

LOWER = {"nll_per_token": "lower", "bits_per_byte": "lower"}
"""What a reader of the scores has to know: less is better."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How long texts are read: the window and by how much it moves on, both in tokens; `batch` tokens are read at once.

    Raises:
        UsageError: the window holds fewer than two tokens, or the stride is not smaller than the window.
    """

    window: int
    stride: int
    batch: int = 4096

    def __post_init__(self) -> None:
        if self.window < 2 or not 1 <= self.stride < self.window:
            raise UsageError(
                f"a window of {self.window} tokens with a stride of {self.stride} cannot read a text; --window must be "
                "2 or more, --stride at least 1 and smaller than the window"
            )

    @classmethod
    def of(cls, weights: Weights, window: int | None, stride: int | None) -> Reading:
        """The reading for a model: its context, 2,048 tokens at most, and half of that where nothing is said.

        Raises:
            UsageError: the window is longer than the model's context, or the two do not go together.
        """
        if window is not None and window > weights.context:
            raise UsageError(f"--window {window} is more than {weights.name} can see ({weights.context} tokens)")
        size = window or min(weights.context, LONGEST)
        return cls(size, stride or max(1, size // 2))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A corpus to be read: its name, its documents, and the window and stride somebody asked for."""

    name: str
    documents: Sequence[Document]
    window: int | None = None
    stride: int | None = None

    @property
    def suite(self) -> str:
        """Under which name its documents are scored."""
        return f"{self.name}/perplexity"


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a text: tokens `begin` to `end`, of which those from `first` on are predicted."""

    begin: int
    end: int
    first: int


@dataclass(frozen=True, slots=True)
class DocumentScore:
    """How a document was predicted: `nll` nats for all its tokens; `unknown` of them stand for something else."""

    document: str
    nll: float
    tokens: int
    bytes: int
    unknown: int

    @property
    def nll_per_token(self) -> float:
        """Nats a token."""
        return self.nll / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of UTF-8."""
        return self.nll / log(2) / self.bytes


@dataclass(frozen=True, slots=True)
class CorpusScore:
    """A whole corpus: every token counts the same."""

    documents: int
    tokens: int
    bytes: int
    nll: float
    unknown: int

    @property
    def perplexity(self) -> float:
        """The exponential of the nats a token."""
        return exp(self.nll / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of UTF-8."""
        return self.nll / log(2) / self.bytes

    @property
    def unknown_share(self) -> float:
        """The share of tokens that stand for text the tokenizer does not know: with them the numbers flatter."""
        return self.unknown / self.tokens


def windows(length: int, reading: Reading) -> Iterator[Window]:
    """The windows over `length` tokens, of which the first is given and all others are predicted once."""
    end = 1
    while end < length:
        first = end
        end = min(length, reading.window if first == 1 else first + reading.stride)
        yield Window(max(0, end - reading.window), end, first)


def score_documents(weights: Weights, documents: Sequence[Document], reading: Reading) -> list[DocumentScore]:
    """How each document is predicted; blocks while the model computes.

    Raises:
        UsageError: the tokenizer reads nothing in one of them.
    """
    texts = [_tokens(weights, document) for document in documents]
    pieces = [(place, piece) for place, text in enumerate(texts) for piece in windows(len(text), reading)]
    pieces.sort(key=lambda each: each[1].end - each[1].begin, reverse=True)
    nats = [0.0] * len(texts)
    for batch in _batches(pieces, reading.batch):
        found = _nats(weights, [(texts[place][piece.begin : piece.end], piece) for place, piece in batch])
        for (place, _), value in zip(batch, found, strict=True):
            nats[place] += value
    unknown: Any = weights.tokenizer.unk_token_id
    return [
        DocumentScore(document.id, value, len(text) - 1, document.bytes, text[1:].count(unknown))
        for document, text, value in zip(documents, texts, nats, strict=True)
    ]


async def measure_corpus(run: Run, weights: Weights, held_out: HeldOut) -> CorpusScore:
    """Score a corpus into the store, document by document; those that this run has scored before are not read again.

    Raises:
        UsageError: window and stride cannot read it with this model, or the tokenizer reads nothing in a document.
    """
    reading = Reading.of(weights, held_out.window, held_out.stride)
    done = await _known(run, held_out.suite)
    left = [document for document in held_out.documents if document.id not in done]
    for start in range(0, len(left), AT_ONCE):
        run.tally.note = f"{held_out.suite}: {len(done)} of {len(held_out.documents)} documents"
        work = partial(score_documents, weights, left[start : start + AT_ONCE], reading)
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
        detail={**counts, "better": LOWER},
        nll_per_token=score.nll_per_token,
        bits_per_byte=score.bits_per_byte,
    )


async def _known(run: Run, suite: str) -> dict[str, DocumentScore]:
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
        raise UsageError(f"the tokenizer of {weights.name} reads nothing in the document {document.id}; leave it out")
    return [weights.prefix, *ids]


def _batches(pieces: Sequence[tuple[int, Window]], tokens: int) -> Iterator[list[tuple[int, Window]]]:
    """Pieces in batches of at most so many tokens with their padding, at least one piece each; longest first."""
    batch: list[tuple[int, Window]] = []
    for piece in pieces:
        longest = (batch or [piece])[0][1]
        if batch and (len(batch) + 1) * (longest.end - longest.begin) > tokens:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _nats(weights: Weights, batch: Sequence[tuple[list[int], Window]]) -> list[float]:
    """The negative log-likelihood of the predicted tokens of each window."""
    torch = require("torch", "preserve")
    width = max(len(ids) for ids, _ in batch)
    padded = [ids + [weights.prefix] * (width - len(ids)) for ids, _ in batch]
    ids = torch.tensor(padded, device=weights.device)
    seen = torch.tensor([[1] * len(own) + [0] * (width - len(own)) for own, _ in batch], device=weights.device)
    wanted = torch.tensor([_wanted(own, piece, width) for own, piece in batch], device=weights.device)
    with torch.inference_mode():
        logits: Any = weights.model(input_ids=ids, attention_mask=seen).logits[:, :-1].float()
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), wanted[:, 1:], ignore_index=-100, reduction="none"
        )
    return each.double().sum(dim=1).tolist()


def _wanted(ids: Sequence[int], piece: Window, width: int) -> list[int]:
    """The tokens to be predicted, -100 for all others."""
    given = piece.first - piece.begin
    return [-100] * given + list(ids[given:]) + [-100] * (width - len(ids))


def corpus_figures(name: str, score: CorpusScore) -> dict[str, Any]:
    """Perplexity and bits a byte; the interval that means something is that of a difference, which `compare` gives."""
    found: dict[str, Any] = {
        f"{name} bits per byte": score.bits_per_byte,
        f"{name} perplexity": score.perplexity,
        f"{name} documents": score.documents,
        f"{name} tokens": score.tokens,
    }
    if score.unknown:
        found[f"{name} share of unknown tokens"] = score.unknown_share
    return found
