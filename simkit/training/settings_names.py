"""Names of TRL's settings, read from the source of the installed libraries: importing them takes half a minute."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from simkit.errors import UsageError
from simkit.training.config_files import Method

OWN: Mapping[str, str] = {
    "output_dir": "give --out",
    "seed": "give --seed",
    "resume_from_checkpoint": "`simkit resume RUN` continues a training",
    "model_name_or_path": "give --model",
}
"""Fields that simkit sets itself, and what to do instead."""

SOURCES = (
    *("trl/trainer/{}_config.py", "trl/trainer/base_config.py", "trl/trainer/model_config.py"),
    "transformers/training_args.py",
)


def check_names(method: Method, config: Iterable[str], flags: Iterable[str]) -> None:
    """Check that TRL has the fields of a configuration and the flags, without importing it.

    Raises:
        UsageError: a field does not exist, or is one that simkit sets itself.
    """
    named = {flag: flag[2:].partition("=")[0].replace("-", "_") for flag in flags if flag.startswith("--")}
    own = [name for name in OWN if name in named.values() or (name in config and name != "model_name_or_path")]
    if own:
        raise UsageError(f"`{own[0]}` is not taken from TRL's settings: {OWN[own[0]]}")
    known = field_names(method)
    for name in config if known else ():
        if name not in known:
            raise UsageError(f"the configuration sets `{name}`, {_no_field(name, known, method)}")
    for flag, name in named.items() if known else ():
        if name not in known and name.removeprefix("no_") not in known:
            raise UsageError(f"`{flag}` is no flag of simkit, and {_no_field(name, known, method)}")


def field_names(method: Method) -> frozenset[str]:
    """Names of the fields of TRL's configuration class of a method, and of its ModelConfig.

    They are empty if a release keeps the classes in other files; TRL's parser then finds unknown names later.
    """
    names = set[str]()
    for source in SOURCES:
        package, _, file = source.format(method).partition("/")
        found = find_spec(package)
        path = Path((found and found.origin) or "").parent / file
        if not path.is_file():
            return frozenset()
        classes = (each for each in ast.parse(path.read_bytes()).body if isinstance(each, ast.ClassDef))
        fields = (each for kind in classes for each in kind.body if isinstance(each, ast.AnnAssign))
        names |= {each.target.id for each in fields if isinstance(each.target, ast.Name)}
    return frozenset(names)


def _no_field(name: str, known: Iterable[str], method: Method) -> str:
    near = [f"--{each}" for each in get_close_matches(name, known, 3, 0.7)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"`simkit train {method} --help-trl` lists them"
    return f"no field of TRL's {method.upper()}Config or ModelConfig; {hint}"
