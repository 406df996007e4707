"""The commands and their flags. What a command does is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from simkit.cli.options import (
    CleanOfFlag,
    DropHeldOutFlag,
    IncompleteFlag,
    JsonFlag,
    LongestFlag,
    OriginFlag,
    QuickCommand,
    RawFlag,
    StoreFlag,
)
from simkit.errors import UsageError

RUN = "Run a recipe: rollout, josh, or your own path/to/recipe.py. `simkit run RECIPE --help` shows its flags."
TRAIN = "Train a model by TRL: sft, kto, dpo or grpo. `simkit train METHOD --help` shows how."
REVIEW = "Ask a judge about the failures of a run: whose fault was each (agent, user, tools, reward)?"
RESUME = "Continue a run that was killed, interrupted, or stopped by a budget or an endpoint."
STORE = "Make finished runs small (pack), or delete runs (prune)."
INIT = "Write the files that a world of your own begins with: `simkit init world NAME`."
WORLD = "Check a world of your own: `simkit world check NAME`."

commands = typer.Typer()


@commands.command("ls", cls=QuickCommand)
def list_runs(
    store: StoreFlag = None,
    json: JsonFlag = False,
    parts: Annotated[bool, typer.Option("--parts", help="Include the stages of runs.")] = False,
) -> None:
    """List the runs of the store, the latest first, with their scores."""
    from simkit.cli.show import list_runs

    list_runs(store, json, parts)


@commands.command("show")
def show(
    run: Annotated[str, typer.Argument(help="Run: id, unique beginning of it, name, or `last`.", show_default=False)],
    episode: Annotated[str | None, typer.Argument(help="Episode: a task id, or task/trial.")] = None,
    branch: Annotated[str | None, typer.Option(help="Show one branch as a transcript: its id or `path.turn`.")] = None,
    raw: RawFlag = False,
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Show a run's episodes, one episode's tree, or one branch as a transcript.

    simkit show last

    simkit show last TASK

    simkit show last TASK --branch LR.3
    """
    from simkit.cli.show import show

    show(store, run, episode, branch, json, raw)


@commands.command("sql")
def sql(
    query: Annotated[str | None, typer.Argument(help="The query; without it a prompt opens.")] = None,
    format: Annotated[Literal["table", "csv", "json"], typer.Option(help="How rows are printed.")] = "table",
    raw: RawFlag = False,
    external: Annotated[
        bool, typer.Option("--external", help="Let the query access files, networks, extensions and settings.")
    ] = False,
    run: Annotated[
        list[str] | None, typer.Option(help="Let the tables hold this run alone: quick in a large store. Repeatable.")
    ] = None,
    store: StoreFlag = None,
) -> None:
    """Query the results with SQL (DuckDB), even during a run.

    simkit sql "select task_id, reward from episode_scores order by reward limit 10"

    simkit sql "from run_summary" --format csv

    simkit sql "from harvest_counts" --run last
    """
    from simkit.cli.sql import sql

    sql(store, query, format, raw, external, run or ())


@commands.command("components")
def components(json: JsonFlag = False) -> None:
    """List the worlds, agents, users, rewards, models and recipes that flags can name, with a line about each."""
    from simkit.cli.components import components

    components(json)


@commands.command("doctor")
def doctor(
    run: Annotated[
        str | None,
        typer.Argument(help="Run: id, unique beginning of it, name, or `last`.", show_default=False),
    ] = None,
    store: StoreFlag = None,
    json: JsonFlag = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every line of the journals of this run, or of all runs.")
    ] = False,
    acknowledge: Annotated[bool, typer.Option("--acknowledge", help="Accept the damage of a run's journal.")] = False,
    engine: Annotated[
        str | None,
        typer.Option(help="ray=ADDRESS: compare the versions on all nodes of a Ray cluster.", show_default=False),
    ] = None,
) -> None:
    """Diagnose a run, even while it is running: pending requests, slow calls, retries, faults, and remedies.

    simkit doctor last

    simkit doctor --verify

    simkit doctor --engine ray=auto
    """
    if engine is not None:
        from simkit.cli.doctor import doctor_of_cluster

        doctor_of_cluster(engine, json)
    elif acknowledge:
        from simkit.cli.verify import acknowledge as acknowledge_damage

        acknowledge_damage(store, run)
    elif verify:
        from simkit.cli.verify import verify as verify_journals

        verify_journals(store, run, json)
    elif run is None:
        raise UsageError("name a run: simkit doctor last; to check the journals of all runs: simkit doctor --verify")
    else:
        from simkit.cli.doctor import doctor

        doctor(store, run, json)


@commands.command("compare")
def compare(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs, each an arm: id, unique beginning of it, or name.")
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help="NAME=RUN,RUN: several runs as one arm, e.g. training seeds.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric: reward, success, pass^2, turns, calls, errors. Default: reward and success."),
    ] = None,
    noise: Annotated[str, typer.Option(help="RUN,RUN: runs that differ only in --seed, to measure the noise.")] = "",
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Compare every pair of arms, not only with the first.")
    ] = False,
    pair: Annotated[
        list[str] | None, typer.Option(help="BEFORE=AFTER: compare these two arms; several: --pair A=B --pair A=C.")
    ] = None,
    runs_as: Annotated[
        Literal["seeds", "repeats"] | None,
        typer.Option(
            help="Runs of an arm: trainings with different seeds, for which a claim must hold in general, or repeats "
            "of one agent.",
            show_default="seeds if their models differ",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Points that a suite may lose and still count as preserved.",
            show_default="that of the runs of `preserve`",
        ),
    ] = None,
    primary: Annotated[
        list[str] | None, typer.Option(help="SUITE=METRIC: the metric of a suite about which claims are made.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures (needs the extra `plots`).")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File for the tables and claims as markdown.")] = None,
    allow_incomplete: Annotated[
        bool,
        typer.Option("--allow-incomplete", help="Compare unfinished runs and runs with unreadable lines."),
    ] = False,
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Compare runs on the same tasks: paired by task, with intervals; the first run is the reference.

    simkit compare before after

    simkit compare --arm before=a1,a2,a3 --arm after=b1,b2,b3 --out pictures --markdown comparison.md

    simkit compare base sft josh --pair base=josh --pair sft=josh
    """
    from simkit.cli.compare import CompareFlags, compare, plan_of

    flags = CompareFlags(
        runs=runs or (),
        arms=arm or (),
        metrics=metric or (),
        noise=noise,
        level=level,
        plan=plan_of(pair or (), primary or (), all_pairs=all_pairs, margin=margin, runs_as=runs_as),
        out=out,
        markdown=markdown,
        json=json,
        allow_incomplete=allow_incomplete,
    )
    compare(store, flags)


@commands.command("export")
def export(
    kind: Annotated[
        Literal["sft", "kto", "dpo", "results", "notes"],
        typer.Argument(
            help="Kind of examples; or `results`, in the format of the world's benchmark; or `notes` of people.",
            show_default=False,
        ),
    ],
    run: Annotated[
        list[str], typer.Option(help="Run: id, unique beginning of it, name, or `last`; several: --run A --run B.")
    ],
    out: Annotated[Path, typer.Option(help="File to write: .jsonl or .parquet; .json for results, .jsonl for notes.")],
    source: Annotated[
        Literal["golden", "episodes"],
        typer.Option(help="The harvest of JOSH runs, or (sft) the final conversation of any episode."),
    ] = "golden",
    where: Annotated[
        str | None, typer.Option(help="Filter for episodes: SQL over the columns of `from episode_facts`.")
    ] = None,
    max_per_task: Annotated[int | None, typer.Option(min=1, help="Maximum number of examples per task.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of examples, chosen at random.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random choice.")] = 0,
    errors: Annotated[
        Literal["drop", "keep"] | None,
        typer.Option(help="Conversations in which the agent made an error.", show_default="drop; keep for episodes"),
    ] = None,
    reasoning: Annotated[
        Literal["keep", "inline", "drop"],
        typer.Option(
            help="Reasoning of answers: as the field reasoning_content, in tags before the text, or left out."
        ),
    ] = "keep",
    format: Annotated[
        Literal["trl", "openai", "raw"],
        typer.Option(help="For TRL, for OpenAI's fine-tuning, or with call arguments as original text."),
    ] = "trl",
    origin: OriginFlag = True,
    check: Annotated[
        str | None, typer.Option(help="Render with this model's tokenizer, check, and report lengths.")
    ] = None,
    max_tokens: LongestFlag = None,
    clean_of: CleanOfFlag = None,
    drop_held_out: DropHeldOutFlag = False,
    allow_incomplete: IncompleteFlag = False,
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Write training examples in TRL's columns or for OpenAI's fine-tuning, a benchmark's results, or notes.

    simkit export kto --run last --out kto.jsonl

    simkit export sft --run last --source episodes --where "reward >= 1" --max-per-task 2 --out sft.parquet

    simkit export results --run last --out results.json   (worlds tau:... and tau2:...)

    simkit export notes --run last --out notes.jsonl   (written in `simkit view`)
    """
    from simkit.cli.export import ExportFlags, export, export_notes, export_results

    flags = ExportFlags(
        runs=tuple(run),
        source=source,
        where=where,
        max_per_task=max_per_task,
        limit=limit,
        seed=seed,
        errors=errors,
        reasoning=reasoning,
        format=format,
        origin=origin,
        tokenizer=check,
        max_tokens=max_tokens,
        clean_of=tuple(clean_of or ()),
        drop_held_out=drop_held_out,
        allow_incomplete=allow_incomplete,
    )
    if kind == "results":
        export_results(store, out, flags, json)
    elif kind == "notes":
        export_notes(store, out, flags, json)
    else:
        export(store, kind, out, flags, json)


@commands.command("import")
def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            help="Log of inspect_ai (.eval, .json), results of verifiers, tau-bench or tau2-bench (file or folder), or "
            "conversations.",
            show_default=False,
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the run.", show_default="the file's name")] = None,
    score: Annotated[
        str | None, typer.Option(help="Scorer, metric or column that gives the rewards.", show_default="the usual one")
    ] = None,
    full_reward: Annotated[float, typer.Option(help="The reward of a success.")] = 1.0,
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Record conversations of other programs, with their rewards, as a run of the store.

    simkit import logs/2026-11-27_airline.eval --name baseline

    simkit import outputs/evals/wordle--gpt-4.1/1f2e
    """
    from simkit.cli.importing import import_file

    import_file(store, file, name, score, full_reward, json)


@commands.command("check")
def check(
    file: Annotated[
        Path,
        typer.Argument(help="Examples: .jsonl or .json (also .gz), .parquet, or the JOSH release (wheel or zip)."),
    ],
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or name of a model: render with its chat template, report lengths.")
    ] = None,
    max_tokens: LongestFlag = None,
    clean_of: CleanOfFlag = None,
    drop_held_out: DropHeldOutFlag = False,
    out: Annotated[Path | None, typer.Option(help="Write the examples to this file: .jsonl or .parquet.")] = None,
    format: Annotated[
        Literal["trl", "openai", "raw"],
        typer.Option(help="The format of --out; with openai, what the fine-tuning API refuses is an error."),
    ] = "trl",
    origin: OriginFlag = True,
    system: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="System prompt for examples without one.")
    ] = None,
    reasoning: Annotated[
        Literal["keep", "inline", "drop"] | None,
        typer.Option(help="Reasoning of answers in --out, as in `export`.", show_default="as it is"),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Check a file of training examples: its contents, problems, and lengths in tokens.

    simkit check kto.jsonl

    simkit check kto.jsonl --tokenizer ./my-model --clean-of toolwoz:test
    """
    from simkit.cli.export import CheckFlags, check

    flags = CheckFlags(
        tokenizer=tokenizer,
        max_tokens=max_tokens,
        clean_of=tuple(clean_of or ()),
        drop_held_out=drop_held_out,
        out=out,
        format=format,
        origin=origin,
        system=system,
        reasoning=reasoning,
    )
    check(file, flags, json)
