"""What is shipped: `simkit/**` and nothing else, every room of it, under names that belong to us."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("agents", "users", "tools", "rewards", "recipes")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def installed() -> list[str]:
    try:
        shipped = files("josh-simkit") or []
    except PackageNotFoundError:
        shipped = []
    names = [str(file) for file in shipped]
    if not any(name.endswith("RECORD") for name in names):
        pytest.skip("josh-simkit is not installed as a wheel here; scripts/test installs it")
    return names


def test_only_simkit_is_installed() -> None:
    strangers = [
        name for name in installed() if not name.startswith(("simkit/", "josh_simkit-", "../../../bin/simkit"))
    ]
    assert strangers == []


def test_types_and_queries_are_shipped() -> None:
    names = installed()
    assert "simkit/py.typed" in names
    queries = {f"simkit/store/{file.name}" for file in (ROOT / "simkit" / "store").glob("*.sql")}
    assert queries
    assert queries <= set(names)


def test_prompts_are_shipped() -> None:
    names = set(installed())
    for room in ("agents", "users"):
        prompts = {f"simkit/{room}/prompts/{file.name}" for file in (ROOT / room / "prompts").iterdir()}
        assert prompts
        assert prompts <= names


def test_the_pages_of_the_viewer_are_shipped() -> None:
    names = set(installed())
    static = ROOT / "simkit" / "viewing" / "static"
    files = {f"simkit/viewing/static/{file.relative_to(static)}" for file in static.rglob("*") if file.is_file()}
    assert "simkit/viewing/static/index.html" in files
    assert files <= names


def test_every_package_of_the_checkout_is_listed(project: dict[str, Any]) -> None:
    listed = set(project["tool"]["setuptools"]["packages"])
    found = {"simkit"} | {
        ".".join(("simkit", *folder.parent.relative_to(ROOT / "simkit").parts))
        for folder in (ROOT / "simkit").rglob("__init__.py")
        if not set(folder.relative_to(ROOT / "simkit").parts) & set(ROOMS)
    }
    for room in ROOMS:
        found |= {
            ".".join(("simkit", *folder.parent.relative_to(ROOT).parts))
            for folder in (ROOT / room).rglob("__init__.py")
        }
    assert found == listed


def test_every_file_of_the_checkout_is_shipped() -> None:
    names = set(installed())
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            assert f"simkit/{file.relative_to(ROOT)}" in names
