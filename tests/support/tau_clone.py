"""Folders in the layout of a clone of tau-bench."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from simkit.tools.tau.source import TauRelease


def tool_files(domain: str, schemas: list[dict[str, Any]]) -> dict[str, str]:
    """The folder `tools` of a domain, whose tools have these schemas."""
    names = [schema["function"]["name"] for schema in schemas]
    imports = "".join(f"from .{name} import {name.title()}\n" for name in names)
    index = f"{imports}\nALL_TOOLS = [{', '.join(name.title() for name in names)}]\n"
    files = {f"{domain}/tools/__init__.py": index}
    for name, schema in zip(names, schemas, strict=True):
        returned = f"    @staticmethod\n    def get_info():\n        return {schema!r}\n"
        files[f"{domain}/tools/{name}.py"] = f"class {name.title()}:\n{returned}"
    return files


def write_clone(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Write the files into `folder/tau_bench/envs`; returns the folder."""
    for path, content in contents.items():
        target = folder / "tau_bench/envs" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def release_of(contents: Mapping[str, bytes], name: str = "josh") -> TauRelease:
    """A release that consists of these files."""
    return TauRelease(name, f"the invented {name}", {path: sha256(text).hexdigest() for path, text in contents.items()})
