"""The worlds of tau-bench over the raw data of the two releases; schemas come from the recordings."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import cast

import pytest
from tau_recordings import Recording, raw_data, read_recordings, recordings_folder

from simkit.tools.tau import AirlineWorld, RetailWorld
from simkit.tools.tau.cache import prepare
from simkit.tools.tau.source import ReleaseName
from simkit.users.tau_replies import PaperReplies
from support.tau_clone import prompt_files, release_of, tool_files, write_clone

RELEASES: dict[str, ReleaseName] = {"head": "2025", "paper": "josh"}
WORLDS = {"retail": RetailWorld, "airline": AirlineWorld}
_PREFIX = "tau_bench/envs/"


TOOLS_HEAD = "{{policy}}\n#Available tools\n{{tools}}"
_JUDGES = ("user_verify", "user_reflection")


def read_users() -> list[Recording]:
    """The recorded users, one for each strategy; skips the test if there is none."""
    (users,) = read_recordings("tau1_users.json.gz")
    return cast("list[Recording]", users)


def recorded_prompts() -> dict[str, str]:
    """The prompts of the recordings, with places for what they were filled with."""
    (agents,) = read_recordings("tau1_prompts.json.gz")
    found = {name: TOOLS_HEAD + agents[f"{name}_instruction"] for name in ("react", "act")}
    found["cue"] = agents["greeting_to_user_model"]
    for user in read_users():
        opening = user["steps"][0]
        name = "user_react" if user["strategy"] == "react" else "user"
        found[name] = opening["calls"][0][0][1].replace(opening["in"], "{{instruction}}")
        if user["strategy"] in ("verify", "reflection"):
            found |= _judges(user)
    found.setdefault("user", found.get("user_react", "{{instruction}}"))
    return found


def _judges(user: Recording) -> dict[str, str]:
    """The prompts of judges: the second call of a step is a verdict on the first, the third may be a reflection."""
    found, place = dict[str, str](), 0
    for step in user["steps"]:
        calls, written = step["calls"], user["script"][place]
        place += len(calls)
        transcript = "\n".join(f"{PaperReplies.labels[role]}: {text}" for role, text in calls[0])
        judged = {name: call[0][1] for name, call in zip(_JUDGES, calls[1:3], strict=False) if len(call) == 1}
        shown = f"<message {written!r}>" if user["strategy"] == "verify" else written
        found |= {name: _with_places(text, transcript, shown) for name, text in judged.items()}
    return found


def _with_places(prompt: str, transcript: str, shown: str) -> str:
    """A judge's prompt whose transcript, and the message that follows it, are places."""
    head, found, tail = prompt.partition(transcript)
    heading, message, rest = tail.partition(f"\n{shown}\n")
    assert found, "the prompt of a judge holds no transcript"
    assert message, "the prompt of a judge holds no message"
    return f"{head}{{{{transcript}}}}{heading}\n{{{{response}}}}\n{rest}"


def build_caches(folder: Path) -> Path:
    """Build the caches of both releases below a folder; skips the test without raw data or recordings."""
    schemas = recordings_folder() / "tau1_schemas.json.gz"
    if not schemas.is_file():
        pytest.skip(f"no recordings of tau-bench at {schemas}; set SIMKIT_GOLDEN_TAU to their folder")
    tools = json.loads(gzip.decompress(schemas.read_bytes()))
    raw = raw_data()
    for recorded, release in RELEASES.items():
        found = dict(raw.files) | (dict(raw.paper) if recorded == "paper" else {})
        contents = {path.removeprefix(_PREFIX): text for path, text in found.items() if path.startswith(_PREFIX)}
        for domain in WORLDS:
            made = tool_files(domain, tools[recorded][domain]["tools"])
            contents |= {path: text.encode() for path, text in made.items()}
        contents |= {path: text.encode() for path, text in prompt_files(recorded_prompts()).items()}
        clone = write_clone(folder / recorded, contents)
        prepare(folder / "cache", clone, releases=(release_of(contents, release),))
    return folder / "cache"
