"""Files of training settings: the presets that simkit ships, and a user's own.

A file holds fields of TRL's configuration classes and of its ModelConfig, in YAML. A section named after a method
(`sft:`, `kto:`, `dpo:`, `grpo:`) overrides the common fields for that method.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import yaml

from simkit.core.values import shown
from simkit.errors import UsageError, reason

Method: TypeAlias = Literal["sft", "kto", "dpo", "grpo"]
METHODS: tuple[Method, ...] = get_args(Method)


def shipped_configs() -> tuple[str, ...]:
    """Names of the presets that simkit ships."""
    return tuple(sorted(each.name.removesuffix(".yaml") for each in _folder().iterdir() if each.name.endswith(".yaml")))


def load_config(name: str, method: Method) -> dict[str, Any]:
    """The settings of a preset or a YAML file for one method.

    Raises:
        UsageError: there is no such preset or file, or it is not a mapping of settings.
    """
    text = _text(name)
    try:
        found: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--config {name} is no YAML: {error}") from error
    if not isinstance(found, Mapping):
        raise UsageError(f"--config {name} holds {shown(found)}; write one setting a line (learning_rate: 1e-4)")
    values = {str(key): value for key, value in cast("Mapping[Any, Any]", found).items()}
    sections: dict[str, Any] = {each: values.pop(each, None) for each in METHODS}
    for each, section in sections.items():
        if not isinstance(section, Mapping | None):
            raise UsageError(f"--config {name}: the section `{each}` holds {shown(section)}; indent its settings")
    if "env" in values:
        raise UsageError(f"--config {name} sets environment variables (`env`); set them in the shell or in ./.env")
    return {**values, **(sections[method] or {})}


def _text(name: str) -> str:
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--config {name} cannot be read: {reason(error)}") from error
    if name not in shipped_configs():
        raise UsageError(
            f"there is no preset `{name}`; choose one of {', '.join(shipped_configs())}, or name a YAML file"
        )
    return (_folder() / f"{name}.yaml").read_text()


def _folder() -> Any:
    return files("simkit.training") / "configs"
