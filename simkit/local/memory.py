"""Memory of attention keys and values: a slot for each active conversation, and blocks of reusable prefixes.

A prefix is stored in blocks of 16 tokens, each identified by its tokens and the block before it. Conversations that
begin alike (the same instructions, the branches of one tree, the next turn of a dialogue) share their blocks, and
nothing is computed twice while there is space.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

from simkit.plugins.extras import require

BLOCK = 16
"""Number of tokens in a block."""

_STEP = 256

BlockKey: TypeAlias = tuple[int, tuple[int, ...]]
"""Serial number of the preceding block (0 for none), and the tokens of this one."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of the keys and values of one token: layers, heads, width of a head, data type and device."""

    layers: int
    heads: int
    width: int
    dtype: Any
    device: Any

    @property
    def token_bytes(self) -> int:
        """Size of one token, in bytes."""
        return 2 * self.layers * self.heads * self.width * self.dtype.itemsize

    def empty(self, rows: int, tokens: int) -> Any:
        """Zeroed memory for rows of tokens: [2 * layer (+ 1 for values), row, head, token, width]."""
        torch = require("torch", "local")
        size = (2 * self.layers, rows, self.heads, tokens, self.width)
        return torch.zeros(size, dtype=self.dtype, device=self.device)


def looked_at(tokens: int, device: str) -> int:
    """Tokens of memory that a pass attends to, enough for its longest row of `tokens`.

    On an accelerator it is rounded up to a multiple of 256, because kernels are prepared per shape, which takes longer
    than the pass. Memory beyond a row is masked. `device` is a device type, such as `cuda`.
    """
    return tokens if device == "cpu" else -(-tokens // _STEP) * _STEP


class Slots:
    """Memory of the conversations in the batch: slots 0 to n - 1, without gaps."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.data = shape.empty(0, 0)

    def reserve(self, rows: int, tokens: int) -> None:
        """Ensure space, and keep the contents. The number of rows grows by at least half, tokens in steps of 256."""
        held_rows, held_tokens = int(self.data.shape[1]), int(self.data.shape[3])
        if rows <= held_rows and tokens <= held_tokens:
            return
        rows = held_rows if rows <= held_rows else max(rows, held_rows * 3 // 2)
        tokens = held_tokens if tokens <= held_tokens else -(-tokens // _STEP) * _STEP
        grown = self._shape.empty(rows, tokens)
        grown[:, :held_rows, :, :held_tokens] = self.data
        self.data = grown

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of one slot into another."""
        self.data[:, target, :, :tokens] = self.data[:, source, :, :tokens]


class Prefixes:
    """Blocks of prefixes. New ones evict the least recently used.

    Args:
        shape: shape of the model's keys and values.
        limit: maximum size in bytes; 0 stores nothing.
    """

    def __init__(self, shape: Shape, limit: int) -> None:
        self._shape = shape
        self._most = limit // (shape.token_bytes * BLOCK)
        self._blocks: OrderedDict[BlockKey, tuple[int, int]] = OrderedDict()
        self._serial = count(1)
        self._free: list[int] = []
        self._data = shape.empty(0, BLOCK)

    def find(self, ids: Sequence[int]) -> tuple[list[int], BlockKey | None]:
        """The blocks that hold the beginning of `ids`, and the key of the first whole block that is missing."""
        found: list[int] = []
        keys: list[BlockKey] = []
        before, missing = 0, None
        for start in range(0, len(ids) - BLOCK + 1, BLOCK):
            key = (before, tuple(ids[start : start + BLOCK]))
            known = self._blocks.get(key)
            if known is None:
                missing = key
                break
            before, place = known
            found.append(place)
            keys.append(key)
        for key in reversed(keys):  # earlier blocks count as used last, since later ones depend on them
            self._blocks.move_to_end(key)
        return found, missing

    def load(self, places: Sequence[int], slots: Slots, slot: int) -> None:
        """Copy blocks to the beginning of a slot."""
        if places:
            torch = require("torch", "local")
            chosen = self._data.index_select(1, torch.tensor(places, device=self._shape.device))
            width = len(places) * BLOCK
            target = slots.data[:, slot, :, :width].unflatten(2, (len(places), BLOCK))
            target.copy_(chosen.transpose(1, 2))

    def keep(self, ids: Sequence[int], slots: Slots, slot: int) -> None:
        """Store the whole blocks of `ids`, whose keys and values are in a slot."""
        known = len(self.find(ids)[0])
        whole = min(len(ids) // BLOCK, self._most)
        if known >= whole:
            return
        torch = require("torch", "local")
        places = self._name(ids, known, whole)
        source = slots.data[:, slot, :, known * BLOCK : whole * BLOCK].unflatten(2, (whole - known, BLOCK))
        self._data.index_copy_(1, torch.tensor(places, device=self._shape.device), source.transpose(1, 2))

    def clear(self) -> None:
        """Drop all blocks, because the weights have changed."""
        self._free += [place for _, place in self._blocks.values()]
        self._blocks.clear()

    def _name(self, ids: Sequence[int], known: int, whole: int) -> list[int]:
        """Register new blocks for tokens `known * BLOCK` to `whole * BLOCK`. Returns their places.

        The preceding blocks were just used, so they are not evicted: the whole chain fits into the memory.
        """
        self._make_room(whole - known)
        before, fresh, keys = 0, list[int](), list[BlockKey]()
        for index in range(whole):
            key = (before, tuple(ids[index * BLOCK : (index + 1) * BLOCK]))
            if index >= known:
                self._blocks[key] = (next(self._serial), self._free.pop())
                fresh.append(self._blocks[key][1])
            before = self._blocks[key][0]
            keys.append(key)
        for key in reversed(keys):
            self._blocks.move_to_end(key)
        return fresh

    def _make_room(self, wanted: int) -> None:
        held = int(self._data.shape[1])
        if len(self._free) < wanted and held < self._most:
            grown = self._shape.empty(min(self._most, max(held * 2, held + wanted, 256)), BLOCK)
            grown[:, :held] = self._data
            self._data = grown
            self._free += range(held, int(grown.shape[1]))
        while len(self._free) < wanted:
            _, (_, place) = self._blocks.popitem(last=False)
            self._free.append(place)
