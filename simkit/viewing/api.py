"""The viewer's API as plain values: `answer(reader, path, query)` is what a GET of that URL returns, as JSON values.

The server sends these values, and an export stores them; neither knows what is in them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote

import orjson

import simkit
from simkit.errors import SimkitError, StoreIncomplete, UsageError, ViewRefused
from simkit.store import Reader, RunRow
from simkit.store.damage import describe_runs
from simkit.viewing.comparing import comparison
from simkit.viewing.episodes import episode_page, metrics, search, trees
from simkit.viewing.notes import notes
from simkit.viewing.requests import model_call
from simkit.viewing.runs import run_page, run_rows
from simkit.viewing.transcripts import message, transcript

NEAR = 8
"""Ids of runs that an answer about an unknown run suggests."""


@dataclass(frozen=True, slots=True)
class Annotations:
    """Whether notes can be written, why not, and who writes them."""

    enabled: bool = False
    reason: str = "notes are not written here"
    author: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What an answer needs to know besides the store: the number of its state, and who may write notes."""

    version: int = 0
    readonly: bool = False
    annotations: Annotations = field(default_factory=Annotations)
    notes: tuple[str, ...] = ()


def answer(reader: Reader, path: str, query: Mapping[str, str] | None = None, about: About | None = None) -> Any:
    """The JSON value of an API path such as `/api/runs/last/trees`, whose parts are percent-encoded.

    Raises:
        ViewRefused: there is no such path, run, episode, branch or call, or the runs cannot be compared.
        StoreError: the store cannot be read.
    """
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[:1] != ["api"]:
        raise _unknown(path)
    asked = _Question(reader, query or {}, about or About(), path)
    try:
        match parts[1:]:
            case ["version"]:
                return _version(asked)
            case ["runs"]:
                return run_rows(reader)
            case ["notes"]:
                return notes(reader)
            case ["compare"]:
                return comparison(reader, asked.arm("a"), asked.arm("b"))
            case ["runs", run, *rest]:
                return _about_run(asked, asked.run(run), rest)
            case ["episodes" | "transcript" | "message" | "calls" as kind, run, *rest] if len(rest) >= 2:
                return _about_episode(asked, kind, asked.run(run).run_id, rest)
            case _:
                raise _unknown(path)
    except ViewRefused:
        raise
    except (UsageError, StoreIncomplete) as error:
        raise ViewRefused(str(error), status=404 if parts[1:2] != ["compare"] else 400) from error


def to_bytes(value: Any) -> bytes:
    """A value of an answer as JSON text; numbers that JSON does not have become null, lone surrogates `?`."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate, or a whole number of more than 64 bits
        return orjson.dumps(_plain(value))


def _plain(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(1 << 63) <= value < (1 << 64) else float(value)
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(each) for key, each in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in cast("Sequence[object]", value)]
    return value


@dataclass(frozen=True, slots=True)
class _Question:
    reader: Reader
    query: Mapping[str, str]
    about: About
    path: str

    def run(self, name: str) -> RunRow:
        """A run by id, name, unique beginning or `last`; an id that has just been deleted has near ones."""
        try:
            return self.reader.resolve(name)
        except SimkitError as error:
            raise ViewRefused(
                f"there is no run {name!r}", hint=str(error), status=404, near=_near(name, self.reader.runs())
            ) from error

    def arm(self, side: str) -> tuple[RunRow, ...]:
        """The runs of one side of a comparison: names separated by commas."""
        names = [name for name in self.query.get(side, "").split(",") if name]
        if not names:
            raise ViewRefused(
                f"a comparison needs two runs, and {side} names none", hint="/compare?a=RUN&b=RUN", status=400
            )
        return tuple(self.run(name) for name in names)

    def number(self, name: str, default: int) -> int:
        """A whole number of the query."""
        text = self.query.get(name, "")
        return int(text) if text.isdecimal() and len(text) < 10 else default


def _version(asked: _Question) -> dict[str, Any]:
    about = asked.about
    return {
        "store": str(asked.reader.path.resolve()),
        "simkit": simkit.__version__,
        "version": about.version,
        "notes": [*_damage(asked.reader), *about.notes],
        "readonly": about.readonly,
        "annotations": {
            "enabled": about.annotations.enabled,
            "reason": about.annotations.reason,
            "author": about.annotations.author,
        },
    }


def _family(reader: Reader, run_id: str) -> list[str]:
    """A run and its parts, with their parts."""
    found = [run_id]
    for each in reader.runs():  # a run stands before its parts
        if each.part_of in found:
            found.append(each.run_id)
    return found


def _damage(reader: Reader) -> tuple[str, ...]:
    """Messages about damaged journals. What a round has not loaded yet is no matter: the next one does."""
    return describe_runs([line for run in reader.state.damaged for line in run.damaged])


def _about_run(asked: _Question, run: RunRow, rest: Sequence[str]) -> Any:
    reader, query = asked.reader, asked.query
    match rest:
        case []:
            return run_page(reader, run)
        case ["trees"]:
            return trees(reader, run.run_id, query.get("from"))
        case ["metrics"]:
            return metrics(reader, _family(reader, run.run_id))
        case ["search"]:
            return search(reader, run.run_id, query.get("q", ""), asked.number("limit", 50))
        case ["notes"]:
            return notes(reader, run.run_id)
        case _:
            raise _unknown(asked.path)


def _about_episode(asked: _Question, kind: str, run_id: str, rest: Sequence[str]) -> Any:
    """`TASK/TRIAL`, then what it is about; the parts of a task's id that has slashes need not be encoded."""
    extra = {"episodes": 0, "transcript": 1, "calls": 1, "message": 2}[kind]
    place, tail = rest[: len(rest) - extra], rest[len(rest) - extra :]
    if len(place) < 2 or not place[-1].isdecimal():
        raise _unknown(asked.path)
    task, trial = "/".join(place[:-1]), int(place[-1])
    episode = f"{run_id}/{task}/{trial}"
    handlers: Mapping[str, Callable[[], Any]] = {
        "episodes": lambda: episode_page(asked.reader, run_id, task, trial),
        "transcript": lambda: transcript(asked.reader, f"{episode}/{tail[0]}"),
        "calls": lambda: model_call(asked.reader, episode, tail[0]),
        "message": lambda: message(asked.reader, f"{episode}/{tail[0]}", _whole(asked, tail[1])),
    }
    return handlers[kind]()


def _whole(asked: _Question, text: str) -> int:
    if not text.isdecimal():
        raise _unknown(asked.path)
    return int(text)


def _near(name: str, runs: Sequence[RunRow]) -> list[str]:
    """Ids of runs whose id or name is like a name, the likeliest first; the latest runs if none is."""
    known = {run.run_id: run.run_id for run in runs} | {run.name: run.run_id for run in runs if run.name}
    like = [known[each] for each in difflib.get_close_matches(name, known, NEAR, 0.5)]
    begun = [run.run_id for run in runs if name and (name in run.run_id or name in run.name)]
    return list(dict.fromkeys([*begun[::-1], *like]))[:NEAR] or [run.run_id for run in runs[::-1][:NEAR]]


def _unknown(path: str) -> ViewRefused:
    return ViewRefused(f"there is no {path}", hint="docs/viewer.md lists the paths of the API", status=404)
