"""What a recipe lacks, or does not know, is said before its run is in the store, and without loading torch."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from simkit.cli.app import app
from simkit.errors import UsageError
from simkit.training.config_files import METHODS
from simkit.training.settings_names import check_names, field_names

needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="trl is not installed: pip install '.[train]'")


def command(folder: Path, line: str) -> Result:
    return CliRunner().invoke(app, [*line.split(), "--quiet", "--store", str(folder / "store")])


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("train sft --model base --held-out none --guard none", "torch"),
        ("train grpo --model base", "torch"),
        ("run selftrain", "torch"),
        ("run scratch --out FOLDER/base", "torch"),
        ("run preserve --model local/base --corpus FOLDER/text.txt", "torch"),
        ("run preserve --model openai/gpt --suites arc_easy", "lm_eval"),
        ("run fidelity --users agenda --world toolwoz --picture users.png", "matplotlib"),
        ("run finetune --base gpt", "openai"),
    ],
)
def test_a_missing_library_leaves_no_run(
    line: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    (tmp_path / "text.txt").write_text("A text that was held out.")
    done = command(tmp_path, line.replace("FOLDER", str(tmp_path)))
    assert done.exit_code == 2, done.output
    assert f"this needs the package `{missing}`, which is not installed" in " ".join(done.stderr.split())
    assert not list((tmp_path / "store").glob("journals/*")), "no run is left"


@needs_trl
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train sft --model base --learning_rat 1", "did you mean --learning_rate"),
        ("train kto --model base --num_generations 2", "no field of TRL's KTOConfig or ModelConfig"),
        ("train grpo --model base --config FOLDER/own.yaml", "the configuration sets `learning_rte`"),
    ],
)
def test_a_mistyped_setting_leaves_no_run(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("learning_rte: 1")
    done = command(tmp_path, line.replace("FOLDER", str(tmp_path)))
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())
    assert not list((tmp_path / "store").glob("journals/*")), "no run is left"


@needs_trl
def test_names_are_found_without_the_libraries() -> None:
    lines = "from simkit.training.settings_names import field_names; import sys; field_names('grpo')"
    check = "assert not {'torch', 'trl', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{lines}; {check}"], check=True, timeout=60)


@needs_trl
def test_a_negated_flag_is_known_and_a_value_is_no_flag() -> None:
    check_names("sft", [], ["--no_bf16", "--warmup-steps=3", "--max_steps", "-1", "--use_peft"])
    with pytest.raises(UsageError, match="`--no_bf17` is no flag of simkit"):
        check_names("sft", [], ["--no_bf17"])


@needs_trl
def test_the_names_are_those_of_trls_classes() -> None:
    pytest.importorskip("trl")
    from simkit.training.trl_setup import settings_parser

    for method in METHODS:
        assert field_names(method) == {action.dest for action in settings_parser(method)._actions} - {"help"}
