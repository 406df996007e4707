"""`simkit doctor --verify` finds every altered line, and `--acknowledge` lets a damaged run be used."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from simkit.cli.app import app


def simkit(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "store"
    code, said = simkit("run", "josh", "--tasks", "2", "--name", "one", "--quiet", "--store", str(path))
    assert code == 0, said
    return path


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    """A copy of a sound store, to damage."""
    return Path(shutil.copytree(sound, tmp_path / "store"))


def journal(store: Path) -> Path:
    (found,) = store.glob("journals/*/main.jsonl")
    return found


def test_a_sound_store_is_said_to_be_sound(store: Path) -> None:
    code, said = simkit("doctor", "--verify", "--store", str(store))
    assert code == 0
    assert f"1 journals, {len(journal(store).read_bytes().splitlines()):,} lines" in said


@pytest.mark.parametrize("kind", ["altered", "duplicate", "late", "lost", "garbage"])
def test_each_kind_of_damage_is_named_and_fails_the_command(store: Path, kind: str) -> None:
    lines = journal(store).read_bytes().splitlines(keepends=True)
    match kind:
        case "altered":
            lines[2] = lines[2].replace(b'"', b"'", 1)
        case "duplicate":
            lines.insert(3, lines[2])
        case "late":
            lines[2], lines[3] = lines[3], lines[2]
        case "lost":
            del lines[2]
        case _:
            lines.insert(3, b"\0\0\0\n")
    journal(store).write_bytes(b"".join(lines))
    code, said = simkit("doctor", "one", "--verify", "--json", "--store", str(store))
    assert code == 1
    report = orjson.loads(said.splitlines()[-1])
    assert kind in [place["kind"] for place in report["damaged"]]


def test_a_damaged_run_is_exported_once_its_damage_is_acknowledged(store: Path, tmp_path: Path) -> None:
    lines = journal(store).read_bytes().splitlines(keepends=True)
    journal(store).write_bytes(b"".join([*lines[:3], lines[2], *lines[3:]]))
    out = tmp_path / "kto.jsonl"
    code, said = simkit("export", "kto", "--run", "one", "--out", str(out), "--store", str(store))
    assert code == 1, said
    assert "simkit doctor --acknowledge" in said
    assert not out.exists()
    code, said = simkit("doctor", "--acknowledge", "one", "--store", str(store))
    assert (code, "acknowledged" in said) == (0, True), said
    code, said = simkit("export", "kto", "--run", "one", "--out", str(out), "--store", str(store))
    assert code == 0, said


def test_a_run_has_to_be_named_where_one_is_needed(store: Path) -> None:
    assert simkit("doctor", "--store", str(store))[0] == 2
    assert simkit("doctor", "--acknowledge", "--store", str(store))[0] == 2


def test_what_verify_finds_in_lines_that_were_loaded_is_named_until_it_is_acknowledged(store: Path) -> None:
    whole = journal(store).read_bytes()
    journal(store).write_bytes(whole.replace(b'{"e":"TaskSeen"', b'{"e":"TaskSeem"', 1))
    where = ("--store", str(store))
    assert "is damaged" not in simkit("ls", *where)[1]
    assert simkit("doctor", "--verify", *where)[0] == 1
    assert "is damaged" in simkit("ls", *where)[1]
    journal(store).write_bytes(whole)
    assert simkit("doctor", "--verify", *where)[0] == 0
    assert "is damaged" not in simkit("ls", *where)[1]
    journal(store).write_bytes(whole.replace(b'{"e":"TaskSeen"', b'{"e":"TaskSeem"', 1))
    assert simkit("doctor", "--verify", *where)[0] == 1
    assert simkit("doctor", "--acknowledge", "one", *where)[0] == 0
    assert simkit("doctor", "--verify", *where)[0] == 1
    assert "is damaged" not in simkit("ls", *where)[1]


def test_a_run_names_the_damage_of_others_until_it_is_acknowledged(store: Path) -> None:
    def run() -> str:
        code, said = simkit("run", "rollout", "--tasks", "1", "--store", str(store))
        assert code == 0, said
        return " ".join(said.split())

    path = journal(store)
    assert "is damaged" not in run()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[-1]]))
    for _ in range(2):
        said = run()
        assert "is damaged" in said
        assert f"line {len(lines) + 1} (byte {sum(map(len, lines))})" in said
    assert simkit("doctor", "--acknowledge", "one", "--store", str(store))[0] == 0
    assert "is damaged" not in run()
