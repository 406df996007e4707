"""Dev goals: the conversations of a model in training, and its score on them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, cast

from simkit.components.world import WORLD, World, choose_tasks
from simkit.core.events import BranchAdded, Episode, Event, ToolsetSeen
from simkit.core.limits import Limits
from simkit.core.messages import AssistantMessage, ToolCall, ToolSpec, parse_call, parse_message, text_of
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.plugins.component_paths import BaseFolders
from simkit.plugins.loading import load
from simkit.run import choices
from simkit.run.casting import CastRequest, modelled_user
from simkit.statistics.scores import mean

POLICY = "policy"
"""Name of the model in training as the user's model."""

_LIKE_A_CALL = re.compile(r"</?tool_call|\[/?TOOL_CALLS|<\|python_tag\|>|\"(arguments|parameters)\"\s*:")


@dataclass(frozen=True, slots=True, kw_only=True)
class DevChoice:
    """Group of flags: the world and the players of a model in training."""

    world: choices.World = "builtin"
    variant: choices.Variant = None
    agent: Annotated[
        str, "Agent that plays the dev goals with the model: function_calling, react, or path/to/file.py:Class."
    ] = "function_calling"
    user: choices.User = None
    reward: choices.Reward = None
    judge_model: choices.JudgeModel = None
    judge_base_url: choices.JudgeBaseUrl = None
    max_turns: choices.MaxTurns = 15
    reply_tokens: Annotated[int, "Maximum number of tokens in a reply on dev goals."] = 256

    def place(self, split: str, tasks: str, user_model: str | None = None) -> ConversationSetup:
        """The setup with these tasks of a split."""
        own = {each.name: getattr(self, each.name) for each in fields(DevChoice)}
        return ConversationSetup(**own, split=split, tasks=tasks, user_model=user_model)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSetup(DevChoice):
    """Tasks and players of conversations, all by name, so that the value can be sent to another process.

    Attributes:
        split, tasks: the tasks; see the flags of `simkit run rollout`.
        user_model: the user's model; `policy` is the model in training, None none.
    """

    split: str = "val"
    tasks: str = "40"
    user_model: str | None = None

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

    def __str__(self) -> str:
        return f"success {self.success:.3f}, reward {self.reward:.3f}, valid calls {self.valid_calls:.3f}"

    @property
    def rank(self) -> tuple[float, ...]:
        """Sort key of scores; higher is better."""
        return (self.success, self.reward, self.valid_calls)

    def to_json(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)


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
