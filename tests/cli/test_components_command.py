"""`simkit components` lists what flags can name."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from simkit.cli import components
from simkit.cli.app import app
from simkit.errors import UsageError
from simkit.plugins.loading import ComponentKind, available, find_class


def test_every_installed_component_is_listed_with_a_sentence() -> None:
    done = CliRunner().invoke(app, ["components", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    listed = {(row["kind"], row["name"]) for row in rows}
    groups = {"world": "worlds", "agent": "agents", "user": "users", "reward": "rewards", "recipe": "recipes"}
    assert {(kind, name) for kind, group in groups.items() for name in available(f"simkit.{group}")} <= listed
    models = {name.partition("/")[0] for kind, name in listed if kind == "model"}
    assert models == {"anthropic", "local", "openai", "openai-responses", "scripted"}
    assert all(row["about"].endswith(".") and row["error"] is None for row in rows), rows


def test_a_package_that_does_not_load_is_named_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(kind: ComponentKind[object], name: str) -> object:
        if name == "react":
            raise UsageError("the installed agent `react` fails: no module named x")
        return find_class(kind, name)

    monkeypatch.setattr(components, "find_class", broken)
    done = CliRunner().invoke(app, ["components"])
    assert done.exit_code == 0, done.output
    assert "error: the installed agent `react` fails: no module named x" in done.stdout
    assert "function_calling" in done.stdout
    assert "josh" in done.stdout
