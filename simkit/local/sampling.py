"""Sampling of the next token of all rows at once, each with its own options and seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simkit.errors import BadRequest
from simkit.models.sampling import Sampling
from simkit.plugins.extras import require

DEFAULT_TEMPERATURE = 1.0
"""Temperature of a request that sets none, as in the OpenAI API."""


_COLDEST = 1e-5
"""Temperatures up to this one take the likeliest token: dividing by less overflows."""

_MOST_STOPS, _LONGEST_STOP = 64, 1000

_SUPPORTED = frozenset(
    ("temperature", "top_p", "max_tokens", "stop", "presence_penalty", "frequency_penalty", "logprobs")
)
"""Options that local models follow; all others are refused."""


def check(sampling: Sampling) -> None:
    """Reject sampling options that local models do not support.

    Raises:
        BadRequest: such an option is set; the message names it.
    """
    unknown = [*sampling.extra_body, *(name for name in sampling.settings if name not in _SUPPORTED)]
    if unknown:
        raise BadRequest(f"local models do not support {', '.join(map(repr, unknown))}; omit it")
    for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty"):
        value = getattr(sampling, name)
        if value is not None and not math.isfinite(value):
            raise BadRequest(f"`{name}` is {value}; send a finite number")
    if any(not 0 < len(text) <= _LONGEST_STOP for text in sampling.stop) or len(sampling.stop) > _MOST_STOPS:
        raise BadRequest(
            f"`stop` has an empty text, one of more than {_LONGEST_STOP} characters, or more than {_MOST_STOPS} texts; "
            "send few short ones"
        )


@dataclass(frozen=True, slots=True)
class Choices:
    """Sampling options of all rows, as tensors with one number per row. None if no row uses the option.

    Attributes:
        temperature: above 0; 1 for greedy rows.
        greedy: mask of the rows that take the likeliest token.
        all_greedy: whether all rows do.
        top_p: the share of the probability to keep.
        penalised: rows with penalties: index, presence, frequency.
    """

    temperature: Any
    greedy: Any | None
    all_greedy: bool
    top_p: Any | None
    penalised: tuple[tuple[int, float, float], ...]

    @classmethod
    def of(cls, rows: Sequence[Sampling], device: Any) -> Choices:
        """The options of these rows."""
        torch = require("torch", "local")
        heat = [DEFAULT_TEMPERATURE if row.temperature is None else row.temperature for row in rows]
        cold = [each <= _COLDEST for each in heat]
        top_p = [1.0 if row.top_p is None else row.top_p for row in rows]
        penalties = (
            (index, row.presence_penalty or 0.0, row.frequency_penalty or 0.0) for index, row in enumerate(rows)
        )
        return cls(
            temperature=torch.tensor([1.0 if each <= _COLDEST else each for each in heat], device=device)[:, None],
            greedy=torch.tensor(cold, device=device) if any(cold) else None,
            all_greedy=all(cold),
            top_p=torch.tensor(top_p, device=device)[:, None] if min(top_p, default=1.0) < 1 else None,
            penalised=tuple(each for each in penalties if each[1] or each[2]),
        )


def uniforms(seed: int, count: int) -> list[float]:
    """Random numbers in [0, 1) for the tokens of one reply. They depend only on the seed, not on the machine."""
    numpy = require("numpy", "local")
    return numpy.random.Generator(numpy.random.Philox(seed & ((1 << 128) - 1))).random(count).tolist()


@dataclass(frozen=True, slots=True)
class Allowed:
    """The tokens that constrained rows may take.

    Attributes:
        rows: the indices of these rows.
        tokens: for each of them, which tokens may follow [rows, vocabulary].
    """

    rows: Any
    tokens: Any


def pick(
    logits: Any,
    choices: Choices,
    chances: Sequence[float],
    written: Sequence[Sequence[int]],
    allowed: Allowed | None = None,
) -> tuple[Any, Any]:
    """Pick the next token of each row.

    A random number per row selects the token by inverse transform sampling, so a row's token depends only on its own
    logits, options and seed.

    Args:
        logits: [rows, vocabulary].
        choices: the options of the rows.
        chances: one number in [0, 1) per row; empty if all rows are greedy.
        written: the tokens each row has generated so far; used only for penalties.
        allowed: the tokens that constrained rows may take; None if all are free.

    Returns:
        The tokens and their log probabilities, two tensors of shape [rows]. The log probabilities are the model's own,
        before penalties, constraints, temperature and top_p.
    """
    torch = require("torch", "local")
    logits = logits.float()
    surprise = torch.log_softmax(logits, -1)
    if choices.penalised:
        logits = _penalised(torch, logits, choices, written)
    if allowed is not None:
        held = logits[allowed.rows].masked_fill(~allowed.tokens, float("-inf"))
        logits = logits.index_copy(0, allowed.rows, held)
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
    """Keep the likeliest tokens whose probabilities sum to at least `top_p`, and set the others to zero."""
    ordered, order = probabilities.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    dropped = before >= top_p
    dropped[:, 0] = False  # at least the likeliest is kept, also if `top_p` is 0
    kept = ordered.masked_fill(dropped, 0.0)
    return torch.zeros_like(probabilities).scatter_(-1, order, kept)


def _penalised(torch: Any, logits: Any, choices: Choices, written: Sequence[Sequence[int]]) -> Any:
    logits = logits.clone()
    for index, presence, frequency in choices.penalised:
        if written[index]:
            ids = torch.tensor(written[index], device=logits.device)
            counts = torch.bincount(ids, minlength=logits.shape[1])
            logits[index] -= presence * (counts > 0) + frequency * counts
    return logits
