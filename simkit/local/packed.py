"""Linear layers on a CPU with packed weights in half precision, which are multiplied with activations in float32.

The kernels are those of FBGEMM, which torch contains. They read two bytes per weight instead of four, and a matrix is
not rearranged in each pass as for float32. A layer keeps its class; only its weight and `forward` change.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

from simkit.plugins.extras import require

_ENGINE = "fbgemm"


def can_pack() -> bool:
    """Whether this processor and this build of torch have the kernels (x86 with AVX2)."""
    return _ENGINE in require("torch", "local").backends.quantized.supported_engines


def pack(model: Any) -> None:
    """Pack the weights of all plain linear layers of a model on the CPU, in place.

    Embeddings, norms and layers of other classes stay as they are.

    Args:
        model: a model of transformers in float32, which will not be trained.
    """
    torch = require("torch", "local")
    prepack = torch.ops.quantized.linear_prepack_fp16
    with torch.inference_mode(), _engine(torch):
        for layer in model.modules():
            if type(layer) is torch.nn.Linear:
                layer.forward = partial(_multiply, torch, prepack(layer.weight, layer.bias))
                layer.packed_weights = layer.weight.numel()
                layer.weight = None


def product(layer: Any) -> Callable[[Any], Any]:
    """The function of a plain linear layer, packed or not, without the overhead of calling a module."""
    packed: Callable[[Any], Any] | None = layer.__dict__.get("forward")
    if packed is not None:
        return packed
    return partial(require("torch", "local").nn.functional.linear, weight=layer.weight, bias=layer.bias)


def weights_of(model: Any) -> int:
    """Number of weights of a model, packed or not."""
    packed = sum(int(each.__dict__.get("packed_weights", 0)) for each in model.modules())
    return packed + sum(each.numel() for each in model.parameters())


@contextmanager
def _engine(torch: Any) -> Generator[None]:
    """Context in which torch packs weights for FBGEMM."""
    backend = torch.backends.quantized
    before = backend.engine
    backend.engine = _ENGINE
    try:
        yield
    finally:
        backend.engine = before


def _multiply(torch: Any, weight: Any, hidden: Any) -> Any:
    return torch.ops.quantized.linear_dynamic_fp16(hidden, weight)
