"""Forward passes over slots of memory: for any model of transformers, and a faster path for Llama.

Every row writes its keys and values at its own positions and attends to the earlier ones. Rows of any length therefore
share a pass without left padding, and a row may join or leave between two passes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol

from simkit.errors import UsageError
from simkit.local.memory import Shape, Slots
from simkit.local.packed import product
from simkit.plugins.extras import require


@dataclass(frozen=True, slots=True)
class Pass:
    """Input of one pass.

    Attributes:
        ids: token ids [rows, tokens].
        positions: position of each token in its conversation [rows, tokens].
        slot: the memory slot of the first row; the others follow.
        width: tokens of memory that the pass attends to; greater than the highest position.
    """

    ids: Any
    positions: Any
    slot: int
    width: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.ids.shape[0])


class Forward(Protocol):
    """Runs forward passes."""

    def __call__(self, work: Pass, slots: Slots, logits: bool) -> Any:
        """Write keys and values. Returns the logits of each row's last token [rows, vocabulary]; None if unwanted."""
        ...


def visible(work: Pass, dtype: Any) -> Any:
    """Additive causal mask: each token attends to itself and to earlier ones. [rows, 1, tokens, width]."""
    torch = require("torch", "local")
    places = torch.arange(work.width, device=work.ids.device)
    hidden = places > work.positions[:, None, :, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=work.ids.device).masked_fill_(hidden, float("-inf"))


def attention_kernels(device: str) -> AbstractContextManager[None]:
    """Context manager that selects the attention kernels for a device type, such as `cuda`.

    It excludes cuDNN on CUDA, which builds a plan for each new width of the memory: 60 ms per pass on an H200, where
    the pass itself takes 15 ms.
    """
    if device != "cuda":
        return nullcontext()
    attention = require("torch.nn.attention", "local")
    kinds = attention.SDPBackend
    return attention.sdpa_kernel([kinds.FLASH_ATTENTION, kinds.EFFICIENT_ATTENTION, kinds.MATH])


_LLAMAS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")


class AnyForward:
    """A causal language model of transformers, run by its library, with `Slots` in place of its cache."""

    def __init__(self, model: Any, context: int) -> None:
        self._model = model
        self._last = context - 1
        self._cache = cache_name(model)

    def __call__(self, work: Pass, slots: Slots, logits: bool) -> Any:
        """See `Forward`."""
        out = self._model(
            input_ids=work.ids,
            attention_mask=visible(work, self._model.dtype),
            position_ids=work.positions.clamp(max=self._last),
            use_cache=True,
            logits_to_keep=1,
            **{self._cache: _Memory(work, slots)},
        )
        return out.logits[:, -1] if logits else None


def cache_name(model: Any) -> str:
    """Name of the argument and of the output field that hold a model's cache.

    transformers names it `cache` since 5.24 and removes `past_key_values` in 5.40. Earlier releases, and models with
    custom code, have only the old name. The model's signature decides.
    """
    unwrapped = model.get_base_model() if hasattr(model, "get_base_model") else model  # adapters of peft take **kwargs
    return "cache" if "cache" in signature(unwrapped.forward).parameters else "past_key_values"


class _Memory:
    """The cache interface of transformers, on top of `Slots`."""

    is_compileable = False

    def __init__(self, work: Pass, slots: Slots) -> None:
        torch = require("torch", "local")
        self._work = work
        self._planes = slots.planes(work.slot, work.rows)
        self._rows = torch.arange(work.rows, device=work.ids.device)[:, None]

    def update(self, keys: Any, values: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write one layer's keys and values [rows, heads, tokens, width]. Returns those that the rows attend to."""
        work = self._work
        kept: list[Any] = []
        for place, new in ((2 * layer, keys), (2 * layer + 1, values)):
            held = self._planes[place]
            held[self._rows, :, work.positions] = new.transpose(1, 2)
            kept.append(held[:, :, : work.width])
        return kept[0], kept[1]

    def get_seq_length(self, layer: int = 0) -> int:
        """0. Models that receive positions do not use it, but some still call it."""
        return 0

    def get_query_offset(self, layer: int = 0) -> int:
        """0, for the same reason."""
        return 0

    def get_mask_sizes(self, query: int, layer: int = 0) -> tuple[int, int]:
        """Width and offset of the mask, which the caller provides."""
        return self._work.width, 0


class LlamaForward:
    """Own implementation of the forward pass of Llama, Qwen 2 and Mistral.

    Small models spend most of their time in the library's Python code. This one reads the weights in place, so training
    may change them. Its logits equal those of transformers (`tests/local` compares them).
    """

    def __init__(self, model: Any, context: int) -> None:
        torch = require("torch", "local")
        config = model.config
        self._functional = torch.nn.functional
        self._torch = torch
        self._model = model
        self._heads = int(config.num_attention_heads)
        self._groups = self._heads // int(config.num_key_value_heads)
        self._width = int(getattr(config, "head_dim", None) or config.hidden_size // self._heads)
        self._scale = self._width**-0.5
        self._epsilon = float(config.rms_norm_eps)
        self._layers = [_Layer.of(layer) for layer in model.model.layers]
        self._head = product(model.lm_head)
        self._cosines, self._sines = self._rotations(context)

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether a model has this architecture, no adapters and fixed rotary embeddings."""
        torch = require("torch", "local")
        if type(model).__name__ not in _LLAMAS or model.config.hidden_act != "silu":
            return False
        if model.model.rotary_emb.rope_type not in ("default", "llama3", "linear", "yarn"):
            return False
        names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
        parts = (*names, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
        layers = list(model.model.layers)
        linears = (model.lm_head, *(layer.get_submodule(part) for layer in layers for part in parts))
        return all(type(each) is torch.nn.Linear for each in linears)

    def __call__(self, work: Pass, slots: Slots, logits: bool) -> Any:
        """See `Forward`."""
        functional, model = self._functional, self._model
        hidden = functional.embedding(work.ids, model.model.embed_tokens.weight)
        at = _At(self, work, slots, visible(work, hidden.dtype))
        for number, layer in enumerate(self._layers):
            hidden = self._attended(hidden, layer, number, at)
            normal = functional.rms_norm(hidden, layer.after.shape, layer.after, self._epsilon)
            gate = functional.silu(layer.gate(normal), inplace=True)
            hidden = hidden + layer.down(gate.mul_(layer.up(normal)))
        if not logits:
            return None
        weight = model.model.norm.weight
        last = functional.rms_norm(hidden[:, -1], weight.shape, weight, self._epsilon)
        return self._head(last)

    def rotation(self, positions: Any) -> tuple[Any, Any]:
        """Cosines and sines for positions [rows, tokens], each [rows, tokens, 1, width]."""
        positions = positions.clamp(max=self._cosines.shape[0] - 1)
        return self._cosines[positions].unsqueeze(2), self._sines[positions].unsqueeze(2)

    def _attended(self, hidden: Any, layer: _Layer, number: int, at: _At) -> Any:
        functional, width = self._functional, self._width
        rows, tokens = hidden.shape[0], hidden.shape[1]
        normal = functional.rms_norm(hidden, layer.before.shape, layer.before, self._epsilon)
        queries = self._turned(layer.queries(normal).view(rows, tokens, -1, width), at)
        keys = self._turned(layer.keys(normal).view(rows, tokens, -1, width), at)
        values = layer.values(normal).view(rows, tokens, -1, width)
        all_keys, all_values = at.write(number, keys, values)
        mixed = self._mixed(queries, all_keys, all_values, at.mask)
        return hidden + layer.out(mixed.reshape(rows, tokens, -1))

    def _mixed(self, queries: Any, keys: Any, values: Any, mask: Any) -> Any:
        """Attention of queries [rows, tokens, heads, width] over the memory [rows, heads, width of memory, width]."""
        attention = self._functional.scaled_dot_product_attention
        if queries.shape[1] > 1:
            grouped = self._groups > 1
            mixed = attention(queries.transpose(1, 2), keys, values, mask, scale=self._scale, enable_gqa=grouped)
            return mixed.transpose(1, 2)
        packed = queries.view(queries.shape[0], -1, self._groups, self._width)  # heads that share keys form one group
        return attention(packed, keys, values, mask, scale=self._scale)

    def _turned(self, heads: Any, at: _At) -> Any:
        return heads * at.cosines + heads.roll(self._width // 2, -1) * at.sines

    def _rotations(self, context: int) -> tuple[Any, Any]:
        """Cosines, and sines with the first half negated, as `_turned` needs them."""
        torch = self._torch
        weight = self._model.model.embed_tokens.weight
        places = torch.arange(context, device=weight.device)[None]
        cosines, sines = self._model.model.rotary_emb(weight[:1], position_ids=places)
        half = self._width // 2
        return cosines[0], torch.cat((-sines[0, :, :half], sines[0, :, half:]), -1)


@dataclass(frozen=True, slots=True)
class _Layer:
    """The weights of one layer: those of its norms, and its products with matrices."""

    before: Any
    after: Any
    queries: Callable[[Any], Any]
    keys: Callable[[Any], Any]
    values: Callable[[Any], Any]
    out: Callable[[Any], Any]
    gate: Callable[[Any], Any]
    up: Callable[[Any], Any]
    down: Callable[[Any], Any]

    @classmethod
    def of(cls, layer: Any) -> _Layer:
        """The weights of a layer of transformers."""
        attention, mlp = layer.self_attn, layer.mlp
        linears = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        linears += (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        norms = (layer.input_layernorm.weight, layer.post_attention_layernorm.weight)
        return cls(*norms, *map(product, linears))


class _At:
    """State of one pass: rotary embeddings, mask, and its part of the memory."""

    __slots__ = ("_planes", "_rows", "_work", "cosines", "mask", "sines")

    def __init__(self, llama: LlamaForward, work: Pass, slots: Slots, mask: Any) -> None:
        torch = require("torch", "local")
        self._work = work
        self._planes = slots.planes(work.slot, work.rows)
        self._rows = torch.arange(work.rows, device=work.ids.device)[:, None]
        self.mask = mask
        self.cosines, self.sines = llama.rotation(work.positions)

    def write(self, layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
        """Write keys and values [rows, tokens, heads, width]. Returns those that the rows attend to."""
        held_keys, held_values = self._planes[2 * layer], self._planes[2 * layer + 1]
        held_keys[self._rows, :, self._work.positions] = keys
        held_values[self._rows, :, self._work.positions] = values
        width = self._work.width
        return held_keys[:, :, :width], held_values[:, :, :width]


def probe(model: Any) -> Shape:
    """Shape of the keys and values of a model, measured by a pass over one token.

    Raises:
        UsageError: the layers' caches are not keys and values of a single shape.
    """
    torch = require("torch", "local")
    device = model.get_input_embeddings().weight.device
    with torch.inference_mode():
        out = model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=device), use_cache=True)
    layers = list(getattr(getattr(out, cache_name(model), None), "layers", ()))
    sizes = {
        tuple(held.shape) if held is not None else ()
        for layer in layers
        for held in (getattr(layer, "keys", None), getattr(layer, "values", None))
    }
    size = sizes.pop() if len(sizes) == 1 else ()
    if len(size) != 4:
        raise UsageError(
            f"{type(model).__name__} does not keep keys and values of one size in every layer, which local/ needs; "
            "serve it with vLLM or `transformers serve` and name it as openai/NAME with --base-url"
        )
    keys = layers[0].keys
    return Shape(len(layers), int(size[1]), int(size[3]), keys.dtype, device)
