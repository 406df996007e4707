"""Training of a model by TRL, with a guard and records.

    settings = load_config("tiny-cpu", "sft")
    trained = train(TrainingJob(method="sft", model="base", config=settings, examples=chosen, out=Path("tuned")))

`train` blocks; `train_in_process` (simkit.training.launch) does the same in child processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from simkit.data.examples import ExampleSet
from simkit.errors import UsageError
from simkit.local.chat import ChatFormat
from simkit.local.gguf import model_folder
from simkit.plugins.extras import require
from simkit.statistics.scores import mean
from simkit.training import trl_setup
from simkit.training.callbacks import TrainerCallbacks
from simkit.training.grpo import GrpoPractice, practice_rows
from simkit.training.jobs import TrainingFolder, TrainingJob, TrainingResult
from simkit.training.process import Ask
from simkit.training.rows import TrainingRows, training_rows
from simkit.training.trl_setup import TrlSettings


def train(job: TrainingJob, ask: Ask = lambda _: None) -> TrainingResult:
    """Train, and write the model to `job.out`.

    A killed training continues from its last checkpoint when it is started again; a finished one is not repeated. The
    same job gives the same weights on the CPU of one machine.

    Args:
        job: what to train.
        ask: called with the metrics of each logged step (`TrainingMetrics`), by the first process alone, and with the
            requests of the guard and of grpo for conversations (`WithPolicy`), which it answers.

    Raises:
        UsageError: a library, the model or usable examples are missing, a setting cannot be used, the folder has other
            contents, or other processes take part than the job asks for.
    """
    with warnings.catch_warnings(action="ignore"):
        settings = trl_setup.read_settings(job)
        check_ranks(job, settings.args)
        with settings.args.main_process_first(local=False):
            folder = TrainingFolder.open(job.out, job.described())
        return folder.result() or _Training(job, settings, folder, ask).run()


def check_ranks(job: TrainingJob, args: Any) -> None:
    """Check that as many processes take part as the job asks for.

    Raises:
        UsageError: there are more or fewer.
    """
    found = int(args.world_size)
    if job.ranks is not None and found != job.ranks:
        raise UsageError(
            f"the training was asked to run in {job.ranks} processes, and takes part in a group of {found}; check the "
            "launcher and its settings (`accelerate launch --num_processes N`, `torchrun --nproc_per_node N`; on CPUs "
            "ACCELERATE_USE_CPU=true with torchrun)"
        )


@dataclass(frozen=True, slots=True)
class _Training:
    """One attempt of a training in one process."""

    job: TrainingJob
    settings: TrlSettings
    folder: TrainingFolder
    ask: Ask

    def run(self) -> TrainingResult:
        job, args = self.job, self.settings.args
        chat = ChatFormat.of(job.model, job.template_kwargs)
        rows = practice_rows(job, args, chat) if job.examples is None else self._rows(job.examples, chat)
        form = rows.chat
        evaluation = self._rows(job.evaluation, form).rows if job.evaluation else ()
        practice = GrpoPractice(form, self.ask) if job.practice else None
        tokenizer = deepcopy(form.tokenizer)  # the trainer may change it
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        watcher = TrainerCallbacks.of(job.guard, form, self.folder, self.ask)
        own = {"processing_class": tokenizer, "callbacks": [watcher]}
        own |= practice.trainer_arguments() if practice else {}
        trainer = trl_setup.build_trainer(job, self.settings, rows.rows, evaluation, **own)
        check_parallelism(job, trainer)
        trainer.train(resume_from_checkpoint=self.folder.last_checkpoint())
        steps = int(trainer.state.global_step)
        kept = watcher.kept(steps)
        self._write(trainer, form, kept)
        return self._finished(
            trainer.state.log_history,
            watcher,
            steps=steps,
            kept=kept,
            form=rows.form,
            too_long=rows.too_long,
            **(practice.counts(args) if practice else _counts(rows)),
        )

    def _rows(self, examples: ExampleSet, chat: ChatFormat) -> TrainingRows:
        return training_rows(examples, chat, max_length=self.settings.args.max_length, seed=self.job.seed)

    def _write(self, trainer: Any, form: ChatFormat, kept: int) -> None:
        """Write the kept weights as a loadable model, with adapters merged; the adapter stays in `adapter`."""
        out, adapter, peft = str(self.job.out), str(self.job.out / "adapter"), self.settings.model.use_peft
        if kept:
            trainer.save_model(adapter if peft else out)
        if self.settings.args.process_index == 0:
            if peft or not kept:
                load = require("transformers", "train").AutoModelForCausalLM.from_pretrained
                base = load(model_folder(self.job.model), dtype="auto")
                merge = require("peft", "train").PeftModel.from_pretrained
                (merge(base, adapter).merge_and_unload() if kept else base).save_pretrained(out)
            form.tokenizer.save_pretrained(out)
            if self.settings.args.push_to_hub:
                _push(trainer, out)
        trainer.accelerator.wait_for_everyone()

    def _finished(
        self, history: Sequence[Mapping[str, Any]], watcher: TrainerCallbacks, **result: Any
    ) -> TrainingResult:
        """Write the result of a finished training.

        Raises:
            UsageError: the training made no step.
        """
        metric = "reward" if self.job.method == "grpo" else "loss"
        values = [float(each[metric]) for each in history if metric in each]
        if not values:
            raise UsageError("the training made no step; give more steps, or more examples or epochs")
        tenth = max(1, len(values) // 10)
        trained = TrainingResult(
            path=self.job.out,
            method=self.job.method,
            loss_start=mean(values[:tenth]),
            loss_end=mean(values[-tenth:]),
            stopped=watcher.stopped,
            guard=watcher.seen,
            **result,
        )
        if self.settings.args.process_index == 0:
            self.folder.finish(trained)
        return trained


def check_parallelism(job: TrainingJob, trainer: Any) -> None:
    """Check that each process holds whole weights, if conversations are played with them.

    Raises:
        UsageError: the weights are divided among processes.
    """
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    divided = trainer.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3)
    if divided and (job.guard is not None or job.method == "grpo"):
        raise UsageError(
            "FSDP and ZeRO-3 divide the weights among processes, so the model in training cannot play conversations; "
            "train without a guard (--guard none), or with DDP or ZeRO-2"
        )


def _counts(rows: TrainingRows) -> dict[str, int]:
    return {"examples": len(rows.rows), "tokens": rows.tokens, "learned": rows.learned}


def _push(trainer: Any, out: str) -> None:
    """Upload the trained model to the Hugging Face hub, as `push_to_hub` asks."""
    require("huggingface_hub", "train").upload_folder(
        repo_id=trainer.hub_model_id,
        folder_path=out,
        ignore_patterns=["checkpoint-*/*", "training/*"],
        commit_message="End of training",
        token=trainer.args.hub_token,
    )
