"""Recordings of tau-bench and its raw data, neither of which is part of the project."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest

from simkit.core.messages import ToolSpec
from simkit.errors import UsageError
from simkit.tools.tau.rows import Base, Row

Recording: TypeAlias = dict[str, Any]
SHARED = Path(__file__).parents[3] / "shared"
TABLES = {"retail": ("orders", "products", "users"), "airline": ("flights", "reservations", "users")}


def recordings_folder() -> Path:
    """The recordings: `SIMKIT_GOLDEN_TAU`, or `shared/golden-tau` beside the checkout.

    Raises:
        UsageError: `SIMKIT_GOLDEN_TAU` names no folder, so that everything would be skipped without being asked for.
    """
    chosen = os.environ.get("SIMKIT_GOLDEN_TAU")
    if chosen and not Path(chosen).is_dir():
        raise UsageError(
            f"SIMKIT_GOLDEN_TAU is {chosen}, and there is no such folder; name the folder of the recordings"
        )
    return Path(chosen) if chosen else SHARED / "golden-tau"


def read_recordings(name: str) -> list[Recording]:
    """The lines of one file of recordings; skips the test if there is none."""
    path = recordings_folder() / name
    if not path.is_file():
        pytest.skip(f"no recordings of tau-bench at {path}; set SIMKIT_GOLDEN_TAU to their folder")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    if not lines:
        pytest.skip(f"{path} has no line")
    return lines


def read_schemas(release: str, domain: str) -> list[ToolSpec]:
    """The tools of a domain as `head` or `paper` sends them to the model."""
    (schemas,) = read_recordings("tau1_schemas.json.gz")
    return [ToolSpec.model_validate(tool) for tool in schemas[release][domain]["tools"]]


@dataclass(frozen=True)
class RawData:
    """Raw files of the two releases: those of the older one where it differs, else those of the last one."""

    files: Mapping[str, bytes]
    paper: Mapping[str, bytes]

    def base(self, domain: str, release: str) -> Base:
        """The tables of a domain as `head` or `paper` has them."""
        return Base({table: self._table(domain, table, release) for table in TABLES[domain]})

    def _table(self, domain: str, table: str, release: str) -> dict[str, Row]:
        name = f"tau_bench/envs/{domain}/data/{table}.json"
        older = self.paper.get(name) if release == "paper" else None
        return cast("dict[str, Row]", json.loads(older if older is not None else self.files[name]))


@cache
def raw_data() -> RawData:
    """The raw data; skips the test if there is none."""
    head, paper = "tau1-head-59a200c.tar.xz", "tau1-paper-josh-train-0.1.4-diff.tar.xz"
    return RawData(_unpacked(SHARED / "data-tau" / head), _unpacked(SHARED / "data-tau" / paper))


@cache
def raw_tau2() -> Mapping[str, bytes]:
    """The raw data of tau2-bench by path; skips the test if there is none."""
    return _unpacked(SHARED / "data-tau" / "tau2-head-a2c0247.tar.xz")


def _unpacked(path: Path) -> dict[str, bytes]:
    if not path.is_file():
        pytest.skip(f"no raw data of tau-bench at {path}")
    with lzma.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        members = [(member.name.partition("/")[2], archive.extractfile(member)) for member in archive]
        return {name: file.read() for name, file in members if file is not None}
