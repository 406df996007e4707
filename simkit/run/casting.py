"""Selection of a run's players: components by name, as objects, or the world's defaults, each with its model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from simkit.actors.scope import Scope
from simkit.components.agent import Agent
from simkit.components.cast import Cast
from simkit.components.checks import reward_range
from simkit.components.reward import Reward
from simkit.components.tools import ToolServer
from simkit.components.user import User
from simkit.components.world import World
from simkit.core.boundary import boundary
from simkit.core.limits import Limits
from simkit.core.tasks import Task
from simkit.errors import AgentFault, UsageError
from simkit.plugins.component_paths import BaseFolders, folder_of
from simkit.plugins.loading import ComponentKind, load, parse_reference, takes

if TYPE_CHECKING:
    from simkit.models.base import ChatModel
    from simkit.models.config import ModelConfig
    from simkit.models.run_models import RunModels

T = TypeVar("T")

AGENT = ComponentKind("agent", "simkit.agents", Agent)
USER = ComponentKind("user", "simkit.users", User)
REWARD = ComponentKind("reward", "simkit.rewards", Reward)

OpenModel: TypeAlias = "Callable[[str, ModelConfig], ChatModel]"
"""Function that returns the model of a given name."""

ChooseDefault: TypeAlias = "Callable[[str, ChatModel], str]"
"""Function of a default component and its model that returns the component to play."""

NOBODY = "none"
"""Default user of worlds in which the agent works alone."""

MODEL_AGENT, MODEL_USER = "function_calling", "goal"
"""Agent and user of a named model where no component is named, and the world's default has no model."""

TEXT_AGENT = "react"
"""Default agent of a model that cannot be given tools: it describes them in its prompt."""


def default_agent(agent: str, model: ChatModel) -> str:
    """The agent that plays a model by default: `TEXT_AGENT` for `MODEL_AGENT` if the model cannot be given tools."""
    from simkit.models.base import lacks_for_tools

    if parse_reference(agent).target != MODEL_AGENT or lacks_for_tools(model) is None:
        return agent
    return TEXT_AGENT


def choose_agent(models: RunModels, note: Callable[[str], object], agent: str, model: ChatModel) -> str:
    """Like `default_agent` in a run: the choice is recorded, noted, and kept when the run is resumed or replayed."""
    from simkit.models.base import lacks_for_tools

    played = models.recorded_agent(model.name) if parse_reference(agent).target == MODEL_AGENT else None
    chosen = played or default_agent(agent, model)
    if chosen != agent:
        reason = lacks_for_tools(model) or "so it was recorded"
        models.record_agent(model.name, agent, chosen, reason)
        note(f"the agent is `{chosen}`, because `{model.name}` cannot be given tools ({reason})")
    return chosen


def _unchanged(component: str, model: ChatModel) -> str:
    return component


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayerModel:
    """Model settings of one player, the agent or the user.

    Attributes:
        spec: its name, None if none was given.
        own: whether it was named for this player, not taken over from the other.
        config: endpoint, sampling and limits.
        open: function that returns the model of a given name.
        flag: the flag that names it.
        default: function of a default component and the model, which returns the component to play instead.
    """

    spec: str | None
    own: bool
    config: ModelConfig
    open: OpenModel
    flag: str
    default: ChooseDefault = _unchanged


@dataclass(frozen=True, slots=True)
class LoadedPlayer:
    """A component, and whether it was given a model."""

    component: Any
    modelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CastRequest:
    """Requested players: names, objects, or None for the world's default; `folders` resolves relative file names."""

    agent: str | Agent | None = None
    user: str | User | None = None
    reward: str | Reward | None = None
    tools: ToolServer | None = None
    folders: BaseFolders = field(default_factory=BaseFolders)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """Requested models: the run's configuration, and defaults of one cast; user defaults fall back to the agent's.

    `agent` chooses the agent for a model where none was named. `judge` is the model that a reward asks, with its
    configuration in `judge_config`; None for no judge.
    """

    config: ModelConfig
    open: OpenModel
    agent: ChooseDefault = default_agent
    defaults: ModelConfig | None = None
    user_defaults: ModelConfig | None = None
    judge: str | None = None
    judge_config: ModelConfig | None = None

    def agents(self) -> PlayerModel:
        """Model settings of the agent."""
        config = self.config if self.defaults is None else self.config.over(self.defaults)
        spec = self.config.model
        own = spec is not None
        return PlayerModel(spec=spec, own=own, config=config, open=self.open, flag="--model", default=self.agent)

    def users(self) -> PlayerModel:
        """Model settings of the user; the agent's model if none was named for the user."""
        own, spec = self.config.user_model is not None, self.config.user_model or self.config.model
        config = self.config.for_user(self.user_defaults or self.defaults)
        return PlayerModel(spec=spec, own=own, config=config, open=self.open, flag="--user-model")

    def judges(self) -> tuple[str, ModelConfig] | None:
        """Name and configuration of the reward's model; by default it samples at the temperature 0."""
        if self.judge is None:
            return None
        return self.judge, self.judge_config or self.config.model_copy(update={"temperature": 0.0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Players:
    """The four components of a run, and the world's limits."""

    agent: Agent
    user: User
    tools: ToolServer
    reward: Reward
    limits: Limits = field(default_factory=Limits)

    def cast(self, scope: Scope, *checks: Callable[[Task], None], share: int = 1, idle: bool = False) -> Cast:
        """Start the components' actors; `checks` are called with each task before those of the components.

        `share` and `idle` are those of `Scope.spawn`: a worker is one of `share`, and the driver of workers is idle.

        Raises:
            UsageError: a component's declaration is invalid.
        """
        parts = (self.agent, self.user, self.tools, self.reward)
        person = self.user if self.user.interactive else None  # has no deadline
        agent, user, tools, reward = (
            scope.spawn(part, name=part.name, deadline=part is not person, share=share, idle=idle) for part in parts
        )
        with boundary(AgentFault, f"agent `{self.agent.name}`, asking whether it is deterministic"):
            deterministic = bool(self.agent.deterministic)
        return Cast(
            agent=agent,
            user=user,
            tools=tools,
            reward=reward,
            unforkable=self.unforkable,
            deterministic=deterministic,
            reward_range=reward_range(self.reward.range, self.reward.name),
            final=self.reward.final,
            limits=self.limits,
            checks=(*checks, self.user.check_task),
            user_calls=self.user.calls_tools,
        )

    @property
    def unforkable(self) -> tuple[str, ...]:
        """Components that cannot be forked, for messages."""
        parts = {"agent": self.agent, "user": self.user, "tools": self.tools}
        because = f" ({self.tools.unforkable_because})" if self.tools.unforkable_because else ""
        return tuple(
            f"{role} `{part.name}`{because if part is self.tools else ''}"
            for role, part in parts.items()
            if not part.forkable
        )


def build_players(world: World, wanted: CastRequest, models: ModelRequest) -> Players:
    """Build all players.

    Raises:
        ComponentNotFound: no component of that name.
        UsageError: a component does not accept its options or lacks a model, or no component uses a named model.
    """
    agents, users = models.agents(), models.users()
    agent_choice, user_choice = _roles(world, wanted)
    agent = _part(agent_choice, world, agents, wanted.folders)
    user = _part(user_choice, world, users, wanted.folders)
    _check_used(agent, user, agents, users)
    return Players(
        agent=agent.component,
        user=user.component,
        tools=world.tools() if wanted.tools is None else wanted.tools,
        reward=_reward(wanted.reward, world, wanted.folders, models),
        limits=world.limits,
    )


def build_agent(world: World, wanted: CastRequest, models: ModelRequest) -> Agent:
    """Build the agent alone.

    Raises:
        ComponentNotFound, UsageError: as for `build_players`.
    """
    return _part(_roles(world, wanted)[0], world, models.agents(), wanted.folders).component


def build_user(world: World, wanted: CastRequest, models: ModelRequest) -> User:
    """Build the user alone.

    Raises:
        ComponentNotFound, UsageError: as for `build_players`.
    """
    return _part(_roles(world, wanted)[1], world, models.users(), wanted.folders).component


def modelled_user(world: World, wanted: CastRequest) -> str | None:
    """The user's name if it is played by a model; None for rule-based users and for objects."""
    choice = _roles(world, wanted)[1]
    if choice.wanted is not None and not isinstance(choice.wanted, str):
        return None
    name, folder = (
        (choice.wanted, wanted.folders.of(choice.wanted)) if choice.wanted else _own_choice(world, "default_user")
    )
    return name if takes(USER, name, "model", folder) else None


def needed_models(world: World, wanted: CastRequest, models: ModelRequest) -> Iterator[tuple[str, ModelConfig]]:
    """Names and configurations of the models that `build_players` opens.

    Raises:
        ComponentNotFound: no component of that name.
        UsageError: a component lacks a model.
    """
    for choice, model in zip(_roles(world, wanted), (models.agents(), models.users()), strict=True):
        named = choice.component(world, model, wanted.folders)
        if named is not None and named.model is not None:
            yield named.model, model.config
    if (judge := models.judges()) is not None:
        yield judge


def _roles(world: World, wanted: CastRequest) -> tuple[_RoleChoice[Any], _RoleChoice[Any]]:
    """The choices of the agent and of the user."""
    user = NOBODY if world.solo and wanted.user is None else wanted.user
    return (
        _RoleChoice(AGENT, wanted.agent, "default_agent", MODEL_AGENT),
        _RoleChoice(USER, user, "default_user", MODEL_USER),
    )


@dataclass(frozen=True, slots=True)
class _NamedComponent:
    """A component by name, the folder that its relative file names refer to, and the name of its model, if any."""

    name: str
    folder: Path | None
    model: str | None


@dataclass(frozen=True, slots=True)
class _RoleChoice(Generic[T]):
    """One role: requested component, world attribute with the default, and the default for a model of its own."""

    kind: ComponentKind[T]
    wanted: str | T | None
    default: str
    modelled: str

    def component(self, world: World, model: PlayerModel, folders: BaseFolders) -> _NamedComponent | None:
        """The component by name; None if it was given as an object.

        Raises:
            ComponentNotFound: no component of that name.
            UsageError: it lacks a model.
        """
        wanted = self.wanted
        if wanted is not None and not isinstance(wanted, str):
            return None
        if wanted:
            name, folder = wanted, folders.of(wanted)
        else:
            name, folder = _own_choice(world, self.default)
            if model.own and not takes(self.kind, name, "model", folder):
                name, folder = self.modelled, None
        wants = takes(self.kind, name, "model", folder)
        if wants and model.spec is None:
            raise UsageError(
                f"the {self.kind.noun} `{name}` is played by a model, and none was named; give {model.flag} "
                "openai/NAME (with --base-url for any OpenAI-compatible endpoint), or set SIMKIT_MODEL"
            )
        return _NamedComponent(name, folder, None if wants is None else model.spec)


def _own_choice(world: World, attribute: str) -> tuple[str, Path | None]:
    """The world's default component, and the folder of the file that declares it."""
    return getattr(world, attribute), folder_of(world, attribute)


def _part(choice: _RoleChoice[T], world: World, model: PlayerModel, folders: BaseFolders) -> LoadedPlayer:
    """The requested component with its model, the given object, or the world's default."""
    named = choice.component(world, model, folders)
    if named is None:
        return LoadedPlayer(choice.wanted)
    name, given = named.name, dict[str, Any](world=world)
    if named.model is not None:
        given["model"] = opened = model.open(named.model, model.config)
        name = name if choice.wanted else model.default(name, opened)
    folder = named.folder if name == named.name else None
    return LoadedPlayer(load(choice.kind, name, given, folder), named.model is not None)


def _reward(wanted: str | Reward | None, world: World, folders: BaseFolders, models: ModelRequest) -> Reward:
    judge = models.judges()
    if wanted is not None and not isinstance(wanted, str):
        if judge is not None:
            raise _no_judge(judge[0], wanted.name)
        return wanted
    name, folder = (wanted, folders.of(wanted)) if wanted else _own_choice(world, "default_reward")
    wants, given = takes(REWARD, name, "judge", folder), dict[str, Any](world=world)
    if judge is not None:
        if wants is None:
            raise _no_judge(judge[0], name)
        given["judge"] = models.open(*judge)
    elif wants:
        raise UsageError(f"the reward `{name}` asks a model, and none was named; give --judge-model openai/NAME")
    return load(REWARD, name, given, folder)


def _no_judge(judge: str, reward: str) -> UsageError:
    return UsageError(
        f"--judge-model {judge} would not be asked: the reward `{reward}` takes no judge; leave the flag out, or choose"
        " a reward that does, such as rubric or final_state"
    )


def _check_used(agent: LoadedPlayer, user: LoadedPlayer, agent_model: PlayerModel, user_model: PlayerModel) -> None:
    """Check that explicitly named models are used.

    Raises:
        UsageError: no component would call the model.
    """
    if user_model.own and not user.modelled:
        raise _unused(user_model, f"the user `{user.component.name}`", f"--user {MODEL_USER}")
    if agent_model.own and not agent.modelled and not user.modelled:
        raise _unused(agent_model, f"the agent `{agent.component.name}`", f"--agent {MODEL_AGENT}")


def _unused(model: PlayerModel, who: str, instead: str) -> UsageError:
    return UsageError(
        f"{model.flag} {model.spec} would not be asked: {who} is not played by a model; leave the flag out, or choose "
        f"{instead}"
    )
