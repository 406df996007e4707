"""The arrows of the house run one way: recipes -> {agents, users, tools, rewards} -> simkit."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPONENTS = ("agents", "users", "tools", "rewards")
ROOMS = (*COMPONENTS, "recipes")


@cache
def imported(file: Path) -> frozenset[str]:
    """The modules a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def rooms_of(file: Path) -> set[str]:
    return {room for room in ROOMS if any(f"{name}.".startswith(f"simkit.{room}.") for name in imported(file))}


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", COMPONENTS)
def test_a_component_room_imports_no_other_room(room: str) -> None:
    strangers = {str(file): rooms_of(file) - {room} for file in files(room)}
    assert {file: rooms for file, rooms in strangers.items() if rooms} == {}


def test_the_runtime_imports_no_room() -> None:
    core = [file for file in files("simkit") if not set(file.relative_to(ROOT / "simkit").parts) & set(ROOMS)]
    assert len(core) > 10
    strangers = {str(file): rooms_of(file) for file in core}
    assert {file: rooms for file, rooms in strangers.items() if rooms} == {}


@pytest.mark.parametrize("room", ["simkit", *ROOMS])
def test_no_room_reads_tests_or_benchmarks(room: str) -> None:
    outside = {"tests", "benchmarks", *ROOMS}
    assert files(room)
    for file in files(room):
        assert not {name.partition(".")[0] for name in imported(file)} & outside, file
