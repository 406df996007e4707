"""The reference of the Python interface, from signatures and docstrings."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import simkit
from site_pages.docstrings import markdown_of


@dataclass(frozen=True, slots=True)
class Chapter:
    """A page of the reference.

    Attributes:
        title, told: its heading and first sentence.
        packages: public names of `simkit` that are defined below these modules.
        modules: modules whose public names are on the page, too.
    """

    title: str
    told: str
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


INDEX = "The public names, by subject. Each is shown with the module that defines it."

CHAPTERS: Mapping[str, Chapter] = {
    "run": Chapter(
        "Runs",
        "One experiment: its name, seed, store and players.",
        ("simkit.run", "simkit.plugins", "simkit.viewing", "simkit.cli"),
    ),
    "components": Chapter(
        "Components",
        "The contracts of agents, users, tool servers, rewards and worlds.",
        ("simkit.components",),
    ),
    "values": Chapter(
        "Values", "Messages, conversations, tasks, goals and limits.", ("simkit.core", "simkit.statistics")
    ),
    "search": Chapter(
        "Searches",
        "Rollouts, JOSH, and the base classes of other searches.",
        ("simkit.search",),
        ("simkit.search.turn", "simkit.search.answer", "simkit.search.consulting"),
    ),
    "tools": Chapter(
        "Tools",
        "Tool servers from functions and MCP servers.",
        ("simkit.tools",),
        ("simkit.tools.mcp", "simkit.tools.http"),
    ),
    "rewards": Chapter("Rewards", "Rewards that ship with simkit.", ("simkit.rewards",)),
    "agents": Chapter(
        "Agents with a loop",
        "Agents of frameworks, and loops of your own.",
        (),
        ("simkit.agents.loop", "simkit.agents.frameworks"),
    ),
    "models": Chapter(
        "Language models",
        "The contract of models and providers, and their configuration.",
        ("simkit.models",),
        ("simkit.models.provider",),
    ),
    "store": Chapter("The store", "Results: queries, trees, transcripts.", ("simkit.store",), ("simkit.store.reader",)),
    "data": Chapter(
        "Training data",
        "Reading, checking and writing training examples.",
        (),
        ("simkit.data.selection", "simkit.data.export", "simkit.data.checks"),
    ),
    "comparison": Chapter("Comparisons", "The difference between two runs.", (), ("simkit.comparison",)),
    "testing": Chapter(
        "Testing", "Fakes, fixtures and conformance suites.", (), ("simkit.testing", "simkit.testing.conformance")
    ),
    "errors": Chapter("Errors", "Every error that simkit raises on purpose.", ("simkit.errors",), ("simkit.errors",)),
}


def interface_pages() -> Iterator[tuple[str, str]]:
    """The name and the text of each page."""
    index = [
        "# Python interface",
        "",
        "The public names, by subject. `from simkit import NAME` works for those of `simkit`.",
        "",
    ]
    for name, chapter in CHAPTERS.items():
        found = dict(_names(chapter))
        index += [f"## [{chapter.title}]({name}.md)", "", chapter.told, "", _list(name, found), ""]
        yield name, _page(chapter, found)
    yield "index", "\n".join(index)


def public_names() -> Iterator[str]:
    """Names of `simkit` that a page describes."""
    for chapter in CHAPTERS.values():
        yield from (name for name, _ in _names(chapter))


def _names(chapter: Chapter) -> Iterator[tuple[str, object]]:
    seen: set[int] = set()
    for name in simkit.__all__:
        value = getattr(simkit, name)
        if any(f"{_home(name)}.".startswith(f"{package}.") for package in chapter.packages):
            seen.add(id(value))
            yield name, value
    for module in chapter.modules:
        for name, value in _of_module(module):
            if id(value) not in seen:
                seen.add(id(value))
                yield name, value


def _home(name: str) -> str:
    stub = Path(str(simkit.__file__)).with_name("__init__.pyi").read_text("utf-8")
    found = re.search(rf"^from (\S+) import {name} as", stub, re.M)
    return found[1] if found else ""


def _of_module(path: str) -> Iterator[tuple[str, object]]:
    try:
        module = import_module(path)
    except ModuleNotFoundError:
        return
    names: Sequence[str] = getattr(module, "__all__", ()) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == path
    ]
    for name in names:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            yield name, value


def _list(page: str, found: Mapping[str, object]) -> str:
    return ", ".join(f"[`{name}`]({page}.md#{name.lower()})" for name in found)


def _page(chapter: Chapter, found: Mapping[str, object]) -> str:
    parts = [f"# {chapter.title}", chapter.told]
    for name, value in found.items():
        parts += [f"## {name}", f"*{_kind(value)} of* `{_place(value)}`", *_described(name, value)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _kind(value: object) -> str:
    if inspect.isclass(value):
        return "Error" if issubclass(value, BaseException) else "Class"
    return "Function" if callable(value) else "Type"


def _place(value: Any) -> str:
    return str(getattr(value, "__module__", "simkit"))


def _described(name: str, value: Any) -> Iterator[str]:
    if not inspect.isclass(value) and not inspect.isroutine(value):
        yield code(f"{name} = {shortened(str(value))}")
        return
    yield code(signature(name, value))
    yield markdown_of(_own_doc(value))
    if inspect.isclass(value):
        yield from _members(value)


def _own_doc(value: Any) -> str:
    text = inspect.getdoc(value) if not inspect.isclass(value) else value.__dict__.get("__doc__")
    return "" if not text or text.startswith(f"{value.__name__}(") else text


def _members(kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield "\n".join(f"- `{member.name}`: `{member.value!r}`" for member in kind)
    for name, member in _public_members(cast("type", kind)):
        raw = getattr(member, "__func__", member)
        if isinstance(raw, property):
            yield f"### {kind.__name__}.{name}"
            yield markdown_of(raw.__doc__ or "")
        else:
            yield f"### {kind.__name__}.{name}()"
            yield code(signature(name, raw))
            yield markdown_of(raw.__doc__ or "")


def _public_members(kind: type) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for each in kind.__mro__:
        if not each.__module__.startswith("simkit"):
            continue
        for name, member in vars(each).items():
            shown = isinstance(member, (property, classmethod, staticmethod)) or inspect.isfunction(member)
            told = getattr(cast("object", member), "__doc__", None)
            if shown and told and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, member


def signature(name: str, value: Any) -> str:
    """A callable with its parameters, one to a line if they are many."""
    try:
        found = _bare(inspect.signature(value))
    except (TypeError, ValueError):
        return name
    prefix = "async def " if inspect.iscoroutinefunction(value) else ""
    line = _plain(f"{prefix}{name}{found}")
    if len(line) <= 100:
        return line
    parameters = [f"    {_plain(part)},\n" for part in _parameters(found)]
    returned = "" if found.return_annotation is found.empty else f" -> {_plain(repr(found.return_annotation))}"
    return f"{prefix}{name}(\n{''.join(parameters)}){returned}"


def _parameters(found: inspect.Signature) -> Iterator[str]:
    after_star = False
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not after_star:
            yield "*"
        after_star = after_star or parameter.kind in {parameter.VAR_POSITIONAL, parameter.KEYWORD_ONLY}
        yield str(parameter)


class _Text:
    """An annotation, shown as it stands in the source."""

    def __init__(self, annotation: object) -> None:
        self.text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)

    def __repr__(self) -> str:
        return self.text


def _bare(found: inspect.Signature) -> inspect.Signature:
    """A signature without `self`, whose annotations are shown without quotes."""
    given = [each for each in found.parameters.values() if each.name not in {"self", "cls"}]
    parameters = [
        each if each.annotation is each.empty else each.replace(annotation=_Text(each.annotation)) for each in given
    ]
    returned = found.return_annotation
    shown = found.empty if returned in {None, "None", found.empty} else _Text(returned)
    return found.replace(parameters=parameters, return_annotation=shown)


def _plain(text: str) -> str:
    """A signature without what only a program needs."""
    text = re.sub(r"\b(?:simkit|collections|typing|anyio|pathlib)(?:\.\w+)*\.(?=[A-Z])", "", text)
    text = re.sub(r"<factory>|<object object at 0x\w+>", "...", text)
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return re.sub(r"<(?:function|class) '?([\w.]+)'?>", r"\1", text).replace("'", '"')


def shortened(text: str) -> str:
    """A type on one line of readable length."""
    text = _plain(text)
    return text if len(text) <= 300 else f"{text[:297]}..."


def code(text: str) -> str:
    """A block of Python."""
    return f"```python\n{text}\n```"
