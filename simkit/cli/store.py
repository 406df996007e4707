"""`simkit store`: pack finished runs, delete runs, and merge stores."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main

from simkit.cli.options import JsonFlag, StoreFlag
from simkit.cli.output import ask, say, say_json
from simkit.cli.program import open_store, program, store_flag
from simkit.core.safe_text import visible_line
from simkit.errors import UsageError

if TYPE_CHECKING:
    from simkit.run.joining import MergedRun
    from simkit.store.pruning import RunFiles

HELP = """Pack finished runs, delete runs, and merge runs of several stores.

A store keeps each run as a journal (journals/RUN/main.jsonl), which counts, and the rows made from it in
simkit.duckdb. Answers about one run cost the same in a large store as in a small one; what grows is the disk.

`pack` makes finished runs small: journals compressed (main.jsonl.zst), rows as Parquet files. Every command answers
as before, and `simkit resume` unpacks. `prune` deletes runs for good. `merge` copies the runs of other stores, and
joins the shards of a run (`--shard`).

Examples:

    simkit store pack

    simkit store prune nightly-3 josh-20261127

    simkit store merge shards/* --into results

Which runs are large: simkit sql "select run_id, count(*) from messages join episodes using (episode_id) group by all"
"""


def store_command() -> Any:
    """The group `simkit store`, built when it is called."""
    group = typer.Typer(
        name="store", help=HELP, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown"
    )
    group.command("pack")(pack)
    group.command("prune")(prune)
    group.command("merge")(merge)
    return typer.main.get_command(group)


def pack(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs: ids, unique beginnings of them, or names.", show_default="all that are finished"),
    ] = None,
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Make finished runs small: compress their journals, and move their rows to Parquet files.

    Journals become main.jsonl.zst; rows of conversations and model calls become packed/RUN/TABLE.parquet. All commands
    and views read both. `simkit resume RUN` unpacks a run. Runs that have not ended are left alone, or refused when
    they are named. The command can be stopped at any moment and given again.

    Programs that open simkit.duckdb directly do not see packed conversations; they can read the Parquet files.

    Examples:

        simkit store pack

        simkit store pack last
    """
    from simkit.store.upkeep import pack, to_pack

    opened = open_store(store)
    done: list[dict[str, Any]] = []
    for one in pack(opened, to_pack(opened, runs or ())):
        if not json:
            say(f"{one.run_id}: {_size(one.before.journals)} of journals, now {_size(one.after.journals)}")
        done.append(asdict(one))
    if json:
        say_json({"packed": done})
    else:
        packed = f"{len(done)} run{'s' if len(done) != 1 else ''} packed" if done else "nothing to pack"
        say(f"{packed}; the database has {_size(opened.database.stat().st_size if opened.database.exists() else 0)}")


def prune(
    runs: Annotated[
        list[str], typer.Argument(help="Runs: ids, unique beginnings of them, or names.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    models: Annotated[bool, typer.Option("--models", help="Delete the models that the runs trained, too.")] = False,
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Delete runs with everything of them: journals, rows, packs, results and their stages. This cannot be undone.

    Models that a run trained (models/RUN in the store) stay unless --models is given. A run that is being played is
    refused. A name stands for the newest run of that name.

    Examples:

        simkit store prune nightly-3

        simkit store prune josh-20261127 rollout-20261127 --yes
    """
    from simkit.store.upkeep import prune, to_prune

    opened = open_store(store)
    found = to_prune(opened, runs)
    if not yes:
        _ask(found, models, store_flag(opened.path))
    prune(opened, [each.run_id for each in found], models=models)
    if json:
        say_json({"deleted": [asdict(each) for each in found], "models_deleted": models})
        return
    say(f"{len(found)} run{'s' if len(found) != 1 else ''} deleted")
    kept = [each for each in found if each.models and not models]
    for each in kept:
        say(f"its models stay: {opened.path / 'models' / each.run_id} ({_size(each.models)})")


def merge(
    stores: Annotated[
        list[Path], typer.Argument(help="Stores whose runs are merged; they stay as they are.", show_default=False)
    ],
    into: Annotated[
        Path, typer.Option(help="Store that receives them; made if it does not exist.", show_default=False)
    ],
    json: JsonFlag = False,
) -> None:
    """Merge the runs of several stores into one; the shards of a run (`simkit run RECIPE --shard I/N`) become one run.

    Journals are copied and compared; files of results and models stay where they are. Runs of one id that differ are
    refused before anything is written. What is there already is left alone, so the command can be stopped at any moment
    and given again, and later with more shards. A run that lacks a shard is not done: its episodes are planned and not
    played. The exit code is then 1.

    Examples:

        simkit store merge shards/* --into results

        simkit store merge ../anna/simkit-store --into simkit-store
    """
    from simkit.run.merging import merge

    done = merge(stores, into)
    if json:
        say_json({"merged": [asdict(each) for each in done]})
    else:
        for each in done:
            say(_merged(each))
    if any(each.shards and each.status != "done" for each in done):
        raise typer.Exit(1)


def _merged(run: MergedRun) -> str:
    """What became of a run, on one line."""
    if not run.shards:
        return f"{run.run_id}: {'is there already' if run.outcome == 'unchanged' else run.outcome}"
    missing = f", without {', '.join(map(str, run.missing))}" if run.missing else ""
    again = " (nothing new)" if run.outcome == "unchanged" else ""
    problem = f": {visible_line(run.problem)}" if run.problem else ""
    return f"{run.run_id}: {len(run.merged)} of {run.shards} shards{missing}{again}; {run.status}{problem}"


def _ask(found: Sequence[RunFiles], models: bool, flag: str) -> None:
    """List what is deleted, and ask.

    Raises:
        UsageError: nobody can be asked.
        typer.Exit: the answer is no.
    """
    for each in found:
        parts = {"journals": each.journals, "pack": each.pack, "results": each.results}
        if models:
            parts["models"] = each.models
        say(f"{each.run_id}: {', '.join(f'{name} {_size(size)}' for name, size in parts.items() if size)}", err=True)
    if not sys.stdin.isatty():
        names = " ".join(each.run_id for each in found)
        raise UsageError(
            "nothing was deleted: without a terminal there is nobody to ask; to delete these runs for good: "
            f"{program()} store prune {names} --yes{' --models' if models else ''}{flag}"
        )
    question = f"Delete {len(found)} run{'s' if len(found) != 1 else ''} for good? [y/N] "
    try:
        answer = ask(question).strip().lower()
    except EOFError:
        answer = ""
    if answer not in ("y", "yes"):
        say("nothing was deleted", err=True)
        raise typer.Exit(1)


def _size(size: float) -> str:
    """A number of bytes for reading."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
