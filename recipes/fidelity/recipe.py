"""Measure simulated users against people: how they talk, what they reveal, and how well they can be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread

from simkit.components.world import World
from simkit.core.out_files import check_out_file
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.plugins.extras import check_installed, require
from simkit.plugins.recipe import without_flags
from simkit.recipes.fidelity.comparing import Comparison, People, by_dialogue
from simkit.recipes.fidelity.dialogues import Dialogue, of_file, of_people, of_run
from simkit.recipes.fidelity.measures import measured
from simkit.recipes.fidelity.picture import draw
from simkit.recipes.judging.recorded import RecordedEpisodes
from simkit.run.choices import Split, Tasks, Variant
from simkit.run.choices import World as WorldName
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.search.rollout import Rollout


@without_flags("shard")
async def fidelity(
    run: Run,
    *,
    users: Annotated[list[str], "User simulator to measure, with options; repeat the flag for several."] = [],  # noqa: B006
    of: Annotated[list[str], "Run whose user is measured instead of playing one; repeat the flag for several."] = [],  # noqa: B006
    people: Annotated[
        Path | None, "Your own dialogues of people: JSON lines with task_id and messages. Default: the world's."
    ] = None,
    world: WorldName = "toolwoz",
    variant: Variant = None,
    split: Split = None,
    tasks: Tasks = "200",
    agent: Annotated[str | None, "Agent that the users talk to. Default: the world's."] = None,
    picture: Annotated[Path | None, "Draw a picture into this file (.png, .svg; extra `plots`)."] = None,
) -> Summary:
    """Measure simulated users against people: how they talk, what they reveal, and how well they can be told apart.

    Each user plays the tasks against the same agent. Its turns are compared with those of all people of the split: the
    means of ten measures with the 95% interval of their difference over dialogues, and the difference that two groups
    of people of the same size have by chance (floor). A star marks what is beyond both. A classifier that is fitted
    on some dialogues and tested on others says how well the user can be told from people. Values of each dialogue are
    stored (`from item_scores`).

    Examples:

        simkit run fidelity --users agenda --users script --tasks 200
        simkit run fidelity --users goal --user-model openai/NAME --tasks 100 --picture users.png
        simkit run fidelity --of RUN --people ours.jsonl
    """
    if not users and not of:
        raise UsageError("name what to measure: --users agenda (or goal with --user-model), or --of RUN")
    if picture is not None:
        check_out_file(picture, (".png", ".svg"))
        require("matplotlib", "plots")
    if picture is not None:
        check_installed("plots", "matplotlib")
    place = run.world(world, variant=variant)
    known = split or ("val" if "val" in place.splits else place.default_split("test"))
    every = run.tasks(place, known)
    by_id: Mapping[str, Task] = {task.id: task for task in every}
    said = of_people(every) if people is None else of_file(people, by_id)
    if not said:
        raise UsageError(
            f"the split {known} of {world} has no human dialogues; give --people FILE, or a world that has some "
            "(toolwoz)"
        )
    chosen = run.tasks(place, known, tasks)
    found: dict[str, tuple[Dialogue, ...]] = {}
    for number, user in enumerate(users):
        found[user] = await _played(run, place, chosen, user, agent, f"user{number}", by_id)
    for name in of:
        found[name] = of_run(await RecordedEpisodes.of(run, name), by_id)
    if empty := [name for name, dialogues in found.items() if not dialogues]:
        raise UsageError(f"`{empty[0]}` has no dialogue without a fault in which the user says anything")
    return await _reported(run, People(said, place.ontology, run.seed), found, picture)


async def _played(
    run: Run,
    world: World,
    tasks: Sequence[Task],
    user: str,
    agent: str | None,
    stage: str,
    by_id: Mapping[str, Task],
) -> tuple[Dialogue, ...]:
    """The dialogues of a user, played as a stage of the run."""
    run.progress.note = f"playing {user}"
    async with run.part(stage, recipe="fidelity", config={"user": user, "agent": agent}) as part:
        cast = await part.open_cast(world, agent=agent, user=user)
        await part.play(Rollout(), cast, tasks)
    return of_run(await RecordedEpisodes.of(run, part.id), by_id)


async def _reported(
    run: Run, people: People, found: Mapping[str, tuple[Dialogue, ...]], picture: Path | None
) -> Summary:
    def compare() -> tuple[list[Comparison], Any]:
        return [people.compare(name, dialogues) for name, dialogues in found.items()], people.told()

    run.progress.note = "comparing"
    comparisons, among_people = await anyio.to_thread.run_sync(compare)
    for name, dialogues in {"people": people.dialogues, **found}.items():
        for item, values in by_dialogue(measured(dialogues, people.ontology)).items():
            run.score_item(f"fidelity/{name}", item, trial=0, detail=None, **values)
    if picture is not None:
        await anyio.to_thread.run_sync(draw, comparisons, among_people, picture)
    figures: dict[str, Any] = {"people": f"{len(people.dialogues)} dialogues"}
    if among_people is not None:
        figures["people told from people"] = f"{among_people.accuracy}, AUC {among_people.auc:.3f}"
    for each in comparisons:
        figures |= _figures(each)
    return run.summary(**figures)


def _figures(found: Comparison) -> dict[str, Any]:
    told = found.told
    apart = "too few dialogues" if told is None else f"{told.accuracy}, AUC {told.auc:.3f}"
    rows = {f"{found.name}: {each.measure.name}": str(each) for each in found.differences}
    return {f"{found.name}: dialogues": found.dialogues, f"{found.name}: told from people": apart, **rows}
