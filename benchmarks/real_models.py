"""Small language models as agents and simulated users: success, reward, calls, flags, tokens and seconds by cell.

    python benchmarks/real_models.py smollm2=local/smollm2 [qwen=local/path/to/qwen.gguf] --store FOLDER
    python benchmarks/real_models.py ... --store FOLDER --report > table.md

A cell is a model, an agent, a user and a world. Each is a run of its own in one store, so the command can be stopped
and repeated: finished cells are kept, interrupted ones are resumed. `--hours` ends it after the cell in progress.
`--more CELL` plays three times as many tasks of a cell (60, or 30 of ToolWOZ), as a run of its own. The report names
the cells that were not reached. Models whose name is given with `!` (`qwen!=...`) also play by free tool
calls; the others have a chat template without tools. Each agent is shown one conversation of the rule-based agent from
the train split of the built-in world (`FOLDER-example.jsonl`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simkit import Store
from simkit.statistics.scores import Estimate, mean_of_tasks

AGENTS = {
    "react": "react,prompt=compact",
    "constrained": "react,prompt=compact,constrained=true",
    "calls": "function_calling,prompt=compact,text_calls=read",
}
USERS = {"agenda": "agenda", "goal": "goal,prompt=compact,ending=json"}
WORLDS = {"builtin": ("builtin,compact=true,most_goals=2", 20), "toolwoz": ("toolwoz", 10)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One combination, and the number of its tasks."""

    label: str
    model: str
    agent: str
    user: str
    world: str
    tasks: int

    @property
    def name(self) -> str:
        """Name of its run."""
        name = f"{self.label}-{self.agent}-{self.user}-{self.world}"
        return name if self.tasks == WORLDS[self.world][1] else f"{name}-{self.tasks}"

    def larger(self) -> Cell:
        """The cell with three times as many tasks."""
        return replace(self, tasks=3 * self.tasks)

    def command(self, store: Path, more: Sequence[str]) -> list[str]:
        """The command that plays it."""
        world, _ = WORLDS[self.world]
        user = ("--user-model", self.model) if self.user != "agenda" else ()
        agent = f"{AGENTS[self.agent]},examples={example_of(store)}"
        cast = ("--agent", agent, "--user", USERS[self.user], "--model", self.model, *user)
        limits = ("--max-turns", "12", "--max-tokens", "150", "--temperature", "0.2", "--frequency-penalty", "0.3")
        what = ("--world", world, "--split", "test", "--tasks", str(self.tasks), "--name", self.name)
        return [*SIMKIT, "run", "rollout", *what, *cast, *limits, "--store", str(store), *more]


SIMKIT = (sys.executable, "-m", "simkit")


def cells(models: Sequence[str]) -> Iterator[Cell]:
    """The cells, the shortest first."""
    for world, (_, tasks) in WORLDS.items():
        for user in USERS:
            for given in models:
                label, _, model = given.partition("=")
                agents = AGENTS if label.endswith("!") else [name for name in AGENTS if name != "calls"]
                for agent in agents:
                    yield Cell(label=label.strip("!"), model=model, agent=agent, user=user, world=world, tasks=tasks)


def example_of(store: Path) -> Path:
    """The file of the conversation that agents are shown."""
    return store.parent / f"{store.name}-example.jsonl"


def write_example(store: Path) -> None:
    """Write the shortest successful conversation of the rule-based agent on twelve train tasks, once."""
    if example_of(store).exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        all_of_them = Path(folder, "all.jsonl")
        world, _ = WORLDS["builtin"]
        played = (*SIMKIT, "run", "rollout", "--world", world, "--split", "train", "--tasks", "12", "--store", folder)
        wanted = ("--run", "last", "--source", "episodes", "--where", "reward >= 1", "--out", str(all_of_them))
        for command in (played, (*SIMKIT, "export", "sft", *wanted, "--store", folder)):
            subprocess.run(command, check=True, capture_output=True)
        example_of(store).parent.mkdir(parents=True, exist_ok=True)
        example_of(store).write_text(min(all_of_them.read_text().splitlines(), key=len) + "\n")


def statuses(store: Path) -> dict[str, str]:
    """Status of each run of the store by name."""
    if not store.exists():
        return {}
    return dict(Store(store).query("select name, status from runs where name is not null").rows)


def play(cell: Cell, store: Path, more: Sequence[str]) -> int:
    """Play a cell, or what is left of it; the exit code of the command."""
    known = statuses(store).get(cell.name)
    if known == "done":
        return 0
    command = cell.command(store, more) if known is None else [*SIMKIT, "resume", cell.name, "--store", str(store)]
    print(f"{time.strftime('%H:%M')} {cell.name}", file=sys.stderr, flush=True)
    return subprocess.run(command, check=False).returncode


# --- report -----------------------------------------------------------------------------------------------------------

QUERY = """
with run as (select run_id from runs where name = ?),
episode as (select e.* from episodes e join run using (run_id) where finished_at is not null),
call as (select c.* from tool_calls c join episode using (episode_id)),
message as (select m.* from messages m join episode using (episode_id)),
asked as (select c.* from model_calls c join episode using (episode_id))
select
    (select list([reward, cast(is_success(reward, full_reward) as integer)]) from episode where reward is not null),
    (select count(*) from episode where reward is null),
    (select count(*) from call), (select count(*) filter (not error) from call),
    (select count(*) from message where author = 'agent'
        and list_has_any(list_transform(flags, lambda f: split_part(f, ':', 1)), ['unparsed_call', 'call_as_text'])),
    (select count(*) from message where author = 'user'),
    (select count(*) from message where author = 'user' and len(flags) > 0),
    (select sum(completion_tokens) from asked), (select sum(prompt_tokens) from asked),
    (select sum(elapsed(started_at, finished_at)) from episode), (select count(*) from episode),
    (select elapsed(started_at, finished_at) from runs join run using (run_id))
"""


def row(cell: Cell, opened: Store) -> str:
    """The cell as a row of the table."""
    ((scores, unscored, calls, valid, unread, said, doubted, wrote, read, _, played, wall),) = opened.query(
        QUERY, [cell.name]
    ).rows
    if not scores:
        return f"| {_title(cell)} | no scored conversation | | | | | | | |"
    reward, success = (mean_of_tasks([[each[place]] for each in scores]) for place in (0, 1))
    return (
        f"| {_title(cell)} | {len(scores)}{f' (+{unscored} faulted)' if unscored else ''} | {_shown(success)} | "
        f"{_shown(reward)} | {valid / calls if calls else 0:.2f} of {calls} | {unread} | {doubted} of {said} | "
        f"{(wrote or 0) / played:,.0f} + {(read or 0) / played:,.0f} | {(wall or 0) / played:,.1f} |"
    )


def _title(cell: Cell) -> str:
    return f"{cell.label} | {cell.agent} | {cell.user} | {cell.world}"


def _shown(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def report(wanted: Sequence[Cell], store: Path) -> None:
    """Print the table, and the cells that were not reached."""
    known = statuses(store)
    print(
        "| model | agent | user | world | scored | success | reward | calls without error | unread calls | "
        "user turns with flags | tokens written + read per conversation | seconds per conversation |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    opened = Store(store)
    for cell in wanted:
        if cell.name in known:
            print(row(cell, opened))
    left = [cell.name for cell in wanted if known.get(cell.name) != "done"]
    if left:
        print(f"\nNot reached, or not finished: {', '.join(left)}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("models", nargs="+", metavar="LABEL=MODEL", help="e.g. smollm2=local/smollm2, qwen!=local/FILE")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=1000.0, help="begin no further cell after this time")
    parser.add_argument("--only", default="", help="cells whose name contains this text")
    parser.add_argument("--more", action="append", default=[], metavar="CELL", help="play this cell with more tasks")
    parser.add_argument("--report", action="store_true", help="print the table of what was played")
    given, more = parser.parse_known_args()
    wanted = [cell for cell in cells(given.models) if given.only in cell.name]
    wanted += [cell.larger() for cell in cells(given.models) if cell.name in given.more]
    unknown = set(given.more) - {cell.name for cell in cells(given.models)}
    if unknown:
        parser.error(f"no such cell: {', '.join(sorted(unknown))}; a cell is named like {wanted[0].name}")
    if given.report:
        report(wanted, given.store)
        return
    write_example(given.store)
    until = time.monotonic() + given.hours * 3600
    ends = [play(cell, given.store, more) for cell in wanted if time.monotonic() < until]
    sys.exit(max(ends, default=0))


if __name__ == "__main__":
    main()
