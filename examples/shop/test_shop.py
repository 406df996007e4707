"""Checks this world: run `pytest` in its folder."""

from pathlib import Path

from simkit.testing.worlds import check_world_folder


def test_the_shop_can_be_played() -> None:
    """Every task can be solved, and the tools keep branches apart."""
    check_world_folder(Path(__file__).parent)
