"""Forks against deep copies: time to fork and to append, and memory of 10,000 live branches.

    python -m benchmarks.forks [--branches N] [--repeat N]

The other side is what a conversation of OpenAI dicts in a list costs: `copy.deepcopy` to fork, `list.append` to add.
Memory is counted by tracemalloc for branches that have added nothing, and for branches with two messages of their own,
less what those messages take by themselves. Deep copies are counted for fewer branches and scaled, for their size.
"""

from __future__ import annotations

import argparse
import copy
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from simkit.components.state import BranchState
from simkit.core.conversation import Conversation, Entry
from simkit.core.messages import AssistantMessage, ToolCall, ToolMessage

LENGTHS = (10, 30, 100, 300)
OWN = 2


def history(length: int) -> Conversation:
    """A conversation as agents have them: user, call, return, reply, again and again."""
    entries: list[Entry] = []
    for index in range(length):
        turn = index // 4 + 1
        call = ToolCall.of(
            f"c{index}", "search_hotel", {"area": "north", "price_range": "cheap", "stars": str(index % 5)}
        )
        match index % 4:
            case 0:
                entries.append(Entry.user(f"I would like a hotel in the north, number {index} please.", turn))
            case 1:
                entries.append(Entry(AssistantMessage.of(None, (call,)), "agent", turn))
            case 2:
                entries.append(Entry(ToolMessage.of(call.id, '[{"name": "alpha lodge", "stars": "3"}]'), "tool", turn))
            case _:
                entries.append(Entry.agent(f"There is the alpha lodge, a guesthouse with {index % 5} stars.", turn))
    return Conversation(entries)


def seconds(work: Callable[[], object], times: int, repeat: int) -> float:
    """Median seconds of one call."""
    found: list[float] = []
    for _ in range(repeat):
        start = time.perf_counter()
        for _ in range(times):
            work()
        found.append((time.perf_counter() - start) / times)
    return statistics.median(found)


def bytes_each(make: Callable[[], object], count: int) -> float:
    """Bytes that each of `count` live things takes, the slot of the list that holds them left out."""
    gc.collect()
    kept: list[object] = [None] * count
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for index in range(count):
        kept[index] = make()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / count


def own_entries() -> tuple[Entry, ...]:
    return (Entry.agent("It is booked.", 99), Entry.user("And a taxi?", 99))


def own_bytes(branches: int) -> float:
    """Bytes of one branch's own entries by themselves, without the tuple that holds them here."""
    holder = sys.getsizeof((None,) * OWN)
    return bytes_each(own_entries, branches) - holder


def grown(state: BranchState) -> BranchState:
    forked = state.fork()
    return BranchState(forked.conversation.extend(own_entries()), forked.agent, forked.user, forked.world, forked.spent)


def row(length: int, branches: int, repeat: int) -> str:
    conversation = history(length)
    state = BranchState(conversation)
    dicts: list[dict[str, Any]] = [message.to_openai() for message in conversation.messages()]
    entry = Entry.agent("It is booked.", 99)
    fork = seconds(state.fork, 20_000, repeat)
    append = seconds(lambda: conversation.append(entry), 20_000, repeat)
    deep = seconds(lambda: copy.deepcopy(dicts), max(3, 3000 // length), repeat)
    held = bytes_each(lambda: grown(state), branches) - own_bytes(branches)
    held_deep = bytes_each(lambda: copy.deepcopy(dicts), max(20, branches // length))
    return (
        f"{length:8} {fork * 1e6:9.2f} {append * 1e6:9.2f} {deep * 1e6:11.1f} "
        f"{deep / fork:9,.0f}x {deep / (fork + append):10,.0f}x "
        f"{held:12,.0f} {held_deep:12,.0f} {held_deep / held:9,.0f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--branches", type=int, default=10_000, help="live branches")
    parser.add_argument("--repeat", type=int, default=3, help="measurements, of which the median counts")
    options = parser.parse_args()
    print(
        f"{options.branches:,} live branches, {OWN} messages of their own each; times in microseconds, memory in bytes"
    )
    print(
        f"{'messages':>8} {'fork':>9} {'append':>9} {'deepcopy':>11} {'fork':>10} {'with append':>10} "
        f"{'B a branch':>12} {'B a copy':>12} {'smaller':>10}"
    )
    for length in LENGTHS:
        print(row(length, options.branches, options.repeat))


if __name__ == "__main__":
    main()
