"""Fine-tune a hosted model on the harvest through the OpenAI fine-tuning API: upload, start, follow, record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
import orjson

from simkit.data.examples import ExampleSet
from simkit.data.held_out import HeldOut, assert_clean_of
from simkit.data.openai_files import accepted, openai_rows
from simkit.data.reading import read_examples
from simkit.data.reasoning import holds_field, with_reasoning_as
from simkit.data.selection import Selection, select_with_state
from simkit.errors import UsageError
from simkit.plugins.recipe import without_flags
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.store import Reader
from simkit.training.fine_tuning import FineTuning, JobRequest, JobResult, Method

STAGE = "finetune"
CANCEL_SECONDS = 10.0
UNUSED = (
    *("model", "user_model", "user_base_url", "temperature", "user_temperature", "max_tokens", "user_max_tokens"),
    *("api_concurrency", "rpm", "tpm", "request_timeout", "max_retries", "max_cost", "max_tokens_total", "prices"),
    *("replay", "concurrency", "fail_fast", "max_faults", "ask_timeout"),
)
"""Run flags without effect here: no conversation is played."""


@without_flags(*UNUSED)
async def finetune(
    run: Run,
    *,
    base: Annotated[str, "The model to fine-tune, by the service's name."],
    method: Annotated[
        Literal["supervised", "dpo"], "Imitate golden conversations, or prefer golden answers to failed ones."
    ] = "supervised",
    data: Annotated[Path | None, "A file of examples, instead of --runs."] = None,
    runs: Annotated[list[str] | None, "Runs whose harvest is used; the last one by default."] = None,
    source: Annotated[Literal["golden", "episodes"], "The harvest of trees, or final conversations."] = "golden",
    where: Annotated[str | None, "Filter for episodes: SQL over `episode_facts`."] = None,
    max_per_task: Annotated[int | None, "Maximum number of examples per task."] = None,
    limit: Annotated[int | None, "Maximum number of examples."] = None,
    reasoning: Annotated[
        Literal["inline", "drop"] | None,
        "Reasoning of answers: `inline` in tags before the text, or `drop`. The API has no field for it, so by default "
        "it is left out; the text of a file is used as it is.",
    ] = None,
    allow_incomplete: Annotated[
        bool, "Use readable data of unfinished runs and of journals with unreadable lines."
    ] = False,
    clean_of: Annotated[str | None, "WORLD:SPLIT whose tasks must not be in the data, e.g. toolwoz:test."] = None,
    epochs: Annotated[int | None, "Number of passes over the data; default: the service's."] = None,
    batch_size: Annotated[int | None, "Examples per step; default: the service's."] = None,
    learning_rate_multiplier: Annotated[float | None, "Factor for the service's learning rate."] = None,
    beta: Annotated[float | None, "For dpo: penalty for deviating from the base model."] = None,
    suffix: Annotated[str | None, "Part of the new model's name, at most 64 characters."] = None,
    poll: Annotated[float, "Maximum seconds between two status requests."] = 30.0,
    cancel_on_stop: Annotated[bool, "Cancel the job when the run is stopped; by default it continues."] = False,
) -> Summary:
    """Fine-tune a model through the OpenAI fine-tuning API, and record the job, its losses and the new model's name.

    The examples are validated before anything is uploaded. A run has one job: resumed after a crash, it finds its job
    and follows it, so nothing is paid twice. The key is read from OPENAI_API_KEY and never recorded. --base-url names
    another service with the same API.

    Examples:

        simkit run finetune --base gpt-4.1-mini-2025-04-14 --runs harvest --clean-of toolwoz:test
        simkit run finetune --base gpt-4.1-mini-2025-04-14 --method dpo --data dpo.jsonl --epochs 2
    """
    chosen = Selection(
        runs=tuple(runs or ("last",)),
        source=source,
        where=where,
        max_per_task=max_per_task,
        limit=limit,
        reasoning=reasoning or "keep",
    )
    request = JobRequest(
        run_id=run.id,
        model=base,
        method=method,
        n_epochs=epochs,
        batch_size=batch_size,
        learning_rate_multiplier=learning_rate_multiplier,
        beta=beta,
        suffix=suffix,
        seed=run.seed % 2**31,
    )
    examples = partial(_examples, run, method, data, chosen, clean_of, allow_incomplete)
    async with FineTuning(run.models.base_url, poll=poll) as service:
        outcome = await _Job(run, service, cancel_on_stop).to_the_end(request, examples)
    return _summary(run, outcome)


def _examples(
    run: Run, method: Method, data: Path | None, chosen: Selection, clean_of: str | None, allow_incomplete: bool
) -> ExampleSet:
    kind = "sft" if method == "supervised" else "dpo"
    with run.store.reading(allow_incomplete=allow_incomplete) as reader:
        if data is None:
            examples, state = select_with_state(reader, kind, _before(run, reader, chosen), finished=True)
            run.note(*state.notes, *state.shortfalls)
        else:
            examples = read_examples(data)
            examples = examples if chosen.reasoning == "keep" else with_reasoning_as(examples, chosen.reasoning)
        if examples.kind != kind:
            raise UsageError(f"{data} holds {examples.kind} examples; the method {method} learns from {kind} examples")
        if clean_of is not None:
            assert_clean_of(examples, HeldOut.read(clean_of), reader)
    if lost := sum(map(holds_field, examples)):
        run.note(f"the reasoning in the answers of {lost} examples is left out; --reasoning inline writes it into them")
    return accepted(examples)


def _before(run: Run, reader: Reader, chosen: Selection) -> Selection:
    """`last` means the last run before this one."""
    if "last" not in chosen.runs:
        return chosen
    older = [each.run_id for each in reader.runs() if each.run_id != run.id and each.episodes and not each.part_of]
    if not older:
        raise UsageError(f"there is no run with episodes in {run.store.path}; harvest first, or give --data FILE")
    runs = tuple(older[-1] if name == "last" else name for name in chosen.runs)
    return replace(chosen, runs=runs)


@dataclass(frozen=True, slots=True)
class _Job:
    """The job of a run."""

    run: Run
    service: FineTuning
    cancel_on_stop: bool

    async def to_the_end(self, request: JobRequest, examples: Callable[[], ExampleSet]) -> JobResult:
        """Start the job or find it again, and follow it. Examples are selected only if it was not started."""
        job_id = await self._recorded("job") or await self._started(request, examples)
        self._note("info", f"following {job_id}")
        try:
            return await self.service.follow(job_id, self._note, self._measured)
        except anyio.get_cancelled_exc_class():
            await self._stopped(job_id)
            raise

    async def _started(self, request: JobRequest, examples: Callable[[], ExampleSet]) -> str:
        job = await self.service.find(request.run_id)
        if job is None:
            file = await self._recorded("file") or await self._uploaded(request, examples)
            job = await self.service.start(request, file)
        return await self._record("job", str(job.id))

    async def _uploaded(self, request: JobRequest, examples: Callable[[], ExampleSet]) -> str:
        self._note("info", "uploading the examples")
        found = await anyio.to_thread.run_sync(examples)
        content = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in openai_rows(found))
        file = await self.service.upload(content, f"{request.run_id}.jsonl")
        return await self._record("file", file, examples=len(found), bytes=len(content))

    async def _record(self, item: str, name: str, **more: int) -> str:
        """Record an id before it is used."""
        self.run.score_item(STAGE, item, detail={"id": name, **more}, made=1.0)
        await self._recorded(item)
        return name

    async def _recorded(self, item: str) -> str | None:
        rows = (await self.run.query(_IDS, self.run.id, STAGE, item, runs=(self.run.id,))).rows
        return str(rows[0][0]) if rows else None

    def _note(self, level: str, message: str) -> None:
        self.run.progress.note = message if level == "info" else f"{level}: {message}"

    def _measured(self, step: int, numbers: Mapping[str, float]) -> None:
        self.run.measure(STAGE, step, **numbers)

    async def _stopped(self, job_id: str) -> None:
        """Handle the run's stop: cancel the job if requested, and report its fate."""
        self.run.summary(job=job_id, job_status=f"goes on at the service; simkit resume {self.run.id} follows it")
        if self.cancel_on_stop:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CANCEL_SECONDS) as waited:
                await self.service.cancel(job_id)
            gone = "cancelled" if not waited.cancelled_caught else "may still go on: cancelling it took too long"
            self.run.summary(job=job_id, job_status=gone)


_IDS = "select detail ->> 'id' from item_scores where run_id = ? and suite = ? and item = ?"


def _summary(run: Run, outcome: JobResult) -> Summary:
    values: dict[str, Any] = {
        "job": outcome.job,
        "job_status": outcome.status,
        "model": outcome.model,
        "trained_tokens": outcome.trained_tokens,
    }
    for checkpoint in outcome.checkpoints:
        run.score_item(STAGE, f"checkpoint {checkpoint['step']}", detail=checkpoint, step=float(checkpoint["step"]))
    if outcome.status != "succeeded":
        run.summary(**values)
        reason = f": {outcome.error}" if outcome.error else ""
        raise UsageError(
            f"the job {outcome.job} {outcome.status}{reason}; correct the data or the choices and start a new run"
        )
    return run.summary(**values)
