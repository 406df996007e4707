"""Weights behind `--model local/...`, for evaluations that need probabilities instead of text."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any, TextIO

from simkit.errors import UsageError
from simkit.local.weights import best_device, context_of, load_model
from simkit.local.worker import parse_local
from simkit.plugins.extras import require


@contextmanager
def quiet() -> Generator[None]:
    """Without progress bars, and without lm-eval's warnings, which report every default that it takes.

    Everything else that is written to stderr meanwhile is passed on; a run's display has its own hold of the terminal.
    """
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(_WithoutBars(sys.stderr)):
            yield
    finally:
        logger.setLevel(level)


class _WithoutBars(io.TextIOBase):
    """Drops what tqdm draws: every picture begins with a carriage return, and the last one ends with an empty line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        if text.strip() and not text.startswith("\r"):
            self._stream.write(text if text.endswith("\n") else f"{text}\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False


LOCAL = "local/"


@dataclass(frozen=True, slots=True)
class Weights:
    """A causal language model of transformers, ready to be asked.

    Attributes:
        model, tokenizer: transformers' own objects.
        name: where they came from.
        context: tokens that the model can see at once.
        prefix: the token that a text begins with: the tokenizer's first-of-text, else its end-of-text token.
    """

    model: Any
    tokenizer: Any
    name: str
    context: int
    prefix: int

    @property
    def device(self) -> Any:
        """Where the model computes."""
        return self.model.device


def is_local(spec: str | None) -> bool:
    """Whether a model's name is that of weights on this machine."""
    return spec is not None and spec.startswith(LOCAL)


def load_weights(spec: str) -> Weights:
    """The model of a spec `local/PATH[,option=value,...]`, with the options of every local model; blocks.

    Raises:
        UsageError: transformers or torch are missing, there is no such model or option, or its tokenizer has no token
            that a text could begin with.
    """
    torch = require("torch", "preserve")
    path, options, _ = parse_local(spec.removeprefix(LOCAL))
    device = options.device or best_device(torch)
    if device == "cpu":
        torch.set_num_threads(options.threads)
    with quiet():
        model, tokenizer = load_model(path, device, options)
    return Weights(model, tokenizer, path, context_of(model.config, options.context), _prefix(tokenizer, path))


class LocalWeights:
    """The weights of a spec, loaded by whoever needs them first and kept while this lives."""

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._loaded: Weights | None = None

    def get(self) -> Weights:
        """The weights; blocks, the first time for long. Raises what `load_weights` raises."""
        if self._loaded is None:
            self._loaded = load_weights(self._spec)
        return self._loaded


def _prefix(tokenizer: Any, name: str) -> int:
    for found in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if found is not None:
            return int(found)
    raise UsageError(
        f"the tokenizer of {name} has neither a first-of-text nor an end-of-text token, so the probability of a text's "
        "first token is not defined; set bos_token in its tokenizer_config.json"
    )
