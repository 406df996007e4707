"""The progress of a run in Python: in a cell of a notebook, in a terminal, or as lines of a log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeAlias

import anyio

from simkit.cli.progress import describe, progress_for
from simkit.core.html_text import ACCENT, FAINT, Html, element
from simkit.run.engine import ProgressDisplay, RunProgress

DRAW_EVERY = 0.5
"""Seconds between two states of a cell."""

_Draw: TypeAlias = Callable[[Html], None]


def show_progress(stream: TextIO | None = None) -> ProgressDisplay:
    """A display of a run's progress: `Run(progress=simkit.show_progress())`.

    In Jupyter and marimo it is a line of the cell that changes until the run ends. In a terminal it is the live display
    of the command line, and elsewhere a line every five seconds.

    Args:
        stream: what is written to outside of notebooks; stderr by default.
    """
    draw = _jupyter() or _marimo() if stream is None else None
    return progress_for(stream or sys.stderr) if draw is None else _in_cell(draw)


def progress_html(progress: RunProgress) -> Html:
    """The state of a run as a bar and a line of text."""
    done, planned = len(progress.episodes), max(progress.planned, 1)
    bar = element(
        "progress", value=min(done, planned), max=planned, style=f"width:12em;margin-right:8px;accent-color:{ACCENT}"
    )
    return element("div", bar, element("span", describe(progress), style=FAINT), style="margin:2px 0")


def _in_cell(draw: _Draw) -> ProgressDisplay:
    async def shown(progress: RunProgress) -> None:
        try:
            while True:
                draw(progress_html(progress.shown))
                await anyio.sleep(DRAW_EVERY)
        finally:
            draw(progress_html(progress.shown))

    return shown


def _jupyter() -> _Draw | None:
    """The output of a Jupyter cell; None outside of a kernel."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from importlib import import_module

    display: Any = import_module("IPython.display")
    handle: list[Any] = []

    def draw(html: Html) -> None:
        picture = display.HTML(html)
        if handle:
            handle[0].update(picture)
        else:
            handle.append(display.display(picture, display_id=True))

    return draw


def _marimo() -> _Draw | None:
    """The output of a marimo cell; None elsewhere."""
    marimo: Any = sys.modules.get("marimo")
    if marimo is None or not marimo.running_in_notebook():
        return None
    return lambda html: marimo.output.replace(marimo.Html(str(html)))
