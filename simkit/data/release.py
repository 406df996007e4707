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
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import orjson

from simkit.core.messages import AssistantMessage, Message, UserMessage, parse_message, text_of
from simkit.data.conversations import has_error_marker
from simkit.data.examples import ExampleSet, KtoExample, Messages, prompt_digest
from simkit.data.origins import ExampleOrigin
from simkit.errors import DataCorrupt

INNER = "data/llama3-josh-toolwoz-for-KTO.zip"
OUT_OF_RETRIES = "Error: Agent ran out of retries."

Branch: TypeAlias = tuple[Messages, bool, bool]
"""One turn of a path of a tree with all messages before it, and whether it was successful and golden."""


def read_release(path: Path) -> ExampleSet:
    """The KTO examples of the release's wheel, or of the zip inside it.

    Only dialogues that reached all goals are used, unless their golden path contains an error marker that the agent
    caused. `removed` counts the rest: `unfinished` and `error_markers` count dialogues, `runtime_words` answers whose
    prompt contains the release's "ran out of retries" (a system message that our agents never see), and `duplicates`
    answers that occur in several dialogues.

    Raises:
        DataCorrupt: it is another file, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if INNER not in archive.namelist():
                return _examples(archive, path)
            with zipfile.ZipFile(io.BytesIO(archive.read(INNER))) as inner:
                return _examples(inner, path)
    except zipfile.BadZipFile as error:
        raise DataCorrupt(f"{path} is damaged or not a zip file ({error}); download it again") from error


def _examples(archive: zipfile.ZipFile, path: Path) -> ExampleSet:
    names = sorted(name for name in archive.namelist() if name.endswith(".json") and "/sim_" in f"/{name}")
    if not names:
        raise DataCorrupt(f"{path} holds no simulated dialogues (sim_*.json); it must be josh-train's wheel or its zip")
    removed = Counter[str]()
    found: list[KtoExample] = []
    for name in names:
        branches, finished = _dialogue(archive.read(name), f"{name} in {path}")
        if not finished:
            removed["unfinished"] += 1
        elif any(_is_error(message) for messages, _, golden in branches if golden for message in messages):
            removed["error_markers"] += 1
        else:
            found += _judged(Path(name).name.removeprefix("sim_"), branches, removed)
    examples = ExampleSet("kto", tuple(found), removed).distinct()
    return replace(examples, removed={reason: n for reason, n in sorted(examples.removed.items()) if n})


def _dialogue(data: bytes, place: str) -> tuple[list[Branch], bool]:
    """The branches of a dialogue, and whether it reached all goals."""
    try:
        found = orjson.loads(data)
        branches = [(_parsed(messages), bool(won), bool(golden)) for messages, won, golden in found["training_paths"]]
        return branches, bool(found["100_percent_reached"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataCorrupt(f"{place} is not a dialogue of the release ({type(error).__name__}: {error})") from error


def _parsed(messages: Sequence[Any]) -> Messages:
    found = [parse_message(cast("dict[str, Any]", message)) for message in messages]
    while found and isinstance(found[-1], UserMessage):
        found.pop()
    return tuple(found)


def _is_error(message: Message) -> bool:
    """Whether a message holds an error marker; in the release's text protocol, results of tools are user messages."""
    text = text_of(message)
    if isinstance(message, AssistantMessage):
        return has_error_marker("agent", text)
    return text.startswith("APIRETURN") and has_error_marker("tool", text)


def _judged(task_id: str, branches: Sequence[Branch], removed: Counter[str]) -> Iterator[KtoExample]:
    """Golden answers, and failed answers to the same prompts; an answer is known by its prompt and itself."""
    answers: dict[tuple[bytes, bytes], tuple[Messages, Message]] = {}
    chosen: set[tuple[bytes, bytes]] = set()
    good: set[tuple[bytes, bytes]] = set()
    for messages, successful, golden in reversed(branches):
        for index, message in reversed([*enumerate(messages)]):
            if isinstance(message, AssistantMessage):
                name = (prompt_digest(messages[:index], ()), message.digest())
                answers[name] = (messages[:index], message)
                chosen.update([name] if golden else ())
                good.update([name] if golden or successful else ())
    points = {prompt for prompt, _ in chosen}
    origin = ExampleOrigin(run_id="josh-train", task_id=task_id, world="toolwoz", split="train")
    for name, (prompt, message) in answers.items():
        desirable = name in chosen
        if not desirable and (name in good or name[0] not in points):
            continue  # it precedes a fork, or no golden answer has its prompt
        if any(text_of(each) == OUT_OF_RETRIES for each in prompt):
            removed["runtime_words"] += 1
        else:
            yield KtoExample(prompt=prompt, completion=(message,), label=desirable, origin=origin)
