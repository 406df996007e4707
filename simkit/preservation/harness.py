"""Adapters of models for lm-evaluation-harness: local weights, or any chat model of simkit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import anyio
import anyio.from_thread

from simkit.core.cancellation import require_results, unasked
from simkit.core.ids import TurnKey
from simkit.core.messages import Message, UserMessage, parse_message, text_of
from simkit.core.reasoning import without_reasoning
from simkit.errors import ModelFault, UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest
from simkit.models.sampling import Sampling
from simkit.plugins.extras import require
from simkit.preservation.local_weights import Weights
from simkit.run.engine import sole_error

CHUNK = 256
"""Requests between two checks for cancellation."""

MAX_STOPS = 4
"""Stop sequences that are sent with a request, the limit of OpenAI; replies are cut at the others here."""


def weights_lm(weights: Weights, batch: int, report: Callable[[str], None] = lambda text: None) -> Any:
    """Local weights as the Hugging Face model of lm-eval; `batch` sequences are computed at once.

    `report` is called with a line of progress.
    """
    hugging: Any = require("lm_eval.models.huggingface", "preserve")

    class LocalLM(hugging.HFLM):
        """Model without progress bars, which is cancelled with its run. Single answers never fail."""

        faults: ClassVar[list[ModelFault]] = []

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
            return _in_chunks(partial(hugging.HFLM.loglikelihood, self), requests, report)

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
            return _in_chunks(partial(hugging.HFLM.loglikelihood_rolling, self), requests, report)

        def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
            return _in_chunks(partial(hugging.HFLM.generate_until, self), requests, report)

    return LocalLM(pretrained=weights.model, tokenizer=weights.tokenizer, batch_size=batch, max_length=weights.context)


def chat_lm(model: ChatModel, seed: int, concurrency: int) -> Any:
    """A chat model as a model of lm-eval, for tasks with written answers; its calls are those of the run.

    A request that fails permanently gets an empty answer, which lm-eval scores like any other.
    """
    base: Any = require("lm_eval.api.model", "preserve").LM

    class ChatLM(base):
        """Model that is called on the run's event loop; `faults` holds the failures."""

        def __init__(self) -> None:
            base.__init__(self)
            self.faults: list[ModelFault] = []

        @property
        def tokenizer_name(self) -> str:
            return model.name

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return json.dumps(chat_history)

        def generate_until(self, requests: list[Any]) -> list[str]:
            try:
                calls = _ChatCalls(model, seed, anyio.CapacityLimiter(concurrency), self.faults)
                return anyio.from_thread.run(calls.answer_all, requests)
            except CancelledError:
                anyio.from_thread.check_cancelled()
                raise

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            raise _no_likelihoods(requests)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[Any]:
            raise _no_likelihoods(requests)

    return ChatLM()


def check_answerable(tasks: Mapping[str, Any]) -> None:
    """Check that a chat model can play the tasks.

    Raises:
        UsageError: a task compares probabilities, which chat endpoints do not return.
    """
    for name, task in tasks.items():
        if task.OUTPUT_TYPE != "generate_until":
            raise UsageError(
                f"the suite `{name}` compares probabilities of given answers, which a chat model does not return; "
                "play it with --model local/PATH, or choose a suite with written answers (gsm8k, ifeval)"
            )


def _in_chunks(work: Callable[..., list[Any]], requests: Sequence[Any], report: Callable[[str], None]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(requests), CHUNK):
        anyio.from_thread.check_cancelled()
        anyio.from_thread.run_sync(report, f"{requests[start].task_name}: {start} of {len(requests)} requests")
        found += work(requests[start : start + CHUNK], disable_tqdm=True)
    return found


@dataclass(frozen=True, slots=True)
class _ChatCalls:
    model: ChatModel
    seed: int
    limiter: anyio.CapacityLimiter
    faults: list[ModelFault]

    async def answer_all(self, requests: Sequence[Any]) -> list[str]:
        answers: dict[int, str] = {}

        async def ask(place: int, request: Any, key: CallKey) -> None:
            with unasked(f"request {place + 1}"):
                async with self.limiter:
                    answers[place] = await self._one(request, key)

        try:
            async with anyio.create_task_group() as group:
                for place, (request, key) in enumerate(zip(requests, _keys(requests, self.seed), strict=True)):
                    group.start_soon(ask, place, request, key)
        except BaseExceptionGroup as errors:
            cause = sole_error(errors)
            raise cause from cause.__cause__ or errors
        await require_results(len(answers), len(requests), "requests")
        return [answers[place] for place in range(len(requests))]

    async def _one(self, request: Any, key: CallKey) -> str:
        prompt, options = cast("tuple[str, Mapping[str, Any]]", request.args)
        stops = _stops(options.get("until"))
        asked = ChatRequest(messages=_messages(prompt), sampling=_sampling(options, stops), seed=key.seed)
        try:
            response = await self.model.complete(asked, key)
        except ModelFault as fault:
            self.faults.append(fault)
            return ""
        text = without_reasoning(text_of(response.message))
        for stop in stops:
            text = text.split(stop)[0]
        return text


def _keys(requests: Sequence[Any], seed: int) -> list[CallKey]:
    """A key for each request: its task and document, and a trial if the task takes several samples."""
    asked: Counter[tuple[str, int]] = Counter()
    keys: list[CallKey] = []
    for request in requests:
        name = (f"{request.task_name}:{request.doc_id}", request.idx)
        keys.append(CallKey(TurnKey(seed, name[0], asked[name], "", 1), "agent", request.idx))
        asked[name] += 1
    return keys


def _messages(prompt: str) -> tuple[Message, ...]:
    try:
        said = json.loads(prompt)
    except json.JSONDecodeError:
        return (UserMessage.of(prompt),)
    if not isinstance(said, list):
        return (UserMessage.of(prompt),)
    return tuple(parse_message(each) for each in cast("list[dict[str, Any]]", said))


def _stops(until: Any) -> tuple[str, ...]:
    if until is None:
        return ()
    return tuple(text for text in ([until] if isinstance(until, str) else cast("list[str]", until)) if text)


def _sampling(options: Mapping[str, Any], stops: Sequence[str]) -> Sampling:
    temperature = float(options.get("temperature") or 0.0) if options.get("do_sample") else 0.0
    most = options.get("max_gen_toks") or options.get("max_tokens")
    return Sampling(
        temperature=temperature,
        max_tokens=int(most) if most else None,
        stop=tuple(stops[:MAX_STOPS]),
        top_p=options.get("top_p") if options.get("do_sample") else None,
    )


def _no_likelihoods(requests: Sequence[Any]) -> UsageError:
    name = requests[0].task_name if requests else "?"
    return UsageError(
        f"the suite `{name}` compares probabilities, which a chat model does not return; give --model local/PATH"
    )
