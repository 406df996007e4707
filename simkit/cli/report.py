"""Final report of a run: the summary table, the location of the results, and commands to try next."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simkit.cli.output import BOLD, say, say_json
from simkit.cli.program import program, store_flag
from simkit.cli.tables import terminal_width
from simkit.core.events import FLOOR, READS_MADE, WRITES_MADE
from simkit.core.safe_text import visible_line
from simkit.monitoring.reply_flags import reply_notes
from simkit.run.summary import Summary
from simkit.statistics.scores import Estimate

_SOLUTION = {READS_MADE: "reads", WRITES_MADE: "writes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Report of a finished run.

    Attributes:
        fault: the first cause of a faulted episode.
        problem: reason why it is not done.
        models: totals of its model calls by name, as stored; empty without model calls.
        flags: number of messages of this part of the run with each doubt.
        adjusted: how requests were adjusted to what the endpoints accept.
        local: whether its models are in this process.
    """

    run_id: str
    name: str
    recipe: str
    status: str
    store: Path
    seconds: float
    summary: Summary
    fault: str | None = None
    models: Mapping[str, float] = field(default_factory=dict[str, float])
    flags: Mapping[str, int] = field(default_factory=dict[str, int])
    adjusted: tuple[str, ...] = ()
    problem: str | None = None
    local: bool = False

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {
            "run_id": self.run_id,
            "name": self.name,
            "recipe": self.recipe,
            "status": self.status,
            "problem": self.problem,
            "store": str(self.store),
            "seconds": round(self.seconds, 3),
            **self.summary.to_json(),
            **({"models": dict(self.models)} if self.models else {}),
            **({"flags": dict(self.flags)} if self.flags else {}),
            **({"adjusted": list(self.adjusted)} if self.adjusted else {}),
        }


def print_report(report: Report, *, as_json: bool, quiet: bool) -> None:
    """Print the report: the table on stdout, or the table on stderr and one line of JSON last on stdout."""
    print_summary(report, to_stderr=as_json)
    if not quiet:
        say(_where(report), err=as_json)
    if as_json:
        say_json(report.to_json(), strict=True)


def print_summary(report: Report, *, to_stderr: bool) -> None:
    """Print the summary: a title and lines of two columns, long values wrapped on a terminal."""
    title = f"{report.run_id}" + (f" ({report.name})" if report.name else "") + f": {report.status}"
    say(visible_line(title), BOLD, err=to_stderr)
    rows = _rows(report)
    names = max(len(name) for name, _ in rows)
    width = terminal_width(sys.stderr if to_stderr else sys.stdout)
    for name, value in rows:
        value = visible_line(value)
        lines = [value] if width is None else textwrap.wrap(value, max(20, width - names - 4)) or [""]
        for number, line in enumerate(lines):
            say(f"  {'' if number else name:<{names}}  {line}".rstrip(), err=to_stderr)


def _rows(report: Report) -> list[tuple[str, str]]:
    summary, account = report.summary, report.summary.account
    reasons = sorted(account.reasons.items(), key=lambda each: -each[1])
    extra = [(name.replace("_", " "), reported(value)) for name, value in summary.extra.items()]
    took = [("model calls", _called(report.models))] if report.models else []
    took += [("adjusted", "; ".join(report.adjusted))] if report.adjusted else []
    took.append(("time", f"{report.seconds:.1f} s"))
    if extra and not account.planned:  # an evaluation or a training, without conversations
        return [*extra, *took]
    rows = [
        ("episodes", _counted(summary)),
        ("average reward", _estimate(summary.reward)),
        ("success rate", _estimate(summary.success_rate)),
    ]
    if len(summary.pass_k) > 1:
        rows += [(f"pass^{k}", f"{value:.3f}") for k, value in enumerate(summary.pass_k, 1)]
    rows += _measures(summary)
    rows += extra
    rows += [("not played", f"{count} of {account.planned}: {' '.join(why.split())}") for why, count in reasons]
    outcomes = ", ".join(f"{name} {count}" for name, count in summary.outcomes.items())
    rows += [("first fault", " ".join(report.fault.split()))] if report.fault else []
    rows += [
        ("outcomes", outcomes or "none"),
        ("agent turns", _turns(summary)),
        *took,
    ]
    return [*rows, *(("replies", f"{count} {note}") for count, note in reply_notes(report.flags, local=report.local))]


def _measures(summary: Summary) -> Iterator[tuple[str, str]]:
    """What the reward measures beside its value, in the worlds that say how an episode should end."""
    found, (won, of) = summary.measures, summary.floor_tasks
    if FLOOR in found:
        yield "doing nothing", f"{found[FLOOR]:.3f} average reward, {won} of {of} tasks solved"
    made = [f"{found[name]:.3f} of the {noun}" for name, noun in _SOLUTION.items() if name in found]
    if made:
        yield "solution's calls", f"made {' and '.join(made)}"


def _turns(summary: Summary) -> str:
    """Agent turns; in single conversations every turn is on the final path."""
    if summary.branches == summary.turns:
        return f"{summary.turns}"
    return f"{summary.branches} in all branches, {summary.turns} on final paths"


def _called(models: Mapping[str, float]) -> str:
    """Calls, tokens and cost of this part of a run."""
    parts = [f"{models['calls']:,.0f} answered"]
    counted = (("replayed", "from a recording"), ("rate_limited", "rate limits"), ("failed", "failed attempts"))
    parts += [f"{models[name]:,.0f} {noun}" for name, noun in counted if models[name]]
    parts.append(f"{models['prompt_tokens'] + models['completion_tokens']:,.0f} tokens")
    return ", ".join([*parts, f"${models['cost']:.4f}"] if models["cost"] else parts)


def _counted(summary: Summary) -> str:
    left_out, account = summary.episodes - summary.scored, summary.account
    of = f" of {account.planned} planned" if account.planned != summary.episodes else ""
    notes = [f"{account.kept} kept"] if account.kept else []
    notes += [f"{left_out} not scored"] if left_out else []
    notes += [f"{summary.faulted} faulted"] if summary.faulted else []
    return f"{summary.episodes}{of}" + (f" ({', '.join(notes)})" if notes else "")


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "nothing was scored"
    return f"{estimate.value:.3f}   95% interval {estimate.low:.3f} to {estimate.high:.3f}"


def reported(value: Any) -> str:
    """A number or interval that a recipe reported, formatted for reading."""
    match value:
        case {"value": float(middle), "low": float(low), "high": float(high)}:
            return _estimate(Estimate(middle, low, high))
        case float():
            return f"{value:.3f}"
        case _:
            return f"{value}"


def _incomplete(report: Report) -> bool:
    return report.status in ("stopped", "interrupted") or report.summary.account.not_played > 0


def _where(report: Report) -> str:
    simkit, store, run = program(), store_flag(report.store), report.run_id
    place = report.store.resolve()
    faulted = (f"  {simkit} doctor {run}{store}",) if report.fault else ()
    unfinished = (f"  {simkit} resume {run}{store}",) if _incomplete(report) else ()
    if report.fault and not unfinished:
        unfinished = (f"  {simkit} resume {run} --retry-faulted{store}",)
    return "\n".join(
        (
            f"Results: {place} (SQL: {place / 'simkit.duckdb'}). Next:",
            *unfinished,
            *faulted,
            f"  {simkit} show {run}{store}",
            f'  {simkit} sql "from run_summary"{store}',
            *(f"  {simkit} {command}{store}" for command in _more(report)),
        )
    )


def _more(report: Report) -> Sequence[str]:
    """Commands about what the run has recorded; none about what an unfinished run does not have."""
    run, summary = report.run_id, report.summary
    if report.recipe in ("selftrain", "scratch"):
        return ("ls --parts",)
    if not summary.account.planned:
        if report.status != "done":
            return ()
        table, columns = (
            ("item_scores", "suite, metric, avg(value)")
            if report.recipe == "preserve"
            else ("metrics", "stage, name, last(value order by step)")
        )
        return (f"sql \"select {columns} from {table} where run_id = '{run}' group by all order by all\"",)
    if not summary.episodes:
        return ()
    lowest = f"select task_id, reward from episode_scores where run_id = '{run}' order by reward"
    exports = {"josh": "kto", "best_of_n": "sft"}
    kind = exports.get(report.recipe)
    return (f"export {kind} --run {run} --out {kind}.jsonl" if kind else f'sql "{lowest}"',)
