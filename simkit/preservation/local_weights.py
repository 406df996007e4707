"""Weights behind `--model local/...`, for evaluations that need probabilities instead of text."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from simkit.errors import UsageError
from simkit.local.weights import best_device, context_of, load_model
from simkit.local.worker import parse_local
from simkit.plugins.extras import require, without_bars


@contextmanager
def suppress_progress_bars() -> Generator[None]:
    """Suppress progress bars, and lm-eval's warnings, which report every default that it uses."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with without_bars():
            yield
    finally:
        logger.setLevel(level)


LOCAL = "local/"


@dataclass(frozen=True, slots=True)
class Weights:
    """A causal language model of transformers, ready for use.

    Attributes:
        model, tokenizer: the objects of transformers.
        name: the folder or repository that they were loaded from.
        context: length of the model's context in tokens.
        prefix: token before the first token of a text: the tokenizer's BOS token, otherwise its EOS token.
    """

    model: Any
    tokenizer: Any
    name: str
    context: int
    prefix: int

    @property
    def device(self) -> Any:
        """The device of the model."""
        return self.model.device


def is_local(spec: str | None) -> bool:
    """Whether a model spec names weights on this machine."""
    return spec is not None and spec.startswith(LOCAL)


def load_weights(spec: str) -> Weights:
    """Load the model of a spec `local/PATH[,option=value,...]`, with the options of every local model; blocks.

    Raises:
        UsageError: transformers or torch are missing, there is no such model or option, or the tokenizer has neither
            a BOS nor an EOS token.
    """
    torch = require("torch", "preserve")
    path, options, _ = parse_local(spec.removeprefix(LOCAL))
    device = options.device or best_device(torch)
    with suppress_progress_bars():
        model, tokenizer = load_model(path, device, options)
    return Weights(model, tokenizer, path, context_of(model.config, options.context), _prefix(tokenizer, path))


class LocalWeights:
    """Weights of a spec, loaded at first use and kept as long as this object."""

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._loaded: Weights | None = None

    def get(self) -> Weights:
        """The weights; the first call blocks while they are loaded, and raises what `load_weights` raises."""
        if self._loaded is None:
            self._loaded = load_weights(self._spec)
        return self._loaded


def _prefix(tokenizer: Any, name: str) -> int:
    for found in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if found is not None:
            return int(found)
    raise UsageError(
        f"the tokenizer of {name} has neither a BOS nor an EOS token, so the probability of the first token of a text "
        "is undefined; set bos_token in its tokenizer_config.json"
    )
