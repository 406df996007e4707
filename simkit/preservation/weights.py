"""The weights behind `--model local/...`, for evaluations that need a model's probabilities and not its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simkit.errors import UsageError
from simkit.local.weights import best_device, context_of, load_model
from simkit.local.worker import parse_local
from simkit.plugins.extras import require
from simkit.preservation.quiet import quiet

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
