"""Parameters of recipes that play: types with the same meaning in every recipe, and groups of them.

A group is a frozen dataclass whose fields become flags:

async def brisk(run: Run, *, tasks: TaskChoice = TaskChoice(tasks="20"), cast: CastChoice = CastChoice()): ...
    await tasks.play(run, Rollout(tasks.limits), cast, default_split="test")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from simkit.core.limits import Limits

if TYPE_CHECKING:
    from simkit.models.config import ModelConfig
    from simkit.run.run import Run
    from simkit.search.base import Episode, Search

World: TypeAlias = Annotated[
    str,
    "World, the source of tasks and tools: builtin, toolwoz, a folder (./shop), or path/to/file.py:Class; with options:"
    " NAME,key=value.",
]
Variant: TypeAlias = Annotated[
    Literal["paper", "fixed"] | None,
    "ToolWOZ only: `paper` equals the release call for call, `fixed` repairs it. Never compare scores of the two.",
]
Split: TypeAlias = Annotated[
    str | None,
    "Split of the world's tasks. Default: `test` for evaluations, `train` for harvests; else its last or first one.",
]
Tasks: TypeAlias = Annotated[
    str, "Tasks to play: a number (50: the first 50), a slice (10-20: tasks 10 to 19), or `all`."
]
Trials: TypeAlias = Annotated[int, "Number of times each task is played; pass^k is reported up to this k."]
Agent: TypeAlias = Annotated[
    str | None,
    "Agent to evaluate, with options (scripted,error_rate=0.2): see `simkit components`, or path/to/file.py:Class."
    " Default: the world's.",
]
User: TypeAlias = Annotated[
    str | None, "User simulator: see `simkit components`, or path/to/file.py:Class. Default: the world's."
]
Reward: TypeAlias = Annotated[
    str | None, "Reward: see `simkit components`, or path/to/file.py:Class. Default: the world's."
]
MaxTurns: TypeAlias = Annotated[int, "Maximum number of agent turns in a conversation."]
MaxTurnsOrWorlds: TypeAlias = Annotated[
    int | None, "Maximum number of agent turns in a conversation. Default: the world's, 15 for most."
]
JudgeModel: TypeAlias = Annotated[
    str | None,
    "Model that judges for the reward (rubric, pairwise, task_goals, final_state): openai/NAME. Default: no judge.",
]
JudgeBaseUrl: TypeAlias = Annotated[str | None, "Endpoint of the judge. Default: --base-url."]
JudgeTemperature: TypeAlias = Annotated[
    float, "Sampling temperature of the judge; above 0 for a reward with several votes."
]
MaxErrors: TypeAlias = Annotated[
    int | None, "Maximum number of tool results that are errors in a conversation. Default: the world's, none for most."
]
MaxMessages: TypeAlias = Annotated[
    int | None,
    "Maximum number of messages in a conversation; the results of a message's calls are one. Default: the world's, none"
    " for most.",
]
UserSteps: TypeAlias = Annotated[
    int | None,
    "Maximum number of decisions in one answer of a user with tools, of which the last speaks. Default: the world's, 20"
    " for most.",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CastChoice:
    """Players by name, and the reward's model; None for the world's default, and for no judge."""

    agent: Agent = None
    user: User = None
    reward: Reward = None
    judge_model: JudgeModel = None
    judge_base_url: JudgeBaseUrl = None
    judge_temperature: JudgeTemperature = 0.0

    def judge_options(self, run: Run) -> ModelConfig:
        """Options of the judge's model: those of the run at the judge's temperature, with its endpoint if given."""
        endpoint = self.judge_base_url or run.models.base_url
        return run.models.model_copy(update={"base_url": endpoint, "temperature": self.judge_temperature})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChoice:
    """Task selection: world, split, tasks, number of trials and limits of a conversation.

    The default of `split` and of the limits is None: the world's.
    """

    world: World = "builtin"
    variant: Variant = None
    split: Split = None
    tasks: Tasks = "all"
    trials: Trials = 1
    max_turns: MaxTurnsOrWorlds = None
    max_errors: MaxErrors = None
    max_messages: MaxMessages = None
    user_steps: UserSteps = None

    @property
    def limits(self) -> Limits:
        """Limits of one episode."""
        return Limits(
            turns=self.max_turns, errors=self.max_errors, messages=self.max_messages, user_steps=self.user_steps
        )

    async def play(
        self, run: Run, search: Search, cast: CastChoice, default_split: str = "train"
    ) -> tuple[Episode, ...]:
        """Play the tasks with a search.

        Args:
            run: the run.
            search: plays each task.
            cast: the players by name.
            default_split: split that is preferred when none is chosen; see `World.default_split`.

        Raises:
            UsageError: an unknown name; and what `Run.play` raises.
        """
        world = run.world(self.world, variant=self.variant)
        players = await run.open_cast(
            world,
            agent=cast.agent,
            user=cast.user,
            reward=cast.reward,
            judge_model=cast.judge_model,
            judge_options=cast.judge_options(run),
        )
        split = self.split or world.default_split(default_split)
        return await run.play(search, players, run.tasks(world, split, self.tasks), trials=self.trials)
