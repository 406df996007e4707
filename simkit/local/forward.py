"""One forward pass over slots of memory: any model of transformers, and a shorter way for Llama.

Every row writes its keys and values at its own positions and sees what stands before them, so rows of any length go
together without padding on the left, and a row may join or leave between two passes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol

from simkit.errors import UsageError
from simkit.local.memory import Shape, Slots
from simkit.plugins.extras import require


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass reads: rows by tokens.

    Attributes:
        ids: token ids.
        positions: where each stands in its conversation.
        slot: the memory slot of the first row; the others follow.
        width: tokens of memory that are looked at: more than the highest position.
    """

    ids: Any
    positions: Any
    slot: int
    width: int

    @property
    def rows(self) -> int:
        """How many rows."""
        return int(self.ids.shape[0])


class Forward(Protocol):
    """Runs passes."""

    def __call__(self, work: Pass, slots: Slots, logits: bool) -> Any:
        """Write keys and values; returns the logits of each row's last token [rows, words], or None if unwanted."""
        ...


def visible(work: Pass, dtype: Any) -> Any:
    """What each token sees, as numbers to add: itself and what is before it. [rows, 1, tokens, width]."""
    torch = require("torch", "local")
    places = torch.arange(work.width, device=work.ids.device)
    hidden = places > work.positions[:, None, :, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=work.ids.device).masked_fill_(hidden, float("-inf"))


def attention_kernels(device: str) -> AbstractContextManager[None]:
    """The attention kernels that passes use on a device of this type, `cuda` for example, while the context is open.

    Without cuDNN's on CUDA: it builds a plan for each new width of the memory, which took 60 ms a pass on an H200,
    where the pass itself takes 15 ms.
    """
    if device != "cuda":
        return nullcontext()
    attention = require("torch.nn.attention", "local")
    kinds = attention.SDPBackend
    return attention.sdpa_kernel([kinds.FLASH_ATTENTION, kinds.EFFICIENT_ATTENTION, kinds.MATH])


class AnyForward:
    """A causal language model of transformers, run as its library runs it, with our memory in place of its cache."""

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
    """The argument in which a model takes its cache, and the field in which it returns it.

    transformers calls it `cache` since 5.24 and removes `past_key_values` in 5.40; earlier releases, and models that
    bring their own code, know only the old name. The model's signature says which one it is.
    """
    unwrapped = model.get_base_model() if hasattr(model, "get_base_model") else model  # adapters of peft take **kwargs
    return "cache" if "cache" in signature(unwrapped.forward).parameters else "past_key_values"


class _Memory:
    """What the layers of transformers ask of a cache, over our slots."""

    is_compileable = False

    def __init__(self, work: Pass, slots: Slots) -> None:
        torch = require("torch", "local")
        self._work = work
        self._data = slots.data
        self._rows = torch.arange(work.slot, work.slot + work.rows, device=work.ids.device)[:, None]

    def update(self, keys: Any, values: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write one layer's keys and values [rows, heads, tokens, width]; returns all that the rows may look at."""
        work = self._work
        kept: list[Any] = []
        for place, new in ((2 * layer, keys), (2 * layer + 1, values)):
            held = self._data[place]
            held[self._rows, :, work.positions] = new.transpose(1, 2)
            kept.append(held[work.slot : work.slot + work.rows, :, : work.width])
        return kept[0], kept[1]

    def get_seq_length(self, layer: int = 0) -> int:
        """Unused by models that are told their positions; 0 for those that ask all the same."""
        return 0

    def get_query_offset(self, layer: int = 0) -> int:
        """The same."""
        return 0

    def get_mask_sizes(self, query: int, layer: int = 0) -> tuple[int, int]:
        """The mask is ours, of this width."""
        return self._work.width, 0


class LlamaForward:
    """Llama, computed here: a small model spends most of its time in the layers of Python around its arithmetic.

    It reads the weights where they are, so training may change them in place. Its logits are those of transformers
    (`tests/local` compares them).
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
        self._cosines, self._sines = self._rotations(context)

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether a model is a plain Llama: not another architecture, without adapters, and with fixed rotations."""
        torch = require("torch", "local")
        if type(model).__name__ != "LlamaForCausalLM" or model.config.hidden_act != "silu":
            return False
        if model.model.rotary_emb.rope_type not in ("default", "llama3", "linear", "yarn"):
            return False
        names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
        parts = (*names, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
        layers = list(model.model.layers)
        return all(type(layer.get_submodule(part)) is torch.nn.Linear for layer in layers for part in parts)

    def __call__(self, work: Pass, slots: Slots, logits: bool) -> Any:
        """See `Forward`."""
        functional, model = self._functional, self._model
        hidden = functional.embedding(work.ids, model.model.embed_tokens.weight)
        at = _At(self, work, slots, visible(work, hidden.dtype))
        for number, layer in enumerate(self._layers):
            hidden = self._attended(hidden, layer, number, at)
            normal = functional.rms_norm(hidden, layer.after.shape, layer.after, self._epsilon)
            gate = functional.silu(functional.linear(normal, *layer.gate), inplace=True)
            hidden = hidden + functional.linear(gate.mul_(functional.linear(normal, *layer.up)), *layer.down)
        if not logits:
            return None
        weight = model.model.norm.weight
        last = functional.rms_norm(hidden[:, -1], weight.shape, weight, self._epsilon)
        return functional.linear(last, model.lm_head.weight)

    def rotation(self, positions: Any) -> tuple[Any, Any]:
        """Cosines and sines for some positions: [rows, tokens, 1, width] each."""
        positions = positions.clamp(max=self._cosines.shape[0] - 1)
        return self._cosines[positions].unsqueeze(2), self._sines[positions].unsqueeze(2)

    def _attended(self, hidden: Any, layer: _Layer, number: int, at: _At) -> Any:
        functional, width = self._functional, self._width
        rows, tokens = hidden.shape[0], hidden.shape[1]
        normal = functional.rms_norm(hidden, layer.before.shape, layer.before, self._epsilon)
        queries = self._turned(functional.linear(normal, *layer.queries).view(rows, tokens, -1, width), at)
        keys = self._turned(functional.linear(normal, *layer.keys).view(rows, tokens, -1, width), at)
        values = functional.linear(normal, *layer.values).view(rows, tokens, -1, width)
        all_keys, all_values = at.write(number, keys, values)
        mixed = self._mixed(queries, all_keys, all_values, at.mask)
        return hidden + functional.linear(mixed.reshape(rows, tokens, -1), *layer.out)

    def _mixed(self, queries: Any, keys: Any, values: Any, mask: Any) -> Any:
        """Attention of queries [rows, tokens, heads, width] over the memory [rows, heads, width of memory, width]."""
        attention = self._functional.scaled_dot_product_attention
        if queries.shape[1] > 1:
            grouped = self._groups > 1
            mixed = attention(queries.transpose(1, 2), keys, values, mask, scale=self._scale, enable_gqa=grouped)
            return mixed.transpose(1, 2)
        packed = queries.view(queries.shape[0], -1, self._groups, self._width)  # heads that share keys are read as one
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
    """The weights of one layer, each with its bias or None."""

    before: Any
    after: Any
    queries: tuple[Any, Any]
    keys: tuple[Any, Any]
    values: tuple[Any, Any]
    out: tuple[Any, Any]
    gate: tuple[Any, Any]
    up: tuple[Any, Any]
    down: tuple[Any, Any]

    @classmethod
    def of(cls, layer: Any) -> _Layer:
        """Those of a layer of transformers."""
        attention, mlp = layer.self_attn, layer.mlp
        linears = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        linears += (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        norms = (layer.input_layernorm.weight, layer.post_attention_layernorm.weight)
        return cls(*norms, *((linear.weight, linear.bias) for linear in linears))


class _At:
    """Where a pass is: its rotations, what it sees, and its part of the memory."""

    __slots__ = ("_data", "_rows", "_work", "cosines", "mask", "sines")

    def __init__(self, llama: LlamaForward, work: Pass, slots: Slots, mask: Any) -> None:
        torch = require("torch", "local")
        self._work = work
        self._data = slots.data[:, work.slot : work.slot + work.rows]
        self._rows = torch.arange(work.rows, device=work.ids.device)[:, None]
        self.mask = mask
        self.cosines, self.sines = llama.rotation(work.positions)

    def write(self, layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
        """Write keys and values [rows, tokens, heads, width]; returns all that the rows may look at."""
        held_keys, held_values = self._data[2 * layer], self._data[2 * layer + 1]
        held_keys[self._rows, :, self._work.positions] = keys
        held_values[self._rows, :, self._work.positions] = values
        width = self._work.width
        return held_keys[:, :, :width], held_values[:, :, :width]


def probe(model: Any) -> Shape:
    """What one token of a model keeps, found out by letting it read one.

    Raises:
        UsageError: it keeps something else than keys and values of one size for every token.
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
