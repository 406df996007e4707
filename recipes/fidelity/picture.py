"""A picture of simulated users beside people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simkit.errors import StoreError
from simkit.plugins.extras import require
from simkit.recipes.fidelity.comparing import Comparison
from simkit.recipes.fidelity.measures import MEASURES
from simkit.recipes.fidelity.telling import Told

_COLOURS = ("#3b6fb6", "#c8553d", "#4c956c", "#8d6ab8", "#b8860b", "#5f6f7f")


def draw(found: Sequence[Comparison], people: Told | None, file: Path) -> None:
    """Draw the means of all users beside the people's, measure by measure, and how well they are told apart.

    Raises:
        UsageError: matplotlib is not installed (the extra `plots`).
        StoreError: the file cannot be written.
    """
    require("matplotlib", "plots").use("Agg")
    plots: Any = require("matplotlib.pyplot", "plots")
    figure, places = plots.subplots(3, 4, figsize=(13, 2.1 + 1.1 * len(found)), layout="constrained")
    panels = list(places.flat)
    for panel, measure in zip(panels, MEASURES, strict=False):
        _measure(panel, measure.name, measure.about, found)
    _told(panels[len(MEASURES)], found, people)
    for panel in panels[len(MEASURES) + 1 :]:
        panel.axis("off")
    try:
        figure.savefig(file, dpi=110)
    except OSError as error:
        raise StoreError(f"{file} cannot be written ({error.strerror}); name another place") from error
    finally:
        plots.close(figure)


def _measure(panel: Any, name: str, about: str, found: Sequence[Comparison]) -> None:
    panel.set_title(about, fontsize=8)
    rows = [(each.name, next((one for one in each.differences if one.measure.name == name), None)) for each in found]
    known = [one for _, one in rows if one is not None]
    if known:
        panel.axvspan(known[0].people.low, known[0].people.high, color="#dddddd")
        panel.axvline(known[0].people.value, color="#555555", linewidth=1)
    for place, (_, one) in enumerate(rows):
        if one is not None:
            _point(panel, place, one.user.value, one.user.low, one.user.high)
    _labels(panel, [name for name, _ in rows])


def _told(panel: Any, found: Sequence[Comparison], people: Told | None) -> None:
    panel.set_title("told apart by a classifier (0.5 is chance)", fontsize=8)
    panel.axvline(0.5, color="#555555", linewidth=1)
    if people is not None:
        panel.axvspan(people.accuracy.low, people.accuracy.high, color="#dddddd")
    for place, each in enumerate(found):
        if each.told is not None:
            _point(panel, place, each.told.accuracy.value, each.told.accuracy.low, each.told.accuracy.high)
    panel.set_xlim(0.3, 1.02)
    _labels(panel, [each.name for each in found])


def _point(panel: Any, place: int, value: float, low: float, high: float) -> None:
    colour = _COLOURS[place % len(_COLOURS)]
    panel.plot([low, high], [place, place], color=colour, linewidth=2)
    panel.plot([value], [place], "o", color=colour, markersize=5)


def _labels(panel: Any, names: Sequence[str]) -> None:
    panel.set_yticks(range(len(names)), [name[:24] for name in names], fontsize=7)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.tick_params(axis="x", labelsize=7)
