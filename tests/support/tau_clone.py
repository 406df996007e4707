"""Folders in the layout of a clone of tau-bench."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from os.path import normpath
from pathlib import Path
from typing import Any

from simkit.plugins.raw_files import KnownRelease


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


def prompt_files(prompts: Mapping[str, str]) -> dict[str, str]:
    """The files with the prompts of users and agents, in the layout of the last release.

    The names and places are those of the cache. Prompts of judges and of the user `react` may be missing.
    """
    shown = 'shown = ("{}" + instruction + "{}") if instruction is not None else ""'
    users = [
        f"class {name}:\n    def build_system_prompt(self, instruction):\n        {shown.format('', '')}\n"
        f"        return {_f_string(prompts[key], shown='instruction')}\n"
        for name, key in (("PlainUser", "user"), ("ReactUser", "user_react"))
        if key in prompts
    ]
    reset = f'        self.messages = [{{"role": "system"}}, {{"role": "user", "content": {prompts["cue"]!r}}}]\n'
    judges = [
        f'def {name}(messages, response):\n    transcript = "".join(messages)\n    prompt = {_f_string(prompts[key])}\n'
        "    return ask(prompt)\n"
        for name, key in (("verify", "user_verify"), ("reflect", "user_reflection"))
        if key in prompts
    ]
    whole, middle = prompts["react"].partition("{{tools}}")[0].removeprefix("{{policy}}"), "{{tools}}"
    agent = (
        f"class Agent:\n    def __init__(self, tools_info, wiki):\n        instruction = REACT_INSTRUCTION\n"
        f"        self.prompt = wiki + {whole!r} + json.dumps(tools_info) + instruction\n\n"
    )
    constants = [
        f"{name.upper()}_INSTRUCTION = {_f_string(prompts[name].partition(middle)[2])}\n" for name in ("react", "act")
    ]
    return {
        "user.py": "\n".join([users[0], f"    def reset(self):\n{reset}", *users[1:], *judges]),
        "../agents/chat_react_agent.py": agent + "\n".join(constants),
    }


def _f_string(text: str, **renamed: str) -> str:
    """A text with places as an f-string."""
    names = {place: name for name, place in renamed.items()}
    escaped = repr(text.replace("{", "{{").replace("}", "}}"))
    return "f" + re.sub(r"\{{4}(\w+)\}{4}", lambda place: f"{{{names.get(place[1], place[1])}}}", escaped)


def write_clone(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Write the files into `folder/tau_bench/envs`; returns the folder."""
    for path, content in contents.items():
        target = Path(normpath(folder / "tau_bench/envs" / path))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def release_of(contents: Mapping[str, bytes], name: str = "josh") -> KnownRelease:
    """A release that consists of these files."""
    return KnownRelease(
        name, f"the invented {name}", {path: sha256(text).hexdigest() for path, text in contents.items()}
    )
