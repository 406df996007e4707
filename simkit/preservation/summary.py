"""What the evaluations came to, as named figures of a run's summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simkit.preservation.findings import Findings
from simkit.preservation.perplexity import CorpusScore
from simkit.preservation.suites import SuiteScore
from simkit.statistics.scores import Estimate


def of_suites(suites: Sequence[SuiteScore]) -> dict[str, Any]:
    """Each figure of each suite, with its interval over questions where it is a mean of theirs."""
    found: dict[str, Any] = {}
    for suite in suites:
        for metric in suite.metrics:
            estimate = suite.estimate(metric)
            found[f"{suite.name} {metric}"] = suite.totals[metric] if estimate is None else interval(estimate)
        found[f"{suite.name} questions"] = len(suite.items)
        if suite.failed:
            found[f"{suite.name} answers that failed"] = suite.failed
    return found


def of_dialogues(name: str, findings: Findings, turns: int) -> dict[str, Any]:
    """Grades, win rate and the judge's agreement with itself."""
    found: dict[str, Any] = {f"{name} answered": findings.answered}
    if findings.unanswered:
        found[f"{name} not answered"] = findings.unanswered
    if findings.score is not None:
        found[f"{name} grade of 10"] = interval(findings.score)
        by_turn = [findings.score_of_turn(turn) for turn in range(turns)] if turns > 1 else []
        found |= {f"{name} grade turn {n}": interval(each) for n, each in enumerate(by_turn, 1) if each is not None}
    if findings.ungraded:
        found[f"{name} answers without a grade"] = findings.ungraded
    found |= _comparison(name, findings)
    return found | ({f"{name} first problem": findings.problem} if findings.problem else {})


def of_corpus(name: str, score: CorpusScore) -> dict[str, Any]:
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


def interval(estimate: Estimate) -> dict[str, float]:
    """An estimate as JSON."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _comparison(name: str, findings: Findings) -> dict[str, Any]:
    agreement = findings.agreement
    found: dict[str, Any] = {}
    if agreement is not None:
        winners = [pair.winner for samples in findings.pairs.values() for sample in samples for pair in sample]
        counts = {"wins": "ours", "ties": "tie", "losses": "theirs"}
        if findings.win_rate is not None:
            found[f"{name} win rate"] = interval(findings.win_rate)
        found[f"{name} pairs"] = ", ".join(f"{winners.count(side)} {word}" for word, side in counts.items())  # pyright: ignore[reportArgumentType]
        found[f"{name} judge agrees"] = None if agreement.same is None else interval(agreement.same)
        found[f"{name} judge kappa"] = agreement.kappa
        found[f"{name} judge ties"] = agreement.ties
        found[f"{name} judge prefers the first"] = agreement.first
        if agreement.missing:
            found[f"{name} pairs without a verdict"] = agreement.missing
    if findings.unopposed:
        found[f"{name} answers without an opponent"] = findings.unopposed
    return {key: value for key, value in found.items() if value is not None}
