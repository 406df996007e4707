"""The files of tau-bench: sources, checksums, literals, and the cache made of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from posixpath import normpath
from typing import Any

import pytest
from small_tau import CANCEL, PROMPTS, files, schemas_of

from simkit.errors import DataCorrupt, DataMissing
from simkit.plugins import downloads
from simkit.plugins.raw_files import KnownRelease
from simkit.tools.tau.cache import DOMAINS, cache_file, open_domain, prepare
from simkit.tools.tau.checksums import HEAD, JOSH
from simkit.tools.tau.literals import read_schema, read_tasks, read_tool_files
from simkit.tools.tau.prompts import read_agent_prompts, read_user_prompts
from simkit.tools.tau.source import RELEASES, open_source
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
    assert retail.prompts == airline.prompts == PROMPTS


def wheel_of(tmp_path: Path, contents: dict[str, bytes]) -> Path:
    path = tmp_path / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in contents.items():
            archive.writestr(normpath(f"tau-bench-eval/tau_bench/envs/{name}"), text)
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
            for name in ("tables.json", "tasks.json", "prompts.json")
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
    assert "at one of these commits" in str(wrong.value)
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
    assert len({path for path in JOSH if JOSH[path] != HEAD[path]}) == 10


def test_a_file_may_have_one_of_two_forms(tmp_path: Path) -> None:
    contents = files()
    other = {**contents, "user.py": contents["user.py"] + b"# another form\n"}
    first, second = release_of(contents), release_of(other)
    both = KnownRelease(
        "josh", "", {path: f"{digest}|{second.checksums[path]}" for path, digest in first.checksums.items()}
    )
    for name, source in (("one", contents), ("two", other)):
        prepare(tmp_path / name, write_clone(tmp_path / f"clone-{name}", source), silent, (both,))
        assert open_domain("retail", "josh", tmp_path / name).prompts == PROMPTS


def test_a_cache_of_an_earlier_format_is_named_and_replaced(tmp_path: Path) -> None:
    contents = files()
    older = [cache_file(domain, "josh", tmp_path / "cache").with_name(f"{domain}-josh-1.zip") for domain in DOMAINS]
    older.append(older[0].with_name("retail-2025-1.zip"))
    (tmp_path / "cache").mkdir()
    for path in older:
        path.write_bytes(b"")
    with pytest.raises(DataMissing, match=r"retail-josh-1\.zip was built by an earlier .* run `simkit data tau` to"):
        open_domain("retail", "josh", tmp_path / "cache")
    with pytest.raises(
        DataMissing, match=r"retail-2025-1\.zip was built .* run `simkit data tau --from FOLDER`, your clone"
    ):
        open_domain("retail", "2025", tmp_path / "cache")
    prepare(tmp_path / "cache", write_clone(tmp_path / "clone", contents), silent, (release_of(contents),))
    assert [path.exists() for path in older] == [False, False, True]


def test_a_prompt_that_only_a_newer_python_reads_is_read() -> None:
    inner = '("\\n\\nInstruction: " + instruction + "\\n") if instruction is not None else ""'
    source = (
        f'def build_system_prompt(instruction):\n    return f"""You are it.{{{inner}}}\nRules"""\n'
        'def reset():\n    return [{"role": "user", "content": "Hi!"}]\n'
    )
    expected = {"user": "You are it.\n\nInstruction: {{instruction}}\n\nRules", "cue": "Hi!"}
    assert read_user_prompts(source.encode(), "user.py") == expected


@pytest.mark.parametrize(
    ("read", "source"),
    [
        (read_user_prompts, b"x = 1"),
        (read_user_prompts, b"def f("),
        (read_user_prompts, b"\xff"),
        (read_user_prompts, b"def verify():\n    return 1"),
        (read_user_prompts, b"def build_system_prompt(i):\n    return f'{i.name + 1}'"),
        (read_agent_prompts, b"x = 1"),
        (read_agent_prompts, b"REACT_INSTRUCTION = 'a'\nACT_INSTRUCTION = 'b'"),
        (read_agent_prompts, b"REACT_INSTRUCTION = 'a'\nself.prompt = wiki + 'x'"),
        (read_agent_prompts, b"ACT_INSTRUCTION = 'b'\nself.prompt = wiki + [1]"),
    ],
)
def test_files_without_the_prompts_are_refused(read: Callable[[bytes, str], object], source: bytes) -> None:
    with pytest.raises(DataCorrupt, match="get it again"):
        read(source, "user.py")


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
    release: KnownRelease = release_of(contents)
    with pytest.raises(DataCorrupt, match=words):
        prepare(tmp_path / "cache", write_clone(tmp_path, contents), silent, (release,))
