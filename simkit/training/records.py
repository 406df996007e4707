"""The records of a training beside the model it made: what was asked, how far it is, and what came of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from simkit.errors import UsageError
from simkit.training.dev import DevScore
from simkit.training.jobs import RECORDS, Trained

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Records:
    """The folder `training` within a trained model's."""

    folder: Path

    @classmethod
    def open(cls, out: Path, asked: Mapping[str, Any]) -> Records:
        """The records of the training that writes to `out`, begun now or before; `asked` is its job as JSON.

        Raises:
            UsageError: the folder holds something else.
        """
        records = cls(out / RECORDS)
        if not records.asked.exists():
            _refuse_full(out)
            records.checkpoints.mkdir(parents=True, exist_ok=True)
            _write(records.asked, asked)
            return records
        before = orjson.loads(records.asked.read_bytes())
        differing = sorted(name for name in asked.keys() | before.keys() if asked.get(name) != before.get(name))
        if differing:
            raise UsageError(
                f"{out} holds a model that was trained otherwise ({', '.join(differing)} differ); "
                "name another folder, or remove this one first"
            )
        return records

    @property
    def asked(self) -> Path:
        """What the training was asked."""
        return self.folder / "job.json"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are while it trains."""
        return self.folder / "checkpoints"

    @property
    def curve(self) -> Path:
        """The picture of its loss and of what the guard saw."""
        return self.folder / "loss.png"

    def result(self) -> Trained | None:
        """What came of it, None while it is not done."""
        file = self.folder / "trained.json"
        return Trained.from_json(orjson.loads(file.read_bytes())) if file.exists() else None

    def finish(self, trained: Trained) -> None:
        """It is done: keep the result, and let the checkpoints go."""
        _write(self.folder / "trained.json", trained.to_json())
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def checkpoint(self, step: int) -> Path:
        """The checkpoint of a step."""
        return self.checkpoints / f"checkpoint-{step}"

    def last_checkpoint(self) -> str | None:
        """The newest complete checkpoint, for trainers to go on from."""
        steps = [step for step in self._steps() if (self.checkpoint(step) / "trainer_state.json").exists()]
        return str(self.checkpoint(max(steps))) if steps else None

    def forget(self, keep: Iterable[int]) -> None:
        """Remove the checkpoints of all other steps."""
        kept = set(keep)
        for step in self._steps():
            if step not in kept:
                shutil.rmtree(self.checkpoint(step), ignore_errors=True)

    def seen(self) -> dict[int, DevScore]:
        """What the guard saw before the training was interrupted."""
        file = self.folder / "guard.json"
        found: Mapping[str, Any] = orjson.loads(file.read_bytes()) if file.exists() else {}
        return {int(step): DevScore(**values) for step, values in found.items()}

    def keep_seen(self, seen: Mapping[int, DevScore]) -> None:
        """Keep what the guard saw."""
        _write(self.folder / "guard.json", {str(step): score.to_json() for step, score in seen.items()})

    def _steps(self) -> list[int]:
        found = (_CHECKPOINT.fullmatch(path.name) for path in self.checkpoints.glob("checkpoint-*"))
        return sorted(int(match[1]) for match in found if match)


def _refuse_full(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty and holds no training of ours; name another folder for the trained model")


def _write(path: Path, value: Any) -> None:
    """All of it or nothing, whatever kills us."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))
    unfinished.replace(path)
