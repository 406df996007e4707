"""The worlds of tau-bench over the raw data of the two releases; schemas come from the recordings."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tau_recordings import raw_data, recordings_folder

from simkit.tools.tau import AirlineWorld, RetailWorld
from simkit.tools.tau.cache import prepare
from simkit.tools.tau.source import ReleaseName
from support.tau_clone import release_of, tool_files, write_clone

RELEASES: dict[str, ReleaseName] = {"head": "2025", "paper": "josh"}
WORLDS = {"retail": RetailWorld, "airline": AirlineWorld}
_PREFIX = "tau_bench/envs/"


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
        clone = write_clone(folder / recorded, contents)
        prepare(folder / "cache", clone, releases=(release_of(contents, release),))
    return folder / "cache"
