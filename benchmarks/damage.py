"""What numbers and checksums of journal lines cost, and how long a damaged journal takes to load.

    python benchmarks/damage.py [--repeat N]

One line of every ten is damaged: its checksum does not hold, it is no JSON, or it is sound and no event. Ten times as
many lines should take ten times as long. CPU microseconds a line for sealing, checking and loading; medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from store import events

from simkit.store import Store
from simkit.store.encoding import encode
from simkit.store.lines import JournalLines, journal_seed, seal

KINDS = ("altered", "garbage", "unreadable")


def sealed(path: Path, plain: list[bytes]) -> list[bytes]:
    seed = journal_seed(path)
    return [seal(line, number, seed) for number, line in enumerate(plain)]


def damaged(lines: list[bytes], path: Path) -> list[bytes]:
    """Every tenth line is spoilt, in one of three ways."""
    seed, found = journal_seed(path), list(lines)
    for place in range(9, len(lines), 10):
        match KINDS[place // 10 % len(KINDS)]:
            case "altered":
                found[place] = b"[" + lines[place][1:]
            case "garbage":
                found[place] = b"no line of a journal\n"
            case _:
                found[place] = seal(b'{"e":"Unheard"}\n', place, seed)
    return found


def loading(plain: list[bytes], spoil: bool) -> tuple[float, int]:
    """Seconds that a journal takes to load, and how many places of it were named."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store" / "journals" / "bench" / "w0.jsonl"
        path.parent.mkdir(parents=True)
        lines = sealed(path, plain)
        path.write_bytes(b"".join(damaged(lines, path) if spoil else lines))
        began = time.perf_counter()
        report = Store(Path(folder) / "store").load()
        return time.perf_counter() - began, len(report.unreadable)


def per_line(plain: list[bytes], repeat: int) -> tuple[float, float]:
    """CPU microseconds for sealing a line, and for reading and checking it again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench" / "w0.jsonl"
        path.parent.mkdir()
        sealing, checking = list[float](), list[float]()
        for _ in range(repeat):
            began = time.process_time()
            lines = sealed(path, plain)
            sealing.append(time.process_time() - began)
            path.write_bytes(b"".join(lines))
            began = time.process_time()
            assert sum(1 for _ in JournalLines(path)) == len(plain)
            checking.append(time.process_time() - began)
    scale = 1e6 / len(plain)
    return statistics.median(sealing) * scale, statistics.median(checking) * scale


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    plain = [encode(event) for event in events(175_000)][:100_000]
    sealing, checking = per_line(plain, given.repeat)
    size = sum(map(len, plain)) / len(plain)
    print(f"a line of {size:.0f} bytes: sealed in {sealing:.2f} us, read and checked in {checking:.2f} us (CPU)\n")
    print(f"{'lines':>8}{'damaged':>9}{'seconds':>9}{'us a line':>11}")
    for count in (10_000, 100_000):
        for spoil in (False, True):
            runs = [loading(plain[:count], spoil) for _ in range(given.repeat)]
            seconds = statistics.median(each for each, _ in runs)
            print(f"{count:8,}{runs[0][1]:9,}{seconds:9.2f}{seconds / count * 1e6:11.1f}", flush=True)


if __name__ == "__main__":
    main()
