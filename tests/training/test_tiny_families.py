"""Models of known families, with random weights and real templates, go through each method in one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simkit.core.messages import AssistantMessage, Message, ToolSpec, UserMessage
from simkit.data.examples import DpoExample, ExampleSet, KtoExample, SftExample
from simkit.errors import UsageError
from simkit.plugins.extras import require
from simkit.training.config_files import METHODS, Method, load_config
from simkit.training.dev import ConversationSetup
from simkit.training.jobs import TrainingJob, TrainingResult
from support.template_outcomes import SINGLE, TOOLS, dialogue
from support.tiny_families import FAMILIES, write_family
from support.training_runs import trained

for module in ("torch", "transformers", "trl"):
    pytest.importorskip(module, reason=f"{module} is not installed: pip install '.[train]'")

PLAIN: tuple[Message, ...] = (UserMessage.of("A hotel, please."), AssistantMessage.of("The Lamb is free."))
WRONG = AssistantMessage.of("No.")

STEPS: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
}


def examples(method: Method, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...]) -> ExampleSet:
    """Two examples of what an agent says at the end of a dialogue."""
    *before, last = messages
    prompt = tuple(before)
    match method:
        case "kto":
            good = KtoExample(prompt=prompt, completion=(last,), label=True, tools=tools)
            bad = KtoExample(prompt=prompt, completion=(WRONG,), label=False, tools=tools)
            return ExampleSet("kto", (good, bad))
        case "dpo":
            pair = DpoExample(prompt=prompt, chosen=(last,), rejected=(WRONG,), tools=tools)
            return ExampleSet("dpo", (pair, pair))
        case _:
            return ExampleSet("sft", (SftExample(messages=messages, tools=tools),) * 2)


def job(family: str, method: Method, model: Path, out: Path) -> TrainingJob:
    """Two steps; a family whose template has no tools plays the agent that describes them in its prompt."""
    settings = {**load_config("tiny-cpu", method), **STEPS}
    tools = FAMILIES[family].tools
    if method == "grpo":
        agent = "function_calling" if tools else "react"
        place = ConversationSetup(world="builtin,domains=hotel", tasks="2", agent=agent, max_turns=1, reply_tokens=4)
        settings |= {"num_generations": 2, "max_completion_length": 64}
        return TrainingJob(method=method, model=str(model), config=settings, out=out, practice=place)
    data = examples(
        method, dialogue(reasoning=False, two_calls=family not in SINGLE) if tools else PLAIN, TOOLS if tools else ()
    )
    settings["max_length"] = 8192
    return TrainingJob(method=method, model=str(model), config=settings, out=out, examples=data)


def test_every_family_goes_through_every_method(tmp_path: Path) -> None:
    load_file = require("safetensors.torch", "train").load_file
    for family in FAMILIES:
        model = write_family(tmp_path / family, family)
        before = load_file(model / "model.safetensors")
        for method in METHODS:
            out = tmp_path / f"{family}-{method}"
            found = trained(tmp_path / "store", job(family, method, model, out))
            assert (found.steps, found.kept, found.too_long) == (2, 2, 0), (family, method)
            assert found.tokens > found.learned > 0
            after = load_file(out / "model.safetensors")
            assert after.keys() == before.keys()
            changed = any(not after[name].equal(weight) for name, weight in before.items())
            assert changed is (method != "grpo"), (family, method)  # practice without any reward teaches nothing
            assert (out / "chat_template.jinja").exists()


def test_qwen3_learns_from_replies_with_reasoning_unless_its_prompts_leave_no_place_for_it(tmp_path: Path) -> None:
    model = write_family(tmp_path / "model", "qwen3")
    data = examples("sft", dialogue(reasoning=True), TOOLS)

    def learned(**values: bool) -> TrainingResult:
        out = tmp_path / f"out-{values.get('enable_thinking')}"
        asked = replace(job("qwen3", "sft", model, out), examples=data, template_kwargs=values)
        return trained(tmp_path / "store", asked)

    for found in (learned(), learned(enable_thinking=True)):
        assert (found.steps, found.kept, found.form) == (2, 2, "one row per reply")
        assert found.tokens > found.learned > 0
    with pytest.raises(UsageError, match=r"(?s)The reply has reasoning.*--reasoning drop"):
        learned(enable_thinking=False)
