"""A simple classifier that tells two groups of dialogues apart, fitted and tested on different dialogues.

Dialogues are split by their ids into three parts, each id in the same part on both sides. From the first part a model
of word pairs is made for each side. On the second part a logistic regression is fitted: to how much likelier a dialogue
is by one model than by the other, to its unknown words and pairs, to its length and writing, and to its most frequent
words and pairs. The third part is only tested on. All of it is a function of the dialogues and the seed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, sqrt
from random import Random
from statistics import fmean, pstdev

from simkit.errors import UsageError
from simkit.recipes.fidelity.dialogues import Dialogue, only
from simkit.statistics.scores import Estimate, mean_of_tasks

LEAST = 30
"""Dialogues of each side that a classifier needs."""

FREQUENT, ROUNDS, PULL = 150, 300, 0.02
"""Frequent words and pairs that are features, rounds of the regression, and the pull of its weights towards 0."""

_TOKEN = re.compile(r"[\w']+|[^\w\s]")
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """How well two groups of dialogues were told apart, on dialogues that the classifier had not seen.

    Attributes:
        accuracy: share of dialogues that were assigned to their side, half of them of each: 0.5 is chance. The 95%
            interval is over ids.
        auc: chance that a dialogue of the second group looks more like the second group than one of the first does.
        tested: dialogues of each side in the test.
    """

    accuracy: Estimate
    auc: float
    tested: int

    @property
    def apart(self) -> bool:
        """Whether they were told apart: chance is below the interval."""
        return self.accuracy.low > 0.5


def tell_apart(first: Sequence[Dialogue], second: Sequence[Dialogue], seed: int = 0) -> Told:
    """Tell two groups of dialogues apart.

    Raises:
        UsageError: a group has fewer than `LEAST` dialogues.
    """
    if min(len(first), len(second)) < LEAST:
        raise UsageError(f"a classifier needs {LEAST} dialogues of each side; there are {len(first)} and {len(second)}")
    first, second = (sorted(side, key=lambda each: each.id) for side in (first, second))
    parts = _parts(frozenset(each.id for each in (*first, *second)), seed)
    models = [_PairModel(only(side, parts[0])) for side in (first, second)]
    fit = [(each, side) for side, found in enumerate((first, second)) for each in only(found, parts[1])]
    features = _Features(models, [each for each, _ in fit])
    regression = _Regression.fit([features.of(each) for each, _ in fit], [side for _, side in fit])
    tested = [only(first, parts[2]), only(second, parts[2])]
    count = min(map(len, tested))
    scores = [[(each.id, regression.score(features.of(each))) for each in found[:count]] for found in tested]
    right: dict[str, list[float]] = {}
    for side, found in enumerate(scores):
        for name, score in found:
            right.setdefault(name, []).append(float((score > 0) == bool(side)))
    wins = [(two > one) + (two == one) / 2 for _, one in scores[0] for _, two in scores[1]]
    return Told(mean_of_tasks(list(right.values())), fmean(wins), count)


def _parts(ids: frozenset[str], seed: int) -> tuple[frozenset[str], ...]:
    names = sorted(ids)
    Random(f"{seed}/parts").shuffle(names)
    third = len(names) // 3
    return frozenset(names[:third]), frozenset(names[third : 2 * third]), frozenset(names[2 * third :])


def tokens(turn: str) -> list[str]:
    """Words and punctuation of a turn, with marks for its ends."""
    return ["<", *_TOKEN.findall(turn.casefold()), ">"]


def _pairs(turn: str) -> Iterable[Pair]:
    found = tokens(turn)
    return pairwise(found)


class _PairModel:
    """Probabilities of words after words, in some dialogues; unknown pairs fall back to the word alone."""

    def __init__(self, dialogues: Sequence[Dialogue]) -> None:
        said = [turn for each in dialogues for turn in each.turns]
        self.pairs = Counter(pair for turn in said for pair in _pairs(turn))
        self.words = Counter(word for turn in said for word in tokens(turn))
        self._before = Counter(word for turn in said for word in tokens(turn)[:-1])
        self._whole = self.words.total() + 0.5 * (len(self.words) + 1)

    def log_chance(self, pair: Pair) -> float:
        """The logarithm of the chance of the second word after the first."""
        alone = (self.words[pair[1]] + 0.5) / self._whole
        return log((self.pairs[pair] + 2 * alone) / (self._before[pair[0]] + 2))


class _Features:
    """The features of a dialogue, scaled as in the dialogues for fitting."""

    def __init__(self, models: Sequence[_PairModel], fit: Sequence[Dialogue]) -> None:
        self._models = models
        counts = Counter(gram for each in fit for gram in _grams(each))
        self._frequent = [gram for gram, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT]]
        rows = [self._raw(each) for each in fit]
        self._centre = [fmean(column) for column in zip(*rows, strict=True)]
        self._scale = [pstdev(column) or 1.0 for column in zip(*rows, strict=True)]

    def of(self, dialogue: Dialogue) -> list[float]:
        """The features: a few numbers with an average deviation of 1, and the frequent words and pairs, with less."""
        scaled = zip(self._raw(dialogue), self._centre, self._scale, strict=True)
        numbers = [max(-3.0, min(3.0, (value - centre) / scale)) for value, centre, scale in scaled]
        known = _grams(dialogue)
        return [*numbers, *((gram in known) / sqrt(FREQUENT) for gram in self._frequent)]

    def _raw(self, dialogue: Dialogue) -> list[float]:
        pairs = [pair for turn in dialogue.turns for pair in _pairs(turn)]
        one, two = self._models
        apart = [two.log_chance(pair) - one.log_chance(pair) for pair in pairs]
        unknown = [fmean(pair not in model.pairs for pair in pairs) for model in self._models]
        strange = [fmean(pair[1] not in model.words for pair in pairs) for model in self._models]
        turns = dialogue.turns
        writing = (
            fmean(turn[0].islower() for turn in turns),
            fmean(turn[-1].isalnum() for turn in turns),
            fmean(turn[-1] == "?" for turn in turns),
        )
        return [fmean(apart), sum(apart), *unknown, *strange, len(turns), len(pairs) / len(turns), *writing]


def _grams(dialogue: Dialogue) -> frozenset[str]:
    words = (tokens(turn) for turn in dialogue.turns)
    return frozenset(gram for turn in words for gram in (*turn, *map(" ".join, pairwise(turn))))


@dataclass(frozen=True, slots=True)
class _Regression:
    """A logistic regression: positive scores are of the second side."""

    weights: tuple[float, ...]
    bias: float

    @classmethod
    def fit(cls, rows: Sequence[Sequence[float]], sides: Sequence[int]) -> _Regression:
        """Weights by gradient descent, each side with the same weight in all."""
        weights, bias = [0.0] * len(rows[0]), 0.0
        share = {side: 0.5 / max(1, sides.count(side)) for side in (0, 1)}
        active = [[(place, value) for place, value in enumerate(row) if value] for row in rows]
        for _ in range(ROUNDS):
            steps, bias_step = [PULL * weight for weight in weights], 0.0
            for row, side in zip(active, sides, strict=True):
                score = bias + sum(weights[place] * value for place, value in row)
                wrong = (1 / (1 + exp(-max(-30.0, min(30.0, score)))) - side) * share[side]
                bias_step += wrong
                for place, value in row:
                    steps[place] += wrong * value
            weights = [weight - step for weight, step in zip(weights, steps, strict=True)]
            bias -= bias_step
        return cls(tuple(weights), bias)

    def score(self, row: Sequence[float]) -> float:
        """The score of a dialogue."""
        return self.bias + sum(weight * value for weight, value in zip(self.weights, row, strict=True))


def swapped(dialogues: Sequence[Dialogue], share: float, seed: int = 0) -> tuple[Dialogue, ...]:
    """Copies in which this share of the words have changed places with other words of their dialogue."""
    return tuple(_swap(each, share, Random(f"{seed}/{each.id}")) for each in dialogues)


def _swap(dialogue: Dialogue, share: float, rng: Random) -> Dialogue:
    turns = [turn.split() for turn in dialogue.turns]
    places = [(n, place) for n, turn in enumerate(turns) for place in range(len(turn))]
    chosen = rng.sample(places, min(len(places), max(2, round(share * len(places)))))
    moved = [turns[n][place] for n, place in chosen]
    for (n, place), word in zip(chosen, [*moved[1:], *moved[:1]], strict=True):
        turns[n][place] = word
    return Dialogue(dialogue.id, tuple(map(" ".join, turns)), dialogue.task)
