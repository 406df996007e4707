"""Batched generation: each forward pass generates the next token of every waiting conversation.

Conversations join and leave between passes, so a batch never waits for its longest reply. An engine has no threads of
its own; its owner calls it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from simkit.errors import ContextTooLong, UsageError
from simkit.local.batch import Batch
from simkit.local.chat import ChatFormat, as_tokens
from simkit.local.constraints import Constraint, Constraints
from simkit.local.forward import AnyForward, Forward, LlamaForward, attention_kernels, probe
from simkit.local.job import Job
from simkit.local.lane import Machinery
from simkit.local.memory import BLOCK, Prefixes, Slots
from simkit.local.sampling import check
from simkit.local.weights import EngineOptions, best_device, context_of, load_model, memory_of
from simkit.models.sampling import Sampling
from simkit.plugins.extras import require

REPLY_TOKENS = 1024
"""Maximum tokens of a reply if its request sets no limit."""

_MASK_THREADS = 8

Ending: TypeAlias = Literal["stop", "length"]
"""Reason why a reply ended: `stop`, by the model or a stop text; `length`, by its limit or the context."""


@dataclass(frozen=True, slots=True)
class Generation:
    """The generated reply to one prompt.

    Attributes:
        ids: its tokens, including the one that ends the reply, if the model wrote it.
        logprobs: one number per token: the model's own, before temperature and top_p.
        finish: the reason why it ended.
        text: the reply up to the stop text that ended it; None without one.
        cached: tokens of the prompt that were not computed again.
    """

    ids: list[int]
    logprobs: list[float]
    finish: Ending
    text: str | None = None
    cached: int = 0


class LocalEngine:
    """A model and tokenizer that generate for many conversations at once.

    It may be called from any thread; one thread works at a time. The model may be one in training: its weights are
    read in place. Call `weights_changed` after each update.

    Args:
        model: a causal language model of transformers, on its device.
        tokenizer: its tokenizer, with a chat template.
        options: engine options; `device`, `dtype`, `threads` and `revision` apply only to `open`.

    Raises:
        UsageError: the model or the tokenizer cannot be used.
    """

    def __init__(self, model: Any, tokenizer: Any, options: EngineOptions | None = None) -> None:
        self.model = model
        self.options = options or EngineOptions()
        ends = as_tokens(getattr(model.generation_config, "eos_token_id", None))
        self.chat = ChatFormat(tokenizer, ends, dict(self.options.template_kwargs))
        self.context = context_of(model.config, self.options.context)
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        weights = model.get_input_embeddings().weight
        self._vocabulary = int(weights.shape[0])
        on_cpu = weights.device.type == "cpu"
        threads = int(require("torch", "local").get_num_threads()) if on_cpu else _MASK_THREADS
        self.constraints = Constraints(self.chat, self._vocabulary, threads)
        self._device, self._batch = self._new_batch()

    @classmethod
    def open(cls, path: str | Path, options: EngineOptions | None = None) -> LocalEngine:
        """Open a model from a folder or the Hugging Face hub.

        Raises:
            UsageError: no usable model was found, or a package is missing.
        """
        torch = require("torch", "local")
        options = options or EngineOptions()
        device = options.device or best_device(torch)
        model, tokenizer = load_model(path, device, options)
        return cls(model, tokenizer, options)

    @property
    def busy(self) -> bool:
        """Whether any job waits or is being generated."""
        return bool(self._waiting or self._batch.rows)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[Generation]:
        """Generate a reply for each prompt, in order.

        Args:
            prompts: token ids, from `ChatFormat.prompt`.
            sampling: options for all prompts, or for each.
            seeds: one seed per prompt; None for 0, 1, 2, ...

        Raises:
            ContextTooLong: a prompt leaves no room for a reply.
            BadRequest: local models do not support a sampling option.
        """
        each = _each(sampling, len(prompts))
        chances = range(len(prompts)) if seeds is None else seeds
        jobs = [self.job(*parts) for parts in zip(prompts, each, chances, strict=True)]
        with self._lock:
            self._waiting.extend(jobs)
            while not all(job.ended for job in jobs):
                self._step()
        for job in jobs:
            if job.error is not None:
                raise job.error
        return [result_of(job) for job in jobs]

    def job(self, prompt: Sequence[int], sampling: Sampling, seed: int, constraint: Constraint | None = None) -> Job:
        """Create a job for one reply. Pass it to `submit`.

        Raises:
            ContextTooLong: the prompt leaves no room for a reply, in the context or in memory.
            BadRequest: local models do not support a sampling option.
        """
        check(sampling)
        room = min(self.context, self._batch.longest) - len(prompt)
        if room < 1 or not prompt:
            raise ContextTooLong(
                f"the conversation is {len(prompt)} tokens long, and {self._limit()} with its reply; use fewer turns, "
                "shorter instructions or a model with a longer context"
            )
        if max(prompt) >= self._vocabulary:
            raise UsageError(
                f"the tokenizer made the token {max(prompt)}, but the model knows {self._vocabulary} tokens; use the "
                "tokenizer that belongs to the model"
            )
        return Job(list(prompt), sampling, seed, min(room, sampling.max_tokens or REPLY_TOKENS), constraint)

    def _limit(self) -> str:
        if self._batch.longest < self.context:
            return f"the option `memory` has space for {self._batch.longest} (raise it)"
        return f"the model reads {self.context}"

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs, which join at the next step."""
        with self._lock:
            self._waiting.extend(jobs)

    def step(self) -> list[Job]:
        """Run one pass, which generates a token for each reply. Returns the jobs that ended."""
        with self._lock:
            return self._step()

    def reset(self) -> None:
        """Drop all waiting jobs, rows and prefixes, after a failed pass."""
        with self._lock:
            self._waiting.clear()
            self._batch.reset()

    def weights_changed(self) -> None:
        """Drop prefixes computed with old weights. Call it after every in-place change of the model's weights."""
        with self._lock:
            self._batch.machinery.prefixes.clear()

    def _step(self) -> list[Job]:
        torch = require("torch", "local")
        training = self.model.training
        if training:
            self.model.eval()
        try:
            with torch.inference_mode(), attention_kernels(self._device):
                return self._batch.step(self._waiting)
        finally:
            if training:
                self.model.train()

    def _new_batch(self) -> tuple[str, Batch]:
        """The type of the model's device, and a batch."""
        training = self.model.training
        self.model.eval()
        try:
            shape = probe(self.model)
        finally:
            self.model.train(training)
        device = str(shape.device.type)
        memory = int((self.options.memory or memory_of(shape.device)) * 1e9)
        cells = Slots.cells_within(shape, memory - memory // 4)
        if cells < BLOCK:
            raise UsageError(
                f"the local model's option `memory` is {self.options.memory}, but keys and values of a token take "
                f"{shape.token_bytes:,} bytes; give it more gigabytes"
            )
        forward: Forward = (LlamaForward if LlamaForward.fits(self.model) else AnyForward)(self.model, self.context)
        torch = require("torch", "local")
        with torch.inference_mode():
            machinery = Machinery(
                forward=forward,
                shape=shape,
                prefixes=Prefixes(shape, memory // 4),
                chat=self.chat,
                constraints=self.constraints,
            )
        return device, Batch(machinery, self.options.max_batch or (256 if device == "cpu" else 128), cells)


def result_of(job: Job) -> Generation:
    """The generation of a job that has ended."""
    return Generation(job.ids, job.logprobs, job.finish or "length", job.text, job.cached)


def _each(sampling: Sampling | Sequence[Sampling] | None, count: int) -> Sequence[Sampling]:
    if sampling is None or isinstance(sampling, Sampling):
        return [sampling or Sampling()] * count
    return sampling
