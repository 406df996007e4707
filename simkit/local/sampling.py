"""Picking the next token of every row at once, each by its own choices and its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simkit.errors import BadRequest
from simkit.models.base import Sampling
from simkit.plugins.extras import require

DEFAULT_TEMPERATURE = 1.0
"""What a request without a temperature gets, as everywhere in the OpenAI format."""


def check(sampling: Sampling) -> None:
    """Refuse choices that local models do not have.

    Raises:
        BadRequest: there is one; the message names it.
    """
    unknown = [*sampling.extra_body, *(["reasoning_effort"] if sampling.reasoning_effort else [])]
    if unknown:
        raise BadRequest(f"local models do not know {', '.join(map(repr, unknown))}; leave it out")


@dataclass(frozen=True, slots=True)
class Choices:
    """The sampling choices of all rows, as tensors of one number per row; None where no row has made that choice.

    Attributes:
        temperature: above 0; 1 for the greedy rows.
        greedy: which rows take the likeliest token; `all_greedy` says that every row does.
        top_p: how much of the probability is kept.
        penalised: rows with penalties: index, presence, frequency.
    """

    temperature: Any
    greedy: Any | None
    all_greedy: bool
    top_p: Any | None
    penalised: tuple[tuple[int, float, float], ...]

    @classmethod
    def of(cls, rows: Sequence[Sampling], device: Any) -> Choices:
        """The choices of some rows."""
        torch = require("torch", "local")
        heat = [DEFAULT_TEMPERATURE if row.temperature is None else row.temperature for row in rows]
        cold = [each <= 0 for each in heat]
        top_p = [1.0 if row.top_p is None else row.top_p for row in rows]
        penalties = (
            (index, row.presence_penalty or 0.0, row.frequency_penalty or 0.0) for index, row in enumerate(rows)
        )
        return cls(
            temperature=torch.tensor([1.0 if each <= 0 else each for each in heat], device=device)[:, None],
            greedy=torch.tensor(cold, device=device) if any(cold) else None,
            all_greedy=all(cold),
            top_p=torch.tensor(top_p, device=device)[:, None] if min(top_p, default=1.0) < 1 else None,
            penalised=tuple(each for each in penalties if each[1] or each[2]),
        )


def uniforms(seed: int, count: int) -> list[float]:
    """Numbers in [0, 1) for the tokens of one reply: a function of the seed, whatever the machine."""
    numpy = require("numpy", "local")
    return numpy.random.Generator(numpy.random.Philox(seed & ((1 << 128) - 1))).random(count).tolist()


def pick(logits: Any, choices: Choices, chances: Sequence[float], written: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """The next token of each row, and its log-probability.

    One number in [0, 1) per row picks the token by the inverse of the cumulative distribution, so a row's token depends
    on nothing but its own logits and seed.

    Args:
        logits: rows by words.
        choices: of the rows.
        chances: one number in [0, 1) per row.
        written: the tokens each row has generated so far; read for penalties only.

    Returns:
        Two tensors of one number per row. Log-probabilities are the model's own, before temperature and top_p.
    """
    torch = require("torch", "local")
    logits = logits.float()
    surprise = torch.log_softmax(logits, -1)
    if choices.penalised:
        logits = _penalised(torch, logits, choices, written)
    if choices.all_greedy:
        tokens = logits.argmax(-1)
    else:
        tokens = _sampled(torch, logits, choices, torch.tensor(chances, device=logits.device, dtype=torch.float64))
        if choices.greedy is not None:
            tokens = torch.where(choices.greedy, logits.argmax(-1), tokens)
    return tokens, surprise.gather(1, tokens[:, None])[:, 0]


def _sampled(torch: Any, logits: Any, choices: Choices, chances: Any) -> Any:
    probabilities = torch.softmax(logits / choices.temperature, -1)
    if choices.top_p is not None:
        probabilities = _nucleus(torch, probabilities, choices.top_p)
    sums = probabilities.cumsum(-1, dtype=torch.float64)
    tokens = torch.searchsorted(sums, (chances[:, None] * sums[:, -1:]), right=True)[:, 0]
    last = logits.shape[-1] - 1
    return tokens.clamp_(max=last)


def _nucleus(torch: Any, probabilities: Any, top_p: Any) -> Any:
    """The likeliest words that together have at least `top_p`; the others get nothing."""
    ordered, order = probabilities.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    kept = ordered.masked_fill(before >= top_p, 0.0)
    return torch.zeros_like(probabilities).scatter_(-1, order, kept)


def _penalised(torch: Any, logits: Any, choices: Choices, written: Sequence[Sequence[int]]) -> Any:
    logits = logits.clone()
    for index, presence, frequency in choices.penalised:
        if written[index]:
            ids = torch.tensor(written[index], device=logits.device)
            counts = torch.bincount(ids, minlength=logits.shape[1])
            logits[index] -= presence * (counts > 0) + frequency * counts
    return logits
