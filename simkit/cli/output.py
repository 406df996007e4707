"""All output of the command line: no text can control the terminal, and lost output is reported.

Text is shown with its control characters as escapes (`simkit.core.safe_text`). Failing to print on stdout is
an error of the command (`OutputLost`); failing to print on stderr is ignored.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TextIO

import typer

from simkit.core.safe_text import json_text, visible, visible_json, visible_line
from simkit.errors import OutputLost

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

BROKEN_PIPE = 141
"""Exit code after the reader of stdout has closed the pipe: the code that a shell reports after SIGPIPE."""


@dataclass(frozen=True, slots=True)
class Style:
    """Style of a text on a terminal; ignored elsewhere."""

    bold: bool = False
    dim: bool = False
    colour: str | None = None


PLAIN = Style()
BOLD = Style(bold=True)
DIM = Style(dim=True)
WARNING = Style(colour="yellow")
ERROR = Style(bold=True, colour="red")


def say(text: str = "", style: Style = PLAIN, *, err: bool = False, end: str = "\n") -> None:
    """Print a text, of one line or several, on stdout or (with `err`) on stderr.

    Raises:
        OutputLost: stdout cannot be written.
    """
    say_pieces((text, style), err=err, end=end)


def say_pieces(*pieces: tuple[str, Style], err: bool = False, end: str = "\n") -> None:
    """Print pieces with different styles on one line.

    Raises:
        OutputLost: stdout cannot be written.
    """
    styled = "".join(_styled(visible(text), style) for text, style in pieces)
    _write(lambda: typer.echo(styled + end, err=err, nl=False), err)


def say_json(value: Any, plain: Callable[[Any], Any] | None = None, *, strict: bool = False) -> None:
    """Print a value as one line of JSON (`json_text`); characters that control a terminal are written as JSON escapes.

    Raises:
        OutputLost: stdout cannot be written.
        ValueError: `strict` is set, and the value has a number that JSON does not have (NaN, infinity).
    """
    line = (
        visible_json(json.dumps(value, default=plain, ensure_ascii=False, allow_nan=False))
        if strict
        else json_text(value, plain)
    )
    _write(lambda: typer.echo(line))


def say_csv(rows: Iterable[Sequence[Any]], *, raw: bool = False) -> None:
    """Print rows as CSV: unchanged values for a program, escaped values on a terminal (unless `raw`).

    Raises:
        OutputLost: stdout cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    if raw or not sys.stdout.isatty():
        say_raw(text.getvalue(), end="")
    else:
        say(text.getvalue(), end="")


def say_raw(text: str, *, end: str = "\n") -> None:
    """Print a text unescaped, for programs and on request.

    Raises:
        OutputLost: stdout cannot be written.
    """
    _write(lambda: typer.echo((text + end).encode("utf-8", "backslashreplace"), nl=False))


def rewrite(text: str) -> None:
    """Write over the current line of a terminal on stderr."""
    _write(lambda: typer.echo("\r" + visible(text), err=True, nl=False), err=True)


def text(content: str = "", style: str = "") -> Text:
    """A text for a Rich display; markup and escapes in it are shown literally."""
    from rich.text import Text

    return Text(visible(content), style)


def text_line(*pieces: tuple[str, str]) -> Text:
    """Pieces with their styles as a text of one line, which ends in an ellipsis if it does not fit."""
    from rich.text import Text

    return Text.assemble(
        *((visible_line(content), style) for content, style in pieces), no_wrap=True, overflow="ellipsis"
    )


def stdout_console(width: int) -> Console:
    """A Rich console on stdout with this many cells, for `show`."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=width)


def show(console: Console, *content: Any) -> None:
    """Print texts made by `text` on a console of stdout.

    Raises:
        OutputLost: stdout cannot be written.
    """
    _write(lambda: console.print(*content, soft_wrap=False))


def ask(prompt: str) -> str:
    """A line from stdin; EOFError at its end."""
    return input(visible(prompt))


def _styled(text: str, style: Style) -> str:
    return (
        text if style == PLAIN else typer.style(text, fg=style.colour, bold=style.bold or None, dim=style.dim or None)
    )


def _write(write: Callable[[], None], err: bool = False) -> None:
    try:
        write()
    except OSError as error:
        if not err:
            lost(error)


def lost(error: OSError) -> NoReturn:
    """Report that stdout cannot be written, and keep the interpreter from trying again at exit.

    Raises:
        OutputLost: always.
    """
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    raise OutputLost(
        f"not everything could be printed: {error.strerror or error}. Free some space or redirect the output",
        broken_pipe=error.errno == errno.EPIPE,
    ) from error


def flush() -> None:
    """Flush stdout.

    Raises:
        OutputLost: stdout cannot be written.
    """
    _write(sys.stdout.flush)


def open_missing_streams() -> None:
    """Open the null device for closed descriptors among 0 to 2, before another file gets their numbers."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number
    sys.stdin = sys.stdin or _stream(0, "r")
    sys.stdout = sys.stdout or _stream(1, "w")
    sys.stderr = sys.stderr or _stream(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # terminals with another encoding show escapes


def _stream(number: int, mode: Literal["r", "w"]) -> TextIO:
    return os.fdopen(number, mode, encoding="utf-8", closefd=False)
