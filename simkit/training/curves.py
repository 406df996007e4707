"""The picture of a training: its loss, and what the guard saw, over optimiser steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simkit.plugins.extras import require
from simkit.training.dev import DevScore

BLUE, ORANGE, GREEN, GREY = "#3566a8", "#d1772b", "#3b8f5a", "#8a8a8a"


def draw(history: Sequence[Mapping[str, Any]], seen: Mapping[int, DevScore], path: Path, *, kept: int) -> None:
    """Write the picture to a PNG file.

    Args:
        history: what the trainer logged: `step` and `loss` (or, with GRPO, `reward`).
        seen: what the guard saw, by step.
        path: the file.
        kept: the step whose weights were kept.
    """
    figure = require("matplotlib.figure", "plots").Figure(figsize=(7.2, 5.4 if seen else 3.4), layout="constrained")
    require("matplotlib.backends.backend_agg", "plots").FigureCanvasAgg(figure)
    axes = figure.subplots(2 if seen else 1, 1, sharex=True, squeeze=False)[:, 0]
    _draw_history(axes[0], history)
    if seen:
        _draw_guard(axes[1], seen, kept)
    axes[-1].set_xlabel("optimiser step")
    figure.savefig(str(path), dpi=120)


def _draw_history(axes: Any, history: Sequence[Mapping[str, Any]]) -> None:
    name = "reward" if any("reward" in each for each in history) else "loss"
    points = [(int(each["step"]), float(each[name])) for each in history if name in each]
    steps, values = [point[0] for point in points], [point[1] for point in points]
    axes.plot(steps, values, color=BLUE, alpha=0.3, linewidth=1)
    axes.plot(steps, smoothed(values), color=BLUE, linewidth=2, label=f"{name}, smoothed over a tenth of the steps")
    axes.set_ylabel(f"training {name}")
    axes.set_title(f"Training {name}")
    _tidy(axes)


def _draw_guard(axes: Any, seen: Mapping[int, DevScore], kept: int) -> None:
    steps = list(seen)
    axes.plot(steps, [seen[step].success for step in steps], "o-", color=GREEN, label="success (reward 1)")
    axes.plot(steps, [seen[step].reward for step in steps], "o-", color=ORANGE, label="average reward")
    axes.plot(steps, [seen[step].valid_calls for step in steps], "s--", color=BLUE, label="valid tool calls")
    axes.axvline(kept, color=GREY, linestyle=":", label=f"weights kept: step {kept}")
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share of dev goals / calls")
    axes.set_title("What the guard saw on dev goals")
    _tidy(axes)


def _tidy(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="best")


def smoothed(values: Sequence[float]) -> list[float]:
    """Means over a window of a tenth of the values that ends at each."""
    window = max(1, len(values) // 10)
    return [sum(values[max(0, end - window) : end]) / min(end, window) for end in range(1, len(values) + 1)]
