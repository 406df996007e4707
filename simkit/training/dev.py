"""Dev goals: conversations with a model in training, played in this process and not stored."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from simkit.actors.deadlines import AskLimits
from simkit.actors.scope import open_scope
from simkit.components.cast import Cast
from simkit.components.world import WORLD, World, choose_tasks
from simkit.core.events import BranchAdded, Episode, Event, ToolsetSeen
from simkit.core.limits import Limits
from simkit.core.messages import AssistantMessage, ToolCall, ToolSpec, parse_call, parse_message, text_of
from simkit.core.recorder import MemoryRecorder
from simkit.core.tasks import Task
from simkit.errors import StrayCancellation, UsageError
from simkit.models.base import SampledModel
from simkit.models.config import ModelConfig
from simkit.plugins.component_paths import BaseFolders
from simkit.plugins.loading import load
from simkit.run import choices
from simkit.run.casting import CastRequest, ModelRequest, build_players, modelled_user
from simkit.run.engine import PlayContext, RunProgress, play_units
from simkit.search.base import WorkUnit
from simkit.search.rollout import Rollout
from simkit.statistics.scores import mean
from simkit.training import flags as training

if TYPE_CHECKING:
    from simkit.models.base import ChatModel

POLICY = "policy"
"""Name of the model in training as the user's model."""

AT_ONCE = 256
"""Maximum concurrent conversations. A batching engine is more efficient with more of them."""

_LIKE_A_CALL = re.compile(r"</?tool_call|\[/?TOOL_CALLS|<\|python_tag\|>|\"(arguments|parameters)\"\s*:")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSetup:
    """Tasks and players of conversations, all by name, so that the value can be sent to another process.

    Attributes:
        world, variant, split, tasks: the tasks; see the flags of `simkit run rollout`.
        agent: the agent that uses the model.
        user, reward: None for the world's own.
        user_model: the user's model; `policy` is the model in training, None none.
        judge_model: the model that the reward asks; None for none. `judge_base_url` is its endpoint.
        max_turns: maximum agent turns of a conversation.
        max_tokens: maximum tokens of a reply, for models that no longer end their replies.
    """

    world: str = "builtin"
    variant: str | None = None
    split: str = "val"
    tasks: str = "40"
    agent: str = "function_calling"
    user: str | None = None
    reward: str | None = None
    user_model: str | None = None
    judge_model: str | None = None
    judge_base_url: str | None = None
    max_turns: int = 15
    max_tokens: int = 256

    def build(self) -> World:
        """The world.

        Raises:
            UsageError: the world, its variant or the split does not exist.
        """
        world = load(WORLD, self.world, variant=self.variant)
        world.check_split(self.split)
        return world

    def chosen(self) -> tuple[Task, ...]:
        """The tasks.

        Raises:
            UsageError: the world, its split or a chosen task does not exist.
        """
        return tuple(choose_tasks(self.build().tasks(self.split), self.tasks))

    def check_user(self, folders: BaseFolders | None = None) -> None:
        """Check that a user who is played by a model has one.

        Raises:
            UsageError: it has none.
        """
        wanted = CastRequest(user=self.user, folders=folders or BaseFolders())
        name = None if self.user_model else modelled_user(self.build(), wanted)
        if name is not None:
            raise UsageError(
                f"the user `{name}` is played by a model, and the model in training is no fair customer of its own; "
                f"give --user-model openai/NAME (as in every run), or --user-model {POLICY} if you want that"
            )

    @property
    def limits(self) -> Limits:
        """Limits of a conversation."""
        return Limits(turns=self.max_turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevChoice:
    """Group of flags: the world and the players of a model in training."""

    world: choices.World = "builtin"
    variant: choices.Variant = None
    agent: training.Player = "function_calling"
    user: choices.User = None
    reward: choices.Reward = None
    judge_model: choices.JudgeModel = None
    judge_base_url: choices.JudgeBaseUrl = None
    max_turns: choices.MaxTurns = 15
    reply_tokens: training.MaxTokens = 256

    def place(self, split: str, tasks: str, user_model: str | None = None) -> ConversationSetup:
        """The place with these tasks of a split."""
        return ConversationSetup(
            world=self.world,
            variant=self.variant,
            split=split,
            tasks=tasks,
            agent=self.agent,
            user=self.user,
            reward=self.reward,
            user_model=user_model,
            judge_model=self.judge_model,
            judge_base_url=self.judge_base_url,
            max_turns=self.max_turns,
            max_tokens=self.reply_tokens,
        )


@asynccontextmanager
async def opened(place: ConversationSetup, model: ChatModel, temperature: float) -> AsyncGenerator[Cast]:
    """Open the cast of a place, with `model` as the agent's model.

    Raises:
        UsageError: a component does not exist or does not accept its options, or the user or the reward needs another
            model.
    """
    place.check_user()
    if place.user_model not in (None, POLICY) or place.judge_model is not None:
        raise UsageError("the user's and the judge's models are opened by a run; train with `simkit train`")
    defaults = ModelConfig(max_tokens=place.max_tokens)
    config = ModelConfig(model=f"local/{model.name}", temperature=temperature)
    players = build_players(
        place.build(),
        CastRequest(agent=place.agent, user=place.user, reward=place.reward),
        ModelRequest(config=config, open=lambda _, role: SampledModel(model, role.sampling), defaults=defaults),
    )
    async with open_scope(AskLimits()) as scope:
        yield players.cast(scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevGoals:
    """The dev goals that a model plays during training; greedy (temperature 0) by default."""

    place: ConversationSetup
    temperature: float = 0.0
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The goals as JSON."""
        return {**asdict(self.place), "temperature": self.temperature, "seed": self.seed}


@dataclass(frozen=True, slots=True, kw_only=True)
class DevScore:
    """A model's results on dev goals.

    Attributes:
        success: share of conversations with the full reward.
        reward: average reward; a conversation that ended in a fault counts with the minimum reward.
        valid_calls: share of valid tool calls: a known tool, all required parameters and no unknown ones. Text that
            looks like a malformed call counts as an invalid call. 0 if there were no calls.
        calls: average tool calls per conversation.
        turns: average agent turns per conversation.
    """

    success: float
    reward: float
    valid_calls: float
    calls: float
    turns: float

    @property
    def rank(self) -> tuple[float, ...]:
        """Sort key of scores; higher is better."""
        return (self.success, self.reward, self.valid_calls)

    def to_json(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)


async def play_dev(goals: DevGoals, model: ChatModel) -> DevScore:
    """Play every goal once and score the model.

    Raises:
        UsageError: the world, its split or a chosen task does not exist.
        RunStopped: the model cannot be reached.
        StrayCancellation: not all goals could be played.
    """
    recorder, tasks = MemoryRecorder(), goals.place.chosen()
    units = [WorkUnit("dev", goals.seed, task) for task in tasks]
    async with opened(goals.place, model, goals.temperature) as players:
        context = PlayContext(
            search=Rollout(goals.place.limits), cast=players, recorder=recorder, progress=RunProgress()
        )
        episodes = await play_units(context, units, AT_ONCE)
    missed = context.progress.missed
    if missed:
        why = next(iter(missed.values()))
        raise StrayCancellation(f"{len(missed)} of {len(units)} dev goals were not played, so there is no score: {why}")
    return score_of(episodes, recorder.events, players.reward_range[0])


def score_of(episodes: Sequence[Episode], events: Iterable[Event], least: float) -> DevScore:
    """The score of episodes with their events; `least` is the reward of one that ended in a fault."""
    valid, calls = count_calls(events)
    scored = [episode for episode in episodes if episode.outcome != "no_goals"]
    return DevScore(
        success=mean([float(bool(episode.success)) for episode in scored]),
        reward=mean([least if episode.reward is None else episode.reward for episode in scored]),
        valid_calls=valid / calls if calls else 0.0,
        calls=calls / max(1, len(scored)),
        turns=mean([float(episode.turns) for episode in episodes]),
    )


def count_calls(events: Iterable[Event]) -> tuple[int, int]:
    """The number of valid tool calls and of all tool calls, including text that was meant as a call."""
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
    """Whether a call is valid: its arguments are a JSON object with all required and no unknown parameters."""
    arguments = parse_call(call)
    if spec is None or arguments is None:
        return False
    needed = cast("Sequence[str]", (spec.function.parameters or {}).get("required") or ())
    return all(name in arguments for name in needed) and all(name in spec.properties for name in arguments)
