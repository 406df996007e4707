"""`scripts/mutate` on projects of a few lines."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pytest
from mutant_runs import private_copy
from mutants import mutants_of
from notes import FOLDER, Notes, state_of
from trials import Fate, Killers, Trial, Verdict

COMMAND = Path(__file__).parent / "mutate.py"
CODE = """
def larger(a: int, b: int) -> int:
    if a > b:
        return a
    return b


def unused(a: int) -> int:
    return a + 1
"""
STRONG = """
from small import larger

def test_larger():
    assert [larger(1, 2), larger(2, 1)] == [2, 2]
"""
WEAK = """
from small import larger

def test_larger():
    assert {larger(2, 1), larger(1, 2)} <= {1, 2}
"""
EQUAL = """
[[mutant]]
file = "small/__init__.py"
function = "larger"
was = "if a > b:"
now = "if a >= b:"
reason = "of two equal numbers either is the larger"
"""


QUICK = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    error: str


class Project:
    """A package of one file with its tests and its table of rooms."""

    def __init__(self, root: Path, code: str = CODE, tests: str = STRONG, known: str = EQUAL) -> None:
        self.root = root
        files = {
            "pyproject.toml": "[tool.pytest.ini_options]\n",
            "small/__init__.py": code,
            "tests/test_small.py": tests,
            "tests/mutations/rooms.toml": (
                'copied = ["pyproject.toml", "small", "tests"]\npackages = ["small"]\n'
                '[rooms.small]\nsources = ["small/*.py"]\ntests = ["tests/test_small.py"]\n'
            ),
            "tests/mutations/equivalent.toml": known,
        }
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        self.before = self.files()

    def files(self) -> dict[str, str]:
        found = [path for path in self.root.rglob("*") if path.is_file() and FOLDER not in path.parts]
        return {str(path.relative_to(self.root)): path.read_text() for path in found}

    def mutate(self, *arguments: str) -> Said:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, env=QUICK, check=False)
        assert self.files() == self.before, "the user's files are left alone"
        return Said(done.returncode, done.stdout, done.stderr)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(COMMAND), *(arguments or ("small",)), "--root", str(self.root)]


def test_a_test_that_notices_every_change_is_enough(tmp_path: Path) -> None:
    said = Project(tmp_path).mutate()
    assert said.status == 0, said
    assert "small/__init__.py" in said.out
    assert "1 survived, 1 of them listed with a reason" in said.out
    assert "not covered by the tests of this room:\n  small/__init__.py: 9\n" in said.out


CACHED = """
from functools import cache

@cache
def table():
    return {number: -number for number in range(2)}
"""
SERVED = """
from small import table

def test_first():
    assert table()

def test_second():
    assert table() == {0: 0, 1: -1}
"""


def test_a_test_that_is_served_from_a_cache_notices_changes_of_what_fills_it(tmp_path: Path) -> None:
    said = Project(tmp_path, CACHED, SERVED, known="").mutate()
    assert said.status == 0, said
    assert ", 0 survived" in said.out


METHODS = """
class Base:
    def __init__(self):
        self.n = 1

class Sub(Base):
    def __init__(self):
        super().__init__()

    @property
    def next(self):
        return self.n + 1

    @staticmethod
    def half(n):
        return n // 2
"""
CALLED = """
from small import Sub

def test_sub():
    assert (Sub().next, Sub.half(5)) == (2, 2)
"""
IMPORTED = """
def double(n):
    return n * 2

TWO = double(1)
"""
USED = """
from small import TWO, double

def test_double():
    assert (TWO, double(0)) == (2, 0)
"""


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        pytest.param(METHODS, CALLED, id="methods, also one that loses its class cell"),
        pytest.param(IMPORTED, USED, id="a function that runs when its module is imported, too"),
    ],
)
def test_mutants_are_noticed_in_memory_and_when_they_are_imported(tmp_path: Path, code: str, tests: str) -> None:
    said = Project(tmp_path, code, tests, known="").mutate()
    assert said.status == 0, said
    assert ", 0 survived" in said.out


def test_a_sample_is_named_as_one(tmp_path: Path) -> None:
    said = Project(tmp_path, tests=WEAK).mutate("small", "--sample", "2", "--seed", "4")
    assert "small: 2 mutants (sampled from 8 with seed 4); running" in said.out
    assert "mutants run (sampled from 8 with seed 4), " in said.out
    assert "listed in equivalent.toml, but" not in said.out, "those that were not chosen are not judged"


def test_what_no_test_notices_is_shown_as_a_diff_and_fails(tmp_path: Path) -> None:
    said = Project(tmp_path, tests=WEAK).mutate()
    assert said.status == 1, said
    assert "survived: small/__init__.py:3, larger\n  - if a > b:\n  + if a <= b:\n" in said.out
    assert "if a >= b" not in said.out, "it is listed"
    assert "2 survived, 1 of them listed with a reason" in said.out


def test_a_survivor_is_listed_by_what_is_changed_wherever_it_stands(tmp_path: Path) -> None:
    said = Project(tmp_path, code=f"# moved\n\n{CODE}").mutate()
    assert said.status == 0, said


def test_a_listed_mutant_that_is_killed_or_gone_is_named(tmp_path: Path) -> None:
    known = EQUAL + EQUAL.replace("a >= b", "a <= b") + EQUAL.replace("a >= b", "a is b")
    said = Project(tmp_path, known=known).mutate()
    assert said.status == 0, said
    assert "is killed by a test: small/__init__.py, larger: if a > b: -> if a <= b:" in said.out
    assert "is no mutant of this code, or not covered: small/__init__.py, larger: if a > b: -> if a is b:" in said.out


@pytest.mark.parametrize(
    ("code", "tests", "words"),
    [
        ("A = B = None\n", "def test_nothing(): pass\n", "its sources have nothing that can be changed"),
        (CODE, "def test_red(): assert False\n", "its tests do not pass as they are (pytest ended with 1)"),
        (CODE, "import missing\n", "its tests do not pass as they are (pytest ended with 2)"),
        (CODE, "", "its tests do not pass as they are (pytest ended with 5)"),
        (CODE, "def test_nothing(): pass\n", "its tests reach 0 of 8 mutants of small/__init__.py; name tests"),
    ],
)
def test_no_mutant_run_is_a_failure(tmp_path: Path, code: str, tests: str, words: str) -> None:
    said = Project(tmp_path, code, tests, known="").mutate()
    assert said.status == 1, said
    assert f"error: small: no mutant was run: {words}" in said.error


MOSTLY_UNUSED = CODE + "\n\ndef unused_too(a: int) -> int:\n    return (a + 1) * (a + 2) - (a + 3)\n"


@pytest.mark.parametrize("arguments", [(), ("--again",), ("--sample", "1")])
def test_a_room_whose_tests_reach_few_mutants_of_a_file_fails(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    said = Project(tmp_path, MOSTLY_UNUSED).mutate("small", *arguments)
    assert said.status == 1, said
    assert "error: small: no mutant was run: its tests reach 4 of 20 mutants of small/__init__.py" in said.error
    assert "list the file there under `unreached` with a reason" in said.error


def unreached(project: Project, reason: str) -> Project:
    """The project with a reason why its tests need not reach its code."""
    table = project.root / "tests" / "mutations" / "rooms.toml"
    table.write_text(f"{table.read_text()}[rooms.small.unreached]\n'small/__init__.py' = '{reason}'\n")
    project.before = project.files()
    return project


def test_a_file_that_tests_barely_reach_is_listed_with_a_reason(tmp_path: Path) -> None:
    said = unreached(Project(tmp_path / "listed", MOSTLY_UNUSED), "other tests reach it").mutate()
    assert said.status == 0, said
    assert "listed under `unreached`" not in said.out
    said = unreached(Project(tmp_path / "reached"), "other tests reach it").mutate()
    assert "listed under `unreached`, but its tests reach most mutants of it: small/__init__.py" in said.out
    said = unreached(Project(tmp_path / "no reason"), " ").mutate()
    assert (said.status, "lists small/__init__.py under `unreached` without a reason" in said.error) == (1, True)


def test_a_mutant_that_runs_for_ever_is_timed_out_and_no_survivor(tmp_path: Path) -> None:
    code = "def count(n: int) -> int:\n    while n > 0:\n        n -= 1\n    return n\n"
    tests = "from small import count\n\ndef test_count():\n    assert count(3) == 0\n"
    said = Project(tmp_path, code, tests, known="").mutate("small", "--slack", "0.5")
    heading, counts = columns(said.out)
    assert int(counts[heading.index("timed-out")]) >= 1, said
    assert "n -= 1" not in said.out


def test_a_mutant_that_waits_for_ever_is_timed_out_and_no_survivor(tmp_path: Path) -> None:
    code = "import threading\n\ndef go(done: threading.Event) -> None:\n    done.set()\n    done.wait()\n"
    tests = "import threading\n\nfrom small import go\n\ndef test_go():\n    go(threading.Event())\n"
    said = Project(tmp_path, code, tests, known="").mutate("small", "--slack", "0.2")
    assert "timed out, which counts as noticed:\n  small/__init__.py: 4\n" in said.out, said


def noted(project: Project, fate: Fate, *, of: Collection[str], other: bool = False) -> None:
    """Leave the notes of a run that was cut off after it had run some mutants, with these or other files."""
    folder = project.root.parent / f"copied-{len(of)}"
    copy = private_copy(project.root, ["pyproject.toml", "small", "tests"], folder)
    notes = Notes.read(project.root, "small", "other" if other else state_of(copy))
    for mutant in mutants_of(project.root, "small/__init__.py"):
        if mutant.now in of:
            notes.add(mutant, Verdict(fate, "a test"))


def test_a_command_that_was_cut_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    noted(project, "survived", of=("if a <= b:", "if a >= b:"))
    said = project.mutate()
    assert "going on; 2 were run before with the same files" in said.out
    assert "2 survived, 1 of them listed with a reason" in said.out
    assert "going on" not in project.mutate().out, "it came to its end"


def test_nothing_that_was_found_with_other_files_counts(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", tests=WEAK)
    noted(project, "killed", of=("if a <= b:", "if a >= b:"), other=True)
    said = project.mutate()
    assert "going on" not in said.out
    assert "2 survived, 1 of them listed with a reason" in said.out


def test_again_runs_what_was_not_killed_before(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    mutants = [mutant for mutant in mutants_of(project.root, "small/__init__.py") if mutant.now != "if a <= b:"]
    noted(project, "killed", of=[mutant.now for mutant in mutants], other=True)
    said = project.mutate("small", "--again")
    assert "1 of them were not settled when they were run last" in said.out
    assert "small: 1 mutants run, 0 survived" in said.out
    noted(project, "survived", of=["if a >= b:", "if a <= b:"], other=True)
    assert "1 of them were not settled" in project.mutate("small", "--again").out, "the other one is listed"
    noted(project, "killed", of=["if a <= b:"], other=True)
    nothing = project.mutate("small", "--again")
    assert nothing.status == 1
    assert "no mutant was run" in nothing.error


def test_again_knows_the_mutants_of_a_file_that_has_changed_elsewhere(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    noted(project, "killed", of=["if a >= b:", "if a <= b:", "return None"], other=True)
    source = project.root / "small" / "__init__.py"
    source.write_text(CODE.replace("def unused", "def one() -> int:\n    return 1\n\n\ndef unused"))
    notes = Notes.read(project.root, "small", "other")
    mutants = mutants_of(project.root, "small/__init__.py")
    assert [(each.function, each.now) for each in mutants if notes.settled(each, listed=False)] == [
        *(("larger", now) for now in ("if a >= b:", "if a <= b:", "return None", "return None")),
        ("unused", "return None"),
    ]
    noted(project, "survived", of=["if a >= b:"], other=True)
    assert not Notes.read(project.root, "small", "other").settled(mutants[0], listed=False)
    assert Notes.read(project.root, "small", "other").settled(mutants[0], listed=True)


def test_equal_changes_of_equal_lines_are_told_apart(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", "def add(n: int) -> int:\n    n += 1\n    n += 1\n    return n\n")
    first, second = [each for each in mutants_of(project.root, "small/__init__.py") if each.now == "n -= 1"]
    assert (first.key == second.key, first.nth, second.nth) == (True, 0, 1)
    notes = Notes.read(project.root, "small", "other")
    notes.add(second, Verdict("killed"))
    (project.root / "small" / "__init__.py").write_text(f"\n{(project.root / 'small' / '__init__.py').read_text()}")
    moved = [each for each in mutants_of(project.root, "small/__init__.py") if each.now == "n -= 1"]
    known = Notes.read(project.root, "small", "other")
    assert [known.settled(each, listed=False) for each in moved] == [False, True]


def test_notes_hold_the_last_verdict_and_pass_over_what_is_none(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    lines = [
        '{"state": "s", "mutant": "a", "fate": "killed", "by": "t"}',
        '{"state": "s", "mutant": "a", "fate": "survived"}',
        '{"state": "s", "mutant": "b", "fate": "not run"}',
        '{"state": "old", "mutant": "c", "fate": "timed out"}',
        '{"state": "s", "mutant": "d", "fate": "guessed"}',
        '{"state": "old", "finished": true}',
        "[]",
        '{"state": "s", "mu',
    ]
    (tmp_path / FOLDER / "small.jsonl").write_text("\n".join(lines))
    notes = Notes.read(tmp_path, "small", "s")
    assert {name: verdict.fate for name, verdict in notes.going_on.items()} == {"a": "survived"}
    assert notes.last == {"a": "survived", "b": "not run", "c": "timed out"}


def wait_for_writer(pipe: Path, process: subprocess.Popen[bytes]) -> None:
    """Until something has opened the pipe and closed it; a process that ends before fails the test."""
    reader, poller = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), select.poll()
    poller.register(reader)
    while not poller.poll(100):
        assert process.poll() is None, "it ended before its test ran"
    os.close(reader)


def test_a_command_that_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    waits = (
        "import threading\n\ndef test_for_ever():\n"
        f"    open({str(started)!r}, 'w').close()\n    threading.Event().wait()\n"
    )
    project, temporary = Project(tmp_path / "project", tests=waits), tmp_path / "temporary"
    temporary.mkdir()
    with subprocess.Popen(project.command(), env={**QUICK, "TMPDIR": str(temporary)}) as process:
        wait_for_writer(started, process)  # until its test runs
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    assert list(temporary.iterdir()) == []
    assert project.files() == project.before


def columns(out: str) -> tuple[list[str], list[str]]:
    """The heading and the last line of the counts."""
    lines = out.replace("timed out", "timed-out").replace("not covered", "not-covered").replace("not run", "not-run")
    heading = next(line for line in lines.splitlines() if line.startswith("file "))
    return heading.split(), next(line for line in lines.splitlines() if line.startswith("all ")).split()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("attic",), 2, "there is no room `attic`; there are: small"),
        (("small", "--file", "other.py"), 1, "other.py is no source of the room `small`: small/__init__.py"),
    ],
)
def test_a_room_that_there_is_not(tmp_path: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    said = Project(tmp_path).mutate(*arguments)
    assert (said.status, words in said.error) == (status, True), said


def test_a_known_mutant_needs_a_reason(tmp_path: Path) -> None:
    said = Project(tmp_path, known=EQUAL.replace("of two equal numbers either is the larger", " ")).mutate()
    assert said.status == 1
    assert "lists a mutant of small/__init__.py without a reason" in said.error


def test_a_copy_has_no_links_to_folders_so_that_modules_have_the_paths_of_their_files(tmp_path: Path) -> None:
    """`scripts/dev` links packages into another: tests would import these, and run no line of the files."""
    (tmp_path / "rewards").mkdir()
    (tmp_path / "simkit").mkdir()
    (tmp_path / "rewards" / "some.py").touch()
    (tmp_path / "simkit" / "rewards").symlink_to("../rewards")
    copy = private_copy(tmp_path, ["simkit", "rewards"], tmp_path / "0")
    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*")) == ["rewards", "rewards/some.py", "simkit"]


def test_the_tests_that_killed_the_last_mutants_of_a_file_run_first() -> None:
    killers, tests = Killers(), {f"t{number}": float(number) for number in range(20)}
    trial, other = Trial("a.py", b"", tests), Trial("b.py", b"", tests)
    for by in ("t7", "t3", "t7", "the collection", ""):
        killers.note(trial, by)
    assert list(killers.first(trial).tests.items())[:3] == [("t7", 7.0), ("t3", 3.0), ("t0", 0.0)]
    assert killers.first(trial).tests == tests
    assert list(killers.first(other).tests) == list(tests)
    assert list(killers.first(Trial("a.py", b"", {"t1": 1.0})).tests) == ["t1"]
    for by in tests:
        killers.note(trial, by)
    assert list(killers.first(trial).tests)[9:12] == ["t10", "t0", "t1"], "only the last ten are kept"
