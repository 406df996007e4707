"""The commands of docs/reproduce.md: on a few tasks and with scripted models where they play, export or compare."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.tools.tau.cache import prepare as prepare_tau
from simkit.tools.toolwoz.data import prepare as prepare_toolwoz
from support.tau_clone import release_of, write_clone

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reproduce.md").read_text()
SAID = "|".join(["ADVICE: Ask.\nSAY: SPEAK Which day? <COMMAND_END>"] * 40)
"""A text that every agent and user of the page takes for something to say."""

MODELS = ("--model", "--user-model")
ADDRESSES = ("--base-url", "--user-base-url", "--judge-base-url")


def commands() -> list[list[str]]:
    """The commands of the page, in its order."""
    fences = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
    lines = [line for fence in fences for line in fence.splitlines() if line.startswith("simkit ")]
    return [shlex.split(line)[1:] for line in lines]


def kind(words: Sequence[str]) -> str:
    return " ".join(words[:2]) if words[0] in ("run", "train", "data") else words[0]


def call(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, f"simkit {shlex.join(map(str, words))}\n{done.output}"
    return done.output


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small data of both worlds, under the names that the page uses."""
    sys.path[:0] = [str(ROOT / "tests" / name) for name in ("toolwoz", "tau")]
    try:
        small_multiwoz: Any = import_module("small_multiwoz")
        small_tau: Any = import_module("small_tau")
    finally:
        del sys.path[:2]
    folder = tmp_path_factory.mktemp("worlds")
    prepare_toolwoz(folder / "toolwoz", small_multiwoz.write_folder(folder / "multiwoz"))
    contents = small_tau.files()
    prepare_tau(folder / "tau", write_clone(folder / "clone", contents), releases=(release_of(contents, "josh"),))
    return {"toolwoz": folder / "toolwoz", "tau:retail": folder / "tau"}


def small(words: Sequence[str], caches: dict[str, Path]) -> list[str]:
    """The command with scripted models, small data and two tasks. Harvests are those of the rule-based pair."""
    harvest = kind(words) == "run josh"
    kept: list[str] = []
    for flag, value in zip(words, (*words[1:], ""), strict=True):
        previous = kept[-1] if kept else ""
        if previous in (*ADDRESSES, *(MODELS if harvest else ())):
            kept.pop()
            continue
        kept.append(flag)
        match flag:
            case _ if previous == "--world":
                kept[-1] = f"{flag},cache={caches[flag]}"
            case _ if previous in MODELS:
                kept[-1] = f"scripted/{SAID}"
            case _ if previous == "--judge-model":
                kept[-1] = "|".join(["scripted/Good.\nSCORE: 8"] * 9)
            case _ if previous == "--tasks":
                kept[-1] = "2"
            case _ if previous in ("--agent", "--user") and harvest:
                kept[-1] = {"--agent": "scripted,error_rate=0.1", "--user": "agenda"}[previous]
            case _ if previous == "--split" and "toolwoz" in words:
                kept[-1] = "train"  # of which the small data has most
            case _ if flag == "toolwoz:test":
                kept[-1] = f"toolwoz,cache={caches['toolwoz']}:test"
            case _:
                pass
        assert value or flag == words[-1]
    return [*kept, *(("--max-turns", "2", "--quiet") if kind(words) == "run rollout" else ())]


def test_the_page_is_followed_on_a_few_tasks(
    caches: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIMKIT_STORE", str(tmp_path / "store"))
    questions = [{"question_id": n, "category": "x", "turns": [f"What is {n}?", "Why?"]} for n in range(3)]
    Path("mt_bench.jsonl").write_text("\n".join(map(json.dumps, questions)))
    done: list[str] = []
    for words in commands():
        name = kind(words)
        if (
            name in ("data toolwoz", "data tau", "run finetune", "show")
            or name.startswith("train")
            or "--suites" in words
        ):
            continue
        if name == "run josh" and "tau:retail" in words:
            continue  # its users and agents are models
        output = call(*small(words, caches))
        done.append(name)
        if name == "compare":
            assert "claimed" in output
    assert {each: done.count(each) for each in dict.fromkeys(done)} == {
        "run rollout": 9,
        "run josh": 2,
        "export": 2,
        "compare": 4,
        "run preserve": 2,
    }


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words)[:60])
def test_the_flags_of_each_command_exist(words: list[str]) -> None:
    path = words[:2] if words[0] in ("run", "train", "data") else words[:1]
    shown = re.sub(r"\s+", " ", call(*path, "--help"))
    for flag in (word for word in words if word.startswith("--")):
        assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", shown), flag


def test_what_the_page_says_of_costs_is_what_the_benchmark_prints() -> None:
    """The extrapolated numbers follow from the table."""
    rows = re.findall(r"^\| (rollout|josh) \| (\w+) \| (\w+) \| ([^\n]+) \|$", PAGE, re.M)
    known = {(row[0], row[1], row[2]): [int(cell.replace(",", "")) for cell in row[3].split(" | ")] for row in rows}
    assert len(known) == 6
    for (search, agent, user), told in {
        ("rollout", "react", "goal"): (450, "an evaluation with `react` and `goal`", "9.0 million"),
        ("josh", "react", "goal"): (926, "JOSH with `react`", "54 million"),
        ("josh", "function_calling", "goal"): (926, "JOSH with function calling", "57 million"),
    }.items():
        episodes, label, shown = told
        read = known[search, agent, user][1] * episodes / 1e6
        line = next(each for each in PAGE.splitlines() if each.startswith(f"| {label}"))
        assert shown in line
        assert f"{read:.1f}".startswith(shown.split()[0]) or f"{read:.0f} million" == shown
