"""The flags of `simkit view`; what it does is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simkit.cli.options import JsonFlag, StoreFlag
from simkit.errors import UsageError

looking = typer.Typer()


@looking.command("view")
def view(
    run: Annotated[str | None, typer.Argument(help="Run to open: id, unique beginning of it, name, or `last`.")] = None,
    episodes: Annotated[
        list[str] | None, typer.Argument(help="Episode to open: a task id, or task/trial. Several with --export.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on.", show_default="a free one from 7788")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that other machines reach asks for a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="SIMKIT_VIEW_TOKEN", help="Token that browsers must bring.", show_default="none on this machine"
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Keep the viewer's copy of the database here: quick in a large store."),
    ] = None,
    author: Annotated[
        str | None, typer.Option(help="Author of the notes that are written.", show_default="the user's name")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the run's pages as one HTML file that opens without a server."),
    ] = None,
    compare: Annotated[str | None, typer.Option(metavar="RUN", help="With --export: compare with this run.")] = None,
    all_branches: Annotated[
        bool, typer.Option("--all-branches", help="With --export: all conversations, not only golden and final ones.")
    ] = False,
    redact: Annotated[
        list[str] | None,
        typer.Option(metavar="REGEX", help="With --export: leave out what this matches, in all texts. Repeatable."),
    ] = None,
    store: StoreFlag = None,
    json: JsonFlag = False,
) -> None:
    """Look at runs, trees and conversations in the browser, even during a run.

    simkit view

    simkit view last

    simkit view last --export run.html --redact '[0-9]{9,}'
    """
    from simkit.cli.view import ViewFlags, view
    from simkit.cli.view_export import ExportFlags, export_pages

    named = tuple(episodes or ())
    if export is not None:
        kept = ExportFlags(
            run=run or "last", episodes=named, out=export, compare=compare, all_branches=all_branches,
            redact=tuple(redact or ()), json=json,
        )  # fmt: skip
        export_pages(store, kept)
        return
    if compare or all_branches or redact or len(named) > 1:
        raise UsageError(
            "--compare, --all-branches, --redact and several episodes are for --export FILE; name the file"
        )
    flags = ViewFlags(
        run=run,
        episode=named[0] if named else None,
        browser=not no_browser,
        host=host,
        port=port,
        token=token,
        cache=cache,
        author=author,
        json=json,
    )
    view(store, flags)
