"""Places of files that a command was asked to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from simkit.core.out_files import check_above, check_out_file, check_out_folder
from simkit.errors import UsageError


def test_a_file_may_be_new_or_replace_another(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("")
    for name in ("old.json", "new.json"):
        check_out_file(tmp_path / name, (".json",))
    assert [file.name for file in tmp_path.iterdir()] == ["old.json"]


def test_a_folder_may_be_new_or_hold_files(tmp_path: Path) -> None:
    check_out_folder(tmp_path)
    check_out_folder(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("check", [check_above, check_out_file, check_out_folder])
def test_a_folder_above_has_to_exist(check: object, tmp_path: Path) -> None:
    assert callable(check)
    with pytest.raises(UsageError, match=r"mistyped does not exist; create it, or write x elsewhere"):
        check(tmp_path / "mistyped" / "x")


def test_files_and_folders_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"is a folder; name a file"):
        check_out_file(tmp_path)
    with pytest.raises(UsageError, match=r"is a file; name a folder"):
        check_out_folder(tmp_path / "file")
    with pytest.raises(UsageError, match=r"file is a file, so x cannot be in it"):
        check_above(tmp_path / "file" / "x")
    with pytest.raises(UsageError, match=r"has the extension '\.txt'; name a file that ends in \.json or \.csv"):
        check_out_file(tmp_path / "a.txt", (".json", ".csv"))
