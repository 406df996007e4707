"""The reference of the commands, from the parsers of the command line itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from simkit.cli.app import app

HEAD = """# Commands

All commands and their flags, from the program itself: `simkit COMMAND --help` prints the same. A recipe of your own has
the flags of its parameters.

"""


def commands_page() -> str:
    """The page of all commands."""
    return HEAD + "\n".join(line for name, command, context in commands() for line in _section(name, command, context))


def commands() -> Iterator[tuple[str, Any, Any]]:
    """Each command with its full name and its context, without groups."""
    yield from _below(typer.main.get_command(app), "simkit", None)


def _below(command: Any, name: str, parent: Any) -> Iterator[tuple[str, Any, Any]]:
    context = command.context_class(command, info_name=name.rpartition(" ")[2], parent=parent)
    if not hasattr(command, "list_commands"):
        yield name, command, context
        return
    for each in command.list_commands(context):
        yield from _below(command.get_command(context, each), f"{name} {each}", context)


def _section(name: str, command: Any, context: Any) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield f"    {_usage(command, context)}"
    yield ""
    yield from _help(command.help or "")
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in record[0]:
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or "", []).append(record)
    for panel, records in panels.items():
        if panel:
            yield f"**{panel}**"
            yield ""
        yield "| flag | meaning |"
        yield "|---|---|"
        for flag, text in records:
            yield f"| `{cell(flag)}` | {cell(prose(text))} |"
        yield ""


def _usage(command: Any, context: Any) -> str:
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def _help(text: str) -> Iterator[str]:
    for paragraph in plain(text).split("\n\n"):
        example = paragraph.startswith("simkit ")
        yield "\n".join(f"    {line}" for line in paragraph.splitlines()) if example else _paragraph(paragraph)
        yield ""


def _paragraph(text: str) -> str:
    return text if text.startswith("    ") else prose(text)


def plain(text: str) -> str:
    """A text without the escapes that keep Rich from reading brackets as markup."""
    return text.replace("\\[", "[")


def prose(text: str) -> str:
    """A text of the command line in Markdown, whose signs would have another meaning there."""
    parts = re.split(r"(`[^`]*`)", plain(text))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*<\[])", r"\\\1", part) for part in parts)


def cell(text: str) -> str:
    """A text in a row of a table."""
    return text.replace("|", "\\|").replace("\n", " ")
