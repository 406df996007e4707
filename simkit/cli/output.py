"""All that the command line prints goes through here: no text can act on the terminal, and no loss goes unnoticed.

Text is shown with its control characters as escapes (`simkit.core.safe_text`). What cannot be printed on stdout is an
error of the command (`OutputLost`); what cannot be said on stderr is lost, and changes nothing else.
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

from simkit.core.safe_text import visible, visible_json, visible_line
from simkit.errors import OutputLost

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

BROKEN_PIPE = 141
"""Exit code when whoever read stdout went away: what a shell reports of a program that SIGPIPE ended."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a piece of text looks on a terminal; elsewhere it is plain."""

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
        OutputLost: stdout takes no more.
    """
    say_pieces((text, style), err=err, end=end)


def say_pieces(*pieces: tuple[str, Style], err: bool = False, end: str = "\n") -> None:
    """Print pieces in styles of their own on one line.

    Raises:
        OutputLost: stdout takes no more.
    """
    styled = "".join(_styled(visible(text), style) for text, style in pieces)
    _write(lambda: typer.echo(styled + end, err=err, nl=False), err)


def say_json(value: Any, plain: Callable[[Any], Any] | None = None, *, strict: bool = False) -> None:
    """Print a value as one line of JSON; characters that act on a terminal are escapes in it, as JSON allows.

    Raises:
        OutputLost: stdout takes no more.
        ValueError: `strict`, and a number in it is not one of JSON's (NaN, an infinity).
    """
    line = visible_json(json.dumps(value, default=plain, ensure_ascii=False, allow_nan=not strict))
    _write(lambda: typer.echo(line))


def say_csv(rows: Iterable[Sequence[Any]], *, raw: bool = False) -> None:
    """Print rows as CSV: the values as they are for a program to read, but visible on a terminal (unless `raw`).

    Raises:
        OutputLost: stdout takes no more.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    if raw or not sys.stdout.isatty():
        say_raw(text.getvalue(), end="")
    else:
        say(text.getvalue(), end="")


def say_raw(text: str, *, end: str = "\n") -> None:
    """Print a text as it is, control characters too, for programs and for whoever asked for it with a flag.

    Raises:
        OutputLost: stdout takes no more.
    """
    _write(lambda: typer.echo((text + end).encode("utf-8", "backslashreplace"), nl=False))


def rewrite(text: str) -> None:
    """Write over the current line of a terminal on stderr."""
    _write(lambda: typer.echo("\r" + visible(text), err=True, nl=False), err=True)


def text(content: str = "", style: str = "") -> Text:
    """A text for a display of Rich, its own markup and escapes shown as they are."""
    from rich.text import Text

    return Text(visible(content), style)


def text_line(*pieces: tuple[str, str]) -> Text:
    """Pieces and their styles as a text of one line, which ends in an ellipsis where it does not fit."""
    from rich.text import Text

    return Text.assemble(
        *((visible_line(content), style) for content, style in pieces), no_wrap=True, overflow="ellipsis"
    )


def stdout_console(width: int) -> Console:
    """A console of Rich on stdout, of so many cells, for `show`."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=width)


def show(console: Console, *content: Any) -> None:
    """Print what was made of `text` on a console of stdout.

    Raises:
        OutputLost: stdout takes no more.
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
    """Say that stdout takes no more, and let the interpreter end without trying again.

    Raises:
        OutputLost: always.
    """
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    raise OutputLost(
        f"not everything could be printed: {error.strerror or error}. Print to a place with room",
        broken_pipe=error.errno == errno.EPIPE,
    ) from error


def flush() -> None:
    """Bring out what is still buffered for stdout.

    Raises:
        OutputLost: stdout takes no more.
    """
    _write(sys.stdout.flush)


def open_missing_streams() -> None:
    """Give descriptors 0 to 2 to the null device where they are closed, before another file gets their numbers."""
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
            stream.reconfigure(errors="backslashreplace")  # a terminal of another encoding is no reason to fail


def _stream(number: int, mode: Literal["r", "w"]) -> TextIO:
    return os.fdopen(number, mode, encoding="utf-8", closefd=False)
