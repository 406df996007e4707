"""`simkit ls` and `simkit show`: display runs, episodes, trees and transcripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simkit.cli import output
from simkit.cli.output import say, say_json
from simkit.cli.program import open_store, print_notes, program, store_flag
from simkit.cli.sql import LONGEST, plain
from simkit.cli.tables import print_table, terminal_width
from simkit.core.safe_text import visible_line
from simkit.core.text_table import Column, Table, cut
from simkit.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    from simkit.rule_based.goals import GoalReport
    from simkit.store import EpisodeTree, Reader, RunRow, Transcript, TranscriptLine, TreeNode

LISTED = 40
"""Maximum episodes shown of a run; `simkit sql` lists them all."""

ENDLESS = 10_000
"""Cells per line without a terminal, so that nothing is wrapped."""

RUN_COLUMNS = (
    Column("run"),
    Column("name", shorten=True),
    Column("status"),
    Column("played as", drop=6),
    Column("episodes", drop=1, right=True),
    Column("reward", right=True),
    Column("success", drop=2, right=True),
    Column("faults", drop=3, right=True),
    Column("started UTC", drop=4),
    Column("time", drop=5, right=True),
)
EPISODE_COLUMNS = (
    Column("task/trial"),
    Column("reward", right=True),
    Column("goals", right=True),
    Column("outcome"),
    Column("turns", drop=1, right=True),
    Column("branches", drop=2, right=True),
    Column("flags", drop=3, right=True),
    Column("error", shorten=True),
)

PARTS = "select part, value, weight, evidence from reward_parts where episode_id = ? and weight > 0"

EPISODES = """
    select s.task_id, s.trial, s.reward, s.outcome, s.achieved, s.goals, s.turns, s.branches, s.faults, f.flags,
        s.error, e.supervisor
    from episode_scores s join episodes e using (episode_id)
    left join (select episode_id, sum(len(flags)) as flags from messages group by all) f using (episode_id)
    where s.run_id = ? order by s.reward nulls first, s.task_id, s.trial
"""


def list_runs(path: Path | None, as_json: bool, parts: bool = False) -> None:
    """Print the runs of a store, the latest first; with `parts` including the stages of runs."""
    with open_store(path).reading() as reader:
        runs = [run for run in reader.runs()[::-1] if parts or run.part_of is None]
    if as_json:
        _print_json([asdict(run) for run in runs])
    elif not runs:
        say(f"no runs yet; start one: {program()} run josh")
    else:
        print_table(Table(RUN_COLUMNS, tuple(_run_cells(run) for run in runs)))
    print_notes(reader.state.notes)


def show(
    path: Path | None, run: str, episode: str | None, branch: str | None, as_json: bool, raw: bool = False
) -> None:
    """Print a run, an episode's tree, or a branch's transcript (`raw`: with unescaped control characters).

    Raises:
        UsageError: the run, episode or branch does not exist.
    """
    if raw and branch is None:
        raise UsageError("--raw prints a branch as it was written; name the branch with --branch")
    with open_store(path).reading() as reader:
        found = reader.resolve(run)
        if branch is not None:
            transcript = _transcript(reader, found, episode, branch)
            if raw:
                _print_raw(transcript)
            else:
                _show_transcript(transcript, as_json)
        elif episode is not None:
            with reader.scoped([found.run_id], copy=False) as own:
                tree = own.tree(found.run_id, episode)
                parts = own.query(PARTS, [tree.episode_id]).dicts()
                _show_tree(tree, own.goals(tree), parts, reader.path, as_json)
        else:
            _show_run(reader, found, as_json)
        parts = [each.run_id for each in reader.runs() if each.part_of == found.run_id]
        print_notes(reader.state.of([found.run_id, *parts]).notes)


def _transcript(reader: Reader, run: RunRow, episode: str | None, branch: str) -> Transcript:
    """The conversation of a branch, given as an id (of any run) or as `path.turn` in the episode."""
    named = branch.partition("/")[0] if "/" in branch else run.run_id
    with reader.scoped([named], copy=False) as own:
        if "/" not in branch and episode is not None:
            branch = f"{own.tree(run.run_id, episode).episode_id}/{branch}"
        return own.transcript(branch)


# --- a run ------------------------------------------------------------------------------------------------------------


def _show_run(reader: Reader, run: RunRow, as_json: bool) -> None:
    with reader.scoped([run.run_id], copy=False) as own:
        episodes = own.query(EPISODES, [run.run_id])
    if as_json:
        _print_json({**asdict(run), "episode_scores": episodes.dicts()})
        return
    print_table(Table(RUN_COLUMNS, (_run_cells(run),)))
    say()
    flag = store_flag(reader.path)
    parts = tuple(each for each in reader.runs() if each.part_of == run.run_id)
    _show_unplayed(reader, run)
    _show_end(reader, run)
    if parts or not episodes.rows:
        _show_whole(reader, run, parts)
    if episodes.rows or not parts:
        print_table(Table(EPISODE_COLUMNS, tuple(_episode_cells(row) for row in episodes.dicts()[:LISTED])))
        say()
    if len(episodes.rows) > LISTED:
        query = f"from episode_scores where run_id = '{run.run_id}'"
        say(f'the {LISTED} lowest of {len(episodes.rows)}; all of them: {program()} sql "{query}"{flag}')
    if episodes.rows:
        first = episodes.rows[0]
        say(f"one tree: {program()} show {run.run_id} {first[0]}/{first[1]}{flag}")


UNPLAYED = """
    select coalesce(reason, case when status = 'running' then 'still to be played' else 'open' end) as reason,
        count(*) as units
    from units join runs using (run_id)
    where run_id = ? and (fate = 'not_played' or fate is null)
    and units.attempt = (select max(u.attempt) from units u where u.run_id = runs.run_id)
    group by all order by units desc, reason
"""


def _show_unplayed(reader: Reader, run: RunRow) -> None:
    """Planned episodes that were not played, by reason."""
    found = reader.query(UNPLAYED, [run.run_id]).rows
    for reason, units in found:
        why = cut(" ".join(str(reason).split()), LONGEST)
        say(f"{units} of {run.planned} planned episodes not played: {why}")
    if found:
        say()


def _show_end(reader: Reader, run: RunRow) -> None:
    """Location of the error that ended a run."""
    query = "select error, traceback from faults where run_id = ? and episode_id is null"
    for error, trace in reader.query(query, [run.run_id]).rows[-1:]:
        _show_failure(_console(), error, trace)
        say()


def _show_whole(reader: Reader, run: RunRow, parts: Sequence[RunRow]) -> None:
    """Values that a run reported besides its episodes, and its stages."""
    from simkit.cli.report import reported
    from simkit.run.summary import Summary

    (summary,) = reader.query("select summary from runs where run_id = ?", [run.run_id]).rows[0]
    values: dict[str, Any] = {} if summary is None else json.loads(summary)
    own = [name for name in values if name not in Summary.__dataclass_fields__]
    for name in own:
        say(visible_line(f"{name.replace('_', ' ')}: {reported(values[name])}"))
    if own:
        say()
    if parts:
        print_table(Table(RUN_COLUMNS, tuple(_run_cells(part) for part in parts)))
        say()
        say(f"one stage: {program()} show {parts[-1].run_id}{store_flag(reader.path)}")


def _run_cells(run: RunRow) -> tuple[str, ...]:
    return (
        run.run_id,
        run.name,
        run.status,
        played_as(run.supervisor),
        run.counted,
        _number(run.average_reward),
        _number(run.success_rate),
        str(run.faults),
        f"{run.started_at:%m-%d %H:%M:%S}",
        "" if run.seconds is None else f"{run.seconds:.1f} s",
    )


PLAYED_AS = {"rollout": "rollouts", "josh": "trees", "best_of_n": "best of n"}


def played_as(supervisor: str | None) -> str:
    """Kind of a run's episodes; the rewards of `rollouts` and `trees` are never compared."""
    return " + ".join(PLAYED_AS.get(name, name) for name in supervisor.split(", ")) if supervisor else ""


def _episode_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{row['task_id']}/{row['trial']}",
        _number(row["reward"]),
        f"{row['achieved']} of {row['goals']}",
        str(row["outcome"] or "running"),
        str(row["turns"]),
        "" if row["supervisor"] == "rollout" else str(row["branches"]),
        str(row["flags"] or ""),
        cut(str(row["error"] or ""), LONGEST),
    )


# --- an episode -------------------------------------------------------------------------------------------------------


def _show_tree(
    tree: EpisodeTree, goals: Sequence[GoalReport], parts: Sequence[Mapping[str, Any]], store: Path, as_json: bool
) -> None:
    if as_json:
        _print_json({**asdict(tree), "goal_accounts": [asdict(goal) for goal in goals], "reward_parts": parts})
        return
    console = _console()
    output.show(console, output.text(tree.episode_id, "bold"))
    if tree.instructions:
        output.show(console, output.text(tree.instructions))
    reward = "not scored" if tree.reward is None else f"reward {tree.reward:.3f}"
    output.show(
        console, output.text(f"{reward}, {len(tree.achieved)} of {len(tree.goals)} goals, {tree.outcome or 'running'}")
    )
    _show_failure(console, tree.error, tree.traceback)
    for goal in goals:
        for line in _goal(goal, tree.episode_id):
            output.show(console, line)
    shown = {goal.goal for goal in goals}
    for part in parts:
        if part["part"] not in shown:
            for line in _part(part):
                output.show(console, line)
    if tree.root is None:
        output.show(console, output.text("nothing of it has been recorded yet"))
        return
    output.show(console, _drawn(tree.root))
    output.show(console, output.text("★ golden   + successful   ✗ fault   · neither", "dim"))
    best = tree.final_branch_id or tree.root.branch_id
    place = best.removeprefix(f"{tree.episode_id}/")
    target = f"{tree.run_id} {tree.task_id}/{tree.trial}"
    flag = store_flag(store)
    say(f"one branch as a transcript: {program()} show {target} --branch {place}{flag}")


def _goal(goal: GoalReport, episode: str) -> Iterator[Text]:
    """A goal as lines: reached or missed, what was wanted, the nearest call and what differs."""
    place = goal.branch_id.removeprefix(f"{episode}/")
    where = f" in {place}" if place else ""
    mark, style = ("✓", "green") if goal.reached else ("✗", "red")
    yield output.text(visible_line(f"{mark} {goal.goal}"), style)
    lines = [("by" if goal.reached else "nearest", f"{goal.call}{where}")] if goal.call else []
    if not goal.reached:
        lines = [("wanted", goal.wanted or "not recorded"), *lines]
    lines += [("why", goal.difference)] if goal.difference else []
    for name, value in lines:
        yield output.text(visible_line(f"    {name:<8}{cut(value, 400)}"))


def _part(part: Mapping[str, Any]) -> Iterator[Text]:
    """A part of the reward that is no goal, such as the verdict of a judge: its value and its evidence."""
    met, missed = part["value"] >= 1, part["value"] <= 0
    mark, style = ("✓", "green") if met else ("✗", "red") if missed else ("·", "")
    value = "" if met or missed else f" {part['value']:.3f}"
    yield output.text(visible_line(f"{mark} {part['part']}{value}"), style)
    if part["evidence"]:
        yield output.text(visible_line(f"    why     {cut(str(part['evidence']), 400)}"))


def _drawn(root: TreeNode) -> Tree:
    """The tree, with each stretch without forks as one node of several lines."""
    from rich.tree import Tree

    label, node = _stretch(root)
    drawn = Tree(label)
    pending = [(drawn, node)]
    while pending:
        above, node = pending.pop()
        for child in node.children:
            label, last = _stretch(child)
            pending.append((above.add(label), last))
    return drawn


def _stretch(node: TreeNode) -> tuple[Text, TreeNode]:
    lines = [_turn(node)]
    while len(node.children) == 1:
        node = node.children[0]
        lines.append(_turn(node))
    return output.text("\n").join(lines), node


def _turn(node: TreeNode) -> Text:
    mark, style = _mark(node)
    pieces = [(f"{mark} {node.path}.{node.turn}", style)]
    if node.credited or node.goals:
        pieces.append((f" [{', '.join(node.credited or node.goals)}]", "bold"))
    if node.outcome:
        pieces.append((f" {node.outcome}", "italic"))
    pieces += [(f" {cut(call, 60)}", "cyan") for call in node.calls]
    if node.said:
        pieces.append((f" “{cut(node.said, 70)}”", "dim"))
    if node.error:
        pieces.append((f" {node.error}", "red"))
    return output.text("").join(output.text(visible_line(piece), look) for piece, look in pieces)


def _mark(node: TreeNode) -> tuple[str, str]:
    if node.outcome and node.outcome.endswith("_fault"):
        return "✗", "red"
    if node.golden:
        return "★", "bold yellow"
    return ("+", "green") if node.successful else ("·", "")


# --- a branch ---------------------------------------------------------------------------------------------------------


def _show_transcript(transcript: Transcript, as_json: bool) -> None:
    if as_json:
        _print_json(asdict(transcript))
        return
    console = _console()
    output.show(console, output.text(transcript.branch_id, "bold"))
    for line in transcript.lines:
        output.show(console, _spoken(line, console))
    if transcript.outcome:
        output.show(console, output.text(f"{'ended':>12} {transcript.outcome}", "italic"))
    _show_failure(console, transcript.error, transcript.traceback)


def _show_failure(console: Console, error: str | None, trace: str | None) -> None:
    """A fault's message, and where it was raised."""
    if error:
        output.show(console, output.text(error, "red"))
    if trace:
        output.show(console, output.text(trace, "dim"))


def _print_raw(transcript: Transcript) -> None:
    for line in transcript.lines:
        said = "".join(piece for piece, _ in _pieces(line))
        output.say_raw(f"{line.turn:>3} {line.author:<8} {said}")


STYLES = {
    "user": "green",
    "agent": "bold cyan",
    "tool": "magenta",
    "system": "dim",
    "runtime": "red",
    "user_tool": "yellow",
}


def _spoken(line: TranscriptLine, console: Console) -> Text:
    """Speaker and text; later lines are indented so that they cannot be mistaken for another speaker's."""
    who = output.text(visible_line(f"{line.turn:>3} {line.author:<8} "), STYLES.get(line.author, ""))
    said = output.text("").join(output.text(piece, style) for piece, style in _pieces(line))
    lines = said.wrap(console, max(20, console.width - who.cell_len))
    return who + output.text("\n" + " " * who.cell_len).join(lines)


def _pieces(line: TranscriptLine) -> list[tuple[str, str]]:
    content = line.message.get("content")
    said = line.heard if line.heard is not None else content
    pieces = [(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False), "")] if said else []
    for call in line.message.get("tool_calls") or ():
        pieces.append((f" → {call['function']['name']}({call['function']['arguments']})", "cyan"))
    return [*pieces, *((f"  ⚑ {flag}", "yellow") for flag in line.flags)]


# --- shared -----------------------------------------------------------------------------------------------------------


def _console() -> Console:
    return output.stdout_console(terminal_width(sys.stdout) or ENDLESS)


def _print_json(value: Any) -> None:
    say_json(value, plain)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
