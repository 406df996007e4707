"""Plan of a self-training experiment: its players, its arms, and the comparisons that are stated beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, Literal, TypeAlias

from simkit.components.world import WORLD, World
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.plugins.loading import load
from simkit.training.scratch import TOWN, DialogueSource, ScratchSettings

TEST_SEED = 20261128
"""Seed that draws the goals of the measurements; `--full` has others, drawn by the next number.

It was chosen before any of them was played."""

Then: TypeAlias = Literal["none", "dpo", "kto"]
Temperature: TypeAlias = Literal["t1", "t0.7", "t0"]

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
class ExperimentPlan:
    """The plan that all seeds share.

    Attributes:
        world, user, reward: world and components of the conversations.
        max_turns, max_tokens: maximum turns of a conversation, and tokens of a reply.
        model: a folder or a Hugging Face name to start from; None makes a model from `lessons`.
        lessons, schooling: the dialogues of the first model, and its training settings.
        config: settings of the trainings: a preset or a YAML file. learning_rate, epochs: replace those of SFT.
        then: training that continues the JOSH arm on the contrasts of the same harvest, as an arm of its own.
        rounds: number of rounds of harvest and training.
        tasks: number of train goals of a JOSH harvest; each round has its own.
        beam: live leaves of a tree. n: rollouts of a goal in rejection sampling.
        split, held_out, goal_seed: split and number of the goals of the measurements, and the seed that draws them.
        temperatures: temperatures of the measurements, as in stages.

    Raises:
        UsageError: a number is invalid.
    """

    world: str = TOWN
    user: str | None = None
    reward: str | None = None
    max_turns: int = 15
    max_tokens: int = 160
    model: str | None = None
    lessons: DialogueSource = field(default_factory=DialogueSource)
    schooling: ScratchSettings = field(default_factory=ScratchSettings)
    config: str = "tiny-cpu"
    learning_rate: float | None = None
    epochs: float | None = None
    then: Then = "none"
    rounds: int = 1
    tasks: int = 160
    beam: int = 8
    n: int = 8
    split: str = "test"
    held_out: int = 300
    goal_seed: int = TEST_SEED
    temperatures: tuple[Temperature, ...] = ("t1", "t0")

    def __post_init__(self) -> None:
        for name in ("rounds", "tasks", "beam", "n", "held_out", "max_turns", "max_tokens"):
            if getattr(self, name) < 1:
                flag = {"held_out": "heldout", "max_tokens": "reply-tokens"}.get(name, name.replace("_", "-"))
                raise UsageError(f"--{flag} is {getattr(self, name)}; give at least 1")

    def train_goals(self, number: int) -> range:
        """Train goals of a round, counted from 1. They follow those of the lessons.

        A JOSH harvest plays the first half. Rejection sampling begins with the same goals, and goes on for as long as
        tokens are left.
        """
        first = (0 if self.model else int(self.lessons.tasks)) + (number - 1) * 2 * self.tasks
        return range(first, first + 2 * self.tasks)

    def build(self) -> World:
        """The world."""
        return load(WORLD, self.world)

    def measured(self, world: World) -> Sequence[Task]:
        """Goals of the measurements."""
        known = world.tasks(world.check_split(self.split))
        drawn = Random(self.goal_seed).sample(range(len(known)), min(self.held_out, len(known)))
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

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON."""
        return asdict(self)
