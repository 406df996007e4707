"""The training data that the authors of JOSH released: Llama-3-8B's simulations on ToolWOZ, as KTO examples.

`llama3-josh-toolwoz-for-KTO.zip`, inside the wheel of `josh-train` 0.1.4, holds one JSON file per simulated dialogue:
`training_paths`, a list of (conversation up to a branch's turn, successful, golden), and whether all goals were
reached. The examples are made by the rules of our own harvest (`simkit.data.selection`), so that the two can be
compared and mixed. The files contain no system prompt and no tool definitions: the agent's tools were described in
text, and each training script of the release adds its own prompt.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import orjson

from simkit.core.messages import AssistantMessage, Message, UserMessage, parse_message, text_of
from simkit.data.conversations import has_error_marker
from simkit.data.examples import ExampleSet, KtoExample, example_digest, prompt_digest
from simkit.data.origins import ExampleOrigin
from simkit.errors import DataCorrupt

INNER = "data/llama3-josh-toolwoz-for-KTO.zip"
OUT_OF_RETRIES = "Error: Agent ran out of retries."

Messages: TypeAlias = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class _Branch:
    """One turn of a path of a tree, with all messages before it."""

    messages: Messages
    successful: bool
    golden: bool


@dataclass(frozen=True, slots=True)
class _Simulation:
    """One dialogue of the release."""

    task_id: str
    branches: tuple[_Branch, ...]
    finished: bool

    @property
    def golden(self) -> Iterator[_Branch]:
        return (branch for branch in self.branches if branch.golden)


def read_release(path: Path) -> ExampleSet:
    """The KTO examples of the release's wheel, or of the zip inside it.

    Only dialogues that reached all goals are used, unless their golden path contains an error marker that the agent
    caused. `removed` counts the rest: `unfinished` and `error_markers` count dialogues, `runtime_words` answers whose
    prompt contains the release's "ran out of retries" (a system message that our agents never see), and `duplicates`
    answers that occur in several dialogues.

    Raises:
        DataCorrupt: it is another file, or damaged.
    """
    with zip_members(path) as archive:
        inside = INNER if INNER in archive.namelist() else None
        if inside is None:
            return _examples(_simulations(archive, path))
        with zipfile.ZipFile(io.BytesIO(archive.read(inside))) as inner:
            return _examples(_simulations(inner, path))


def _simulations(archive: zipfile.ZipFile, path: Path) -> list[_Simulation]:
    names = sorted(name for name in archive.namelist() if name.endswith(".json") and "/sim_" in f"/{name}")
    if not names:
        raise DataCorrupt(f"{path} holds no simulated dialogues (sim_*.json); it must be josh-train's wheel or its zip")
    return [
        _simulation(Path(name).stem.removeprefix("sim_"), archive.read(name), f"{name} in {path}") for name in names
    ]


def _simulation(dialogue: str, data: bytes, place: str) -> _Simulation:
    try:
        found = orjson.loads(data)
        branches = tuple(
            _Branch(_parsed(messages), bool(successful), bool(golden))
            for messages, successful, golden in found["training_paths"]
        )
        return _Simulation(f"{dialogue}.json", branches, bool(found["100_percent_reached"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataCorrupt(f"{place} is not a dialogue of the release ({type(error).__name__}: {error})") from error


def _parsed(messages: Sequence[Any]) -> Messages:
    found = [parse_message(cast("dict[str, Any]", message)) for message in messages]
    while found and isinstance(found[-1], UserMessage):
        found.pop()
    return tuple(found)


def _examples(simulations: Iterable[_Simulation]) -> ExampleSet:
    removed: Counter[str] = Counter()
    kept: dict[bytes, KtoExample] = {}
    for simulation in simulations:
        if not simulation.finished:
            removed["unfinished"] += 1
        elif any(_erroneous(branch.messages) for branch in simulation.golden):
            removed["error_markers"] += 1
        else:
            for example in _judged(simulation, removed):
                if kept.setdefault(example_digest(example), example) is not example:
                    removed["duplicates"] += 1
    return ExampleSet("kto", tuple(kept.values()), {reason: n for reason, n in sorted(removed.items()) if n})


def _erroneous(messages: Messages) -> bool:
    return any(has_error_marker(*_author_and_text(message)) for message in messages)


def _author_and_text(message: Message) -> tuple[str, str]:
    """Author and text; in the release's text protocol, results of tools are user messages."""
    text = text_of(message)
    if isinstance(message, AssistantMessage):
        return "agent", text
    return ("tool" if text.startswith("APIRETURN") else "user"), text


def _judged(simulation: _Simulation, removed: Counter[str]) -> Iterator[KtoExample]:
    """Golden answers, and failed answers to the same prompts."""
    answers = [answer for branch in simulation.branches for answer in _answers(branch)]
    chosen = {answer.name for answer in answers if answer.branch.golden}
    points = {prompt for prompt, _ in chosen}
    good = chosen | {answer.name for answer in answers if answer.branch.successful}
    for answer in {answer.name: answer for answer in reversed(answers)}.values():
        desirable = answer.name in chosen
        if not desirable and (answer.name in good or answer.name[0] not in points):
            continue  # it precedes a fork, or no golden answer has its prompt
        if any(text_of(message) == OUT_OF_RETRIES for message in answer.prompt):
            removed["runtime_words"] += 1
        else:
            origin = ExampleOrigin(run_id="josh-train", task_id=simulation.task_id, world="toolwoz", split="train")
            yield KtoExample(prompt=answer.prompt, completion=(answer.message,), label=desirable, origin=origin)


@dataclass(frozen=True, slots=True)
class _Answer:
    """One message of the agent; its name consists of the digests of its prompt and of itself."""

    branch: _Branch
    index: int
    name: tuple[bytes, bytes]

    @property
    def prompt(self) -> Messages:
        return self.branch.messages[: self.index]

    @property
    def message(self) -> Message:
        return self.branch.messages[self.index]


def _answers(branch: _Branch) -> Iterator[_Answer]:
    messages = branch.messages
    for index, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            yield _Answer(branch, index, (prompt_digest(messages[:index], ()), message.digest()))


def zip_members(path: Path) -> zipfile.ZipFile:
    """Open a zip file.

    Raises:
        DataCorrupt: it is not a zip file.
    """
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataCorrupt(f"{path} is damaged or not a zip file ({error}); download it again") from error
