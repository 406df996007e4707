"""Journal and database: events committed per second, and how long 100,000 messages take to load and to query.

    python benchmarks/store.py [MESSAGES]

The baseline of the journal is a file that is written and flushed once per event; that of the loader is `executemany`
of the messages alone, on a tenth of them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import duckdb

from simkit.core.conversation import Conversation, Entry
from simkit.core.events import BranchAdded, Episode, EpisodeStarted, Event, RunStarted, TreeHarvested
from simkit.core.ids import branch_id, episode_id
from simkit.core.records import MessageRow
from simkit.store import Store
from simkit.store.database import create_schema
from simkit.store.encoding import encode

TEXT = "I have found several places that match; the first is in the north and costs twenty pounds a night. "
TURNS = 8
BRANCHES = 200


def rows(before: Conversation, entries: list[Entry]) -> tuple[tuple[MessageRow, ...], Conversation]:
    found: list[MessageRow] = []
    for entry in entries:
        prompt = before.digest.hex()
        message = entry.message.to_openai()
        found.append(MessageRow(len(before), entry.turn, 0, entry.author, message, entry.heard, prompt))
        before = before.append(entry)
    return tuple(found), before


def episode(number: int) -> Iterator[Event]:
    """A golden path of eight turns with a lost sibling at each: 34 messages."""
    name = episode_id("bench", f"T{number}", 0)
    yield EpisodeStarted(name, "bench", f"T{number}", 0, "josh", "none", ("g",), 1.0)
    path, parent, golden = "", branch_id(name, "", 0), [branch_id(name, "", 0)]
    opening, conversation = rows(
        Conversation(), [Entry.system("You are a travel agent."), Entry.user(f"Hi {number}", 0)]
    )
    yield BranchAdded(parent, name, None, "", 0, opening, (), (), None, None, 1.0)
    for turn in range(1, TURNS + 1):
        user = [Entry.user(f"{TEXT}{turn}", turn)]
        lost, _ = rows(conversation, [Entry.agent(f"{TEXT}lost {turn}", turn), *user])
        kept, conversation = rows(conversation, [Entry.agent(f"{TEXT}kept {turn}", turn), *user])
        yield BranchAdded(
            branch_id(name, path + "R", turn), name, parent, path + "R", turn, lost, (), (), "dropped", None, 1.0
        )
        path += "L"
        child = branch_id(name, path, turn)
        yield BranchAdded(child, name, parent, path, turn, kept, (), (), None, None, 1.0)
        golden.append(child)
        parent = child
    yield TreeHarvested(name, 0, parent, ("g",), tuple(golden), tuple(golden))
    yield Episode(
        episode_id=name,
        reward=1.0,
        outcome="goals_done",
        achieved=("g",),
        final_branch_id=parent,
        turns=TURNS,
        branches=17,
        faults=0,
        at=2.0,
    )


def events(messages: int) -> list[Event]:
    found: list[Event] = [RunStarted("bench", "bench", "josh", 1, {}, "0", 1.0)]
    for number in range(messages // 34):
        found += episode(number)
    return found


@contextmanager
def timed() -> Generator[list[float]]:
    taken: list[float] = []
    begun = time.perf_counter()
    yield taken
    taken.append(time.perf_counter() - begun)


async def commit_from_branches(store: Store, found: list[Event]) -> float:
    """Two hundred branches record and commit one event at a time, as turns of live branches do."""
    async with store.journal("bench", "w0") as journal:
        queue = iter(found)

        async def branch() -> None:
            for event in queue:
                journal.record(event)
                await journal.commit()

        with timed() as taken:
            async with anyio.create_task_group() as group:
                for _ in range(BRANCHES):
                    group.start_soon(branch)
    return taken[0]


def plain_file(path: Path, found: list[Event]) -> float:
    with timed() as taken, path.open("ab") as file:
        for event in found:
            file.write(encode(event))
            file.flush()
    return taken[0]


def one_by_one(store: Store, folder: Path) -> tuple[int, float]:
    """Insert a tenth of the messages with `executemany`."""
    query = "SELECT * FROM messages LIMIT (SELECT count(*) // 10 FROM messages)"
    sample = store.query(query).rows
    with duckdb.connect(folder / "slow.duckdb") as connection:
        create_schema(connection)
        with timed() as taken:
            connection.begin()
            connection.executemany(f"INSERT INTO messages VALUES ({', '.join('?' * len(sample[0]))})", sample)
            connection.commit()
    return len(sample), taken[0]


def report(store: Store, folder: Path, messages: int) -> None:
    found = events(messages)
    count = sum(len(event.messages) for event in found if isinstance(event, BranchAdded))
    journal = anyio.run(commit_from_branches, store, found)
    plain = plain_file(folder / "plain.jsonl", found)
    with timed() as loading:
        store.load()
    slow_count, slow = one_by_one(store, folder)
    size = (store.path / "journals" / "bench" / "w0.jsonl").stat().st_size
    print(f"{len(found):,} events, {count:,} messages, journal {size / 1e6:.1f} MB, {BRANCHES} branches at once\n")
    print(f"{'':44}{'seconds':>9}{'per second':>14}{'ratio':>8}")
    line("record + commit, each branch each event", journal, len(found) / journal, plain / journal)
    line("a plain file, written and flushed per event", plain, len(found) / plain, 1.0)
    fast_rate, slow_rate = count / loading[0], slow_count / slow
    line("load journals (messages)", loading[0], fast_rate, fast_rate / slow_rate)
    line(f"executemany of {slow_count:,} messages alone", slow, slow_rate, 1.0)
    print(f"\n{'query':44}{'seconds':>9}{'rows':>14}")
    for name in ("run_summary", "episode_scores", "sft_examples", "kto_examples", "dpo_pairs", "harvest_counts"):
        timed_query(store, name, f"FROM {name}")
    timed_query(store, "conversation(branch)", "FROM conversation('bench/T1/0/LLLLLLLL.8')")


def timed_query(store: Store, name: str, sql: str) -> None:
    with timed() as taken:
        found = store.query(sql)
    print(f"{name:44}{taken[0]:9.2f}{len(found.rows):14,}")


def line(name: str, seconds: float, rate: float, ratio: float) -> None:
    print(f"{name:44}{seconds:9.2f}{rate:14,.0f}{ratio:7.1f}x")


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        report(Store(Path(folder) / "store"), Path(folder), messages)


if __name__ == "__main__":
    main()
