"""What `scripts/mutate` changes in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutants import mutants_of
from trials import Fate, Verdict


def changes(tmp_path: Path, code: str) -> set[str]:
    (tmp_path / "code.py").write_text(code)
    return {mutant.now for mutant in mutants_of(tmp_path, "code.py")}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = a < b", {"x = a <= b", "x = a >= b"}),
        ("x = a not in b", {"x = a in b"}),
        ("x = a and b", {"x = ((a) or (b))", "x = ((b))", "x = ((a))"}),
        ("x = 1", {"x = 2", "x = (0)"}),
        ("x = not a", {"x = (a)"}),
        ("x = min(a)", {"x = max(a)"}),
        ("x += y", {"x -= y", "pass"}),
        ("try:\n    f()\nexcept (A, B):\n    pass", {"pass", "except ((), B):", "except (A, ()):"}),
        ("x = 'dropped'", {"x = 'dropped_'"}),
        ("x = cast('bytes', not a)", {"x = cast('bytes', (a))"}),
        ("x = f'{a} of 2: no room'", set[str]()),
        ("x = 'Words for people.'", set[str]()),
        ("def f(a: int | None = None) -> int | None:\n    'Docs.'\n    return None", set[str]()),
        ("@d(frozen=True)\nclass C:\n    x: int = a", set[str]()),
        ("if TYPE_CHECKING:\n    x = 1", set[str]()),
        ("K: TypeAlias = Literal['a']", set[str]()),
    ],
)
def test_what_is_changed(tmp_path: Path, code: str, expected: set[str]) -> None:
    assert changes(tmp_path, code) == expected


def test_a_change_is_named_by_its_function_and_runs_when_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("class A:\n    x = 1\n    def f(self, y=2):\n        return g(\n            3)\n")
    found = {(m.function, m.called, m.was, m.lines) for m in mutants_of(tmp_path, "code.py")}
    assert found == {
        ("A", False, "x = 1", (2, 2)),
        ("A", False, "def f(self, y=2):", (3, 3)),
        ("A.f", True, "return g(\n3)", (4, 5)),
        ("A.f", True, "3)", (4, 5)),
    }


@pytest.mark.parametrize(
    ("status", "by", "fate"),
    [(0, "", "survived"), (1, "t", "killed"), (2, "t", "killed"), (3, "t", "killed"), (3, "", "not run")],
)
def test_a_test_that_failed_kills_whatever_becomes_of_pytest(tmp_path: Path, status: int, by: str, fate: Fate) -> None:
    assert Verdict.of(status, by, tmp_path / "project").fate == fate
