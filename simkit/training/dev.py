"""Dev goals: conversations with a model that is being trained, played in this process and kept in no store."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from simkit.actors.actor import Patience, open_scope
from simkit.components.cast import Cast
from simkit.components.world import WORLD, World, choose_tasks
from simkit.core.events import BranchAdded, Event, MemoryRecorder, ToolsetSeen
from simkit.core.limits import Limits
from simkit.core.messages import AssistantMessage, ToolCall, ToolSpec, parse_call, parse_message, text_of
from simkit.core.tasks import Task
from simkit.errors import StrayCancellation
from simkit.models.base import SampledModel
from simkit.models.config import ModelConfig
from simkit.plugins import flags
from simkit.plugins.loading import load
from simkit.run.casting import Wanted, WantedModels, build_players
from simkit.run.engine import Stage, Tally, play_units
from simkit.search.base import WorkUnit
from simkit.search.rollout import Rollout
from simkit.statistics.scores import mean
from simkit.training import flags as training

if TYPE_CHECKING:
    from simkit.models.base import ChatModel

AT_ONCE = 256
"""Conversations played at the same time; a batching engine is the faster the more there are."""

_LIKE_A_CALL = re.compile(r"</?tool_call|\[/?TOOL_CALLS|<\|python_tag\|>|\"(arguments|parameters)\"\s*:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where conversations are played, all by name, so that a process of its own can be told of it.

    Attributes:
        world, variant, split, tasks: which tasks; see the flags of `simkit run rollout`.
        agent: plays the model's part; user, reward: the world's own when None.
        max_turns: agent turns in one conversation at most.
        max_tokens: tokens of one reply at most: a model that has forgotten how to stop must not take forever.
    """

    world: str = "builtin"
    variant: str | None = None
    split: str = "val"
    tasks: str = "40"
    agent: str = "function_calling"
    user: str | None = None
    reward: str | None = None
    max_turns: int = 15
    max_tokens: int = 256

    def build(self) -> World:
        """The world.

        Raises:
            UsageError: there is none of that name, it does not take the variant, or it has no such split.
        """
        world = load(WORLD, self.world, variant=self.variant)
        world.check_split(self.split)
        return world

    def chosen(self) -> tuple[Task, ...]:
        """The tasks.

        Raises:
            UsageError: the world, its split or the choice is not there.
        """
        return tuple(choose_tasks(self.build().tasks(self.split), self.tasks))

    @property
    def limits(self) -> Limits:
        """How long a conversation may be."""
        return Limits(turns=self.max_turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevChoice:
    """Group of flags: where and with whom a trained model plays."""

    world: flags.World = "builtin"
    variant: flags.Variant = None
    agent: training.Player = "function_calling"
    user: flags.User = None
    reward: flags.Reward = None
    max_turns: flags.MaxTurns = 15
    reply_tokens: training.MaxTokens = 256

    def place(self, split: str, tasks: str) -> Place:
        """The place for these tasks of a split."""
        return Place(
            world=self.world,
            variant=self.variant,
            split=split,
            tasks=tasks,
            agent=self.agent,
            user=self.user,
            reward=self.reward,
            max_turns=self.max_turns,
            max_tokens=self.reply_tokens,
        )


@asynccontextmanager
async def opened(place: Place, model: ChatModel, temperature: float) -> AsyncGenerator[Cast]:
    """The cast of a place, with `model` as the agent's.

    Raises:
        UsageError: a component is not there or does not take its options.
    """
    defaults = ModelConfig(max_tokens=place.max_tokens)
    config = ModelConfig(model=f"local/{model.name}", temperature=temperature)
    players = build_players(
        place.build(),
        Wanted(agent=place.agent, user=place.user, reward=place.reward),
        WantedModels(config=config, open=lambda _, role: SampledModel(model, role.sampling), defaults=defaults),
    )
    async with open_scope(Patience()) as scope:
        yield players.cast(scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevGoals:
    """The goals a model is watched on while it trains; greedy (temperature 0) unless another temperature is given."""

    place: Place
    temperature: float = 0.0
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The goals as JSON."""
        return {**asdict(self.place), "temperature": self.temperature, "seed": self.seed}


@dataclass(frozen=True, slots=True, kw_only=True)
class DevScore:
    """How a model did on dev goals.

    Attributes:
        success: share of conversations with the full reward; `reward`: their average reward (the least there is where
            something raised).
        valid_calls: share of the tool calls that could be carried out: a known tool, its parameters and no others.
            Text that looks like a call but cannot be read as one counts as a call; 0 when nothing was called.
        calls: tool calls of one conversation, on average.
        turns: agent turns of one conversation, on average.
    """

    success: float
    reward: float
    valid_calls: float
    calls: float
    turns: float

    @property
    def rank(self) -> tuple[float, ...]:
        """What makes one score better than another."""
        return (self.success, self.reward, self.valid_calls)

    def to_json(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)


async def play_dev(goals: DevGoals, model: ChatModel) -> DevScore:
    """Play every goal once and score the model.

    Raises:
        UsageError: the world, its split or the choice of tasks is not there.
        RunStopped: the model cannot be reached.
        StrayCancellation: not all of them could be played.
    """
    recorder, tasks = MemoryRecorder(), goals.place.chosen()
    units = [WorkUnit("dev", goals.seed, task) for task in tasks]
    async with opened(goals.place, model, goals.temperature) as players:
        stage = Stage(search=Rollout(goals.place.limits), cast=players, recorder=recorder, tally=Tally())
        episodes = await play_units(stage, units, AT_ONCE)
    missed = stage.tally.missed
    if missed:
        why = next(iter(missed.values()))
        raise StrayCancellation(f"{len(missed)} of {len(units)} dev goals were not played, so there is no score: {why}")
    valid, calls = count_calls(recorder.events)
    scored = [episode for episode in episodes if episode.outcome != "no_goals"]
    least = players.reward_range[0]
    return DevScore(
        success=mean([float(bool(episode.success)) for episode in scored]),
        reward=mean([least if episode.reward is None else episode.reward for episode in scored]),
        valid_calls=valid / calls if calls else 0.0,
        calls=calls / max(1, len(scored)),
        turns=mean([float(episode.turns) for episode in episodes]),
    )


def count_calls(events: Iterable[Event]) -> tuple[int, int]:
    """How many tool calls were valid, and how many there were, text that was meant as one included."""
    specs: dict[str, ToolSpec] = {}
    judged: list[bool] = []
    for event in events:
        if isinstance(event, ToolsetSeen):
            specs |= {spec.name: spec for spec in map(ToolSpec.model_validate, event.tools)}
        elif isinstance(event, BranchAdded):
            said = [parse_message(row.message) for row in event.messages if row.author == "agent"]
            for message in said:
                judged += _judged(message, specs) if isinstance(message, AssistantMessage) else []
    return sum(judged), len(judged)


def _judged(message: AssistantMessage, specs: Mapping[str, ToolSpec]) -> list[bool]:
    broken = [False] if _LIKE_A_CALL.search(text_of(message)) else []
    return broken + [is_valid(call, specs.get(call.name)) for call in message.tool_calls or ()]


def is_valid(call: ToolCall, spec: ToolSpec | None) -> bool:
    """Whether a call can be carried out: arguments that are a JSON object, of the tool's parameters and no others."""
    arguments = parse_call(call)
    if spec is None or arguments is None:
        return False
    needed = cast("Sequence[str]", (spec.function.parameters or {}).get("required") or ())
    return all(name in arguments for name in needed) and all(name in spec.properties for name in arguments)
