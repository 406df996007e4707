"""Who plays in a run: components by name, as they are, or the world's own choice, each with the model it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from simkit.actors.actor import Scope
from simkit.components.agent import Agent
from simkit.components.cast import Cast
from simkit.components.checks import reward_range
from simkit.components.reward import Reward
from simkit.components.tools import ToolServer
from simkit.components.user import User
from simkit.components.world import World
from simkit.core.boundary import boundary
from simkit.errors import AgentFault, UsageError
from simkit.plugins.component_paths import Places, folder_of
from simkit.plugins.loading import Kind, load, takes

if TYPE_CHECKING:
    from simkit.models.base import ChatModel
    from simkit.models.config import ModelConfig

T = TypeVar("T")

AGENT = Kind("agent", "simkit.agents", Agent)
USER = Kind("user", "simkit.users", User)
REWARD = Kind("reward", "simkit.rewards", Reward)

OpenModel: TypeAlias = "Callable[[str, ModelConfig], ChatModel]"
"""Gives the model of a name."""

MODEL_AGENT, MODEL_USER = "function_calling", "goal"
"""Who plays when a model was named for the agent or the user, and nobody said how it is to play."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartModel:
    """The model of one part, the agent's or the user's.

    Attributes:
        spec: its name, None when nobody named one.
        own: whether it was named for this part, and not taken over from the other.
        config: how it is reached, sampled and limited.
        open: gives the model of a name.
        flag: the flag that names it.
    """

    spec: str | None
    own: bool
    config: ModelConfig
    open: OpenModel
    flag: str


@dataclass(frozen=True, slots=True)
class Part:
    """A component that was built, and whether a model plays it."""

    component: Any
    modelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who is to play: by name, as they are, or None for the world's own choice; `places` is where names count from."""

    agent: str | Agent | None = None
    user: str | User | None = None
    reward: str | Reward | None = None
    tools: ToolServer | None = None
    places: Places = field(default_factory=Places)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedModels:
    """The models they play with: the run's configuration, and defaults of one cast, the user's being the agent's."""

    config: ModelConfig
    open: OpenModel
    defaults: ModelConfig | None = None
    user_defaults: ModelConfig | None = None

    def agents(self) -> PartModel:
        """The agent's."""
        config = self.config if self.defaults is None else self.config.over(self.defaults)
        spec = self.config.model
        return PartModel(spec=spec, own=spec is not None, config=config, open=self.open, flag="--model")

    def users(self) -> PartModel:
        """The user's: the agent's when none was named for it."""
        own, spec = self.config.user_model is not None, self.config.user_model or self.config.model
        config = self.config.for_user(self.user_defaults or self.defaults)
        return PartModel(spec=spec, own=own, config=config, open=self.open, flag="--user-model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Players:
    """Who plays."""

    agent: Agent
    user: User
    tools: ToolServer
    reward: Reward

    def cast(self, scope: Scope) -> Cast:
        """Start their actors.

        Raises:
            UsageError: what one of them declares of itself cannot be.
        """
        parts = (self.agent, self.user, self.tools, self.reward)
        person = self.user if self.user.interactive else None  # may take as long as it likes
        agent, user, tools, reward = (scope.spawn(part, name=part.name, deadline=part is not person) for part in parts)
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
            checks=(self.user.check_task,),
        )

    @property
    def unforkable(self) -> tuple[str, ...]:
        """Those that cannot be branched, for messages."""
        parts = {"agent": self.agent, "user": self.user, "tools": self.tools}
        return tuple(f"{role} `{part.name}`" for role, part in parts.items() if not part.forkable)


def build_players(world: World, wanted: Wanted, models: WantedModels) -> Players:
    """Build everybody.

    Raises:
        ComponentNotFound: no component of that name.
        UsageError: a component does not take its options or lacks a model, or a model is named that nobody asks.
    """
    agents, users = models.agents(), models.users()
    agent = _part(_Choice(AGENT, wanted.agent, "default_agent", MODEL_AGENT), world, agents, wanted.places)
    user = _part(_Choice(USER, wanted.user, "default_user", MODEL_USER), world, users, wanted.places)
    _check_used(agent, user, agents, users)
    return Players(
        agent=agent.component,
        user=user.component,
        tools=world.tools() if wanted.tools is None else wanted.tools,
        reward=_reward(wanted.reward, world, wanted.places),
    )


@dataclass(frozen=True, slots=True)
class _Choice(Generic[T]):
    """One part: who is wanted, the attribute that has the world's own choice, and who plays for a model of its own."""

    kind: Kind[T]
    wanted: str | T | None
    default: str
    modelled: str

    def name(self, wanted: str | None, world: World, model: PartModel, places: Places) -> tuple[str, Path | None]:
        """The name of who plays, and the folder that its files count from."""
        if wanted:
            return wanted, places.of(wanted)
        return (self.modelled, None) if model.own else _own_choice(world, self.default)


def _own_choice(world: World, attribute: str) -> tuple[str, Path | None]:
    """The component that a world names itself, and the folder of the file that says so."""
    return getattr(world, attribute), folder_of(world, attribute)


def _part(choice: _Choice[T], world: World, model: PartModel, places: Places) -> Part:
    """The component that was named, with its model; as it is; or the world's own choice."""
    kind, wanted = choice.kind, choice.wanted
    if wanted is not None and not isinstance(wanted, str):
        return Part(wanted)
    name, folder = choice.name(wanted, world, model, places)
    given: dict[str, Any] = {"world": world}
    wants = takes(kind, name, "model", folder)
    if wants is not None and (model.spec is not None or wants):
        if model.spec is None:
            raise UsageError(
                f"the {kind.noun} `{name}` is played by a model, and none was named; give {model.flag} openai/NAME "
                "(with --base-url for any OpenAI-compatible endpoint), or set SIMKIT_MODEL"
            )
        given["model"] = model.open(model.spec, model.config)
    return Part(load(kind, name, given, folder), "model" in given)


def _reward(wanted: str | Reward | None, world: World, places: Places) -> Reward:
    if wanted is not None and not isinstance(wanted, str):
        return wanted
    name, folder = (wanted, places.of(wanted)) if wanted else _own_choice(world, "default_reward")
    return load(REWARD, name, {"world": world}, folder)


def _check_used(agent: Part, user: Part, agent_model: PartModel, user_model: PartModel) -> None:
    """Make sure that a model somebody named is asked."""
    if user_model.own and not user.modelled:
        raise _unused(user_model, f"the user `{user.component.name}`", f"--user {MODEL_USER}")
    if agent_model.own and not agent.modelled and not user.modelled:
        raise _unused(agent_model, f"the agent `{agent.component.name}`", f"--agent {MODEL_AGENT}")


def _unused(model: PartModel, who: str, instead: str) -> UsageError:
    return UsageError(
        f"{model.flag} {model.spec} would not be asked: {who} is not played by a model; leave the flag out, or choose "
        f"{instead}"
    )
