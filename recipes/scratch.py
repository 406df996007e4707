"""Make a tiny model from nothing, so that everything about models can be tried without a download."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import anyio.from_thread

from simkit.core.limits import Limits
from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.plugins.extras import check_installed
from simkit.plugins.recipe import without_flags
from simkit.run.run import Run
from simkit.run.stages import PartOf
from simkit.run.summary import Summary
from simkit.search.rollout import Rollout
from simkit.training.jobs import OnMetrics, TrainingMetrics
from simkit.training.scratch import DEMONSTRATOR, TOWN, ScratchSettings, bootstrap

LESSONS, CHECK = "lessons", "check"
AT_ONCE, MAX_TURNS, REPLY_TOKENS = 128, 15, 160
UNUSED = (
    *("model", "user_model", "base_url", "user_base_url", "temperature", "user_temperature", "max_tokens"),
    *("user_max_tokens", "api_concurrency", "rpm", "tpm", "request_timeout", "max_retries", "max_cost"),
    *("max_tokens_total", "prices", "replay"),
)


@without_flags(*UNUSED)
async def scratch(
    run: Run,
    *,
    out: Annotated[Path, "Folder for the model, to be played as local/FOLDER."],
    world: Annotated[str, "World of the dialogues. The model knows no other one."] = TOWN,
    demonstrator: Annotated[str, "Agent whose dialogues the model learns from, with its mistakes."] = DEMONSTRATOR,
    tasks: Annotated[int, "Number of dialogues, on the first tasks of the split `train`."] = 3000,
    steps: Annotated[int, "Optimizer steps, of 8 dialogues each."] = 1400,
    check: Annotated[int, "Tasks of the split `val` that the new model plays."] = 100,
) -> Summary:
    """Make a tiny model from nothing: a scripted agent plays, and a new model of 0.5 million parameters learns from it.

    Neither a download nor an API key is needed, and it takes two minutes on one core. The report has the scores of
    both, by name: those of the demonstrator, who makes mistakes and has a bad habit, and those of the model, which has
    learnt them. Harvests and trainings can then improve it; use the same --world and other tasks for them.

    Examples:

        simkit run scratch --out base
        simkit run rollout --model local/base --temperature 0 --split val --tasks 50 --world WORLD
        simkit run scratch --out quick --tasks 600 --steps 200 --check 20
    """
    check_installed("local", "torch", "transformers")
    for flag, value in (("tasks", tasks), ("steps", steps), ("check", check)):
        if value < 1:
            raise UsageError(f"--{flag} is {value}; give at least 1")
    await _refuse_full(run, out)
    settings = ScratchSettings(world=world, demonstrator=demonstrator, tasks=str(tasks), steps=steps)
    counts = await make_model(run, out, settings, partial(setattr, run.progress, "note"))
    scores = {f"model_success_at_t{label}": await _checked(run, out, world, check, label) for label in (1, 0)}
    shown = ("dialogues", "parameters", "vocabulary", "steps", "loss")
    return run.summary(
        model=f"local/{out}",
        world=world,
        **{name: counts[name] for name in shown},
        demonstrator_success=counts["success_rate"],
        **scores,
    )


async def make_model(
    run: Run, out: Path, settings: ScratchSettings, tell: Callable[[str], object]
) -> Mapping[str, Any]:
    """Make a model in a stage of `run`, unless that is done, and return the stage's summary.

    Raises:
        UsageError: a name or a choice of tasks cannot be used.
    """
    if await run.finished(LESSONS) is None:
        tell(LESSONS)
        async with run.part(LESSONS, recipe="bootstrap", models=ModelConfig()) as part:
            await bootstrap(part, out, settings, reporter(part, LESSONS, tell))
    return await run.finished(LESSONS) or {}


def reporter(part: Run, stage: str, tell: Callable[[str], object]) -> OnMetrics:
    """Callback that sends the metrics of a training, which runs in a thread, to the store and to the screen."""

    def report(metrics: TrainingMetrics) -> None:
        anyio.from_thread.run_sync(partial(part.measure, metrics.stage, metrics.step, **metrics.values))
        tell(f"{stage} {metrics}")

    return report


async def _refuse_full(run: Run, out: Path) -> None:
    """Refuse a folder with other contents, unless this run has begun to fill it.

    Raises:
        UsageError: the folder is not empty, or a file.
    """
    folder = anyio.Path(out)
    if PartOf(run.id, LESSONS).begun(run.store) is not None or not await folder.exists():
        return
    if not await folder.is_dir() or [each async for each in folder.iterdir()]:
        raise UsageError(f"{out} exists already; give --out a new folder, or remove that one first")


async def _checked(run: Run, out: Path, world: str, tasks: int, temperature: int) -> Any:
    """The model's success on tasks of `val`, as an interval."""
    stage = f"{CHECK}-t{temperature}"
    if await run.finished(stage) is None:
        models = run.models.model_copy(
            update={"model": f"local/{await anyio.Path(out).absolute()}", "temperature": float(temperature)}
        )
        async with run.part(stage, recipe="rollout", models=models, concurrency=AT_ONCE) as part:
            place = part.world(world)
            cast = await part.open_cast(place, options=ModelConfig(max_tokens=REPLY_TOKENS))
            await part.play(Rollout(Limits(turns=MAX_TURNS)), cast, part.tasks(place, "val", str(tasks)))
    return (await run.finished(stage) or {}).get("success_rate")
