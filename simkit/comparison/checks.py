"""Comparability checks: what forbids a comparison, and what its reader has to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any, cast

from simkit.comparison.records import ArmRecords, RunRecord
from simkit.components.world import WORLD
from simkit.errors import SimkitError, UsageError
from simkit.plugins.component_paths import FILES, NAMED_IN, STARTED_IN, BaseFolders, python_file
from simkit.plugins.loading import find_class, load, parse_reference

VARIABLE_CHOICES = frozenset(
    {"seed", "concurrency", "fail_fast", "max_faults", "part_of", "stage", "tasks", "trials", STARTED_IN, NAMED_IN}
)
"""Choices in which runs of one configuration may differ."""

TEST_CHOICES = (
    "user",
    "user_model",
    "user_temperature",
    "max_turns",
    "max_steps",
    "max_errors",
    "max_messages",
    "user_steps",
)
"""Choices that change the difficulty of the test: noted if arms differ in them."""

SEARCH_CHOICES = ("factor", "beam", "winner", "branch_by", "eager")
"""Choices that change how often a tree tries: noted if trees differ in them."""


def check_comparable(arms: Sequence[ArmRecords]) -> tuple[str, ...]:
    """Refuse runs that measure different things; return notes for the reader.

    Raises:
        UsageError: the runs have different worlds, variants or rewards, or tasks of the same name that differ.
    """
    runs = [run for arm in arms for run in arm.runs]
    first = runs[0]
    for run in runs[1:]:
        _check_same_measure(first, run)
    return (*_other_tests(runs), *_other_files(runs), *_unfinished(runs))


def incomparable(reference: ArmRecords, arm: ArmRecords) -> str:
    """Reason why two arms that played the same tasks allow no claim; empty if they do.

    A search keeps the best of many attempts, so its rewards are not those of an agent that has a single one. A world
    that was built with other options sets other tasks.
    """
    runs = [run for run in (*reference.runs, *arm.runs) if run.episodes]
    played = {side.name: _supervisors(side) for side in (reference, arm)}
    if len({kind for kinds in played.values() for kind in kinds}) > 1:
        here, there = (f"`{name}` was played by {' and '.join(kinds)}" for name, kinds in played.items())
        return f"{here}, {there}; a tree tries many times and keeps the best, a single conversation tries once"
    options = {tuple(sorted(_world_options(run).items())) for run in runs}
    if len(options) > 1:
        names = sorted({name for one in options for name, value in one if any((name, value) not in o for o in options)})
        return f"their worlds were built with different options ({', '.join(names)})"
    return ""


def _supervisors(arm: ArmRecords) -> list[str]:
    return sorted({kind for run in arm.runs for kind in run.supervisors})


def _world_options(run: RunRecord) -> dict[str, str]:
    """Options of a run's world, with their defaults; empty if the world's name was not recorded."""
    chosen = run.config.get("world")
    if not isinstance(chosen, str):
        return {}
    with suppress(SimkitError):
        reference = parse_reference(chosen)
        defaults: dict[str, str] = {}
        with suppress(SimkitError):
            folder = BaseFolders.recorded(run.config).of(chosen)
            parameters = signature(find_class(WORLD, reference.target, folder)).parameters.values()
            defaults = {each.name: str(each.default) for each in parameters if each.default is not each.empty}
        variant = run.config.get("variant")
        given = {**reference.options, **({} if variant is None else {"variant": str(variant)})}
        return {**defaults, **given}
    return {}


def _check_same_measure(first: RunRecord, other: RunRecord) -> None:
    if not first.episodes or not other.episodes:
        return
    for what, find in (("world", _worlds), ("variant of the world", _variant), ("reward", _reward)):
        here, there = find(first), find(other)
        if here != there:
            raise UsageError(
                f"`{first.label}` and `{other.label}` cannot be compared, because they measure different things: the "
                f"{what} is {here or 'unknown'} in one and {there or 'unknown'} in the other; choose other runs"
            )
    common = first.tasks.keys() & other.tasks.keys()
    if changed := sorted(task for task in common if _differ(first.tasks[task].content, other.tasks[task].content)):
        raise UsageError(
            f"{len(changed)} of the {len(common)} tasks that `{first.label}` and `{other.label}` have in common differ "
            f"(e.g. {changed[0]}: other goals or instructions); play both runs on the same tasks"
        )


def _differ(here: str | None, there: str | None) -> bool:
    """Whether two tasks differ; one whose content the run does not know is taken for the same."""
    return here is not None and there is not None and here != there


def _worlds(run: RunRecord) -> str:
    return ", ".join(sorted({task.world for task in run.tasks.values()}))


def _variant(run: RunRecord) -> str | None:
    return run.config.get("variant") or _of_world(run, "variant")


def _reward(run: RunRecord) -> str | None:
    return run.config.get("reward") or _of_world(run, "default_reward")


def _of_world(run: RunRecord, name: str) -> str | None:
    """Default value of an attribute of the run's world; None if the world is not installed."""
    with suppress(SimkitError):
        chosen = str(run.config.get("world") or _worlds(run))
        return getattr(load(WORLD, chosen, None, BaseFolders.recorded(run.config).of(chosen)), name, None)
    return None


def _other_tests(runs: Sequence[RunRecord]) -> Iterable[str]:
    played = [run for run in runs if run.episodes]
    trees = [run for run in played if run.config.keys() & {*SEARCH_CHOICES}]
    asked = [*((choice, played) for choice in TEST_CHOICES), *((choice, trees) for choice in SEARCH_CHOICES)]
    for choice, among in asked:
        seen = {_chosen(run.config, choice) for run in among}
        if len(seen) > 1:
            yield (
                f"the runs differ in {choice} ({', '.join(sorted(seen))}), so a difference in scores may not be "
                "caused by the agents"
            )


def _other_files(runs: Sequence[RunRecord]) -> Iterable[str]:
    """Notes about components whose file has the same name in all runs but not the same content."""
    for choice in ("world", "user", "reward"):
        seen: dict[str, set[str]] = {}
        for run in runs:
            named, known = str(run.config.get(choice) or ""), cast("dict[str, str]", run.config.get(FILES) or {})
            file = python_file(named) or str(Path(named.partition(",")[0]))
            if run.episodes and (file in known or python_file(named)):
                seen.setdefault(file, set()).add(str(known.get(file)))
        for file in (file for file, digests in seen.items() if len(digests) > 1):
            yield (
                f"the {choice} comes from {file} in several runs, and the file was not the same in all of them, so a "
                "difference in scores may not be caused by the agents"
            )


def _unfinished(runs: Sequence[RunRecord]) -> Iterable[str]:
    for run in runs:
        if run.status != "done":
            yield f"`{run.label}` is {run.status}: the episodes that it has not played are missing from the comparison"


def _chosen(config: Mapping[str, Any], choice: str) -> str:
    value = config.get(choice)
    return "the default" if value is None else str(value)


def check_identical(runs: Sequence[RunRecord], arms: Sequence[ArmRecords]) -> tuple[str, ...]:
    """Refuse runs that cannot show the noise of repeats; return notes for the reader.

    Raises:
        UsageError: there are fewer than two runs, they differ in more than their seed, or they do not measure the same
            thing as the arms.
    """
    if len(runs) < 2:
        raise UsageError("--noise needs at least two runs of one configuration: --noise RUN,RUN")
    first = runs[0]
    _check_same_measure(arms[0].runs[0], first)
    if why := incomparable(ArmRecords("--noise", tuple(runs)), arms[0]):
        raise UsageError(f"the runs of --noise do not measure the same thing as `{arms[0].name}`: {why}")
    for run in runs[1:]:
        _check_same_measure(first, run)
        names = sorted((first.config.keys() | run.config.keys()) - VARIABLE_CHOICES)
        other = [name for name in names if first.config.get(name) != run.config.get(name)]
        if other or first.recipe != run.recipe:
            raise UsageError(
                f"`{first.label}` and `{run.label}` have different configurations: they differ in "
                f"{', '.join(other) or 'recipe'}; --noise takes runs that differ only in --seed"
            )
    if len({run.seed for run in runs}) < len(runs):
        return ("some runs of --noise share a seed: whatever depends on the seed does not vary between them",)
    return ()
