"""Training: examples and a model in, a better model out, with checkpoints, a guard and a curve.

    trained = train(TrainingJob(method="sft", model="model", examples=chosen, preset=preset("tiny", "sft"), out=out))

`train` blocks; `train_aside` (simkit.training.aside) does the same in a process of its own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.training import backend
from simkit.training.curves import draw
from simkit.training.jobs import Metrics, OnMetrics, Trained, TrainingJob
from simkit.training.records import Records
from simkit.training.rows import Rows, tokenised
from simkit.training.watching import Watcher

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat
    from simkit.training.presets import Preset


class Written(Protocol):
    """What `write_model` reads of a job."""

    @property
    def model(self) -> str:
        """The model that was trained."""
        ...

    @property
    def preset(self) -> Preset:
        """Its settings."""
        ...

    @property
    def out(self) -> Path:
        """Where the trained one is written to."""
        ...

    @property
    def keep_adapter(self) -> bool:
        """Whether the adapter is kept beside the merged weights."""
        ...


def unheard(metrics: Metrics) -> None:
    """Nobody is told."""


def train(job: TrainingJob, on_metrics: OnMetrics = unheard) -> Trained:
    """Train, and write the model to `job.out`.

    A training that was killed goes on from its last checkpoint when it is asked for again; one that is done is not
    done again. The same job gives the same weights on one machine's CPU.

    Raises:
        UsageError: a library, the model or usable examples are missing, or the folder holds something else.
    """
    records = Records.open(job.out, job.described())
    done = records.result()
    if done is not None:
        return done
    began = time.monotonic()
    with backend.quiet():
        form = open_form(job.model)
        rows = tokenised(job.examples, form, job.preset, job.seed)
        watcher = Watcher(job.guard, form, records, on_metrics)
        model = backend.load_model(job.model, job.preset)
        tuner = _tuner(job, model, rows, watcher, form.tokenizer)
        tuner.train(resume_from_checkpoint=records.last_checkpoint())
        history: list[Mapping[str, Any]] = list(tuner.state.log_history)
        steps = int(tuner.state.global_step)
        kept = watcher.kept(steps)
        del tuner, model
        write_model(job, records.checkpoint(kept) if kept else None, form.tokenizer)
    trained = _trained(job, rows, watcher, history, steps=steps, kept=kept, seconds=time.monotonic() - began)
    draw(history, watcher.seen, records.curve, kept=kept)
    records.finish(trained)
    return trained


def open_form(model: str) -> ChatFormat:
    """How the model writes conversations; a tokenizer without padding pads with its end."""
    from simkit.local.chat import ChatFormat

    form = ChatFormat.of(model)
    if form.tokenizer.pad_token is None:
        form.tokenizer.pad_token = form.tokenizer.eos_token
    return form


def _tuner(job: TrainingJob, model: Any, rows: Rows, watcher: Watcher, tokenizer: Any) -> Any:
    save_every = job.guard.every if job.guard else job.preset.save_every
    settings = backend.arguments(job.preset, watcher.records.checkpoints, job.seed, save_every)
    return backend.trainer(
        job.method,
        model,
        rows.rows,
        settings,
        job.preset,
        processing_class=tokenizer,
        callbacks=[watcher.callback()],
    )


def write_model(job: Written, checkpoint: Path | None, tokenizer: Any) -> None:
    """Write a checkpoint (None: the model that training began with) as a model that can be loaded, adapters merged."""
    transformers = require("transformers", backend.EXTRA)
    load = transformers.AutoModelForCausalLM.from_pretrained
    if checkpoint is None:
        model = load(job.model, dtype="auto")
    elif job.preset.lora_rank:
        base = load(job.model, dtype="auto")
        model = require("peft", backend.EXTRA).PeftModel.from_pretrained(base, str(checkpoint)).merge_and_unload()
        if job.keep_adapter:
            _copy_adapter(checkpoint, job.out / "adapter")
    else:
        model = load(str(checkpoint), dtype="auto")
    model.save_pretrained(str(job.out))
    tokenizer.save_pretrained(str(job.out))


def _copy_adapter(checkpoint: Path, out: Path) -> None:
    out.mkdir(exist_ok=True)
    for file in checkpoint.glob("adapter_*"):
        shutil.copy2(file, out)


def _trained(
    job: TrainingJob,
    rows: Rows,
    watcher: Watcher,
    history: Sequence[Mapping[str, Any]],
    *,
    steps: int,
    kept: int,
    seconds: float,
) -> Trained:
    losses = [float(each["loss"]) for each in history if "loss" in each]
    if not losses:
        raise UsageError("the training made no step; give more examples, epochs or steps")
    tenth = max(1, len(losses) // 10)
    return Trained(
        path=job.out,
        method=job.method,
        steps=steps,
        kept=kept,
        examples=len(rows.rows),
        too_long=rows.too_long,
        tokens=rows.tokens,
        learned=rows.learned,
        loss_start=sum(losses[:tenth]) / tenth,
        loss_end=sum(losses[-tenth:]) / tenth,
        stopped=watcher.stopped,
        seconds=round(seconds, 3),
        guard={step: score.to_json() for step, score in watcher.seen.items()},
    )
