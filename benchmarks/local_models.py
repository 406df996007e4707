"""Tokens a second of real models on a CPU, by data type and threads, beside `generate` of transformers.

    python -m benchmarks.local_models MODEL [MODEL ...] [--rows 1,8,32] [--dtypes ...] [--threads 1,2] [--repeat 3]
    python -m benchmarks.local_models MODEL --agreement

MODEL is what stands after `local/`: a folder, a GGUF file, `smollm2`. The prompts are the last `--context` tokens of
conversations of the built-in world, before a reply of the agent; each gets a reply of `--tokens` tokens at temperature
0, whatever the model says. The sides take turns in one process, and medians count. CPU seconds say more than seconds on
a machine that others use. `--agreement` compares each data type with float32 on the same conversations: the
share of places where the likeliest token is the same, and the mean divergence (KL) in nats.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from simkit.core.messages import Message, ToolSpec
from simkit.data.reading import read_examples
from simkit.local.chat import ChatFormat
from simkit.local.engine import LocalEngine
from simkit.local.weights import EngineOptions, load_model
from simkit.models.sampling import Sampling
from simkit.plugins.extras import require

Prompts: TypeAlias = list[list[int]]
Conversation: TypeAlias = tuple[list[Message], list[ToolSpec]]

LIBRARY = "transformers, generate"


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens of one run: a second with the prompts, a second after them, and a CPU second after them."""

    whole: float
    decoding: float
    per_cpu: float


class Clock:
    """Times of a run: its beginning, its first token, and now."""

    def __init__(self) -> None:
        self.began = self.first = (time.perf_counter(), time.process_time())

    def token(self) -> None:
        """A token of each reply was generated."""
        if self.first is self.began:
            self.first = (time.perf_counter(), time.process_time())

    def speed(self, rows: int, tokens: int) -> Speed:
        wall, cpu = time.perf_counter(), time.process_time()
        after = rows * (tokens - 1)
        return Speed(
            rows * tokens / (wall - self.began[0]), after / (wall - self.first[0]), after / (cpu - self.first[1])
        )


@dataclass(frozen=True, slots=True)
class Side:
    """One line of the table: who generates, with which weights and threads. `generate` reports each token."""

    name: str
    dtype: str
    threads: int
    generate: Callable[[Prompts, int, Callable[[], None]], object]

    def measure(self, prompts: Prompts, tokens: int) -> Speed:
        require("torch", "local").set_num_threads(self.threads)
        clock = Clock()
        self.generate(prompts, tokens, clock.token)
        return clock.speed(len(prompts), tokens)


def played(count: int) -> list[Conversation]:
    """Conversations of the built-in world, played by rules."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "sft.jsonl"
        simkit = [sys.executable, "-m", "simkit"]
        store = ["--store", temporary]
        play = [*simkit, "run", "rollout", "--tasks", str(count), *store]
        export = [*simkit, "export", "sft", "--run", "last", "--source", "episodes", "--out", str(out), *store]
        for command in (play, export):
            subprocess.run(command, check=True, capture_output=True)
        examples = read_examples(out)
    return [(list(messages), list(each.tools)) for each in examples for messages in each.parts()]


def prompts_of(chat: ChatFormat, conversations: Sequence[Conversation], length: int) -> Prompts:
    """The last tokens of each conversation, up to its last reply."""
    found: Prompts = []
    for messages, tools in conversations:
        end = max(place for place, message in enumerate(messages) if message.role == "assistant")
        found.append(chat.prompt(messages[:end], tools)[-length:])
    return found


def engine_side(path: str, dtype: str, threads: int) -> Side:
    engine = LocalEngine.open(path, EngineOptions(device="cpu", dtype=dtype, threads=threads))
    engine.chat.ends = frozenset()

    def generate(prompts: Prompts, tokens: int, token: Callable[[], None]) -> object:
        engine.weights_changed()  # prefixes of earlier measurements would help it
        engine.submit([engine.job(prompt, Sampling(temperature=0, max_tokens=tokens), 0) for prompt in prompts])
        while engine.busy:
            engine.step()
            token()
        return None

    return Side("simkit, local/", dtype, threads, generate)


def library_side(path: str, dtype: str, threads: int) -> Side:
    torch = require("torch", "local")
    model, tokenizer = load_model(path, "cpu", EngineOptions(device="cpu", dtype=dtype))
    pad = tokenizer.pad_token_id or 0

    def generate(prompts: Prompts, tokens: int, token: Callable[[], None]) -> object:
        longest = max(map(len, prompts))
        ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])

        def seen(written: Any, _scores: Any, **_more: Any) -> Any:
            token()
            return torch.zeros(len(written), dtype=torch.bool)

        lengths = {"min_new_tokens": tokens, "max_new_tokens": tokens}
        with torch.inference_mode():
            return model.generate(
                ids, attention_mask=mask, do_sample=False, pad_token_id=pad, stopping_criteria=[seen], **lengths
            )

    return Side(LIBRARY, dtype, threads, generate)


def speeds(path: str, options: argparse.Namespace) -> None:
    threads = [int(each) for each in options.threads.split(",")]
    sides = [library_side(path, "float32", each) for each in threads]
    sides += [engine_side(path, dtype, each) for dtype in options.dtypes.split(",") for each in threads]
    chat = ChatFormat.of(path)
    prompts = prompts_of(chat, played(max(rows_of(options))), options.context)
    print(f"\n{path}: prompts of {statistics.mean(map(len, prompts)):.0f} tokens, replies of {options.tokens}")
    print("tokens a second with the prompts | after them | tokens a CPU second after them")
    counts = "".join(f"{f'{count} at once':>22}" for count in rows_of(options))
    print(f"{'':24}{'dtype':>10}{'threads':>8}{counts}", flush=True)
    found: dict[tuple[int, int], list[Speed]] = {}
    for rows in rows_of(options):
        batch = prompts[:rows]
        for _ in range(options.repeat):
            for place, side in enumerate(sides):
                found.setdefault((place, rows), []).append(side.measure(batch, options.tokens))
    for place, side in enumerate(sides):
        cells = [median(found[place, rows]) for rows in rows_of(options)]
        shown = "".join(f"{f'{one.whole:.1f} | {one.decoding:.1f} | {one.per_cpu:.1f}':>22}" for one in cells)
        print(f"{side.name:24}{side.dtype:>10}{side.threads:>8}{shown}", flush=True)


def rows_of(options: argparse.Namespace) -> list[int]:
    return [int(each) for each in options.rows.split(",")]


def median(found: Sequence[Speed]) -> Speed:
    return Speed(*(statistics.median(getattr(one, name) for one in found) for name in ("whole", "decoding", "per_cpu")))


def agreement(path: str, options: argparse.Namespace) -> None:
    """Print how far each data type is from float32 where the agent speaks."""
    torch = require("torch", "local")
    chat = ChatFormat.of(path)
    rendered = [chat.conversation(*each) for each in played(options.conversations)]
    expected: list[Any] = []
    print(f"\n{path}: {'':12}{'same token':>12}{'mean KL':>10}{'99% of KL':>11}{'tokens':>8}")
    for dtype in ("float32", *(each for each in options.dtypes.split(",") if each != "float32")):
        model, _ = load_model(path, "cpu", EngineOptions(device="cpu", dtype=dtype))
        same, divergence = list[Any](), list[Any]()
        for number, one in enumerate(rendered):
            spoken = torch.tensor(one.trained[1:]).nonzero()[:, 0]
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([one.ids])).logits[0, spoken].float()
            found = torch.log_softmax(logits, -1)
            if dtype == "float32":
                expected.append(found)
                continue
            wanted = expected[number]
            same.append((wanted.argmax(-1) == found.argmax(-1)).float())
            divergence.append((wanted.exp() * (wanted - found)).sum(-1))
        if same:
            kl = torch.cat(divergence)
            share = float(torch.cat(same).mean())
            print(f"{'':4}{dtype:12}{share:12.2%}{float(kl.mean()):10.6f}{float(kl.quantile(0.99)):11.5f}{len(kl):8}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--rows", default="1,8,32", help="conversations at once")
    parser.add_argument("--dtypes", default="float32,float16")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--tokens", type=int, default=32, help="of a reply")
    parser.add_argument("--context", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--conversations", type=int, default=8, help="that the agreement is measured on")
    parser.add_argument("--agreement", action="store_true", help="compare the data types with float32 instead")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for path in options.models:
        (agreement if options.agreement else speeds)(path, options)
    print(f"\n{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
