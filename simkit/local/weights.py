"""Loading of models from disk or the Hugging Face hub: data type, device, memory and context length."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simkit.errors import UsageError
from simkit.local.gguf import model_folder
from simkit.plugins.extras import require, without_bars


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options of a model in this process.

    Attributes:
        device: "cpu", "cuda", "cuda:1", "mps"; None for the fastest available.
        dtype: data type of the weights: "float32", "bfloat16", "float16"; None for float32 on a CPU, else the
            checkpoint's own.
        max_batch: maximum conversations in one pass; None for 256 on a CPU and 128 elsewhere.
        memory: gigabytes for keys and values; None for 60% of the memory that the weights leave free on CUDA, else 2.
        context: tokens of conversation and reply together; None for the model's maximum.
        threads: torch threads on a CPU.
        revision: version of a model on the Hugging Face hub: a branch, a tag or a commit.

    Raises:
        UsageError: a value is invalid.
    """

    device: str | None = None
    dtype: str | None = None
    max_batch: int | None = None
    memory: float | None = None
    context: int | None = None
    threads: int = 1
    revision: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_batch", "memory", "context", "threads"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"the local model's option `{name}` is {value}; it must be positive")
        if self.dtype not in (None, "float32", "bfloat16", "float16"):
            raise UsageError(f"the local model's option `dtype` is `{self.dtype}`; use float32, bfloat16 or float16")


def load_model(path: str | Path, device: str, options: EngineOptions) -> tuple[Any, Any]:
    """Load model and tokenizer from a folder, a GGUF file or the Hugging Face hub.

    Raises:
        UsageError: no usable model was found.
    """
    torch, transformers = require("torch", "local"), require("transformers", "local")
    wanted = options.dtype or ("float32" if device == "cpu" else "auto")
    dtype = wanted if wanted == "auto" else getattr(torch, wanted)
    where = {} if options.revision is None else {"revision": options.revision}
    folder = model_folder(path)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **where)
        with without_bars() if Path(folder).is_dir() else nullcontext():
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **where)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"no model can be loaded from `{path}`: {first}; give the folder of a causal language model (config.json, "
            "weights, tokenizer), a GGUF file, or its name at Hugging Face"
        ) from error
    try:
        return model.to(device).eval(), tokenizer
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device `{device}` cannot be used: {error}; omit `device`, or choose another") from error


def best_device(torch: Any) -> str:
    """The fastest available device."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def memory_of(device: Any) -> float:
    """Default memory for keys and values, in gigabytes."""
    torch = require("torch", "local")
    if device.type != "cuda":
        return 2.0
    free, _ = torch.cuda.mem_get_info(device)
    return 0.6 * free / 1e9


_LEAST_WINDOW = 2000


def context_of(config: Any, wanted: int | None) -> int:
    """Maximum tokens of a conversation with its reply. It stays within a sliding window of the model.

    Raises:
        UsageError: the model has layers other than full and sliding attention, or a window of less than 2,000 tokens
            and no context was chosen.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    layers: list[str] = list(getattr(text, "layer_types", None) or ())
    kinds = set(layers)
    if kinds - {"full_attention", "sliding_attention"}:
        raise UsageError(
            f"{type(config).__name__} has layers of {', '.join(sorted(kinds))}, which local/ does not run; serve it "
            "with vLLM or `transformers serve` and name it as openai/NAME with --base-url"
        )
    most = int(getattr(text, "max_position_embeddings", None) or 4096)
    window: int | None = getattr(text, "sliding_window", None)
    slides = "sliding_attention" in kinds or not kinds
    if window and slides and getattr(text, "use_sliding_window", True):
        if wanted is None and window < min(most, _LEAST_WINDOW):
            raise UsageError(
                f"{type(config).__name__} has layers that see {window} tokens back, and local/ keeps whole "
                "conversations within that window; instructions and tools of a world are often longer. Serve the model "
                f"with vLLM or `transformers serve` and name it as openai/NAME with --base-url, or insist with the "
                f"option `context={window}`"
            )
        most = min(most, window)
    return min(most, wanted or most)
