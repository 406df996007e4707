"""Runs that a client of the MCP server may start: few tasks, installed components, and the models that were named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simkit.components.world import WORLD
from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.plugins.loading import ComponentKind, available, parse_reference
from simkit.plugins.recipe import load_recipe
from simkit.run.casting import AGENT, USER
from simkit.run.engine import FaultPolicy
from simkit.run.run import Run

_FILE = re.compile(r"[/\\~]|\.\w*[A-Za-z]")
"""What only a file's name has among the options of a component."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayLimits:
    """What may be played.

    Attributes:
        tasks: maximum number of tasks of a run.
        models: the models that play, with their budgets; without one only rule-based components do.
        worlds: worlds that may be played besides the installed ones, such as folders.
    """

    tasks: int = 20
    models: ModelConfig = field(default_factory=ModelConfig)
    worlds: tuple[str, ...] = ()


async def play(
    store: Path, limits: PlayLimits, recipe: str, tasks: int, seed: int, named: Mapping[str, str | None]
) -> dict[str, Any]:
    """Play the first tasks of a world with a recipe, and return the id of the run and its scores.

    Raises:
        UsageError: there are more tasks than allowed, or a component is not an installed one.
    """
    if tasks > limits.tasks:
        raise UsageError(f"{tasks} tasks are more than the {limits.tasks} that this server plays at once")
    if named["world"] not in limits.worlds:
        _check_installed(WORLD, str(named["world"]))
    for kind, role in ((AGENT, "agent"), (USER, "user")):
        if (name := named[role]) is not None:
            _check_installed(kind, name)
    loaded = load_recipe(recipe)
    values = {**{name: value for name, value in named.items() if value is not None}, "tasks": str(tasks)}
    run = Run(
        store=store,
        recipe=loaded.name,
        seed=seed,
        models=limits.models,
        config={"target": recipe, **values},
        policy=FaultPolicy(raises=False),
        workers=1,
    )
    async with run:
        await loaded.play(run, values)
    summary = run.summary().to_json()
    return {"run": run.id, "status": run.status, "problem": run.problem, "summary": summary}


def _check_installed(kind: ComponentKind[Any], name: str) -> None:
    """Refuse what would run or read a file that a client names.

    Raises:
        UsageError: it is not an installed component, or an option names a file.
    """
    reference = parse_reference(name)
    known = available(kind.group)
    if reference.target.partition(":")[0] not in known:
        raise UsageError(f"the {kind.noun} `{name}` is not installed; this server plays: {', '.join(known)}")
    if any(_FILE.search(value) for value in reference.options.values()):
        raise UsageError(f"the options of `{name}` name a file; this server reads none for its clients")
