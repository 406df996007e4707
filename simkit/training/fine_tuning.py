"""Client of the OpenAI fine-tuning API and compatible services: upload files, start a job once, follow it.

A job costs money, so it is never started twice for the same run. It carries the run's id in its metadata, and callers
look it up before they create one. This also works after a killed process or a lost response.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import anyio

from simkit.errors import AuthFailed, EndpointDown, QuotaExhausted, RunStopped, UsageError
from simkit.plugins.extras import require

Method: TypeAlias = Literal["supervised", "dpo"]

Said: TypeAlias = Callable[[str, str], None]
"""Callback for the level and the message of an event."""
Measured: TypeAlias = Callable[[int, Mapping[str, float]], None]
"""Callback for the metrics of a step."""

RUN = "simkit_run"
HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")
OVER = frozenset({"succeeded", "failed", "cancelled"})
FIRST_PAUSE = 1.0
GROWTH = 1.5
PAGE = 100
RETRY_PAUSES = (0.2, 1.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """Request for a fine-tuning job. None leaves a choice to the service.

    Attributes:
        run_id: the run that the job belongs to, and by which it is found again.
        model: the base model, e.g. `gpt-4.1-mini-2025-04-14`.
        n_epochs, batch_size, learning_rate_multiplier, beta: hyperparameters; `beta` only of `dpo`.
        suffix: a part of the new model's name, at most 64 characters.
        seed: passed to the service.

    Raises:
        UsageError: the suffix is too long, a number is not above 0, or `beta` is given for another method.
    """

    run_id: str
    model: str
    method: Method
    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None
    suffix: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.suffix is not None and len(self.suffix) > 64:
            raise UsageError(f"the suffix has {len(self.suffix)} characters; the service takes at most 64")
        if self.beta is not None and self.method != "dpo":
            raise UsageError("beta applies only to the method dpo; omit it, or use --method dpo")
        for name, value in self._given(*HYPERPARAMETERS).items():
            if value <= 0:
                raise UsageError(
                    f"{name.removeprefix('n_')} is {value}; it must be positive (omit it for the service's default)"
                )

    def to_openai(self) -> dict[str, Any]:
        """The body of the request, without the files."""
        made = self._given(*HYPERPARAMETERS)
        return {
            "model": self.model,
            "method": {"type": self.method, self.method: {"hyperparameters": made} if made else {}},
            "metadata": {RUN: self.run_id},
            **self._given("suffix", "seed"),
        }

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, slots=True)
class JobResult:
    """Result of a job: its id, final status, new model, and billed tokens."""

    job: str
    status: str
    model: str | None = None
    trained_tokens: int | None = None
    error: str | None = None
    checkpoints: tuple[Mapping[str, Any], ...] = ()


class FineTuning:
    """A client of the fine-tuning API, with the key in OPENAI_API_KEY. `async with` closes its connections.

    Args:
        base_url: URL of the service; None for `OPENAI_BASE_URL`, else OpenAI.
        poll: maximum seconds between two status requests; the first ones come sooner.

    Raises:
        UsageError: the extra `finetune` is not installed.
        AuthFailed: there is no key.
    """

    def __init__(self, base_url: str | None = None, *, poll: float = 30.0) -> None:
        self._openai = require("openai", "finetune")
        self._poll = poll
        try:
            self._client = self._openai.AsyncOpenAI(base_url=base_url, max_retries=5)
        except self._openai.OpenAIError as error:
            raise AuthFailed("there is no key for the fine-tuning API; set OPENAI_API_KEY") from error

    async def __aenter__(self) -> FineTuning:
        return self

    async def __aexit__(self, *raised: object) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(2):
            await self._client.close()

    async def start(self, request: JobRequest, training_file: str) -> Any:
        """Create the job. If the response is lost, look for the job before trying again.

        Raises:
            UsageError: the service refuses the request.
            RunStopped: the service cannot be reached or refuses the key, or the account's quota is exhausted.
        """
        wanted = request.to_openai() | {"training_file": training_file}
        unsure = (self._openai.APIConnectionError, self._openai.InternalServerError)
        once = self._client.with_options(max_retries=0)
        for pause in RETRY_PAUSES:
            try:
                async with self._converted_errors("starting the job", besides=unsure):
                    return await once.fine_tuning.jobs.create(**wanted)
            except unsure:
                await anyio.sleep(pause)
                found = await self.find(request.run_id)
                if found is not None:
                    return found
        async with self._converted_errors("starting the job"):
            return await once.fine_tuning.jobs.create(**wanted)

    async def find(self, run_id: str) -> Any | None:
        """The job of a run; None if there is none."""
        async with self._converted_errors("looking for the run's job"):
            page = await self._client.fine_tuning.jobs.list(limit=PAGE, extra_query={f"metadata[{RUN}]": run_id})
            jobs: list[Any] = [job for job in page.data if _run_of(job) == run_id]
        return jobs[0] if jobs else None

    async def upload(self, content: bytes, name: str) -> str:
        """Upload a file for fine-tuning and return its id.

        Raises:
            UsageError, RunStopped: as in `start`.
        """
        async with self._converted_errors(f"uploading {name}"):
            file = await self._client.files.create(file=(name, content), purpose="fine-tune")
        return str(file.id)

    async def follow(self, job_id: str, said: Said, measured: Measured) -> JobResult:
        """Poll a job until it ends, and report its events.

        Raises:
            UsageError: the service does not know the job.
            RunStopped: the service cannot be reached, or refuses the key.
        """
        heard: set[str] = set()
        pause = min(FIRST_PAUSE, self._poll)
        while True:
            async with self._converted_errors(f"following {job_id}"):
                job = await self._client.fine_tuning.jobs.retrieve(job_id)
                events = await self._events(job_id, heard)
            for event in events:
                said(str(event.level), str(event.message))
                if metrics := _metrics(event.data):
                    measured(*metrics)
            if job.status in OVER:
                return await self._outcome(job)
            pause = min(self._poll, pause * GROWTH) if not events else min(pause, self._poll)
            await anyio.sleep(pause)

    async def cancel(self, job_id: str) -> None:
        """Cancel a job.

        Raises:
            UsageError, RunStopped: as in `follow`.
        """
        async with self._converted_errors(f"cancelling {job_id}"):
            await self._client.fine_tuning.jobs.cancel(job_id)

    async def _events(self, job_id: str, heard: set[str]) -> list[Any]:
        """New events, oldest first; the service lists the newest first."""
        new: list[Any] = []
        async for event in self._client.fine_tuning.jobs.list_events(job_id, limit=PAGE):
            if event.id in heard:
                break
            new.append(event)
        heard.update(event.id for event in new)
        return new[::-1]

    async def _outcome(self, job: Any) -> JobResult:
        checkpoints: list[Mapping[str, Any]] = []
        if job.status == "succeeded":
            async with self._converted_errors(f"reading the checkpoints of {job.id}"):
                async for one in self._client.fine_tuning.jobs.checkpoints.list(job.id):
                    checkpoints.append({"model": one.fine_tuned_model_checkpoint, "step": one.step_number})
        error = job.error.message if job.error is not None else None
        return JobResult(job.id, job.status, job.fine_tuned_model, job.trained_tokens, error, tuple(checkpoints))

    @asynccontextmanager
    async def _converted_errors(self, doing: str, besides: tuple[type[Exception], ...] = ()) -> AsyncGenerator[None]:
        """Convert the package's errors to simkit's; those in `besides` pass unchanged."""
        api = self._openai
        try:
            yield
        except besides:
            raise
        except (api.AuthenticationError, api.PermissionDeniedError) as error:
            raise AuthFailed(f"{doing}: the service refuses the key ({_said(error)}); check OPENAI_API_KEY") from error
        except api.RateLimitError as error:
            if getattr(error, "code", None) == "insufficient_quota":
                raise QuotaExhausted(f"{doing}: the account's quota is exhausted ({_said(error)})") from error
            raise RunStopped(f"{doing}: too many requests ({_said(error)}); resume the run later") from error
        except (api.APIConnectionError, api.InternalServerError) as error:
            raise EndpointDown(
                f"{doing}: {self._client.base_url} does not answer ({_said(error)}); a started job continues; "
                "resume the run to follow it"
            ) from error
        except api.APIStatusError as error:
            raise UsageError(f"{doing}: the service refuses the request ({_said(error)}); fix what it names") from error


def _run_of(job: Any) -> str:
    """The run that a job was started for; empty if simkit did not start it."""
    return str(job.metadata[RUN]) if job.metadata and RUN in job.metadata else ""


def _said(error: Any) -> str:
    """The service's message, without the package's formatting."""
    said = _fields(getattr(error, "body", None)).get("message")
    return said if isinstance(said, str) else str(error)


def _metrics(data: Any) -> tuple[int, Mapping[str, float]] | None:
    """The step and the numbers of an event; None if it has none."""
    found = _fields(data)
    step, named = found.pop("step", None), {name: each for name, each in found.items() if name != "total_steps"}
    numbers = {name: float(each) for name, each in named.items() if type(each) in (int, float)}
    return (step, numbers) if isinstance(step, int) and numbers else None


def _fields(data: Any) -> dict[str, Any]:
    return dict(data) if hasattr(data, "items") else {}
