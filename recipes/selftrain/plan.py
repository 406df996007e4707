"""Plan of a self-training experiment: its players, its arms, and the comparisons that are stated beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Annotated, Any, Literal, TypeAlias

from simkit.components.world import WORLD, World
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.plugins.loading import load
from simkit.run import choices
from simkit.training.scratch import DEMONSTRATOR, TOWN, ScratchSettings
from simkit.training.steps import AllowIncomplete

TEST_SEED = 20261128
"""Seed that draws the goals of the measurements; `--full` has others, drawn by the next number.

It was chosen before any of them was played."""

Then: TypeAlias = Literal["none", "dpo", "kto"]

BEFORE, JOSH, SAMPLING, AS_MANY, CONTROL = "before", "josh", "best-of-n", "best-of-n-as-many", "control"
LABELS = {
    BEFORE: "before",
    JOSH: "JOSH",
    SAMPLING: "rejection sampling",
    AS_MANY: "rejection sampling, as many examples as JOSH",
    CONTROL: "unfiltered control",
    "dpo": "JOSH, then DPO",
    "kto": "JOSH, then KTO",
}
"""Names of the arms in results, by their names in stages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentChoice:
    """Group of flags: a self-training experiment.

    Raises:
        UsageError: a number is invalid.
    """

    full: Annotated[
        bool, "Also DPO after SFT, a second round (--then dpo --rounds 2), and T = 0.7, on other goals."
    ] = False
    world: Annotated[str, "World with the splits train, val and test."] = TOWN
    user: choices.User = None
    reward: choices.Reward = None
    then: Annotated[
        Literal["none", "dpo", "kto"] | None, "Training that continues the JOSH arm, as an arm of its own."
    ] = None
    rounds: Annotated[int | None, "Number of rounds of harvest and training; default: 1, with --full 2."] = None
    seeds: Annotated[int, "Number of independent repetitions, all from the same first model."] = 3
    seeds_at_once: Annotated[int, "Seeds processed at once, each in a process with one thread."] = 3
    tasks: Annotated[int, "Train goals of a JOSH harvest, per round."] = 160
    beam: Annotated[int, "Maximum number of live leaves of a tree."] = 8
    n: Annotated[int, "Rollouts of each goal in rejection sampling."] = 8
    split: Annotated[Literal["test", "val"], "Split of the goals that every model is measured on."] = "test"
    heldout: Annotated[int, "Number of these goals."] = 300
    config: Annotated[str, "Settings of the trainings: a preset, or a YAML file."] = "tiny-cpu"
    learning_rate: Annotated[float | None, "Peak of the schedule of SFT. Default: that of the settings."] = None
    epochs: Annotated[float | None, "Passes of SFT over the examples. Default: that of the settings."] = None
    demonstrator: Annotated[str, "Without --model: agent whose dialogues the first model learns."] = DEMONSTRATOR
    lessons: Annotated[int, "Without --model: number of these dialogues."] = 3000
    lesson_steps: Annotated[int, "Without --model: optimizer steps of the first model."] = 1400
    max_turns: choices.MaxTurns = 15
    reply_tokens: Annotated[int, "Maximum number of tokens of a reply."] = 160
    allow_incomplete: AllowIncomplete = False

    def __post_init__(self) -> None:
        for name in ("rounds", "seeds", "seeds_at_once", "tasks", "beam", "n", "heldout", "max_turns", "reply_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {value}; give at least 1")

    def plan(self, model: str | None) -> ExperimentPlan:
        """The plan for a first model, a folder or a Hugging Face name; None makes one."""
        then, rounds = ("dpo", 2) if self.full else ("none", 1)
        given: dict[str, Any] = asdict(self) | {"then": self.then or then, "rounds": self.rounds or rounds}
        return ExperimentPlan(**given, model=model)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentPlan(ExperimentChoice):
    """The plan that all seeds share; `model` is the one to start from, None one that is made from the lessons."""

    then: Then = "none"
    rounds: int = 1
    model: str | None = None

    @property
    def first(self) -> ScratchSettings:
        """The first model, unless one is given."""
        return ScratchSettings(
            world=self.world,
            demonstrator=self.demonstrator,
            tasks=str(self.lessons),
            steps=self.lesson_steps,
            allow_incomplete=self.allow_incomplete,
        )

    @property
    def temperatures(self) -> tuple[str, ...]:
        """Temperatures of the measurements, as in stages."""
        return ("t1", "t0.7", "t0") if self.full else ("t1", "t0")

    def train_goals(self, number: int) -> range:
        """Train goals of a round, counted from 1. They follow those of the lessons.

        A JOSH harvest plays the first half. Rejection sampling begins with the same goals, and goes on for as long as
        tokens are left.
        """
        first = (0 if self.model else self.lessons) + (number - 1) * 2 * self.tasks
        return range(first, first + 2 * self.tasks)

    def build(self) -> World:
        """The world."""
        return load(WORLD, self.world)

    def measured(self, world: World) -> Sequence[Task]:
        """Goals of the measurements."""
        known = world.tasks(world.check_split(self.split))
        drawn = Random(TEST_SEED + self.full).sample(range(len(known)), min(self.heldout, len(known)))
        return [known[index] for index in sorted(drawn)]

    def stages(self) -> dict[str, str]:
        """Stages of the measured models by the labels of their arms; an arm comes after those it is compared with."""
        arms = [CONTROL, SAMPLING, AS_MANY, JOSH, *([self.then] if self.then != "none" else [])]
        found = {LABELS[BEFORE]: BEFORE}
        for number in range(1, self.rounds + 1):
            after = "" if number == 1 else f", {number} rounds"
            found |= {LABELS[arm] + after: f"round{number}/{arm}" for arm in arms}
        return found

    def stated(self) -> list[tuple[str, str]]:
        """The comparisons of the experiment, which are one family: an arm, and the arm that it is compared with."""
        josh, sampling, control = LABELS[JOSH], LABELS[SAMPLING], LABELS[CONTROL]
        pairs = [(arm, LABELS[BEFORE]) for arm in (josh, sampling, control)]
        pairs += [(josh, control), (josh, sampling), (josh, LABELS[AS_MANY])]
        if self.then != "none":
            pairs += [(LABELS[self.then], arm) for arm in (LABELS[BEFORE], control, josh)]
        if self.rounds > 1:
            last = f", {self.rounds} rounds"
            pairs += [(josh + last, LABELS[BEFORE]), (josh + last, control + last), (josh + last, josh)]
            pairs += [(josh + last, sampling + last), (control + last, LABELS[BEFORE])]
        return pairs
