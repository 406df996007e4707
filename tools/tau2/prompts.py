"""Reads the prompts of tau2-bench from its files, word for word. Nothing is imported or executed.

A prompt becomes a text with places: `{{policy}}` and `{{ticket}}` of agents, `{{steps}}` of the agent that is told the
solution, `{{instruction}}` of users.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any, Final

from simkit.errors import DataCorrupt
from simkit.plugins.raw_files import RawFiles

AGENT_FILE: Final = "agent/llm_agent.py"
USER_FILE: Final = "user/user_simulator.py"
GREETING_FILE: Final = "orchestrator/orchestrator.py"
GUIDELINES: Final = "user_simulator/simulation_guidelines.md"
TOOL_GUIDELINES: Final = "user_simulator/simulation_guidelines_tools.md"
STOP: Final = "done"
"""The tool with which an agent that works alone ends."""

_AGENTS: Final = {
    "agent": ("SYSTEM_PROMPT", "AGENT_INSTRUCTION"),
    "oracle": ("SYSTEM_PROMPT_GT", "AGENT_GT_INSTRUCTION"),
    "solo": ("SYSTEM_PROMPT_SOLO", "AGENT_SOLO_INSTRUCTION"),
}
_PLACES: Final = {
    "domain_policy": "{{policy}}",
    "resolution_steps": "{{steps}}",
    "ticket": "{{ticket}}",
    "instructions": "{{instruction}}",
    "stop_function_name": STOP,
    "stop_token": "###STOP###",
}
_PERSONA: Final = "<PERSONA_GUIDELINES>"


def read_prompts(raw: RawFiles) -> dict[str, str]:
    """The prompts by name: `agent`, `oracle` and `solo` for agents, `user` and `user_tools` for users, and `greeting`.

    Raises:
        DataCorrupt: a file is not Python, or lacks a prompt.
    """
    texts, found = _constants(raw.files[AGENT_FILE], AGENT_FILE), dict[str, str]()
    for name, (whole, instruction) in _AGENTS.items():
        _check(texts, (whole, instruction), AGENT_FILE)
        found[name] = _filled(texts[whole], agent_instruction=_filled(texts[instruction]))
    user = _constants(raw.files[USER_FILE], USER_FILE)
    _check(user, ("SYSTEM_PROMPT",), USER_FILE)
    for name, path in (("user", GUIDELINES), ("user_tools", TOOL_GUIDELINES)):
        rules = raw.files[path].decode().replace(_PERSONA, "")
        given = {"global_user_sim_guidelines_with_persona": rules, "global_user_sim_guidelines": rules}
        found[name] = _filled(user["SYSTEM_PROMPT"], **given)
    return {**found, "greeting": _greeting(raw.files[GREETING_FILE])}


def _parsed(source: bytes, label: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise DataCorrupt(f"{label} is not Python source ({error}); get tau2-bench again") from error


def _greeting(source: bytes) -> str:
    """The words with which the agent begins a conversation."""
    for node in _parsed(source, GREETING_FILE):
        match node:
            case ast.Assign(targets=[ast.Name(id="DEFAULT_FIRST_AGENT_MESSAGE")], value=ast.Call(keywords=words)):
                for word in words:
                    if word.arg == "content" and isinstance(word.value, ast.Constant):
                        return str(word.value.value)
            case _:
                pass
    raise DataCorrupt(f"{GREETING_FILE} has no first message of the agent; get tau2-bench again")


def _constants(source: bytes, label: str) -> dict[str, str]:
    """The texts that a file gives a name, stripped where the file strips them."""
    found: dict[str, str] = {}
    for node in _parsed(source, label):
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Attribute(value=ast.Constant(value=str() as text), attr="strip"), args=[]),
            ):
                found[name] = text.strip()
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str() as text)):
                found[name] = text
            case _:
                pass
    return found


def _check(texts: Mapping[str, str], names: Iterable[str], label: str) -> None:
    missing = [name for name in names if name not in texts]
    if missing:
        raise DataCorrupt(f"{label} has no prompt {missing[0]}; get tau2-bench again")


def _filled(template: str, **texts: str) -> str:
    try:
        return template.format_map({**_PLACES, **texts})
    except (KeyError, ValueError, IndexError) as error:
        raise DataCorrupt(f"a prompt of tau2-bench has an unknown place ({error}); get it again") from error


def telecom_policy(rules: str, support: str) -> str:
    """The policy of telecom: its rules, and the manual or the workflow of its technical support."""
    return f"<main_policy>\n{rules}\n</main_policy>\n<tech_support_policy>\n{support}\n</tech_support_policy>"


def steps_text(actions: Iterable[Mapping[str, Any]]) -> str:
    """The steps of a solution, for an agent that is told it."""
    return "\n".join(f"[Step {number}] {_step(action)}" for number, action in enumerate(actions, 1))


def _step(action: Mapping[str, Any]) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in action["arguments"].items())
    call = f"{action['name']}({arguments})"
    if action.get("requestor") == "user":
        return f"Instruct the user to perform the following action: {call}."
    return f"Perform the following action: {call}."


def solo_parts(prompt: str) -> tuple[str, str]:
    """The prompt of an agent that works alone: up to its policy, and the rest, which differs from task to task."""
    place = prompt.index("<policy>") if "<policy>" in prompt else 0
    return prompt[:place], prompt[place:]
