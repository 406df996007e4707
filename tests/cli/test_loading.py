from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from importlib.metadata import metadata
from pathlib import Path
from typing import Protocol

import pytest

from simkit.errors import ComponentNotFound, UsageError
from simkit.plugins.extras import EXTRA_OF
from simkit.plugins.loading import ComponentKind, available, import_file, load, parse_reference


class Greeter(ABC):
    @abstractmethod
    def greet(self) -> str: ...


class Polite(Greeter):
    def __init__(self, world: str, *, times: int = 1, loud: bool = False, word: str = "hello") -> None:
        self.world, self.times, self.loud, self.word = world, times, loud, word

    def greet(self) -> str:
        text = f"{self.word} {self.world} " * self.times
        return text.upper() if self.loud else text


class Voice(Protocol):
    def say(self) -> str: ...


class Voiced(Greeter):
    def __init__(self, voice: Voice | str = "") -> None:
        self.voice = voice

    def greet(self) -> str:
        return str(self.voice)


KIND = ComponentKind("greeter", "simkit.test.greeters", Greeter)
POLITE = f"{__name__}:Polite"

FILE = """
from test_loading import Greeter

class Gruff(Greeter):
    def __init__(self, *, grunts: int = 1):
        self.grunts = grunts
    def greet(self):
        return "hm" * self.grunts
"""


@pytest.fixture
def gruff(tmp_path: Path) -> Path:
    path = tmp_path / "gruff.py"
    path.write_text(FILE)
    return path


def test_a_reference_has_a_target_and_options() -> None:
    reference = parse_reference("scripted,error_rate=0.2,habits=drop:people,skip")
    assert reference.target == "scripted"
    assert reference.options == {"error_rate": "0.2", "habits": "drop:people,skip"}


@pytest.mark.parametrize("text", ["", ",a=1", "scripted,loose", "scripted,a=1,a=2"])
def test_a_bad_reference_says_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match=r"NAME,key=value|give it once"):
        parse_reference(text)


def test_options_take_the_types_of_the_constructor() -> None:
    greeter = load(KIND, f"{POLITE},times=2,loud=true,word=ah, so", {"world": "all"})
    assert greeter.greet() == "AH, SO ALL AH, SO ALL "


def test_options_of_the_caller_are_set_unless_none_and_lose_against_the_text() -> None:
    greeter = load(KIND, f"{POLITE},word=hi", {"world": "w", "unused": 1}, word="no", times=None)
    assert greeter.greet() == "hi w "


def test_an_unknown_option_lists_those_there_are() -> None:
    with pytest.raises(
        UsageError, match=r"no option `time` \(did you mean `times`\?\); its options: times, loud, word"
    ):
        load(KIND, f"{POLITE},time=2", {"world": "w"})


@pytest.mark.parametrize("option", ["world=all", "world=", "times=2,world=all"])
def test_what_the_caller_gives_is_no_option(option: str) -> None:
    with pytest.raises(UsageError, match="gets its `world` from the run; choose it there"):
        load(KIND, f"{POLITE},{option}", {"world": "w"})
    if option == "world=all":
        assert load(KIND, f"{POLITE},{option}").greet() == "hello all "


def test_an_option_whose_type_is_a_protocol_is_no_crash() -> None:
    assert load(KIND, f"{__name__}:Voiced,voice=low").greet() == "low"


def test_a_value_of_the_wrong_type_names_the_option() -> None:
    with pytest.raises(UsageError, match="option `times` is `many`"):
        load(KIND, f"{POLITE},times=many", {"world": "w"})


def test_a_missing_argument_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match=r"cannot be built.*world"):
        load(KIND, POLITE)


def test_a_file_may_be_named_with_or_without_the_class(gruff: Path) -> None:
    assert load(KIND, f"{gruff}:Gruff,grunts=2").greet() == "hmhm"
    assert load(KIND, f"{gruff},grunts=3").greet() == "hmhmhm"


def test_a_file_is_imported_once_under_a_name_of_its_own_until_it_changes(gruff: Path) -> None:
    first = import_file(gruff)
    assert import_file(gruff) is first
    assert first.__name__ != "gruff"
    assert sys.modules[first.__name__] is first
    gruff.write_text(FILE + "\nCHANGED = True\n")
    assert import_file(gruff).CHANGED is True


def test_a_file_can_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_user_file.py").write_text("WORD = 'moin'\n")
    path = tmp_path / "user_file.py"
    path.write_text("from neighbour_of_user_file import WORD\n")
    assert import_file(path).WORD == "moin"


@pytest.mark.parametrize(
    ("text", "problem"),
    [("def broken(:\n", "SyntaxError"), ("\n1 / 0\n", ":2: ZeroDivisionError"), ("import nowhere_at_all\n", ":1: Mod")],
)
def test_a_file_that_fails_is_shown_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"bad\.py cannot be imported") as caught:
        load(KIND, f"{path}:Anything")
    assert problem in str(caught.value)
    assert "bad.py:" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("nowhere_at_all.part", r"; install `nowhere_at_all` beside simkit, with \S+ -m pip$"),
        ("a_framework", r"; pip install '\S+\[langgraph\]'"),
        ("simkit.nothing", "No module named 'simkit.nothing'$"),
    ],
)
def test_a_missing_module_is_advised_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, advice: str
) -> None:
    monkeypatch.setitem(EXTRA_OF, "a_framework", "langgraph")
    path = tmp_path / "bad.py"
    path.write_text(f"import {module}\n")
    with pytest.raises(UsageError, match=advice):
        load(KIND, f"{path}:Anything")


def test_modules_of_extras_name_extras_that_exist() -> None:
    extras = set(metadata("josh-simkit").get_all("Provides-Extra", ()))
    assert set(EXTRA_OF.values()) <= extras


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("nowhere/at_all.py:X", "there is no file nowhere/at_all.py"),
        ("no_such_package.module:X", "there is no module `no_such_package.module`"),
        (f"{__name__}:Polight", r"no greeter .* \(did you mean `Polite`"),
        (f"{__name__}:Path", "must be a class that inherits from .*Greeter"),
        ("polite", "no greeter is called `polite`; installed: none; or give your own"),
    ],
)
def test_what_is_not_there_says_what_is(target: str, problem: str) -> None:
    with pytest.raises(ComponentNotFound, match=problem):
        load(KIND, target)


def test_a_wrong_name_lists_the_installed_ones_and_the_nearest() -> None:
    from simkit.run.casting import AGENT

    assert "scripted" in available("simkit.agents")
    with pytest.raises(ComponentNotFound, match=r"did you mean `scripted`\?\); installed: .*scripted"):
        load(AGENT, "scirpted")


def test_a_constructor_that_raises_is_shown_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "raising.py"
    path.write_text(FILE.replace("self.grunts = grunts", "raise OSError('no voice')"))
    with pytest.raises(UsageError, match=r"raising.py:6: OSError: no voice"):
        load(KIND, f"{path}:Gruff")
