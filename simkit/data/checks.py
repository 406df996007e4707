"""Checks of training data before a training is paid for: contents, problems, and lengths in tokens.

With a tokenizer every example is rendered as the model will see it (`simkit.local.chat.ChatFormat`, which plays and
trains too) and its answers are parsed back from their tokens: an answer that changes on the way cannot be learned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from simkit.data.examples import (
    UNREAD,
    DpoExample,
    Example,
    ExampleSet,
    KtoExample,
    SftExample,
    example_digest,
    prompt_digest,
)
from simkit.data.export import Format
from simkit.data.openai_files import refused
from simkit.data.prompt_comparison import compare_with_requests
from simkit.data.reasoning import holds_field, reasoning_counts
from simkit.data.rendering import Lengths
from simkit.data.rules import FINDINGS, Severity, good_answers, problems

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat
    from simkit.store import Reader, Store


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of problem: severity, description, and the indices of its examples (empty: the whole set).

    `places` are the locations of those examples in the file that they were read from.
    """

    name: str
    severity: Severity
    text: str
    examples: tuple[int, ...] = ()
    detail: str = ""
    places: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Report of a check.

    Attributes:
        kind: `sft`, `kto` or `dpo`.
        examples: number of examples.
        tasks: number of tasks that they come from, as far as known.
        tools: number of different tools.
        calls: tool calls in answers to learn (desirable and preferred ones).
        labels: numbers of desirable and undesirable examples; None unless the kind is KTO.
        findings: problems, errors first.
        lengths: tokens of whole examples; None without a tokenizer.
        learnt: tokens of the answers alone.
        removed: numbers of examples removed before the check, by reason.
        unread: columns of the file that were not read.
        reasoning: examples with reasoning in their answers.
        as_sent: answers whose prompt equals the recorded request; None when no requests were compared.
    """

    kind: str
    examples: int
    tasks: int
    tools: int
    calls: int
    labels: tuple[int, int] | None = None
    findings: tuple[Finding, ...] = ()
    lengths: Lengths | None = None
    learnt: Lengths | None = None
    removed: Mapping[str, int] = field(default_factory=dict[str, int])
    as_sent: int | None = None
    unread: tuple[str, ...] = ()
    reasoning: int = 0

    @property
    def ok(self) -> bool:
        """Whether there are no errors; there may be warnings."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON; lengths as quantiles in tokens."""
        plain = {
            name: getattr(self, name)
            for name in ("kind", "examples", "tasks", "tools", "calls", "labels", "as_sent", "reasoning")
        }
        lengths = {
            name: value.to_json() for name, value in (("tokens", self.lengths), ("learnt", self.learnt)) if value
        }
        findings = [asdict(finding) for finding in self.findings]
        unread = {"unread": self.unread} if self.unread else {}
        return {**plain, **lengths, "removed": dict(self.removed), **unread, "ok": self.ok, "findings": findings}

    def to_text(self) -> str:
        """The report as text."""
        lines = [f"{self.examples} {self.kind.upper()} examples of {self.tasks} tasks, {self.tools} tools"]
        if self.labels is not None:
            lines.append(f"labels: {self.labels[0]} desirable, {self.labels[1]} undesirable")
        lines.append(f"tool calls to learn: {self.calls}")
        if self.reasoning:
            lines.append(f"with reasoning in their answers: {self.reasoning}")
        if self.as_sent:
            lines.append(f"prompts equal to the request that was sent: {self.as_sent}")
        if self.removed:
            lines.append("removed before: " + ", ".join(f"{n} {reason}" for reason, n in self.removed.items()))
        if self.unread:
            lines.append("columns that are not read: " + ", ".join(self.unread))
        if self.kind == "sft" and self.lengths is not None and len(self.lengths.sorted) > self.examples:
            lines.append(
                f"rows: {len(self.lengths.sorted)}, since conversations whose later prompts show a reply otherwise, or "
                "without its reasoning, are learned one reply at a time"
            )
        for name, lengths in (("tokens", self.lengths), ("tokens learnt", self.learnt)):
            if lengths is not None:
                lines += [f"{name}: {lengths}", *(lengths.histogram() if name == "tokens" else ())]
        lines += [_line(finding) for finding in self.findings] or ["no problems found"]
        return "\n".join(lines)


def _line(finding: Finding) -> str:
    many = len(finding.examples)
    first = ", ".join(finding.places[:5] or map(str, finding.examples[:5])) + (", ..." if many > 5 else "")
    place = f" [{many} examples: {first}]" if many else ""
    detail = f" ({finding.detail})" if finding.detail else ""
    return f"{finding.severity}: {finding.name}: {finding.text}{place}{detail}"


def check(
    examples: ExampleSet,
    chat: ChatFormat | str | None = None,
    *,
    max_tokens: int | None = None,
    store: Store | Reader | None = None,
    format: Format = "trl",
) -> CheckReport:
    """Check a set and report its contents and problems.

    Args:
        examples: the set.
        chat: a `ChatFormat`, or the folder or name of a model whose tokenizer and chat template are used, with values
            for the template after commas (`enable_thinking=false`); with None, examples are not rendered and have no
            lengths.
        max_tokens: examples longer than this are reported.
        store: the store of the examples; their prompts are compared with the requests recorded in it.
        format: with `openai`, examples that the fine-tuning API refuses are errors.

    Raises:
        UsageError: there is no such tokenizer, or the extra `local` is missing.
        StoreError: the store cannot be read.
    """
    found = _Findings()
    for index, example in enumerate(examples):
        for name, detail in problems(example):
            found.add(name, index, detail)
        if format == "openai" and (reason := refused(example)) is not None:
            found.add("refused", index, reason)
    _repetitions(examples, found)
    labels = _labels(examples, found)
    seen = None if store is None else compare_with_requests(examples, store)
    for index, detail in () if seen is None else seen.different.items():
        found.add("not_as_sent", index, detail)
    lengths = learnt = None
    if chat is not None:
        lengths, learnt = _rendered(examples, _format(chat), max_tokens, found)
    return CheckReport(
        kind=examples.kind,
        examples=len(examples),
        tasks=len(examples.task_ids),
        tools=len({tool.name for example in examples for tool in example.tools}),
        calls=sum(len(answer.tool_calls or ()) for example in examples for answer in good_answers(example)),
        labels=labels,
        findings=found.all([example.place for example in examples]),
        lengths=lengths,
        learnt=learnt,
        removed=examples.removed,
        as_sent=None if seen is None else seen.equal,
        reasoning=reasoning_counts(examples)[0],
        unread=tuple(dict.fromkeys(what for each in examples for name, what in each.noticed if name == UNREAD)),
    )


def _format(chat: ChatFormat | str) -> ChatFormat:
    from simkit.local.chat import ChatFormat
    from simkit.local.worker import parse_local

    if not isinstance(chat, str):
        return chat
    path, options, _ = parse_local(chat)
    return ChatFormat.of(path, dict(options.template_kwargs))


class _Findings:
    """Collector of findings during a check."""

    def __init__(self) -> None:
        self._where: defaultdict[str, list[int]] = defaultdict(list)
        self._details: dict[str, str] = {}

    def add(self, name: str, index: int | None = None, detail: str = "") -> None:
        """Add one; the first detail of each kind is kept."""
        where = self._where[name]
        if index is not None and (not where or where[-1] != index):
            where.append(index)
        if detail:
            self._details.setdefault(name, detail)

    def all(self, places: Sequence[str]) -> tuple[Finding, ...]:
        """All findings, in the order of `FINDINGS`; `places` are the locations of all examples in their file."""
        found: list[Finding] = []
        for name, (severity, text) in FINDINGS.items():
            if name in self._where:
                where = tuple(self._where[name])
                read = tuple(filter(None, (places[index] for index in where)))
                found.append(Finding(name, severity, text, where, self._details.get(name, ""), read))
        return tuple(found)


def _repetitions(examples: ExampleSet, found: _Findings) -> None:
    seen: set[bytes] = set()
    labels: dict[bytes, bool] = {}
    for index, example in enumerate(examples):
        digest = example_digest(example)
        if digest in seen:
            found.add("duplicate", index)
        seen.add(digest)
        for answer, good in _labelled(example):
            if labels.setdefault(answer, good) is not good:
                found.add("contradiction", index)


def _labelled(example: Example) -> Iterator[tuple[bytes, bool]]:
    """Digest of every labelled answer with its prompt, and its label."""
    match example:
        case SftExample():
            return
        case KtoExample():
            yield prompt_digest((*example.prompt, *example.completion), example.tools), example.label
        case DpoExample():
            yield prompt_digest((*example.prompt, *example.chosen), example.tools), True
            yield prompt_digest((*example.prompt, *example.rejected), example.tools), False


def _labels(examples: ExampleSet, found: _Findings) -> tuple[int, int] | None:
    if examples.kind != "kto":
        return None
    counts = Counter(example.label for example in examples.judged)
    good, bad = counts[True], counts[False]
    if examples and not min(good, bad):
        found.add("one_label")
    elif max(good, bad) > 4 * min(good, bad):
        found.add("imbalance", detail=f"{good} desirable, {bad} undesirable")
    return good, bad


def _rendered(
    examples: ExampleSet, chat: ChatFormat, max_tokens: int | None, found: _Findings
) -> tuple[Lengths, Lengths]:
    from simkit.data.rendering import format_to_train, rendered

    chat = format_to_train(examples, chat)
    lengths: list[int] = []
    learnt: list[int] = []
    reasons = chat.renders_reasoning
    for index, example in enumerate(examples):
        if not reasons and holds_field(example):
            found.add("lost_reasoning", index)
        for part in rendered(example, chat):
            if part.problem:
                found.add("unreadable", index, part.problem)
                continue
            lengths.append(part.tokens)
            learnt.append(part.learnt)
            if max_tokens is not None and part.tokens > max_tokens:
                found.add("too_long", index, f"the maximum is {max_tokens} tokens")
    return Lengths.of(lengths), Lengths.of(learnt)
