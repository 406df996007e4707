"""`simkit import`: conversations of other programs, with their rewards, as a run in the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simkit.cli.output import say, say_json
from simkit.cli.program import program

if TYPE_CHECKING:
    from simkit.core.events import Event
    from simkit.store import Store


def import_file(path: Path | None, file: Path, name: str | None, score: str | None, full: float, as_json: bool) -> None:
    """Record the conversations of a file as a run, and say what it holds.

    Raises:
        UsageError: the file does not exist or cannot be read, or holds no conversations.
        StoreError: the store cannot be written.
    """
    from simkit import __version__
    from simkit.core.events import IMPORTED
    from simkit.data.conversation_files import read_conversations
    from simkit.data.imported import ImportedRun, run_events
    from simkit.run.request import new_run_id
    from simkit.run.settings import read_settings
    from simkit.store import Store
    from simkit.store.source import next_start

    found = read_conversations(file, score)
    store = Store(read_settings().store if path is None else path)
    run = ImportedRun(
        run_id=new_run_id(IMPORTED),
        name=name or file.stem,
        version=__version__,
        number=next_start(store.path),
        full_reward=full,
    )
    _record(store, run.run_id, list(run_events(found, run, str(file.absolute()))))
    rewards = [each.reward for each in found.conversations if each.reward is not None and each.error is None]
    average = sum(rewards) / len(rewards) if rewards else None
    if as_json:
        facts = {"format": found.format, "world": found.world, "model": found.model, "score": found.score}
        counts = {"episodes": len(found.conversations), "scored": len(rewards), "average_reward": average}
        say_json({"run": run.run_id, "name": run.name, **facts, **counts, "notes": found.notes})
        return
    scored = f"average {found.score} {average:.3f}" if average is not None else "none has a reward"
    say(f"{run.run_id}: {len(found.conversations)} conversations of {found.world} ({found.format}), {scored}")
    unscored = len(found.conversations) - len(rewards)
    if rewards and unscored:
        say(f"{unscored} have no reward and are left out of averages")
    for note in found.notes:
        say(note)
    say(f"Try: {program()} show {run.run_id}")


def _record(store: Store, run_id: str, events: list[Event]) -> None:
    import anyio

    async def write() -> None:
        async with store.journal(run_id) as journal:
            for event in events:
                journal.record(event)
            await journal.commit()

    anyio.run(write)
    store.load()
