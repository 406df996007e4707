"""A viewer says where it serves, for as long as it does and to its own user alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from simkit.store.watchers import announced, watched_at

ADDRESS = "http://127.0.0.1:7788"


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_store_is_watched_while_a_viewer_serves(tmp_path: Path) -> None:
    assert watched_at(tmp_path) is None
    with announced(tmp_path, ADDRESS):
        assert watched_at(tmp_path) == ADDRESS
        assert watched_at(tmp_path / "tmp" / "..") == ADDRESS
        assert watched_at(tmp_path / "other") is None
        with announced(tmp_path, f"{ADDRESS}9"):
            assert watched_at(tmp_path) == ADDRESS
        assert watched_at(tmp_path) == ADDRESS
    assert watched_at(tmp_path) is None
    with announced(tmp_path, "http://127.0.0.1:1"):
        assert watched_at(tmp_path) == "http://127.0.0.1:1"


@pytest.mark.parametrize("address", ["javascript:alert(1)", "http://x\x1b[2J", ""])
def test_only_an_address_is_passed_on(tmp_path: Path, address: str) -> None:
    with announced(tmp_path, address):
        assert watched_at(tmp_path) is None


def test_a_folder_that_others_write_to_is_not_used(tmp_path: Path, own_temporary_folder: Path) -> None:
    with announced(tmp_path, ADDRESS):
        (folder,) = own_temporary_folder.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o777)
        assert watched_at(tmp_path) is None
    for file in folder.iterdir():
        file.unlink()
    with announced(tmp_path, ADDRESS):
        assert not [*folder.iterdir()]


def test_where_nothing_can_be_kept_nothing_is_said(tmp_path: Path, own_temporary_folder: Path) -> None:
    own_temporary_folder.rmdir()
    own_temporary_folder.write_text("")
    with announced(tmp_path, ADDRESS):
        assert watched_at(tmp_path) is None
