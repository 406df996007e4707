"""Who plays in a run: components by name, as they are, or the world's own choice, each with the model it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from simkit.components import Agent, Reward, User
from simkit.errors import UsageError
from simkit.loading import Kind, load, takes
from simkit.tasks import World

if TYPE_CHECKING:
    from simkit.models.base import ChatModel
    from simkit.models.build import ModelOptions

T = TypeVar("T")

WORLD = Kind("world", "simkit.worlds", World)
AGENT = Kind("agent", "simkit.agents", Agent)
USER = Kind("user", "simkit.users", User)
REWARD = Kind("reward", "simkit.rewards", Reward)

MODEL_AGENT, MODEL_USER = "function_calling", "goal"
"""Who plays when a model was named for the agent or the user, and nobody said how it is to play."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartModel:
    """The model of one part, the agent's or the user's.

    Attributes:
        spec: its name, None when nobody named one.
        own: whether it was named for this part, and not taken over from the other.
        options: how it is reached and treated.
        open: gives the model of a name.
        flag: the flag that names it.
    """

    spec: str | None
    own: bool
    options: ModelOptions | None
    open: Callable[[str, ModelOptions], ChatModel]
    flag: str


@dataclass(frozen=True, slots=True)
class Part:
    """A component that was built, and whether a model plays it."""

    component: Any
    modelled: bool = False


def build_part(kind: Kind[T], wanted: str | T | None, default: str, world: World, model: PartModel) -> Part:
    """The component of that name with its model; as it is; or (None) the world's choice.

    Raises:
        ComponentNotFound: no component of that name.
        UsageError: it does not take its options, or needs a model and none was named.
    """
    if wanted is not None and not isinstance(wanted, str):
        return Part(wanted)
    name = wanted or default
    given: dict[str, Any] = {"world": world}
    wants = takes(kind, name, "model")
    if wants is not None and (model.spec is not None or wants):
        if model.spec is None or model.options is None:
            raise UsageError(
                f"the {kind.noun} `{name}` is played by a model, and none was named; give {model.flag} openai/NAME "
                "(with --base-url for any OpenAI-compatible endpoint), or set SIMKIT_MODEL"
            )
        given["model"] = model.open(model.spec, model.options)
        given["sampling"] = model.options.sampling
    return Part(load(kind, name, given), "model" in given)


def build_reward(wanted: str | Reward | None, world: World) -> Reward:
    """The reward of that name, as it is, or (None) the world's choice.

    Raises:
        ComponentNotFound: no reward of that name.
        UsageError: it does not take its options.
    """
    if wanted is not None and not isinstance(wanted, str):
        return wanted
    return load(REWARD, wanted or world.default_reward, {"world": world})


def check_used(agent: Part, user: Part, agent_model: PartModel, user_model: PartModel) -> None:
    """Make sure that a model somebody named is used.

    Raises:
        UsageError: it is not; the message says what to name instead.
    """
    if user_model.own and not user.modelled:
        raise _unused(user_model, f"the user `{user.component.name}`", f"--user {MODEL_USER}")
    if agent_model.own and not agent.modelled and not user.modelled:
        raise _unused(agent_model, f"the agent `{agent.component.name}`", f"--agent {MODEL_AGENT}")


def _unused(model: PartModel, who: str, instead: str) -> UsageError:
    return UsageError(
        f"{model.flag} {model.spec} would not be asked: {who} is not played by a model; leave the flag out, or choose "
        f"{instead}"
    )
