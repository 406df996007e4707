"""Casts by name: what a worker needs to build the players that the driver has built."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from simkit.components.world import World, load_world
from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.plugins.component_paths import BaseFolders
from simkit.plugins.loading import import_file
from simkit.run.casting import CastRequest, ChooseDefault, ModelRequest, OpenModel, default_agent

if TYPE_CHECKING:
    from simkit.search.base import Search

USER_MODULES = "simkit_user_"
"""Beginning of the names of modules that were imported from files of users (`import_file`)."""


@dataclass(frozen=True, slots=True)
class Pickled:
    """An object for another process: its pickle, and the users' files that define its classes."""

    data: bytes
    files: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: object, what: str) -> Pickled:
        """Pickle an object.

        Raises:
            UsageError: it cannot be pickled; the message says what to do instead.
        """
        buffer = io.BytesIO()
        try:
            _Pickler(buffer).dump(value)
        except Exception as error:
            raise UsageError(
                f"{what} cannot be sent to workers ({type(error).__name__}: {error}); name it as "
                "path/to/file.py:Class, or play with --workers 1"
            ) from error
        data = buffer.getvalue()
        named = [(name, module) for name, module in tuple(sys.modules.items()) if name.startswith(USER_MODULES)]
        return cls(data, tuple(str(module.__file__) for name, module in named if name.encode() in data))

    def load(self) -> Any:
        """The object.

        Raises:
            UsageError: a file that defines it has changed or is missing.
        """
        for file in self.files:
            import_file(Path(file))
        try:
            return pickle.loads(self.data)
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f"an object of the run cannot be rebuilt in a worker ({error}); a file may have changed since the run "
                f"began: {', '.join(self.files) or 'one of its modules'}"
            ) from error


class _Pickler(pickle.Pickler):
    """Refuses classes and functions of the main script: a worker has another one."""

    def reducer_override(self, obj: Any, /) -> Any:
        if isinstance(obj, (type, FunctionType)) and obj.__module__ == "__main__":
            raise pickle.PicklingError(f"`{obj.__qualname__}` is defined in the main script")
        return NotImplemented


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """A world by name, with its options."""

    name: str
    options: Mapping[str, Any]
    folder: Path | None = None

    def load(self) -> World:
        """The world."""
        return load_world(self.name, self.folder, **self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class CastSpec:
    """What `Run.cast` was told.

    Attributes:
        world: the world.
        agent, user, reward, tools: a name, an object, or None for the world's default.
        folders: base folders of relative file names.
        models: configuration of the models, with the names of the agent's and the user's.
        options, user_options: defaults for the agent's and the user's model.
        judge, judge_options: the model that the reward asks, and its configuration.
        digests: digests of the users' files among the names.
    """

    world: WorldSpec | Pickled
    agent: str | Pickled | None
    user: str | Pickled | None
    reward: str | Pickled | None
    tools: Pickled | None
    folders: BaseFolders
    models: ModelConfig
    options: ModelConfig | None
    user_options: ModelConfig | None
    judge: str | None = None
    judge_options: ModelConfig | None = None
    digests: Mapping[str, str] = field(default_factory=dict[str, str])

    def load_world(self) -> World:
        """The world.

        Raises:
            UsageError: it cannot be built here, or a file differs from the driver's.
        """
        found = file_digests(self, self.world, self.models, self.judge)
        changed = [path for path, digest in self.digests.items() if found.get(path) != digest]
        if changed:
            raise UsageError(f"{', '.join(changed)} has changed since the run began, or is missing here; start again")
        return self.world.load()

    def asked(self, open_model: OpenModel, choose: ChooseDefault = default_agent) -> ModelRequest:
        """The models, opened by a function."""
        return ModelRequest(
            config=self.models,
            open=open_model,
            defaults=self.options,
            user_defaults=self.user_options,
            judge=self.judge,
            judge_config=self.judge_options,
            agent=choose,
        )

    def request(self) -> CastRequest:
        """The players."""
        return CastRequest(
            agent=_loaded(self.agent),
            user=_loaded(self.user),
            reward=_loaded(self.reward),
            tools=_loaded(self.tools),
            folders=self.folders,
        )


@dataclass(frozen=True, slots=True)
class CastOrigin:
    """What `Run.cast` was told, before anything of it is pickled.

    `digests` are those of the users' files when the cast was built: workers must not play with others.
    """

    world: World
    world_spec: WorldSpec | None
    request: CastRequest
    models: ModelRequest
    interactive: bool
    digests: Mapping[str, str]

    def spec(self) -> CastSpec:
        """The cast for workers.

        Raises:
            UsageError: a person plays, or an object cannot be pickled.
        """
        if self.interactive:
            raise UsageError("a user at the terminal plays in one process; use --workers 1")
        asked, named, models = self.request, self.world_spec, self.models
        return CastSpec(
            world=Pickled.of(self.world, f"the world `{self.world.name}`") if named is None else named,
            agent=_packed(asked.agent, "the agent"),
            user=_packed(asked.user, "the user"),
            reward=_packed(asked.reward, "the reward"),
            tools=None if asked.tools is None else Pickled.of(asked.tools, f"the tools `{asked.tools.name}`"),
            folders=asked.folders,
            models=models.config,
            options=models.defaults,
            user_options=models.user_defaults,
            judge=models.judge,
            judge_options=models.judge_config,
            digests=self.digests,
        )


def packed_search(search: Search) -> Pickled:
    """A search for workers.

    Raises:
        UsageError: it cannot be pickled.
    """
    return Pickled.of(search, f"the search `{search.name}`")


def file_digests(
    request: CastRequest | CastSpec, world: object, models: ModelConfig, judge: str | None
) -> dict[str, str]:
    """Digests of the users' files that a cast names."""
    named = [request.agent, request.user, request.reward, models.model, models.user_model, judge]
    named += [world.name] if isinstance(world, WorldSpec) else []
    return request.folders.digests({f"{number}": name for number, name in enumerate(named) if isinstance(name, str)})


def _packed(part: Any, what: str) -> str | Pickled | None:
    return part if part is None or isinstance(part, str) else Pickled.of(part, f"{what} `{part.name}`")


def _loaded(part: str | Pickled | None) -> Any:
    return part.load() if isinstance(part, Pickled) else part
