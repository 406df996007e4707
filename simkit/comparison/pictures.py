"""Pictures of a comparison: scores with intervals, reward by turn, and differences by domain and goal type.

The colours are those of Okabe and Ito, with Blues and PuOr for heat maps, and do not rely on telling red from green.
Lines also differ in their markers. Figures are made without pyplot, which would change global state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from simkit.comparison.claims import format_value
from simkit.comparison.results import Comparison, Difference
from simkit.errors import UsageError
from simkit.plugins.extras import require

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LONGEST = 28
"""Maximum characters of an arm's name in a picture."""


def save_pictures(found: Comparison, folder: Path) -> list[Path]:
    """Draw the pictures that have data; see `Comparison.save_pictures`."""
    require("matplotlib.figure", "plots")
    drawn: list[tuple[str, Callable[[Comparison], Any], object]] = [
        ("scores", _scores, found.tasks),
        ("reward_by_turn", _curves, found.curves),
        ("where", _where, found.groups),
        ("suites", _suites, [each for each in found.differences if each.kind == "suite"]),
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_save(draw(found), folder / f"{name}.png") for name, draw, there in drawn if there]
    except OSError as error:
        raise UsageError(
            f"pictures cannot be written to {folder}: {error.strerror or error}; choose another folder"
        ) from error


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=150, metadata={"Software": None})
    return path


def _figure(width: float, height: float) -> Any:
    """A figure of this size in inches with automatic layout."""
    return require("matplotlib.figure", "plots").Figure(figsize=(width, height), layout="constrained")


def _plain(axes: Any, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _wrapped(name: str) -> str:
    """A name wrapped to the width of a heat map column."""
    return "\n".join(wrap(_short(name), 15))


def _size(found: Comparison, *, intervals: bool = True) -> str:
    episodes = sorted({arm.episodes for arm in found.arms})
    each = str(episodes[0]) if len(episodes) == 1 else f"{episodes[0]} to {episodes[-1]}"
    suffix = f", {found.level:.0%} intervals over tasks" if intervals else ""
    return f"{found.tasks} tasks, {each} episodes per arm{suffix}"


# --- scores and differences -------------------------------------------------------------------------------------------


def _scores(found: Comparison) -> Any:
    names = list(dict.fromkeys(s.name for arm in found.arms for s in arm.scores if s.unit == "points"))
    overall = [each for each in _tested(found) if each.kind == "overall" and each.unit == "points"]
    if not names:
        return _differences_alone(found)
    bars, rows = max(2, len(names) * len(found.arms)), max(1, len(overall))
    figure = _figure(4.5 + 0.62 * bars + 5.5, max(4.4, 2.2 + 0.75 * rows))
    left, right = figure.subplots(1, 2, width_ratios=(1.2 + 0.62 * bars, 5.5))
    _bars(left, found, names)
    _forest(right, overall, "difference in points")
    figure.suptitle(f"{_against(found)}\n{_size(found)}", fontsize=11)
    return figure


def _tested(found: Comparison) -> list[Difference]:
    """The differences between comparable arms; only these are drawn with intervals."""
    return [each for each in found.differences if not each.incomparable]


def _differences_alone(found: Comparison) -> Any:
    rows = [each for each in _tested(found) if each.kind == "overall"]
    figure = _figure(9, 2.2 + 0.75 * len(rows))
    _forest(figure.subplots(), rows, "difference")
    figure.suptitle(f"{_against(found)}\n{_size(found)}", fontsize=11)
    return figure


def _against(found: Comparison) -> str:
    first, *others = [_short(arm.name) for arm in found.arms]
    return f"{', '.join(others)} against {first}" if len(others) < 4 else f"{len(others)} arms against {first}"


def _bars(axes: Any, found: Comparison, names: Sequence[str]) -> None:
    width = 0.8 / len(found.arms)
    for place, arm in enumerate(found.arms):
        scores = [(names.index(score.name), score.estimate) for score in arm.scores if score.name in names]
        at = [where + (place - (len(found.arms) - 1) / 2) * width for where, _ in scores]
        values = [100 * each.value for _, each in scores]
        reach = [
            [100 * max(0.0, each.value - each.low) for _, each in scores],
            [100 * max(0.0, each.high - each.value) for _, each in scores],
        ]
        colour = COLOURS[place % len(COLOURS)]
        axes.bar(at, values, width * 0.92, color=colour, alpha=0.85, label=_short(arm.name))
        axes.errorbar(at, values, yerr=reach, fmt="none", ecolor="#222222", elinewidth=1.3, capsize=4)
        for x, value, high in zip(at, values, reach[1], strict=True):
            axes.annotate(
                f"{value:.0f}", (x, value + high), (0, 3), textcoords="offset points", ha="center", fontsize=9
            )
    labels = {score.name: score.label for arm in found.arms for score in arm.scores}
    axes.set_xticks(range(len(names)), [labels[name].replace(" ", "\n") for name in names])
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("points (100 = maximum)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=min(3, len(found.arms)), frameon=False)
    _plain(axes, "y")


def _forest(axes: Any, rows: Sequence[Difference], label: str) -> None:
    """Differences with their intervals; a filled marker means that the difference may be claimed."""
    for place, each in enumerate(rows):
        scale = 100 if each.unit == "points" else 1
        value, low, high = (scale * end for end in (each.estimate.value, each.estimate.low, each.estimate.high))
        if each.guarded and each.noise is not None:
            ends = scale * each.noise
            axes.fill_betweenx([place - 0.32, place + 0.32], -ends, ends, color="#bbbbbb", alpha=0.45, linewidth=0)
        axes.plot([low, high], [place, place], color="#222222", linewidth=1.6)
        axes.plot(value, place, "o", markersize=8, color="#222222", markerfacecolor=_fill(each))
        note = f"{format_value(each.estimate.value, each.unit).removesuffix(' points')}"
        axes.annotate(note, (value, place), (0, 8), textcoords="offset points", ha="center", fontsize=9)
    axes.axvline(0, color="#222222", linewidth=0.8)
    several = len({each.reference for each in rows}) > 1
    sides = [f"{_short(each.arm)} − {_short(each.reference)}" if several else _short(each.arm) for each in rows]
    axes.set_yticks(range(len(rows)), [f"{each.label}\n{side}" for each, side in zip(rows, sides, strict=True)])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    band = "; grey: noise of repeated runs" if any(each.guarded and each.noise is not None for each in rows) else ""
    axes.set_xlabel(f"{label}\n(filled: may be claimed{band})")
    _plain(axes, "x")


def _fill(found: Difference) -> str:
    return "#222222" if found.claimed else "white"


def _suites(found: Comparison) -> Any:
    """Differences of suites. Those in points share an axis; every other suite has its own."""
    rows = [each for each in found.differences if each.kind == "suite"]
    parts: dict[str, list[Difference]] = {}
    for each in rows:
        label = "difference in points" if each.unit == "points" else f"difference in {each.label}, on its own scale"
        parts.setdefault(label, []).append(each)
    figure = _figure(9, 1.0 + sum(1.0 + 0.75 * len(chosen) for chosen in parts.values()))
    heights = [0.6 + len(chosen) for chosen in parts.values()]
    places = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (label, chosen) in zip(places, parts.items(), strict=True):
        _forest(axes, chosen, label)
    items = sorted({each.tasks for each in rows})
    counted = str(items[0]) if len(items) == 1 else f"{items[0]} to {items[-1]}"
    figure.suptitle(f"Suites: {_against(found)}\n{counted} items each, {found.level:.0%} intervals", fontsize=11)
    return figure


# --- reward by turn ---------------------------------------------------------------------------------------------------


def _curves(found: Comparison) -> Any:
    figure = _figure(8, 4.8)
    axes = figure.subplots()
    for place, curve in enumerate(found.curves):
        turns = range(1, len(curve.points) + 1)
        colour = COLOURS[place % len(COLOURS)]
        low, high = ([100 * end for end in ends] for ends in zip(*((p.low, p.high) for p in curve.points), strict=True))
        axes.fill_between(turns, low, high, color=colour, alpha=0.18, linewidth=0)
        values = [100 * point.value for point in curve.points]
        marker = MARKERS[place % len(MARKERS)]
        axes.plot(turns, values, color=colour, marker=marker, markersize=5, label=f"{_short(curve.arm)}")
    axes.set_xlabel("agent turn")
    axes.set_ylabel("reward earned so far (points)")
    axes.set_ylim(0, 102)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="best", frameon=False)
    axes.set_title(f"Reward by turn\n{_size(found)}", fontsize=11)
    _plain(axes, "both")
    return figure


# --- domains and goal types -------------------------------------------------------------------------------------------


def _where(found: Comparison) -> Any:
    rows = list(dict.fromkeys((each.kind, each.name) for each in found.groups))
    arms = [arm.name for arm in found.arms]
    pairs = list(dict.fromkeys((each.reference, each.arm) for each in found.places))
    cells = len(arms) + len(pairs)
    figure = _figure(3.2 + 1.35 * cells, 2.4 + 0.42 * len(rows))
    left, right = figure.subplots(1, 2, width_ratios=(len(arms), max(1, len(pairs))))
    sizes = {(each.kind, each.name): each.tasks for each in found.groups}
    values = {(each.kind, each.name, each.arm): each.value for each in found.groups}
    _shades(left, [[values.get((*row, arm)) for arm in arms] for row in rows], "Blues", (0, 1))
    for y, line in enumerate(rows):
        for x, arm in enumerate(arms):
            value = values.get((*line, arm))
            _annotate(left, x, y, "" if value is None else f"{100 * value:.0f}", dark=value is None or value < 0.6)
    _ticks(left, [_wrapped(arm) for arm in arms], [f"{name}  (n = {sizes[kind, name]})" for kind, name in rows])
    left.set_title("goals reached, %", fontsize=10)
    _changes(right, found, rows, pairs)
    split = sum(kind == "domain" for kind, _ in rows) - 0.5
    for axes in (left, right):
        axes.axhline(split, color="white", linewidth=4)
    figure.suptitle(f"By domain and by goal type (n = tasks with it)\n{_size(found, intervals=False)}", fontsize=11)
    return figure


def _changes(axes: Any, found: Comparison, rows: Sequence[tuple[str, str]], pairs: Sequence[tuple[str, str]]) -> None:
    """Differences, with an asterisk if they are significant after correction."""
    changes = {(each.kind, each.name, each.reference, each.arm): each for each in found.places if not each.incomparable}
    most = max((abs(each.estimate.value) for each in found.places), default=0.0)
    reach = max(0.1, most)
    table = [[changes.get((*row, *pair)) for pair in pairs] for row in rows]
    shades = [[None if each is None else each.estimate.value for each in line] for line in table]
    _shades(axes, shades, "PuOr", (-reach, reach))
    for y, line in enumerate(table):
        for x, each in enumerate(line):
            if each is not None:
                mark = " *" if each.significant else ""
                pale = abs(each.estimate.value) < 0.5 * reach
                _annotate(axes, x, y, f"{100 * each.estimate.value:+.0f}{mark}", dark=pale)
    _ticks(axes, [f"{_wrapped(arm)}\n− {_wrapped(reference)}" for reference, arm in pairs], None)
    axes.set_title(f"difference in points\n(* p < {1 - found.level:.2g} after Holm)", fontsize=10)


def _shades(axes: Any, rows: Sequence[Sequence[float | None]], colours: str, ends: tuple[float, float]) -> None:
    nothing = float("nan")
    table = [[nothing if value is None else value for value in row] or [nothing] for row in rows]
    axes.imshow(table, cmap=colours, vmin=ends[0], vmax=ends[1], aspect="auto")


def _annotate(axes: Any, x: int, y: int, text: str, *, dark: bool) -> None:
    axes.text(x, y, text, ha="center", va="center", fontsize=10, color="#111111" if dark else "white")


def _ticks(axes: Any, columns: Sequence[str], rows: Sequence[str] | None) -> None:
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    axes.set_yticks(range(len(rows)) if rows else [], rows or [])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
