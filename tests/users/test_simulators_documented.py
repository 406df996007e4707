from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "user-simulators.md").read_text()


def test_the_document_shows_the_persona_user_as_it_is() -> None:
    source = (ROOT / "users" / "persona.py").read_text()
    assert source in DOCUMENT
    assert len(source.splitlines()) <= 60


def test_every_user_that_ships_is_in_the_document() -> None:
    ours = [point.name for point in entry_points(group="simkit.users") if point.value.startswith("simkit.")]
    assert ours
    for name in ours:
        assert f"\n| `{name}` |" in DOCUMENT
