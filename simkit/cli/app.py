"""The commands, each imported only when it is called: `simkit --help` must be quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from simkit.cli.data import DataCommand
from simkit.cli.failure import readable_errors
from simkit.cli.recipes import RecipeGroup

EXAMPLES = """
A conversation simulator for people who evaluate and train tool-using dialogue agents.

Examples:

  simkit run josh --tasks 50       harvest training data, no key needed
  simkit run rollout --tasks 50    evaluate an agent
  simkit show last                 scores of the last run
  simkit sql "from run_summary"    ask the results anything
  simkit compare RUN RUN           what may be claimed of a difference
  simkit export kto --run last --out kto.jsonl

Results go to ./simkit-store (or SIMKIT_STORE, or --store).
Exit codes: 0 done, 1 some episodes failed, 2 wrong use, 130 interrupted.
"""

StoreFlag = Annotated[
    Path | None,
    typer.Option("--store", envvar="SIMKIT_STORE", help="Folder of the results.", show_default="./simkit-store"),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one machine-readable line instead.")]


class Commands(TyperGroup):
    """The top level, with errors as a person reads them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands, in the order of their use."""
        return ["run", "resume", *(name for name in super().list_commands(ctx) if name != "run")]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command; `resume` takes its flags from those of a run."""
        if cmd_name == "resume":
            from simkit.cli.resume import resume_command

            return resume_command()
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        with readable_errors():
            read_dotenv(Path(".env"))
            return super().invoke(ctx)


def read_dotenv(path: Path) -> None:
    """Take variables from a `.env` file in the current folder; those that are set already win.

    Only the command line does this: a library must not change its process's environment.
    """
    if path.is_file():
        from dotenv import load_dotenv

        load_dotenv(path, override=False)


app = typer.Typer(
    name="simkit",
    cls=Commands,
    help=EXAMPLES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(
    typer.Typer(),
    name="run",
    cls=RecipeGroup,
    no_args_is_help=True,
    help="Run a recipe: rollout, josh, or your own path/to/recipe.py. `simkit run RECIPE --help` shows its flags.",
)


@app.command("ls")
def list_runs(
    store: StoreFlag = None,
    json: JsonFlag = False,
    parts: Annotated[bool, typer.Option("--parts", help="The stages of runs too.")] = False,
) -> None:
    """List the runs of the store, the latest first, with their scores."""
    from simkit.cli.show import list_runs

    list_runs(store, json, parts)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="Run: id, unique beginning of it, name, or `last`.", show_default=False)],
    episode: Annotated[str | None, typer.Argument(help="Episode: a task id, or task/trial.")] = None,
    branch: Annotated[str | None, typer.Option(help="Show one branch as a transcript: its id or `path.turn`.")] = None,
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Show a run's episodes, one episode's tree, or one branch as a transcript.

    simkit show last

    simkit show last TASK

    simkit show last TASK --branch LR.3
    """
    from simkit.cli.show import show

    show(store, run, episode, branch, json)


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="The query; without one a prompt opens.")] = None,
    format: Annotated[Literal["table", "csv", "json"], typer.Option(help="How rows are printed.")] = "table",
    store: StoreFlag = None,
) -> None:
    """Ask the results in SQL (DuckDB), also while a run is going.

    simkit sql "select task_id, reward from episode_scores order by reward limit 10"

    simkit sql "from run_summary" --format csv
    """
    from simkit.cli.sql import sql

    sql(store, query, format)


@app.command()
def doctor(
    run: Annotated[str, typer.Argument(help="Run: id, unique beginning of it, name, or `last`.", show_default=False)],
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Say what ails a run: what waits for what, slow calls, retries, faults, and what to do; also while it is going.

    simkit doctor last
    """
    from simkit.cli.doctor import doctor

    doctor(store, run, json)


@app.command()
def compare(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs, each an arm: id, unique beginning of it, or name.")
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help="NAME=RUN,RUN: several runs as one arm, e.g. training seeds.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="What to claim of: reward, success, pass^2, turns, calls, errors; reward and success."),
    ] = None,
    noise: Annotated[
        str, typer.Option(help="RUN,RUN: runs that differ in their --seed alone; how far apart they lie.")
    ] = "",
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Every arm against every other, not the first.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures (needs the extra `plots`).")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File for the tables and claims as markdown.")] = None,
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Say what may be claimed of runs on the same tasks: paired, by task, with intervals; the first is the reference.

    simkit compare before after

    simkit compare --arm before=a1,a2,a3 --arm after=b1,b2,b3 --out pictures --markdown comparison.md
    """
    from simkit.cli.compare import Wanted, compare

    wanted = Wanted(
        runs=runs or (),
        arms=arm or (),
        metrics=metric or (),
        noise=noise,
        level=level,
        all_pairs=all_pairs,
        out=out,
        markdown=markdown,
        json=json,
    )
    compare(store, wanted)


@app.command()
def export(
    kind: Annotated[Literal["sft", "kto", "dpo"], typer.Argument(help="Which examples.", show_default=False)],
    run: Annotated[str, typer.Option(help="Run: id, unique beginning of it, name, or `last`.")],
    out: Annotated[Path, typer.Option(help="File to write: .jsonl or .parquet.")],
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Write training examples of a JOSH run in the columns TRL takes.

    simkit export kto --run last --out kto.jsonl
    """
    from simkit.cli.export import export

    export(store, kind, run, out, json)


@app.command(no_args_is_help=True)
def serve(
    model: Annotated[str, typer.Argument(help="Folder of a model, or its name at Hugging Face.", show_default=False)],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 finds a free one.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="SIMKIT_SERVE_KEY", help="What clients must send.", show_default="none needed")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps.", show_default="the fastest there is")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16, float16.", show_default="float32 on a CPU, else the model's")
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(help="Conversations at once.", show_default="256 on a CPU, else 128")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(help="Gigabytes for conversations.", show_default="2 on a CPU, else 60% of the rest")
    ] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of a conversation.", show_default="the model's")] = None,
    threads: Annotated[int, typer.Option(help="Threads of arithmetic on a CPU.")] = 1,
) -> None:
    """Serve a model of this machine as an OpenAI-compatible endpoint, with everything that waits in one batch.

    simkit serve ./my-model --port 8000

    simkit run rollout --model openai/./my-model --base-url http://127.0.0.1:8000/v1
    """
    from simkit.cli.serve import serve
    from simkit.local.weights import EngineOptions

    options = EngineOptions(
        device=device, dtype=dtype, max_batch=max_batch, memory=memory, context=context, threads=threads
    )
    serve(model, options, host, port, api_key)


@app.command(cls=DataCommand, no_args_is_help=True)
def data(
    world: Annotated[str, typer.Argument(help="Whose data: toolwoz, or your own path/to/file.py:Class.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Data of your own: for toolwoz a MultiWOZ folder or josh-train wheel.")
    ] = None,
) -> None:
    """Fetch a world's data once and keep it in a compact cache.

    simkit data toolwoz

    simkit data toolwoz --from ~/multiwoz
    """
    from simkit.cli.data import prepare

    prepare(world, source)
