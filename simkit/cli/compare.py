"""`simkit compare`: compares runs on the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simkit.cli.output import BOLD, WARNING, say, say_json
from simkit.cli.program import open_store, print_notes
from simkit.cli.tables import print_table
from simkit.comparison import Arm, Comparison
from simkit.comparison.measures import DEFAULT
from simkit.comparison.plan import ComparisonPlan, RunsAs
from simkit.core.out_files import check_out_file, check_out_folder
from simkit.core.safe_text import visible_line
from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.store import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareFlags:
    """The flags of the command."""

    runs: Sequence[str]
    arms: Sequence[str]
    metrics: Sequence[str]
    noise: str
    level: float
    plan: ComparisonPlan
    out: Path | None
    markdown: Path | None
    json: bool
    allow_incomplete: bool = False


def compare(path: Path | None, flags: CompareFlags) -> None:
    """Compare runs, print tables and claims, and write the requested files.

    Raises:
        UsageError, StoreError: the runs cannot be compared, or the store cannot be read.
    """
    from simkit.comparison import compare as compare_arms

    if flags.markdown is not None:
        check_out_file(flags.markdown)
    if flags.out is not None:
        check_out_folder(flags.out)
    with open_store(path).reading(allow_incomplete=flags.allow_incomplete) as reader:
        found = compare_arms(
            reader,
            [*_single(reader, flags.runs), *map(parse_arm, flags.arms)],
            metrics=tuple(flags.metrics) or DEFAULT,
            noise=_listed(flags.noise),
            level=flags.level,
            plan=flags.plan,
        )
    if flags.json:
        say_json(found.to_json(), strict=True)
    else:
        _print(found)
    print_notes((*found.state.notes, *found.state.shortfalls) if found.state else ())
    _write(found, flags)


def parse_arm(text: str) -> Arm:
    """An arm as a flag gives it: NAME=RUN,RUN.

    Raises:
        UsageError: the text has another form.
    """
    name, equals, runs = text.partition("=")
    if not equals:
        raise UsageError(f"--arm {text} names no runs; write --arm NAME=RUN,RUN")
    return Arm(name.strip(), _listed(runs))


def plan_of(
    pairs: Sequence[str], primary: Sequence[str], *, all_pairs: bool, margin: float | None, runs_as: RunsAs | None
) -> ComparisonPlan:
    """The plan that the flags give.

    Raises:
        UsageError: a flag has another form.
    """
    return ComparisonPlan(
        pairs=[_two(text, "--pair", "BEFORE=AFTER") for text in pairs],
        primary=dict(_two(text, "--primary", "SUITE=METRIC") for text in primary),
        all_pairs=all_pairs,
        margin=margin,
        runs_as=runs_as,
    )


def _two(text: str, flag: str, form: str) -> tuple[str, str]:
    left, equals, right = (part.strip() for part in text.partition("="))
    if not (left and equals and right):
        raise UsageError(f"{flag} {text} names one side; write {flag} {form}")
    return left, right


def _single(reader: Reader, names: Sequence[str]) -> list[Arm]:
    """One arm per run, named after the run, or by its id if two runs have the same name."""
    runs = [reader.resolve(name) for name in names]
    labels = [run.name or run.run_id for run in runs]
    unique = [label if labels.count(label) == 1 else run.run_id for label, run in zip(labels, runs, strict=True)]
    return [Arm(label, (run.run_id,)) for label, run in zip(unique, runs, strict=True)]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(each for part in text.split(",") if (each := part.strip()))


def _print(found: Comparison) -> None:
    for title, table in found.tables():
        say(visible_line(title), BOLD)
        print_table(table)
        say()
    for note in found.notes:
        say(f"note: {visible_line(note)}", WARNING)
    for claim in found.claims:
        say(f"• {visible_line(claim)}")


def _write(found: Comparison, flags: CompareFlags) -> None:
    """Write the files; their paths go to stderr, so that stdout holds only the results."""
    if flags.markdown is not None:
        _save(flags.markdown, found.to_markdown())
        say(f"written: {flags.markdown}", err=True)
    if flags.out is not None:
        try:
            pictures = found.save_pictures(flags.out)
        except UsageError as error:
            say(f"no pictures: {error}", WARNING, err=True)
        else:
            say(f"pictures: {', '.join(map(str, pictures))}", err=True)


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}; name another file") from error
