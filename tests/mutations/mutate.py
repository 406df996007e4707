"""`scripts/mutate ROOM`: change the code of a room in small ways, and see whether a test fails each time.

The rooms are in tests/mutations/rooms.toml. Exit status 0: every mutant that tests reach was found by one, or is listed
with a reason in tests/mutations/equivalent.toml. 1: one was not, or none was run, or the tests do not reach most
mutants of a file. 2: no such room. A command that was cut off goes on where it stopped when it is given again, as long
as no file has changed (tests/mutations/notes.py).
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mutant_runs import Runner, import_libraries, private_copy
from mutants import Mutant, mutants_of
from notes import Notes, name_of, state_of
from reach import Reach, reach_of
from trials import Fate, Trial, Verdict

FATES: tuple[Fate, ...] = ("killed", "survived", "not covered", "timed out", "not run")
TIMES = 6.0
"""A test may work this many times what it takes without a change, and some slack."""
REACHED = 0.5
"""The share of a file's mutants that the tests have to reach."""


@dataclass(frozen=True, slots=True)
class Room:
    """Some source files, and the tests that are to find every fault in them.

    Attributes:
        unreached: the reason for each file of which the tests may miss most mutants.
    """

    name: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    unreached: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """The rooms of a project, what a private copy of it holds, and the survivors that are known.

    Attributes:
        copied: files and folders.
        packages: top-level packages of the project itself.
        rooms: by name.
        known: the reason for each survivor that is known, by what was changed.
    """

    copied: tuple[str, ...]
    packages: tuple[str, ...]
    rooms: dict[str, Room]
    known: dict[tuple[str, str, str, str], str]

    @classmethod
    def read(cls, root: Path) -> Table:
        """The table of a project.

        Raises:
            SystemExit: a file that is named is not there, or what is listed has no reason.
        """
        folder = root / "tests" / "mutations"
        table = tomllib.loads((folder / "rooms.toml").read_text("utf-8"))
        rooms = {name: _room(root, name, values) for name, values in table["rooms"].items()}
        return cls(tuple(table["copied"]), tuple(table["packages"]), rooms, _known(folder / "equivalent.toml"))


def _room(root: Path, name: str, values: dict[str, Any]) -> Room:
    sources: list[str] = []
    for pattern in values["sources"]:
        found = sorted(str(path.relative_to(root)) for path in root.glob(pattern))
        sources += found or _fail(f"the room `{name}` names {pattern} as a source, and there is no such file")
    for path in values["tests"]:
        if not (root / path).exists():
            _fail(f"the room `{name}` names {path} as its tests, and there is no such file")
    unreached: dict[str, str] = values.get("unreached", {})
    for path, reason in unreached.items():
        if path not in sources:
            _fail(f"the room `{name}` lists {path} under `unreached`, and it is no source of it")
        if not reason.strip():
            _fail(f"the room `{name}` lists {path} under `unreached` without a reason")
    return Room(name, tuple(sources), tuple(values["tests"]), unreached)


def _known(path: Path) -> dict[tuple[str, str, str, str], str]:
    if not path.is_file():
        return {}
    known: dict[tuple[str, str, str, str], str] = {}
    for entry in tomllib.loads(path.read_text("utf-8")).get("mutant", ()):
        key = (entry["file"], entry["function"], entry["was"].strip(), entry["now"].strip())
        if not entry.get("reason", "").strip():
            _fail(f"{path.name} lists a mutant of {entry['file']} without a reason: {entry['now'].strip()}")
        known[key] = entry["reason"].strip()
    return known


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1)


def _leave(number: int, frame: object) -> NoReturn:
    """End in order, so that the copies are deleted."""
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("room", help="a room of tests/mutations/rooms.toml, or `all`")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help="the project")
    parser.add_argument("--file", action="append", default=[], metavar="PATH", help="only this source file")
    parser.add_argument("--workers", type=int, default=2, help="mutants at a time (2)")
    parser.add_argument("--slack", type=float, default=4.0, help="seconds that a test may work in any case (4)")
    parser.add_argument(
        "--again", action="store_true", help="only mutants that were neither killed nor listed when they were run last"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants of a room, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="the choice of --sample (0)")
    parser.add_argument("--killers", action="store_true", help="also say which test killed each mutant")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)
    root = chosen.root.resolve()
    table = Table.read(root)
    names = list(table.rooms) if chosen.room == "all" else [chosen.room]
    if unknown := [name for name in names if name not in table.rooms]:
        print(f"error: there is no room `{unknown[0]}`; there are: {', '.join(table.rooms)}", file=sys.stderr)
        return 2
    how = How(chosen.workers, chosen.slack, chosen.again, chosen.killers, chosen.sample, chosen.seed)
    done = [Work(root, table, table.rooms[name], how).run(chosen.file) for name in names]
    return 0 if all(done) else 1


@dataclass(frozen=True, slots=True)
class How:
    """How mutants are run.

    Attributes:
        workers: mutants at a time.
        slack: seconds that a test may work in any case.
        again: whether to leave out those that were killed, or survived and are listed, when they were run last.
        killers: whether to say what killed them.
        sample, seed: how many mutants to choose at random, and the seed of the choice; all of them without a number.
    """

    workers: int
    slack: float
    again: bool
    killers: bool
    sample: int | None
    seed: int

    def choose(self, mutants: Sequence[Mutant]) -> list[Mutant]:
        """The mutants to run, in their order."""
        if self.sample is None or self.sample >= len(mutants):
            return list(mutants)
        numbers = sorted(random.Random(self.seed).sample(range(len(mutants)), self.sample))
        return [mutants[number] for number in numbers]


@dataclass(frozen=True, slots=True)
class Work:
    """The mutation testing of one room."""

    root: Path
    table: Table
    room: Room
    how: How

    def run(self, only: Sequence[str] = ()) -> bool:
        """Whether every mutant that was run is killed or known, and there was one."""
        sources = [path for path in self.room.sources if not only or path in only]
        if not sources:
            _fail(f"{', '.join(only)} is no source of the room `{self.room.name}`: {', '.join(self.room.sources)}")
        mutants = [mutant for path in sources for mutant in mutants_of(self.root, path)]
        if not mutants:
            return self._nothing("its sources have nothing that can be changed")
        whole, mutants = mutants, self.how.choose(mutants)
        with ExitStack() as stack:
            base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simkit-mutate-")))
            base.chmod(0o755)  # tests of rights run as another user
            first = private_copy(self.root, self.table.copied, base / "0")
            sampled = f" (sampled from {len(whole)} with seed {self.how.seed})" if len(mutants) < len(whole) else ""
            print(
                f"{self.room.name}: {len(mutants)} mutants{sampled}; running {' '.join(self.room.tests)} as it is",
                flush=True,
            )
            notes = Notes.read(self.root, self.room.name, state_of(first))
            if self.how.again:
                mutants = [each for each in mutants if not notes.settled(each, listed=each.key in self.table.known)]
                print(f"{self.room.name}: {len(mutants)} of them were not settled when they were run last", flush=True)
            reach = reach_of(first, self.room.tests, sources)
            if reach.status != 0 or not reach.seconds:
                print(reach.output[-4000:])
                return self._nothing(f"its tests do not pass as they are (pytest ended with {reach.status})")
            if missed := self._missed(whole, reach):
                return self._nothing("; ".join(missed))
            import_libraries(reach.libraries, self.table.packages)
            others = [
                private_copy(first, self.table.copied, base / str(number)) for number in range(1, self.how.workers)
            ]
            verdicts = self._verdicts(mutants, reach, Runner([first, *others]), notes)
            if not only and not self.how.again and not sampled:
                notes.finish()
        return self._report(mutants, verdicts, sampled)

    def _missed(self, mutants: Sequence[Mutant], reach: Reach) -> list[str]:
        """What to say of the files of which the tests reach too few mutants: a room must not pass for that reason."""
        missed: list[str] = []
        for path in dict.fromkeys(mutant.path for mutant in mutants):
            found = [bool(_tests(reach, mutant)) for mutant in mutants if mutant.path == path]
            few = sum(found) < REACHED * len(found)
            if few and path not in self.room.unreached:
                missed.append(
                    f"its tests reach {sum(found)} of {len(found)} mutants of {path}; name tests that reach them in "
                    "tests/mutations/rooms.toml, or list the file there under `unreached` with a reason"
                )
            elif not few and path in self.room.unreached:
                print(f"listed under `unreached`, but its tests reach most mutants of it: {path}")
        return missed

    def _verdicts(self, mutants: Sequence[Mutant], reach: Reach, runner: Runner, notes: Notes) -> list[Verdict]:
        verdicts = [notes.going_on.get(name_of(mutant), Verdict("not covered")) for mutant in mutants]
        if known := sum(verdict.fate != "not covered" for verdict in verdicts):
            print(f"{self.room.name}: going on; {known} were run before with the same files", flush=True)
        trials: list[tuple[int, Trial]] = []
        for number, mutant in enumerate(mutants):
            if verdicts[number].fate != "not covered":
                continue
            if tests := _tests(reach, mutant):
                limits = {name: self.how.slack + TIMES * reach.seconds[name] for name in tests}
                in_memory = mutant.called and reach.only_in_tests(mutant.path, mutant.lines)
                trials.append((number, Trial(mutant.path, mutant.source, limits, in_memory)))
        for done, (number, verdict) in enumerate(runner.run(trials), 1):
            verdicts[number] = verdict
            notes.add(mutants[number], verdict)
            if done % 50 == 0:
                print(f"{self.room.name}: {done} of {len(trials)}", flush=True)
        return verdicts

    def _report(self, mutants: Sequence[Mutant], verdicts: Sequence[Verdict], sampled: str) -> bool:
        pairs = list(zip(mutants, verdicts, strict=True))
        print(_counts(pairs))
        if self.how.killers:
            for mutant, verdict in pairs:
                if verdict.by:
                    print(f"{verdict.fate}: {_diff(mutant)}    {verdict.by.splitlines()[-1]}\n")
        survivors = [mutant for mutant, verdict in pairs if verdict.fate == "survived"]
        new = [mutant for mutant in survivors if mutant.key not in self.table.known]
        for mutant in new:
            print(f"survived: {_diff(mutant)}")
        for mutant, verdict in pairs:
            if verdict.fate == "not run":
                print(f"not run: {_diff(mutant)}{verdict.by}")
        if not self.how.again and not sampled:
            self._tell_listed(pairs, {mutant.key for mutant in survivors})
        if lines := _lines(pairs, "timed out"):
            print("timed out, which counts as noticed:\n" + "\n".join(lines))
        if lines := _lines(pairs, "not covered"):
            print("not covered by the tests of this room:\n" + "\n".join(lines))
        ran = [verdict for verdict in verdicts if verdict.fate in ("killed", "survived", "timed out")]
        if not ran:
            return self._nothing("none of its mutants was run")
        failed = sum(verdict.fate == "not run" for verdict in verdicts)
        print(
            f"{self.room.name}: {len(ran)} mutants run{sampled}, {len(survivors)} survived, "
            f"{len(survivors) - len(new)} of them listed with a reason" + (f", {failed} NOT RUN" if failed else "")
        )
        return not new and not failed

    def _tell_listed(self, pairs: Sequence[tuple[Mutant, Verdict]], survived: set[tuple[str, str, str, str]]) -> None:
        """Say which listed mutants need not be listed: a test kills them by now, or the code is another."""
        here = {mutant.path for mutant, _ in pairs}
        killed = {mutant.key for mutant, verdict in pairs if verdict.fate in ("killed", "timed out")}
        for key in self.table.known:
            path, function, was, now = key
            if path in here and key not in survived:
                what = "is killed by a test" if key in killed else "is no mutant of this code, or not covered"
                print(f"listed in equivalent.toml, but {what}: {path}, {function or 'top'}: {was} -> {now}")

    def _nothing(self, why: str) -> bool:
        print(f"error: {self.room.name}: no mutant was run: {why}", file=sys.stderr)
        return False


def _tests(reach: Reach, mutant: Mutant) -> list[str]:
    return reach.tests_of(mutant.path, mutant.lines, called=mutant.called)


def _counts(pairs: Sequence[tuple[Mutant, Verdict]]) -> str:
    paths = list(dict.fromkeys(mutant.path for mutant, _ in pairs))
    width = max(map(len, [*paths, "file"]))
    lines = ["  ".join(["file".ljust(width), *FATES])]
    for path in [*paths, "all"]:
        count = Counter(verdict.fate for mutant, verdict in pairs if path in (mutant.path, "all"))
        lines.append("  ".join([path.ljust(width), *(str(count[fate]).rjust(len(fate)) for fate in FATES)]))
    return "\n".join(lines)


def _diff(mutant: Mutant) -> str:
    was = "\n".join(f"  - {line}" for line in mutant.was.splitlines())
    now = "\n".join(f"  + {line}" for line in mutant.now.splitlines())
    return f"{mutant.path}:{mutant.line}, {mutant.function or 'top of the file'}\n{was}\n{now}\n"


def _lines(pairs: Sequence[tuple[Mutant, Verdict]], fate: Fate) -> list[str]:
    """Where the mutants of one fate are."""
    found: dict[str, set[int]] = {}
    for mutant, verdict in pairs:
        if verdict.fate == fate:
            found.setdefault(mutant.path, set()).add(mutant.line)
    return [f"  {path}: {', '.join(map(str, sorted(lines)))}" for path, lines in found.items()]


if __name__ == "__main__":
    raise SystemExit(main())
