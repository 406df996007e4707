"""Export of a run's pages as one file that opens without a server, or as a folder if that file were too large."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import simkit
from simkit.core.out_files import check_above
from simkit.errors import UsageError
from simkit.store import Reader
from simkit.viewing.api import answer, to_bytes
from simkit.viewing.pages import page_files
from simkit.viewing.redaction import RedactedReader, Redaction, without_keys
from simkit.viewing.standalone import standalone
from simkit.viewing.transcripts import own_messages

LARGEST = 20_000_000
"""Maximum bytes of data in one file; more are written as a folder, with a file for each episode."""

LONGEST = 1_000_000
"""Maximum bytes of a message that an export holds whole."""

NO_NOTES = "an exported file takes no notes; `simkit view` on the store does"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is exported.

    Attributes:
        run: id of the run.
        episodes: its episodes as task/trial; none for all.
        compare: id of a run that it is compared with; None for none.
        all_branches: every branch of each tree, not only the golden and final ones.
        redact: regular expressions whose matches are left out of all texts.
        at: branch that a single episode opens at, as path.turn; empty for the golden or final one.
    """

    run: str
    episodes: tuple[str, ...] = ()
    compare: str | None = None
    all_branches: bool = False
    redact: tuple[str, ...] = ()
    at: str = ""


@dataclass(slots=True)
class Collected:
    """The answers of an export by their paths, those of each episode apart, and what is not among them.

    `kept` of the `ends` of all trees have their conversations.
    """

    start: str
    answers: dict[str, Any] = field(default_factory=dict[str, Any])
    episodes: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    left_out: list[str] = field(default_factory=list[str])
    ends: int = 0
    kept: int = 0

    @property
    def all_answers(self) -> dict[str, Any]:
        """All answers together."""
        return {**self.answers, **{path: value for found in self.episodes.values() for path, value in found.items()}}


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the page, the bytes of all files, and what was left out."""

    page: Path
    size: int
    left_out: tuple[str, ...]
    folder: bool


def export(reader: Reader, choice: Choice, out: Path) -> Written:
    """Write the pages of a run.

    Raises:
        UsageError: the run or an episode does not exist, the runs cannot be compared, an expression is wrong, or
            the file cannot be written.
        StoreError: the store cannot be read.
    """
    check_above(out)
    found = collected(reader, choice)
    data = to_bytes(_data(found, found.all_answers))
    title = f"{choice.run} · simkit"
    try:
        if len(data) <= LARGEST:
            return _write_file(out, found, data, title)
        return _write_folder(out, found, title)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}; name another file") from error


def page_of(reader: Reader, choice: Choice) -> str:
    """The whole page as a text, whatever its size; raises the same errors as `export`."""
    found = collected(reader, choice)
    return standalone(page_files(), to_bytes(_data(found, found.all_answers)), title=f"{choice.run} · simkit")


def _data(found: Collected, answers: Mapping[str, Any], files: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"start": found.start, "left_out": found.left_out, "answers": answers, "files": files or {}}


def _write_file(out: Path, found: Collected, data: bytes, title: str) -> Written:
    text = standalone(page_files(), data, title=title).encode()
    _private(out, text)
    return Written(out, len(text), tuple(found.left_out), folder=False)


def _write_folder(out: Path, found: Collected, title: str) -> Written:
    """`OUT/index.html` with a JSON file for each episode beside it, which only a server can hand to the page."""
    folder = out.with_suffix("") if out.suffix else out
    for each in (folder, folder / "episodes"):
        each.mkdir(exist_ok=True)
    files: dict[str, str] = {}
    size = 0
    for number, answers in enumerate(found.episodes.values()):
        name = f"episodes/{number}.json"
        files.update(dict.fromkeys(answers, name))
        body = to_bytes(answers)
        _private(folder / name, body)
        size += len(body)
    data = to_bytes(_data(found, found.answers, files))
    text = standalone(page_files(), data, title=title, fetches=True).encode()
    _private(folder / "index.html", text)
    return Written(folder / "index.html", size + len(text), tuple(found.left_out), folder=True)


def _private(path: Path, body: bytes) -> None:
    """Write a file that only its owner reads, as those of the store; who shares it, opens it."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(body)


# --- what is collected ------------------------------------------------------------------------------------------------


def collected(reader: Reader, choice: Choice) -> Collected:
    """The redacted answers to everything that the exported pages ask; raises the errors of `export`."""
    plain = Redaction.of(choice.redact)
    episodes = _episodes(reader, choice)
    runs = [choice.run, *([choice.compare] if choice.compare else [])]
    redaction = plain.naming(runs, (task for run in runs for task, _ in _played(reader, run)))
    source = RedactedReader(reader, plain) if plain.expressions else reader
    with source.reading(allow_incomplete=True) as own:
        found = _collect(own, choice, runs, episodes)
    return _cleaned(found, redaction)


def _collect(reader: Reader, choice: Choice, runs: Sequence[str], episodes: Sequence[tuple[str, int]]) -> Collected:
    one = f"/{_encoded(episodes[0][0])}/{episodes[0][1]}" if len(episodes) == 1 and choice.episodes else ""
    one += f"?at={_encoded(choice.at)}" if one and choice.at else ""
    start = f"/compare?a={choice.run}&b={choice.compare}" if choice.compare else f"/runs/{_encoded(choice.run)}{one}"
    found = Collected(start)
    version = answer(reader, "/api/version")
    annotations = {"enabled": False, "reason": NO_NOTES, "author": ""}
    store = {"store": reader.path.resolve().name, "simkit": simkit.__version__}
    found.answers["/api/version"] = {**version, **store, "readonly": True, "annotations": annotations}
    rows = [row for row in answer(reader, "/api/runs") if row["run_id"] in runs]
    found.answers["/api/runs"] = [{**row, "part_of": None} for row in rows]
    found.answers["/api/notes"] = {"notes": []}
    for run in runs:
        wanted = episodes if run == choice.run else _compared(reader, run, choice, episodes)
        _add_run(reader, found, run, wanted)
        for task, trial in wanted:
            _add_episode(reader, found, run, (task, trial), choice)
    if choice.compare:
        asked = {"a": choice.run, "b": choice.compare}
        compared = answer(reader, "/api/compare", asked)
        tasks = {task for task, _ in episodes}
        shown = [row for row in compared["tasks"] if row["task_id"] in tasks]
        found.answers[f"/api/compare?a={_encoded(choice.run)}&b={_encoded(choice.compare)}"] = {
            **compared,
            "tasks": shown,
        }
    found.left_out += _left_out(reader, choice, rows, found, len(episodes))
    return found


def _add_run(reader: Reader, found: Collected, run: str, episodes: Sequence[tuple[str, int]]) -> None:
    base = f"/api/runs/{_encoded(run)}"
    page = answer(reader, base)
    kept = set(episodes)
    columns: Mapping[str, Sequence[Any]] = page["episodes"]
    places = [n for n, key in enumerate(zip(columns["task_id"], columns["trial"], strict=True)) if key in kept]
    shown = {name: [values[n] for n in places] for name, values in columns.items()}
    config = without_keys(page["config"])
    found.answers[base] = {**page, "config": config, "episodes": shown, "parts": []}
    found.answers[f"{base}/metrics"] = answer(reader, f"{base}/metrics")
    notes = answer(reader, f"{base}/notes")["notes"]
    mine = [note for note in notes if (note["task_id"], note["trial"]) in kept or note["task_id"] is None]
    found.answers[f"{base}/notes"] = {"notes": mine}
    found.answers["/api/notes"]["notes"] += mine
    found.answers[f"{base}/trees"] = {"trees": {}, "next": None}


def _shape(nodes: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The shape of an episode's tree, as the page of the run draws it."""
    bad = [int((outcome or "").endswith("_fault")) for outcome in nodes["outcome"]]
    return {**{name: nodes[name] for name in ("parent", "turn", "mark")}, "bad": bad}


def _add_episode(reader: Reader, found: Collected, run: str, episode: tuple[str, int], choice: Choice) -> None:
    task, trial = episode
    place = f"{_encoded(run)}/{_encoded(task)}/{trial}"
    page = answer(reader, f"/api/episodes/{place}")
    answers = found.episodes.setdefault(f"{run}/{task}/{trial}", {})
    answers[f"/api/episodes/{place}"] = _without_neighbours(page, choice)
    nodes = page["nodes"]
    found.answers[f"/api/runs/{_encoded(run)}/trees"]["trees"][f"{task}/{trial}"] = _shape(nodes)
    branches: Sequence[str] = nodes["branch_id"]
    own = own_messages(reader, f"{run}/{task}/{trial}")
    ends = _ends(page, branches, choice)
    base = f"/api/transcript/{place}/"
    for path in (_path(nodes["parent"], end) for end in ends):
        for length in range(1, len(path) + 1):
            name = base + _encoded(_tail(branches[path[length - 1]]))
            if name not in answers:
                answers[name] = _conversation(own, [branches[n] for n in path[:length]], base)
    _add_whole(reader, answers, place)
    found.ends += len({*range(len(branches))} - {*nodes["parent"]})
    found.kept += len(ends)


def _without_neighbours(page: Mapping[str, Any], choice: Choice) -> dict[str, Any]:
    """The episode's page without links to episodes that the export lacks."""
    return {**page, "prev": None, "next": None} if choice.episodes else dict(page)


def _ends(page: Mapping[str, Any], branches: Sequence[str], choice: Choice) -> list[int]:
    """The ends whose conversations are exported: golden, winning and final ones, or all."""
    nodes = page["nodes"]
    inner = {*nodes["parent"]}
    leaves = [n for n in range(len(branches)) if n not in inner]
    if choice.all_branches:
        return leaves
    golden = {n for n in leaves if nodes["mark"][n] & 6}
    final = {n for n, branch in enumerate(branches) if _tail(branch) == page.get("final")}  # it need not be a leaf
    return sorted(golden | final) or leaves[:1]


def _path(parents: Sequence[int], end: int) -> list[int]:
    path = [end]
    while parents[path[-1]] >= 0:
        path.append(parents[path[-1]])
    return path[::-1]


def _conversation(own: Mapping[str, dict[str, Any]], branches: Sequence[str], base: str) -> dict[str, Any]:
    """The conversation of a path from the root: the messages of its last branch, and the path that it goes on from."""
    calls = [call for branch in branches for call in own.get(branch, {}).get("model_calls", ())]
    found = own.get(branches[-1], {"branch_id": branches[-1], "lines": [], "model_calls": []})
    before = {"after": base + _encoded(_tail(branches[-2]))} if len(branches) > 1 else {}
    sums = {name: sum(call[name] or 0.0 for call in calls) if calls else None for name in ("cost", "seconds")}
    return {**found, **sums, **before}


def _tail(branch: str) -> str:
    return branch.rpartition("/")[2]


def _add_whole(reader: Reader, answers: dict[str, Any], place: str) -> None:
    """The whole of messages that are cut in their conversations, up to a size."""
    cut = [
        (line["branch_id"], line["seq"], line["cut"]) for each in [*answers.values()] for line in each.get("lines", ())
    ]
    for branch, seq, size in cut:
        if size and size <= LONGEST:
            path = f"/api/message/{place}/{_encoded(_tail(branch))}/{seq}"
            answers[path] = answer(reader, path)


def _left_out(
    reader: Reader, choice: Choice, rows: Sequence[Mapping[str, Any]], found: Collected, episodes: int
) -> Iterator[str]:
    total = next(row["episodes"] for row in rows if row["run_id"] == choice.run)
    if episodes < total:
        yield f"{total - episodes} of {total} episodes"
    if found.kept < found.ends:
        yield f"{found.ends - found.kept:,} of {found.ends:,} ends of trees (--all-branches exports them)"
    if any(run.part_of == choice.run for run in reader.runs()):
        yield "the stages of the run, which are runs of their own"
    yield "requests and answers of model calls, and search"
    yield f"the rest of messages of more than {LONGEST // 1_000_000} MB"


# --- names ------------------------------------------------------------------------------------------------------------


def _episodes(reader: Reader, choice: Choice) -> list[tuple[str, int]]:
    """The chosen episodes as task and trial."""
    known = _played(reader, choice.run)
    if not choice.episodes:
        return known
    chosen = [_named(name) if "/" in name and _named(name) in known else (name, 0) for name in choice.episodes]
    for name, found in zip(choice.episodes, chosen, strict=True):
        if found not in known:
            raise UsageError(
                f"run {choice.run} has no episode {name!r}; `simkit show {choice.run}` lists them as task/trial"
            )
    return list(dict.fromkeys(chosen))


def _compared(reader: Reader, run: str, choice: Choice, episodes: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The episodes of the other run that belong to the exported ones."""
    played = _played(reader, run)
    return [each for each in played if each in episodes] if choice.episodes else played


def _played(reader: Reader, run: str) -> list[tuple[str, int]]:
    rows = reader.query("SELECT task_id, trial FROM episodes WHERE run_id = $run ORDER BY ALL", {"run": run}).rows
    return [(str(task), int(trial)) for task, trial in rows]


def _named(name: str) -> tuple[str, int]:
    task, _, trial = name.rpartition("/")
    return task, int(trial) if trial.isdecimal() else -1


def _encoded(part: str) -> str:
    """A part of a path as the pages write it (`encodeURIComponent`)."""
    return quote(part, safe="!*'()")


# --- redaction --------------------------------------------------------------------------------------------------------


def _cleaned(found: Collected, redaction: Redaction) -> Collected:
    if not redaction.expressions:
        return found
    encoded = replace(redaction, names={_encoded(name): stand_in for name, stand_in in redaction.names.items()})

    def cleaned(answers: Mapping[str, Any]) -> dict[str, Any]:
        return {
            _path_of(path, encoded): _linked(redaction.answer(value), value, encoded) for path, value in answers.items()
        }

    return replace(
        found,
        start=_path_of(found.start, encoded),
        answers=cleaned(found.answers),
        episodes={redaction.id(name): cleaned(answers) for name, answers in found.episodes.items()},
        left_out=[redaction.answer(line) for line in found.left_out],
    )


def _path_of(path: str, encoded: Redaction) -> str:
    front, mark, query = path.partition("?")
    renamed = "&".join("=".join(map(encoded.id, pair.split("=", 1))) for pair in query.split("&")) if mark else ""
    return f"{encoded.id(front)}{mark}{renamed}"


def _linked(value: Any, before: Any, encoded: Redaction) -> Any:
    """An answer whose link to the path before it has the stand-ins as well."""
    match before:
        case {"after": str() as path}:
            return {**value, "after": encoded.id(path)}
        case _:
            return value
