"""Whether runs measure the same thing: what forbids a comparison, and what its reader must know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from typing import Any, cast

from simkit.comparison.records import ArmFacts, RunFacts
from simkit.components.world import WORLD
from simkit.errors import SimkitError, UsageError
from simkit.plugins.component_paths import FILES, NAMED_IN, STARTED_IN, Places, python_file
from simkit.plugins.loading import find_class, load, parse_reference

NOT_THE_THING = frozenset(
    {"seed", "concurrency", "fail_fast", "max_faults", "part_of", "stage", "tasks", "trials", STARTED_IN, NAMED_IN}
)
"""Choices in which runs of one configuration may differ."""

ABOUT_THE_TEST = ("user", "user_model", "user_temperature", "max_turns", "max_steps")
"""Choices that change how hard the test is: told when arms differ in them."""

ABOUT_THE_SEARCH = ("factor", "beam", "winner", "branch_by", "eager")
"""Choices that change how often a tree tries: told when trees differ in them."""


def check_comparable(arms: Sequence[ArmFacts]) -> tuple[str, ...]:
    """What the reader must know of runs that may be compared.

    Raises:
        UsageError: they may not: other worlds or variants, other rewards, or tasks of one name that differ.
    """
    runs = [run for arm in arms for run in arm.runs]
    first = runs[0]
    for run in runs[1:]:
        _refuse(first, run)
    return (*_other_tests(runs), *_other_files(runs), *_unfinished(runs))


def incomparable(reference: ArmFacts, arm: ArmFacts) -> str:
    """Why nothing may be claimed of two arms' episodes, although they were played on the same tasks; empty when it may.

    A search picks the best of many tries, so its rewards are not those of an agent that has one; and a world that was
    built with other options asks other things of the agent.
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


def _supervisors(arm: ArmFacts) -> list[str]:
    return sorted({kind for run in arm.runs for kind in run.supervisors})


def _world_options(run: RunFacts) -> dict[str, str]:
    """The options that a run's world was built with, those it was not given included; nothing where it is not known."""
    chosen = run.config.get("world")
    if not isinstance(chosen, str):
        return {}
    with suppress(SimkitError):
        reference = parse_reference(chosen)
        defaults: dict[str, str] = {}
        with suppress(SimkitError):
            folder = Places.recorded(run.config).of(chosen)
            parameters = signature(find_class(WORLD, reference.target, folder)).parameters.values()
            defaults = {each.name: str(each.default) for each in parameters if each.default is not each.empty}
        variant = run.config.get("variant")
        given = {**reference.options, **({} if variant is None else {"variant": str(variant)})}
        return {**defaults, **given}
    return {}


def _refuse(first: RunFacts, other: RunFacts) -> None:
    if not first.episodes or not other.episodes:
        return
    for what, find in (("world", _worlds), ("variant of the world", _variant), ("reward", _reward)):
        here, there = find(first), find(other)
        if here != there:
            raise UsageError(
                f"`{first.label}` and `{other.label}` are different measures, they cannot be compared: "
                f"the {what} is {here or 'not known'} in one and {there or 'not known'} in the other"
            )
    common = first.tasks.keys() & other.tasks.keys()
    if changed := sorted(task for task in common if first.tasks[task].content != other.tasks[task].content):
        raise UsageError(
            f"{len(changed)} of the {len(common)} tasks that `{first.label}` and `{other.label}` have in common are "
            f"not the same (e.g. {changed[0]}: other goals or instructions); play both runs on the same tasks"
        )


def _worlds(run: RunFacts) -> str:
    return ", ".join(sorted({task.world for task in run.tasks.values()}))


def _variant(run: RunFacts) -> str | None:
    return run.config.get("variant") or _of_world(run, "variant")


def _reward(run: RunFacts) -> str | None:
    return run.config.get("reward") or _of_world(run, "default_reward")


def _of_world(run: RunFacts, name: str) -> str | None:
    """An attribute of the run's world as it is when nothing is chosen; None for a world that is not installed."""
    with suppress(SimkitError):
        chosen = str(run.config.get("world") or _worlds(run))
        return getattr(load(WORLD, chosen, None, Places.recorded(run.config).of(chosen)), name, None)
    return None


def _other_tests(runs: Sequence[RunFacts]) -> Iterable[str]:
    played = [run for run in runs if run.episodes]
    trees = [run for run in played if run.config.keys() & {*ABOUT_THE_SEARCH}]
    asked = [*((choice, played) for choice in ABOUT_THE_TEST), *((choice, trees) for choice in ABOUT_THE_SEARCH)]
    for choice, among in asked:
        seen = {_chosen(run.config, choice) for run in among}
        if len(seen) > 1:
            yield (
                f"the runs differ in {choice} ({', '.join(sorted(seen))}), so a difference of their scores need not "
                "be one of their agents"
            )


def _other_files(runs: Sequence[RunFacts]) -> Iterable[str]:
    """A part of the test that has the same name in all runs and not the same code."""
    for choice in ("world", "user", "reward"):
        seen: dict[str, set[str]] = {}
        for run in runs:
            file = python_file(str(run.config.get(choice) or ""))
            if file and run.episodes:
                seen.setdefault(file, set()).add(str(cast("dict[str, str]", run.config.get(FILES) or {}).get(file)))
        for file in (file for file, digests in seen.items() if len(digests) > 1):
            yield (
                f"the {choice} is from {file} in several runs, and that file was not the same in all of them, so a "
                "difference of their scores need not be one of their agents"
            )


def _unfinished(runs: Sequence[RunFacts]) -> Iterable[str]:
    for run in runs:
        if run.status != "done":
            yield f"`{run.label}` is {run.status}: what it has not played is missing here"


def _chosen(config: Mapping[str, Any], choice: str) -> str:
    value = config.get(choice)
    return "the default" if value is None else str(value)


def check_identical(runs: Sequence[RunFacts], arms: Sequence[ArmFacts]) -> tuple[str, ...]:
    """What the reader must know of runs that shall show the noise of repeating.

    Raises:
        UsageError: there are fewer than two, they differ in more than their seed, or they measure something else than
            the arms do.
    """
    if len(runs) < 2:
        raise UsageError("the noise of repeating takes two runs of one configuration or more: --noise RUN,RUN")
    first = runs[0]
    _refuse(arms[0].runs[0], first)
    if why := incomparable(ArmFacts("--noise", tuple(runs)), arms[0]):
        raise UsageError(f"the runs of --noise measure something else than `{arms[0].name}`: {why}")
    for run in runs[1:]:
        _refuse(first, run)
        names = sorted((first.config.keys() | run.config.keys()) - NOT_THE_THING)
        other = [name for name in names if first.config.get(name) != run.config.get(name)]
        if other or first.recipe != run.recipe:
            raise UsageError(
                f"`{first.label}` and `{run.label}` are not of one configuration, they differ in "
                f"{', '.join(other) or 'recipe'}; --noise takes runs that differ in their --seed alone"
            )
    if len({run.seed for run in runs}) < len(runs):
        return ("runs of the noise floor share a seed: what follows from it does not vary between them",)
    return ()
