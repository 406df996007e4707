"""Memory of attention keys and values: a slot for each active conversation, and blocks of reusable prefixes.

A prefix is stored in blocks of 16 tokens, each identified by its tokens and the block before it. Conversations that
begin alike (the same instructions, the branches of one tree, the next turn of a dialogue) share their blocks, and
nothing is computed twice while there is space.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

from simkit.plugins.extras import require

BLOCK = 16
"""Number of tokens in a block."""

_STEP = 256
_PARTS = 8

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

    def empty(self, rows: int, tokens: int, planes: int | None = None) -> Any:
        """Zeroed memory for rows of tokens: [plane, row, head, token, width].

        A plane holds the keys or the values of a layer: 2 * layer (+ 1 for values). `planes` is their number, None for
        all.
        """
        torch = require("torch", "local")
        size = (2 * self.layers if planes is None else planes, rows, self.heads, tokens, self.width)
        return torch.zeros(size, dtype=self.dtype, device=self.device)


def looked_at(tokens: int, device: str) -> int:
    """Tokens of memory that a pass attends to, enough for its longest row of `tokens`.

    On an accelerator it is rounded up to a multiple of 256, because kernels are prepared per shape, which takes longer
    than the pass. Memory beyond a row is masked. `device` is a device type, such as `cuda`.
    """
    return tokens if device == "cpu" else -(-tokens // _STEP) * _STEP


class Slots:
    """Memory of rows that are generated together: slots 0 to n - 1, without gaps.

    It consists of parts of a few planes each, because it is copied when it grows: only one part then exists twice.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._parts = [shape.empty(0, 0, planes) for planes in _parts(shape)]

    @staticmethod
    def cells_within(shape: Shape, size: int) -> int:
        """The most tokens that fit into a number of bytes, in one or several `Slots`, also while one of them grows."""
        parts = _parts(shape)
        return size * sum(parts) // ((sum(parts) + max(parts)) * shape.token_bytes)

    @property
    def rows(self) -> int:
        """Number of slots."""
        return int(self._parts[0].shape[1])

    @property
    def tokens(self) -> int:
        """Length of a slot."""
        return int(self._parts[0].shape[3])

    @property
    def cells(self) -> int:
        """Number of tokens for which there is memory."""
        return self.rows * self.tokens

    @property
    def size(self) -> int:
        """Size in bytes."""
        return sum(part.nbytes for part in self._parts)

    def planes(self, slot: int, rows: int) -> list[Any]:
        """The planes of some slots, each [rows, heads, tokens, width]."""
        return [plane for part in self._parts for plane in part[:, slot : slot + rows].unbind(0)]

    def parts(self, slot: int) -> Iterator[tuple[int, Any]]:
        """One slot as parts [planes, heads, tokens, width], each with the number of its first plane."""
        first = 0
        for part in self._parts:
            yield first, part[:, slot]
            first += int(part.shape[0])

    def reserve(self, rows: int, tokens: int, most: int) -> None:
        """Ensure space, and keep the contents that fit.

        If there are cells to spare, the number of rows grows by at least half and tokens in steps of 256, so that not
        every row is a copy of all.

        Args:
            rows, tokens: the space that is needed.
            most: maximum number of cells, at least rows times tokens.
        """
        held_rows, held_tokens = self.rows, self.tokens
        if rows <= held_rows and tokens <= held_tokens and self.cells <= most:
            return
        tall = held_rows if rows <= held_rows else max(rows, held_rows * 3 // 2)
        wide = held_tokens if tokens <= held_tokens else -(-tokens // _STEP) * _STEP
        sizes = ((tall, wide), (rows, wide), (tall, tokens), (rows, tokens))
        self._resize(*next((size for size in sizes if size[0] * size[1] <= most), (rows, tokens)))

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of one slot into another."""
        for part in self._parts:
            part[:, target, :, :tokens] = part[:, source, :, :tokens]

    def _resize(self, rows: int, tokens: int) -> None:
        kept, length = min(rows, self.rows), min(tokens, self.tokens)
        for index, part in enumerate(self._parts):
            new = self._shape.empty(rows, tokens, int(part.shape[0]))
            new[:, :kept, :, :length] = part[:, :kept, :, :length]
            self._parts[index] = new


def _parts(shape: Shape) -> list[int]:
    """Number of planes in each part."""
    planes = 2 * shape.layers
    size = -(-planes // _PARTS)
    return [min(size, planes - first) for first in range(0, planes, size)]


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
        self._segments: list[Any] = []  # memory grows by another segment, so nothing is copied
        self._firsts: list[int] = []

    @property
    def size(self) -> int:
        """Size in bytes."""
        return sum(segment.nbytes for segment in self._segments)

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
        for segment, chosen, start in self._located(places):
            found = segment.index_select(1, chosen).transpose(1, 2)
            for first, part in slots.parts(slot):
                _blocks(part, start, len(chosen)).copy_(found[first : first + part.shape[0]])

    def keep(self, ids: Sequence[int], slots: Slots, slot: int) -> None:
        """Store the whole blocks of `ids`, whose keys and values are in a slot."""
        known = len(self.find(ids)[0])
        whole = min(len(ids) // BLOCK, self._most)
        if known >= whole:
            return
        for segment, chosen, start in self._located(self._name(ids, known, whole)):
            for first, part in slots.parts(slot):
                source = _blocks(part, known + start, len(chosen)).transpose(1, 2)
                segment[first : first + part.shape[0]].index_copy_(1, chosen, source)

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

    def _located(self, places: Sequence[int]) -> Iterator[tuple[Any, Any, int]]:
        """Runs of places in one segment: the segment, the places in it as a tensor, and the index of the first one."""
        torch = require("torch", "local")
        start = 0
        while start < len(places):
            number = bisect_right(self._firsts, places[start]) - 1
            first, segment = self._firsts[number], self._segments[number]
            last = first + int(segment.shape[1])
            end = start
            while end < len(places) and first <= places[end] < last:
                end += 1
            inner = [place - first for place in places[start:end]]
            yield segment, torch.tensor(inner, device=self._shape.device), start
            start = end

    def _make_room(self, wanted: int) -> None:
        held = self._firsts[-1] + int(self._segments[-1].shape[1]) if self._segments else 0
        if len(self._free) < wanted and held < self._most:
            more = min(self._most - held, max(held, wanted, 256))
            self._segments.append(self._shape.empty(more, BLOCK))
            self._firsts.append(held)
            self._free += range(held, held + more)
        while len(self._free) < wanted:
            _, (_, place) = self._blocks.popitem(last=False)
            self._free.append(place)


def _blocks(part: Any, start: int, count: int) -> Any:
    """Some blocks of one slot: [planes, heads, blocks, 16, width]."""
    return part[:, :, start * BLOCK : (start + count) * BLOCK].unflatten(2, (count, BLOCK))
