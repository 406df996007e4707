"""`simkit export` and `simkit check`: write training examples to files, and check such files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from simkit.cli.output import say, say_json
from simkit.cli.program import open_store, print_notes

if TYPE_CHECKING:
    from simkit.data.checks import CheckReport
    from simkit.data.examples import ExampleSet
    from simkit.data.export import Format
    from simkit.data.reasoning import Reasoning
    from simkit.data.selection import Selection
    from simkit.store import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFlags:
    """The flags of an export except its kind and file."""

    runs: tuple[str, ...]
    source: Literal["golden", "episodes"] = "golden"
    where: str | None = None
    max_per_task: int | None = None
    limit: int | None = None
    seed: int = 0
    errors: Literal["drop", "keep"] | None = None
    reasoning: Reasoning = "keep"
    format: Format = "trl"
    origin: bool = True
    tokenizer: str | None = None
    max_tokens: int | None = None
    clean_of: tuple[str, ...] = ()
    drop_held_out: bool = False
    allow_incomplete: bool = False

    def selection(self) -> Selection:
        """The selection of examples."""
        from simkit.data.selection import Selection

        return Selection(
            runs=self.runs,
            source=self.source,
            where=self.where,
            max_per_task=self.max_per_task,
            limit=self.limit,
            seed=self.seed,
            errors=self.errors,
            reasoning=self.reasoning,
        )


def export(path: Path | None, kind: Literal["sft", "kto", "dpo"], out: Path, flags: ExportFlags, as_json: bool) -> None:
    """Write the file, and report its contents and the omitted examples by reason.

    Nothing is written when a held-out task is among the examples, or when a check finds an error.

    Raises:
        UsageError: the run does not exist or has no such examples, the file name extension is unknown, or the data is
            not fit to train on.
        StoreIncomplete: the journals of the runs have unreadable lines.
        StoreError: the file or the store cannot be used.
    """
    from simkit.data.export import check_out, save
    from simkit.data.origins import origin_file
    from simkit.data.selection import select_with_state

    check_out(out, flags.format)
    with open_store(path).reading(allow_incomplete=flags.allow_incomplete) as reader:
        found, state = select_with_state(reader, kind, flags.selection())
        print_notes((*state.notes, *state.shortfalls))
        _check_found(found, flags, reader)
        examples = _clean(found, flags.clean_of, flags.drop_held_out, reader)
        report = _checked(examples, flags, reader)
    done = save(examples, out, format=flags.format, origin=flags.origin)
    if as_json:
        counts = {reason: done.removed.get(reason, 0) for reason in ("duplicates", "contradictions")}
        say_json({**asdict(done), **counts, "removed": dict(done.removed)}, str)
        return
    say(f"{out}: {done.written} {kind.upper()} examples")
    _say_reasoning(done.reasoning, done.reasoning_left_out, flags.format)
    if done.removed:
        say("left out: " + ", ".join(f"{many} {_REASONS.get(name, name)}" for name, many in done.removed.items()))
    if not flags.origin:
        say("the rows do not name their tasks, so they cannot be checked for held-out tasks later", err=True)
    elif flags.format == "openai":
        say(f"{origin_file(out)}: run, episode, task, model and reward of each row", err=True)
    if report is not None:
        say(report.to_text())


def export_results(path: Path | None, out: Path, flags: ExportFlags, as_json: bool) -> None:
    """Write one run as the benchmark of its world writes its results.

    Raises:
        UsageError: several runs or flags for training examples are given, or the run cannot be written.
        StoreIncomplete: the journals of the run have unreadable lines.
        StoreError: the file or the store cannot be used.
    """
    from simkit.data.result_files import write_results
    from simkit.errors import UsageError

    _refuse_flags(replace(flags, origin=True), "results", "a whole run")
    if len(flags.runs) != 1:
        raise UsageError(f"`export results` writes one run, and {len(flags.runs)} are named; write them one by one")
    with open_store(path).reading(allow_incomplete=flags.allow_incomplete) as reader:
        written = write_results(reader, flags.runs[0], out, origin=flags.origin)
        state = reader.state.of([reader.resolve(flags.runs[0]).run_id])
        print_notes((*state.notes, *state.shortfalls))
    if as_json:
        say_json({"path": str(out), "episodes": written})
        return
    say(f"{out}: {written} episodes")


def export_notes(path: Path | None, out: Path, flags: ExportFlags, as_json: bool) -> None:
    """Write the notes about some runs, with the reward of their episodes and the message that each is about.

    Raises:
        UsageError: flags for training examples are given, a run does not exist, or the file cannot be written.
        StoreIncomplete: the journals of the runs have unreadable lines.
        StoreError: the file or the store cannot be used.
    """
    from simkit.core.out_files import check_out_file
    from simkit.data.export import write_lines

    _refuse_flags(flags, "notes", "all notes of a run")
    check_out_file(out, (".jsonl",))
    with open_store(path).reading(allow_incomplete=flags.allow_incomplete) as reader:
        runs = [reader.resolve(run).run_id for run in flags.runs]
        reader.require_complete(runs, "an export")
        rows = reader.rows(_NOTES, {"runs": runs})
        print_notes(reader.state.of(runs).notes)
    write_lines(({**row, "noted_at": f"{row['noted_at'].isoformat()}Z"} for row in rows), out)
    if as_json:
        say_json({"path": str(out), "notes": len(rows)})
        return
    say(f"{out}: {len(rows)} notes")


_NOTES = """
    select n.*, e.world, e.split, e.agent, e.model, r.version as simkit, e.reward, e.success, e.outcome,
        m.author as message_author, m.content
    from notes n
    left join runs r on r.run_id = n.run_id
    left join episode_facts e on e.episode_id = n.episode_id
    left join messages m on m.episode_id = n.episode_id and m.branch_id = n.branch_id and m.seq = n.seq
    where list_contains($runs, n.run_id) order by n.noted_at, n.note_id
"""


def _refuse_flags(flags: ExportFlags, kind: str, whole: str) -> None:
    """Refuse the flags for training examples.

    Raises:
        UsageError: one is given.
    """
    from simkit.errors import UsageError

    plain = ExportFlags(runs=flags.runs, allow_incomplete=flags.allow_incomplete)
    given = [each.name for each in fields(flags) if getattr(flags, each.name) != getattr(plain, each.name)]
    if given:
        raise UsageError(f"`export {kind}` writes {whole}; leave out the flags for examples: {', '.join(given)}")


def _check_found(found: ExampleSet, flags: ExportFlags, reader: Reader) -> None:
    """Check that there are examples.

    Raises:
        UsageError: there are none; the message says why, and where the runs have some.
    """
    if found.examples:
        return
    from simkit.errors import UsageError

    runs = ", ".join(flags.runs)
    if flags.source == "golden":
        from simkit.data.selection import run_ids

        ids = run_ids(reader, flags.runs)
        if not reader.rows("SELECT 1 FROM harvests JOIN episodes USING (episode_id) WHERE run_id IN ?", [list(ids)]):
            raise UsageError(
                f"{runs} has no harvest: golden conversations come from searches (josh, best_of_n) that took a reward. "
                "For the final conversations of any run: simkit export sft --source episodes"
            )
    reasons = ", ".join(f"{many} {_REASONS.get(name, name)}" for name, many in found.removed.items())
    raise UsageError(f"{runs} has no {found.kind} examples to write{f' (left out: {reasons})' if reasons else ''}")


def _say_reasoning(held: int, left_out: int, format: Format) -> None:
    if held:
        say(f"reasoning: in the answers of {held} examples")
    if left_out:
        why = " (the fine-tuning API has no field for it; --reasoning inline writes it into the text)"
        say(f"reasoning: left out of the answers of {left_out} examples{why if format == 'openai' else ''}")


_REASONS = {
    "contradictions": "negatives that are also desirable",
    "unscored": "episodes without a reward",
    "error_markers": "conversations in which the agent made an error",
    "broken_calls": "conversations with invalid calls",
    "unread_calls": "answers with a call that could not be read",
    "empty": "conversations in which the agent says nothing",
    "over_max_per_task": "over the maximum per task",
    "over_limit": "over the limit",
    "held_out": "examples of held-out tasks",
    "refused": "examples that the fine-tuning API refuses",
    "unfinished": "dialogues that did not reach all goals",
    "runtime_words": "answers after messages of the runtime",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFlags:
    """The flags of a check."""

    tokenizer: str | None = None
    max_tokens: int | None = None
    clean_of: tuple[str, ...] = ()
    drop_held_out: bool = False
    out: Path | None = None
    format: Format = "trl"
    origin: bool = True
    system: Path | None = None
    reasoning: Reasoning | None = None


def check(file: Path, flags: CheckFlags, as_json: bool) -> None:
    """Report the contents and problems of a file of examples, and write it again if requested.

    Raises:
        UsageError: the file cannot be read, or its data is not fit to train on.
    """
    from simkit.data.checks import check as look
    from simkit.data.export import check_out, save
    from simkit.data.reading import read_examples

    if flags.out is not None:
        check_out(flags.out, flags.format)
    examples = read_examples(file)
    if flags.system is not None:
        from simkit.data.examples import with_system

        examples = with_system(examples, flags.system.read_text(encoding="utf-8").strip())
    if flags.reasoning is not None:
        from simkit.data.reasoning import with_reasoning_as

        examples = with_reasoning_as(examples, flags.reasoning)
    examples = _clean(examples, flags.clean_of, flags.drop_held_out, None)
    report = look(examples, flags.tokenizer, max_tokens=flags.max_tokens, format=flags.format)
    if as_json:
        say_json(report.to_json())
    else:
        say(report.to_text())
    _refuse(report)
    if flags.out is not None:
        done = save(examples, flags.out, format=flags.format, origin=flags.origin)
        if not as_json:
            say(f"{flags.out}: {done.written} examples")
            _say_reasoning(done.reasoning, done.reasoning_left_out, flags.format)


def _clean(examples: ExampleSet, specs: Sequence[str], drop: bool, store: Reader | None) -> ExampleSet:
    if not specs:
        return examples
    from simkit.data.held_out import HeldOut, assert_clean_of, without_held_out

    for spec in specs:
        held = HeldOut.read(spec)
        if drop:
            examples = without_held_out(examples, held, store)
        assert_clean_of(examples, held, store)
        say(f"none of the {len(examples)} examples is of {spec} (ids, instructions and goals compared)", err=True)
    return examples


def _checked(examples: ExampleSet, flags: ExportFlags, store: Reader) -> CheckReport | None:
    if flags.tokenizer is None:
        return None
    from simkit.data.checks import check as look

    report = look(examples, flags.tokenizer, max_tokens=flags.max_tokens, store=store)
    if not report.ok:
        say(report.to_text(), err=True)
    _refuse(report)
    return report


def _refuse(report: CheckReport) -> None:
    from simkit.errors import UsageError

    wrong = [finding.name for finding in report.findings if finding.severity == "error"]
    if wrong:
        raise UsageError(
            f"the examples are not fit to train on ({', '.join(wrong)}, see above); leave them out or correct them"
        )
