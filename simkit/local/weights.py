"""Loading of models from disk or the Hugging Face hub: data type, device, memory and context length."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simkit.errors import UsageError
from simkit.local.gguf import model_folder
from simkit.local.packed import can_pack, pack, weights_of
from simkit.local.template_messages import check_names
from simkit.plugins.extras import require, without_bars
from simkit.plugins.loading import nearest

SMALL = 20_000_000
"""Number of weights below which a model gets one thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options of a model in this process.

    Attributes:
        device: "cpu", "cuda", "cuda:1", "mps"; None for the fastest available.
        dtype: data type of the weights: "float32", "bfloat16", "float16"; None for float32 on a CPU, else the
            checkpoint's own. On a CPU float16 concerns the weights only, where there are kernels for it.
        max_batch: maximum conversations in one pass; None for 256 on a CPU and 128 elsewhere.
        memory: gigabytes for keys and values; None for 60% of the memory that the weights leave free on CUDA, else 2.
        context: tokens of conversation and reply together; None for the model's maximum.
        threads: torch threads on a CPU, for the whole process; None for the fastest number, which is measured.
        revision: version of a model on the Hugging Face hub: a branch, a tag or a commit.
        template_kwargs: names that the chat template reads, and their values, such as `(("enable_thinking", False),)`.

    Raises:
        UsageError: a value is invalid.
    """

    device: str | None = None
    dtype: str | None = None
    max_batch: int | None = None
    memory: float | None = None
    context: int | None = None
    threads: int | None = None
    revision: str | None = None
    template_kwargs: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_batch", "memory", "context", "threads"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"the local model's option `{name}` is {value}; it must be positive")
        if self.dtype not in (None, "float32", "bfloat16", "float16"):
            raise UsageError(f"the local model's option `dtype` is `{self.dtype}`; use float32, bfloat16 or float16")


def load_model(path: str | Path, device: str, options: EngineOptions) -> tuple[Any, Any]:
    """Load model and tokenizer from a folder, a GGUF file or the Hugging Face hub. On a CPU it sets torch's threads.

    Raises:
        UsageError: no usable model was found.
    """
    torch, transformers = require("torch", "local"), require("transformers", "local")
    packed = is_packed(device, options.dtype)
    wanted = "float32" if packed else options.dtype or ("float32" if device == "cpu" else "auto")
    dtype = wanted if wanted == "auto" else getattr(torch, wanted)
    where = {} if options.revision is None else {"revision": options.revision}
    folder = model_folder(path)
    _refuse_misspelt(folder)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **where)
        check_names(tokenizer, dict(options.template_kwargs))  # before the weights are loaded
        with without_bars() if Path(folder).is_dir() else nullcontext():
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **where)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"no model can be loaded from `{path}`: {first}; give the folder of a causal language model (config.json, "
            "weights, tokenizer), a GGUF file, or its name at Hugging Face"
        ) from error
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device `{device}` cannot be used: {error}; omit `device`, or choose another") from error
    if packed:
        pack(model)
    if device == "cpu":
        torch.set_num_threads(options.threads or _fastest_threads(torch, model))
        if options.dtype == "bfloat16":
            _note_slow_bfloat16(torch, model)
    return model, tokenizer


def _refuse_misspelt(name: str) -> None:
    """Refuse a name that is almost that of a folder here, and would be looked for on the network for a minute.

    Raises:
        UsageError: it is.
    """
    if "/" in name or Path(name).exists():
        return
    here = tuple(each.parent.name for each in Path().glob("*/config.json"))
    if near := nearest(name, here):
        raise UsageError(f"there is no model `{name}` in {Path.cwd()}{near}; give the folder as local/FOLDER")


def is_packed(device: str, dtype: str | None) -> bool:
    """Whether the weights of a data type are packed on a device type: float16 on a CPU with the kernels for it."""
    return device == "cpu" and dtype == "float16" and can_pack()


def _fastest_threads(torch: Any, model: Any) -> int:
    """The number of threads with which a pass over a few rows is fastest; more threads must save a fifth.

    A number that differs from torch's own was chosen before, by an earlier model or by OMP_NUM_THREADS, and is kept: it
    holds for the whole process. Small models get one thread without a measurement.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1 or torch.get_num_threads() != cores:
        return int(torch.get_num_threads())
    if weights_of(model) < SMALL:
        return 1
    ids = torch.zeros((8, 1), dtype=torch.long)
    counts = [count for count in (1, 2, 4, 8, 16, 32, 64) if count < cores] + [cores]
    best, least = 1, float("inf")
    for count in counts:
        torch.set_num_threads(count)
        seconds = _seconds(torch, lambda: model(input_ids=ids, use_cache=False))
        if seconds < 0.8 * least:
            best, least = count, seconds
    logging.getLogger(__name__).info("the local model uses %d of %d threads (option `threads`)", best, cores)
    return best


def _note_slow_bfloat16(torch: Any, model: Any) -> None:
    """Warn if this processor multiplies in bfloat16 more slowly than in float32."""
    weight = max(model.parameters(), key=lambda each: each.numel() if each.dim() == 2 else 0)
    rows = torch.zeros((8, weight.shape[1]), dtype=weight.dtype)
    linear = torch.nn.functional.linear
    slow = _seconds(torch, lambda: linear(rows, weight))
    rows, weight = rows.float(), weight.float()
    fast = _seconds(torch, lambda: linear(rows, weight))
    if slow > fast:
        logging.getLogger(__name__).warning(
            "note: bfloat16 takes %.1f times as long as float32 on this processor; omit `dtype`, or use float16",
            slow / fast,
        )


def _seconds(torch: Any, work: Callable[[], object]) -> float:
    """Shortest duration of three calls after a first one."""
    found: list[float] = []
    with torch.inference_mode():
        for _ in range(4):
            began = time.perf_counter()
            work()
            found.append(time.perf_counter() - began)
    return min(found[1:])


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
