"""Advice about unusable replies fits where the model is: behind a server, or in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.monitoring.doctor import diagnose
from simkit.monitoring.reply_flags import LOCAL_REMEDIES, REPLY_FLAGS, are_local, reply_notes
from simkit.store import Store

FILE = """
from anyio.lowlevel import checkpoint
from simkit.core.messages import AssistantMessage
from simkit.models import ChatResponse

class Writes:
    name = "served"

    async def complete(self, request, key):
        await checkpoint()
        call = '<tool_call>{"name": "%s", "arguments": {}}</tool_call>' % request.tools[0].name
        return ChatResponse.of(AssistantMessage.of(call), self.name)

class WritesHere(Writes):
    name = "local/here"
"""

SERVER = "start vLLM or SGLang with --tool-call-parser"
HERE = "constrain its replies (--agent react,constrained=true"


@pytest.mark.parametrize(("model", "told", "untold"), [("Writes", SERVER, HERE), ("WritesHere", HERE, SERVER)])
def test_doctor_advises_what_applies(model: str, told: str, untold: str, tmp_path: Path) -> None:
    file, store = tmp_path / "writes.py", tmp_path / "store"
    file.write_text(FILE)
    command = ("run", "rollout", "--model", f"{file}:{model}", "--tasks", "1", "--max-turns", "1", "--quiet")
    done = CliRunner().invoke(app, [*command, "--store", str(store)])
    assert done.exit_code == 0, done.output
    (line,) = [line for line in diagnose(Store(store), "last").advice if "tool calls came as text" in line]
    assert told in line
    assert untold not in line


@pytest.mark.parametrize("kind", LOCAL_REMEDIES)
def test_the_summary_names_no_server_for_a_model_in_this_process(kind: str) -> None:
    ((count, here),) = reply_notes({f"{kind}: hermes": 2}, local=True)
    ((_, served),) = reply_notes({f"{kind}: hermes": 2})
    assert count == 2
    assert here.endswith(LOCAL_REMEDIES[kind])
    assert served.endswith(REPLY_FLAGS[kind][1])
    assert "server" not in here


def test_which_models_are_in_this_process() -> None:
    assert are_local(["local/a", "local/b", None])
    assert not are_local(["local/a", "openai/b"])
    assert not are_local([None])
