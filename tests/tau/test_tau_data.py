"""The files of tau-bench: sources, checksums, literals, and the cache made of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_tau import CANCEL, files, schemas_of

from simkit.errors import DataCorrupt, DataMissing
from simkit.plugins import downloads
from simkit.tools.tau.cache import DOMAINS, cache_file, open_domain, prepare
from simkit.tools.tau.checksums import HEAD, JOSH
from simkit.tools.tau.literals import read_schema, read_tasks, read_tool_files
from simkit.tools.tau.source import RELEASES, TauRelease, open_source
from support.tau_clone import release_of, write_clone


def silent(stage: str, fraction: float) -> None:
    """Progress that nobody watches."""


def test_a_clone_becomes_one_cache_file_per_domain(tmp_path: Path) -> None:
    contents, stages = files(), list[tuple[str, float]]()
    clone, release = write_clone(tmp_path / "clone", contents), release_of(contents)
    folder = prepare(tmp_path / "cache", clone, lambda stage, fraction: stages.append((stage, fraction)), (release,))
    assert folder == tmp_path / "cache"
    assert [stage for stage, fraction in stages if fraction == 1.0] == ["read", "write"]
    retail, airline = (open_domain(domain, "josh", folder) for domain in DOMAINS)
    assert {split: len(tasks) for split, tasks in retail.tasks.items()} == {"train": 1, "dev": 2, "test": 4}
    assert retail.tasks["train"][0]["instruction"] == "You are Ada Reed. This is wish 0."
    assert retail.tasks["train"][0]["actions"][1] == {
        "name": "cancel_pending_order",
        "kwargs": {"order_id": "#W1", "reason": "no longer needed"},
    }
    assert [spec.to_openai() for spec in airline.specs] == schemas_of("airline")
    assert (retail.policy, list(retail.base.tables)) == ("# The rules of retail\n", ["orders", "products", "users"])
    assert open_domain("retail", "josh", folder) is retail


def wheel_of(tmp_path: Path, contents: dict[str, bytes]) -> Path:
    path = tmp_path / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in contents.items():
            archive.writestr(f"tau-bench-eval/tau_bench/envs/{name}", text)
    return path


def test_a_wheel_and_a_clone_give_equal_caches(tmp_path: Path) -> None:
    contents = files()
    releases = (release_of(contents),)
    clone = write_clone(tmp_path / "clone", contents)
    made = [
        prepare(tmp_path / name, source, silent, releases)
        for name, source in (("one", clone), ("two", wheel_of(tmp_path, contents)), ("three", clone / "tau_bench"))
    ]
    members = [
        {
            name: zipfile.ZipFile(cache_file("retail", "josh", folder)).read(name)
            for name in ("tables.json", "tasks.json")
        }
        for folder in made
    ]
    assert members[0] == members[1] == members[2]


def test_the_release_is_recognised_by_its_files(tmp_path: Path) -> None:
    older = files()
    newer = {**older, "retail/wiki.md": b"# Newer rules\n"}
    releases = release_of(older, "josh"), release_of(newer, "2025")
    for contents, name in ((older, "josh"), (newer, "2025")):
        with open_source(write_clone(tmp_path / name, contents), silent, releases) as raw:
            assert raw.release.name == name
    prepare(tmp_path / "cache", tmp_path / "2025", silent, releases)
    with pytest.raises(DataMissing, match="simkit data tau"):
        open_domain("retail", "josh", tmp_path / "cache")


def test_another_commit_is_named(tmp_path: Path) -> None:
    contents = files()
    clone = write_clone(tmp_path, {**contents, "retail/wiki.md": b"# Changed\n"})
    with pytest.raises(DataCorrupt, match=r"envs/retail/wiki\.md is not that of `josh`, the invented josh") as wrong:
        prepare(tmp_path / "cache", clone, silent, (release_of(contents),))
    assert "Check out one of these commits" in str(wrong.value)
    assert not (tmp_path / "cache").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    contents = files()
    release = release_of(contents)
    del contents["airline/wiki.md"], contents["retail/data/orders.json"]
    with pytest.raises(DataMissing, match=r"airline/wiki\.md \(and 1 other files\)"):
        prepare(tmp_path / "cache", write_clone(tmp_path, contents), silent, (release,))


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (None, DataMissing, "there is no"),
        (b"no zip", DataCorrupt, "damaged or cut off"),
    ],
)
def test_a_source_that_is_none_is_named(
    tmp_path: Path, content: bytes | None, error: type[Exception], words: str
) -> None:
    source = tmp_path / "source"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(error, match=words):
        prepare(tmp_path / "cache", source)


def test_without_a_source_an_intact_cache_is_kept_and_a_damaged_one_is_fetched_again(
    small_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: downloads.Release, folder: str) -> None:
        raise DataMissing("no index")

    monkeypatch.setattr(downloads.Release, "_run_pip", refuse)
    assert prepare(small_cache) == small_cache
    with pytest.raises(DataMissing, match="no index"):
        prepare(tmp_path)
    for domain in DOMAINS:
        cache_file(domain, "josh", tmp_path).write_bytes(b"PK damaged")
    with pytest.raises(DataMissing, match="no index"):
        prepare(tmp_path)


def test_opening_names_what_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="run `simkit data tau` once"):
        open_domain("retail", "josh", tmp_path)
    with pytest.raises(DataMissing, match="check out 59a200c and run `simkit data tau --from FOLDER`"):
        open_domain("retail", "2025", tmp_path)
    cache_file("retail", "josh", tmp_path).write_bytes(b"PK damaged")
    with pytest.raises(DataCorrupt, match="delete it"):
        open_domain("retail", "josh", tmp_path)


def test_the_known_releases_have_the_same_files() -> None:
    assert JOSH.keys() == HEAD.keys()
    assert [release.name for release in RELEASES] == ["josh", "2025"]
    assert len({path for path in JOSH if JOSH[path] != HEAD[path]}) == 8


@pytest.mark.parametrize(
    "source",
    [
        "TASKS = [Task(instruction=open('x').read())]",
        "TASKS = [Task('positional')]",
        "TASKS = [Other(a=1)]",
        "TASKS = [Task(**{'a': 1})]",
        "TASKS = [Task(a={**{}})]",
        "TASKS = [Task(a='x' + 1)]",
        "TASKS = [Task(a=b'bytes')]",
        "TASKS = [Task(a={1: 2})]",
        "TASKS = [Task(a=f'{1}')]",
        "TASKS = (",
        "TASKS = 1",
        "",
    ],
)
def test_anything_but_literals_is_refused(source: str) -> None:
    with pytest.raises(DataCorrupt, match="get it again"):
        read_tasks(source.encode(), "tasks_test.py")


def test_literals_of_all_kinds_are_read() -> None:
    source = (
        b"import x\nT = [Task(a=-1.5, b=None, c=True, d=['x' 'y', 'x' + 'y'], e={'k': [Action(name='n', kwargs={})]})]"
    )
    expected: dict[str, Any] = {
        "a": -1.5,
        "b": None,
        "c": True,
        "d": ["xy", "xy"],
        "e": {"k": [{"name": "n", "kwargs": {}}]},
    }
    assert read_tasks(source, "t.py") == [expected]


@pytest.mark.parametrize("read", [read_schema, read_tool_files])
@pytest.mark.parametrize("source", [b"", b"x = 1", b"ALL = [Missing]", b"def get_info():\n    return make()"])
def test_files_of_tools_without_a_literal_are_refused(read: Callable[[bytes, str], object], source: bytes) -> None:
    with pytest.raises(DataCorrupt, match="get it again"):
        read(source, "tools.py")


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("retail/data/users.json", "{", "not valid JSON"),
        ("retail/tasks_dev.py", f"T = [Task(user_id='a', instruction='b', actions=[{CANCEL}])]", "lacks `outputs`"),
        (
            "retail/tasks_dev.py",
            "T = [Task(user_id='', instruction='', outputs=[], actions=[Action(name='x')])]",
            "kwargs",
        ),
    ],
)
def test_files_that_are_not_as_the_release_s_are_corrupt(tmp_path: Path, path: str, text: str, words: str) -> None:
    contents = {**files(), path: text.encode()}
    release: TauRelease = release_of(contents)
    with pytest.raises(DataCorrupt, match=words):
        prepare(tmp_path / "cache", write_clone(tmp_path, contents), silent, (release,))
