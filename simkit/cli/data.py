"""`simkit data`: downloads the data of a world, or a small model, once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from simkit.cli.output import rewrite, say
from simkit.cli.program import program
from simkit.core.safe_text import visible

if TYPE_CHECKING:
    from simkit.components.world import World


def prepare(target: str, source: Path | None) -> None:
    """Build the cache of a world's data, or of the model SmolLM2, with progress output, and print its path.

    Raises:
        ComponentNotFound: no world has that name.
        UsageError: the world needs no data.
        DataMissing: the data cannot be downloaded, or the given source lacks a file.
        DataCorrupt: the data is damaged.
    """
    from simkit.local.gguf import SMOLLM2

    if target == SMOLLM2:
        _prepare_smollm2(source)
        return
    world = _world_of(target)
    with StageProgress(live=sys.stderr.isatty()) as shown:
        path = world.prepare(source, shown.update)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 1e6
    say(f"{world.name}: {path} ({size:.1f} MB). Try: {program()} run rollout {_played(target, world)} --tasks 50")


def _played(target: str, world: type[World]) -> str:
    """Options that play a world, the first one of a family, with a model if its agent needs one."""
    from simkit.plugins.component_paths import folder_of_module
    from simkit.plugins.loading import takes
    from simkit.run.casting import AGENT

    name, first = next(iter(world.domains.items()), ("", world))
    options = f"--world {target}:{name}" if name else f"--world {target}"
    modelled = takes(AGENT, first.default_agent, "model", folder_of_module(first.__module__))
    return f"{options} --model openai/NAME" if modelled else options


def _world_of(target: str) -> type[World]:
    from simkit.components.world import WORLD
    from simkit.errors import ComponentNotFound
    from simkit.local.gguf import SMOLLM2
    from simkit.plugins.loading import available, find_class, nearest

    known = (*available(WORLD.group), SMOLLM2)
    if ":" in target or target in known:
        return find_class(WORLD, target)
    raise ComponentNotFound(
        f"there is no world and no model called `{target}`{nearest(target, known)}; worlds that need data: "
        f"{', '.join(needing_data()) or 'none'}, or your own as path/to/file.py:NAME; a small model: {SMOLLM2}"
    )


def _prepare_smollm2(source: Path | None) -> None:
    from simkit.local.gguf import SMOLLM2_LICENCE, fetch_smollm2

    with StageProgress(live=sys.stderr.isatty()) as shown:
        path = fetch_smollm2(source, shown.update)
    command = f"{program()} run rollout --agent react --model local/smollm2 --tasks 2"
    say(f"smollm2: {path} ({SMOLLM2_LICENCE}). Try: {command}")


def needing_data() -> dict[str, type[World]]:
    """The installed worlds that need data, by name; one that cannot be imported is left out."""
    from simkit.components.world import WORLD, World
    from simkit.errors import SimkitError
    from simkit.plugins.loading import available, find_class

    found: dict[str, type[World]] = {}
    for name in available(WORLD.group):
        try:
            world = find_class(WORLD, name)
        except SimkitError:
            continue  # using the world reports the reason
        if any("prepare" in vars(base) for base in world.__mro__ if base is not World):
            found[name] = world
    return found


def worlds_needing_data() -> str:
    """Help text that lists the worlds that need data and the model, as Rich markup."""
    from rich.markup import escape

    worlds = [escape(visible(f"{name}: {_first_line(world)}")) for name, world in needing_data().items()]
    model = "smollm2: SmolLM2-135M-Instruct, a model that runs in this process as `local/smollm2`"
    return "\n\n".join(["Worlds that need data:", *(worlds or ["(none installed)"]), "A small model:", model])


def _first_line(world: type[World]) -> str:
    return (world.__doc__ or "").strip().partition("\n")[0]


class StageProgress:
    """Progress of a job with named stages: one line per stage, rewritten in place on a terminal."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._stage = ""

    def __enter__(self) -> StageProgress:
        return self

    def __exit__(self, *raised: object) -> None:
        self._end()  # also before an error message

    def update(self, stage: str, fraction: float) -> None:
        """Show the completed fraction (0 to 1) of a stage."""
        if stage != self._stage:
            self._end()
            self._stage = stage
            if not self._live:
                say(f"{stage} ...", err=True)
        if self._live:
            rewrite(f"{stage:<10} {fraction:4.0%}")

    def _end(self) -> None:
        if self._live and self._stage:
            say(err=True)
