"""The weights behind `--model local/...`, for evaluations that need a model's probabilities and not its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simkit.errors import UsageError
from simkit.extras import require
from simkit.loading import parse_reference
from simkit.preservation.quiet import quiet

LOCAL = "local/"
LONGEST = 2048
"""Tokens of context where a model's configuration does not say, or says more."""


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
    """The model of a spec `local/PATH[,device=cuda][,dtype=bfloat16]`; other options are left to the chat model.

    On a CPU it computes in float32 unless told otherwise, on a GPU in the type that its weights have.

    Raises:
        UsageError: transformers or torch are missing, or there is no such model.
    """
    torch, transformers = require("torch", "preserve"), require("transformers", "preserve")
    reference = parse_reference(spec.removeprefix(LOCAL))
    device = reference.options.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = reference.options.get("dtype") or ("float32" if device == "cpu" else "auto")
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(reference.target)
            model = transformers.AutoModelForCausalLM.from_pretrained(reference.target, dtype=dtype)
        model = model.to(device).eval()
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        raise UsageError(
            f"the model {reference.target} cannot be loaded: {_first_line(error)}; give local/ and the folder of a "
            "model (config.json, weights, tokenizer) or its Hugging Face name"
        ) from error
    return Weights(model, tokenizer, reference.target, _context(model.config), _prefix(tokenizer, reference.target))


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


def _context(config: Any) -> int:
    found: object = getattr(config, "max_position_embeddings", None)
    return min(found, LONGEST) if isinstance(found, int) else LONGEST


def _prefix(tokenizer: Any, name: str) -> int:
    for found in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if found is not None:
            return int(found)
    raise UsageError(
        f"the tokenizer of {name} has neither a first-of-text nor an end-of-text token, so the probability of a text's "
        "first token is not defined; set bos_token in its tokenizer_config.json"
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"
