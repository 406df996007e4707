"""What is said of damage, and how it is kept beside the database, also where its file is torn."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import get_args

import duckdb
import orjson
import pytest

from simkit.store.damage import FILE, BadLine, DamageFile, Kind, describe, describe_runs, known_damage
from simkit.store.database import create_schema

LOST = BadLine(Path("w0.jsonl"), 100, 9, "the line before it is missing", "lost", 8, 1, 1)


def lost(store: Path, run: str = "r1", worker: str = "w0", byte: int = 100, checksum: int = 1) -> BadLine:
    return replace(LOST, journal=store / "journals" / run / f"{worker}.jsonl", byte=byte, checksum=checksum)


def test_a_damage_is_known_by_its_journal_kind_place_and_bytes(tmp_path: Path) -> None:
    one = lost(tmp_path)
    assert one.run_id == "r1"
    assert one.key == ("r1/w0.jsonl", "lost", 100, 1)


def test_one_damage_is_described_with_its_place_and_what_to_do(tmp_path: Path) -> None:
    one = lost(tmp_path)
    after = (
        "All sound lines were loaded; `FROM unreadable_lines` lists the places. Put the journal back from a copy, or "
        "go on without: `simkit doctor --acknowledge r1`"
    )
    start = f"the journal of run r1 is damaged: {one.journal}, line 9 (byte 100)"
    assert describe([one]) == f"{start}: the line before it is missing. {after}"
    assert describe([replace(one, lines=2)]) == f"{start} (2 lines): the line before it is missing. {after}"


def test_several_damages_are_counted_by_kind(tmp_path: Path) -> None:
    one = lost(tmp_path)
    others = [replace(one, lines=3), replace(one, kind="garbage"), replace(one, kind="duplicate", lines=2)]
    words = describe([one, *others, replace(one, line=12, reason="other")])
    assert (
        f"{one.journal}, line 9 (byte 100) and 4 more places (lost: 5, no lines of a journal: 1, copies: 2): " in words
    )
    assert ": the line before it is missing. All sound lines" in words


WORDS: dict[Kind, str] = {
    "altered": "altered",
    "garbage": "no lines of a journal",
    "duplicate": "copies",
    "late": "out of place",
    "lost": "lost",
    "unreadable": "unknown",
    "shortened": "shortened",
    "changed": "changed",
    "gone": "gone",
    "file": "unreadable files",
}


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_kind_of_damage_has_its_words_and_is_kept(tmp_path: Path, kind: Kind) -> None:
    one = replace(lost(tmp_path), kind=kind)
    assert f" and 1 more places ({WORDS[kind]}: 2): " in describe([one, one])
    DamageFile(tmp_path).keep([one])
    assert DamageFile(tmp_path).found() == (one,)


def test_damage_of_many_runs_is_described_run_by_run_and_the_rest_counted(tmp_path: Path) -> None:
    bad = [lost(tmp_path, f"r{number}", byte=byte) for byte in (1, 2) for number in range(5)]
    words = [describe([bad[number], bad[number + 5]]) for number in range(5)]
    assert describe_runs([]) == ()
    assert describe_runs([bad[0], bad[5]]) == (words[0],)
    assert describe_runs([*bad[:3], *bad[5:8]]) == tuple(words[:3])
    rest = "more runs of this store are damaged: `FROM unreadable_lines`"
    assert describe_runs([*bad[:4], *bad[5:9]]) == (*words[:3], f"1 {rest}")
    assert describe_runs(bad) == (*words[:3], f"2 {rest}")


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    file = DamageFile(tmp_path)
    assert file.found() == file.open() == ()
    assert file.acknowledged() == frozenset()
    first, second = replace(lost(tmp_path), kind="shortened", sequence=None), lost(tmp_path, "r2")
    file.keep([])
    assert not file.path.exists()
    file.keep([first])
    file.keep([second, first])
    file.acknowledge([second])
    assert file.path == tmp_path / FILE
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert b"\n\n" not in file.path.read_bytes()
    again = DamageFile(tmp_path)
    assert again.found() == (first, second, first)
    assert again.acknowledged() == {second.key}
    assert again.open() == again.open("r1") == (first,)
    assert again.open("r2") == again.open("r3") == ()


def test_what_was_known_of_a_run_that_was_deleted_is_forgotten(tmp_path: Path) -> None:
    file, other = DamageFile(tmp_path), lost(tmp_path, "r2")
    file.forget("r1")
    assert not file.path.exists()
    file.keep([lost(tmp_path), other])
    file.acknowledge([lost(tmp_path), other])
    file.forget("r1")
    assert (file.found(), file.acknowledged()) == ((other,), {other.key})
    said = orjson.loads(file.path.read_bytes().splitlines()[-1])
    assert (said.keys(), said["deleted"], said["at"] > 0) == ({"deleted", "at"}, "r1", True)
    file.keep([lost(tmp_path)])
    assert (file.found(), file.open("r1")) == ((other, lost(tmp_path)), (lost(tmp_path),))


def test_an_acknowledgement_is_of_one_damage(tmp_path: Path) -> None:
    file = DamageFile(tmp_path)
    other = lost(tmp_path, checksum=2)
    file.keep([lost(tmp_path), other])
    file.acknowledge([lost(tmp_path)])
    assert file.open() == (other,)


@pytest.mark.parametrize("cut", [1, 20])
def test_a_torn_entry_costs_itself_and_not_the_next(tmp_path: Path, cut: int) -> None:
    file = DamageFile(tmp_path)
    first, second, third = (lost(tmp_path, byte=byte) for byte in (1, 2, 3))
    file.keep([first, second])
    file.path.write_bytes(file.path.read_bytes()[:-cut])
    file.keep([third])
    assert file.found() == ((first, second, third) if cut == 1 else (first, third))
    assert file.path.read_bytes().endswith(b"}\n")
    assert b"\n\n" not in file.path.read_bytes()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"torn",
        b"[]",
        b"1",
        b"null",
        b'{"found": 1}',
        b'{"found": {"kind": "of a later version"}}',
        b'{"found": {}}',
    ],
)
def test_entries_that_this_version_does_not_know_are_passed_over(tmp_path: Path, line: bytes) -> None:
    file = DamageFile(tmp_path)
    file.keep([lost(tmp_path)])
    file.path.write_bytes(line + b"\n" + file.path.read_bytes())
    file.acknowledge([lost(tmp_path)])
    assert file.found() == (lost(tmp_path),)
    assert file.acknowledged() == {lost(tmp_path).key}


def test_an_entry_says_when_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.5)
    DamageFile(tmp_path).keep([lost(tmp_path)])
    entry = orjson.loads((tmp_path / FILE).read_bytes())
    assert entry == {
        "found": {
            "journal": "r1/w0.jsonl",
            "byte": 100,
            "line": 9,
            "reason": "the line before it is missing",
            "kind": "lost",
            "sequence": 8,
            "lines": 1,
            "checksum": 1,
        },
        "at": 1000.5,
    }


def test_an_entry_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def fsync(file: int) -> None:
        sizes.append(os.fstat(file).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    file = DamageFile(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    file.keep([lost(tmp_path)])
    assert sizes == [file.path.stat().st_size]
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_damage_that_a_database_knows_is_that_of_a_run_and_not_acknowledged(tmp_path: Path) -> None:
    found = [lost(tmp_path), lost(tmp_path, worker="w1"), lost(tmp_path, "r10"), lost(tmp_path, byte=50)]
    with duckdb.connect() as connection:
        create_schema(connection)
        assert known_damage(connection, tmp_path) == ()
        for number, one in enumerate(found):
            connection.execute(
                "INSERT INTO unreadable_lines BY NAME SELECT ? AS journal, ? AS byte, ? AS line, ? AS reason, "
                "? AS kind, ? AS sequence, ? AS lines, ? AS checksum, ? AS acknowledged",
                [
                    *(one.key[0], one.byte, one.line, one.reason, one.kind, one.sequence, one.lines),
                    *(one.checksum, number == 1),
                ],
            )
        assert known_damage(connection, tmp_path) == (found[3], found[0], found[2])
        assert known_damage(connection, tmp_path, "r1") == (found[3], found[0])
        assert known_damage(connection, tmp_path, "r2") == ()
        DamageFile(tmp_path).acknowledge([found[0]])  # not in the database yet
        assert known_damage(connection, tmp_path, "r1") == (found[3],)
