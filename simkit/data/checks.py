"""Checks of training data before a training is paid for: contents, problems, and lengths in tokens.

With a tokenizer every example is rendered as the model will see it (`simkit.local.chat.ChatFormat`, which plays and
trains too) and its answers are parsed back from their tokens: an answer that changes on the way cannot be learned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from simkit.data.examples import UNREAD, Example, ExampleSet, KtoExample, SftExample, example_digest, prompt_digest
from simkit.data.export import Format
from simkit.data.openai_files import refused
from simkit.data.prompt_comparison import compare_with_requests
from simkit.data.reasoning import holds_field, reasoning_counts
from simkit.data.rendering import Lengths, format_to_train, rendered
from simkit.data.rules import FINDINGS, Severity, good_answers, problems

if TYPE_CHECKING:
    from simkit.local.chat import ChatFormat
    from simkit.store import Reader, Store

Noticed: TypeAlias = tuple[str, int | None, str]
"""The name of a finding, the index of its example (None: the whole set), and a detail."""


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
        names = ("kind", "examples", "tasks", "tools", "calls", "labels", "as_sent", "reasoning")
        return {
            **{name: getattr(self, name) for name in names},
            **({"tokens": self.lengths.to_json()} if self.lengths else {}),
            **({"learnt": self.learnt.to_json()} if self.learnt else {}),
            "removed": dict(self.removed),
            **({"unread": self.unread} if self.unread else {}),
            "ok": self.ok,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def to_text(self) -> str:
        """The report as text."""
        rows = len(self.lengths.sorted) if self.kind == "sft" and self.lengths else 0
        removed = ", ".join(f"{n} {reason}" for reason, n in self.removed.items())
        lines = [
            f"{self.examples} {self.kind.upper()} examples of {self.tasks} tasks, {self.tools} tools",
            f"labels: {self.labels[0]} desirable, {self.labels[1]} undesirable" if self.labels else "",
            f"tool calls to learn: {self.calls}",
            f"with reasoning in their answers: {self.reasoning}" if self.reasoning else "",
            f"prompts equal to the request that was sent: {self.as_sent}" if self.as_sent else "",
            f"removed before: {removed}" if removed else "",
            f"columns that are not read: {', '.join(self.unread)}" if self.unread else "",
            f"rows: {rows}, since conversations whose later prompts show a reply otherwise, or without its reasoning, "
            "are learned one reply at a time"
            if rows > self.examples
            else "",
            *((f"tokens: {self.lengths}", *self.lengths.histogram()) if self.lengths else ()),
            f"tokens learnt: {self.learnt}" if self.learnt else "",
            *(map(_line, self.findings) if self.findings else ("no problems found",)),
        ]
        return "\n".join(filter(None, lines))


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
    found = [*_noticed(examples, format), *_repeated(examples)]
    labels = Counter(example.label for example in examples.judged)
    if examples and examples.kind == "kto":
        found += _weighed(labels[True], labels[False])
    seen = None if store is None else compare_with_requests(examples, store)
    if seen is not None:
        found += [("not_as_sent", index, detail) for index, detail in seen.different.items()]
    lengths = learnt = None
    if chat is not None:
        lengths, learnt, more = _rendered(examples, _format(chat), max_tokens)
        found += more
    return CheckReport(
        kind=examples.kind,
        examples=len(examples),
        tasks=len(examples.task_ids),
        tools=len({tool.name for example in examples for tool in example.tools}),
        calls=sum(len(answer.tool_calls or ()) for example in examples for answer in good_answers(example)),
        labels=(labels[True], labels[False]) if examples.kind == "kto" else None,
        findings=tuple(_findings(found, examples)),
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


def _findings(found: list[Noticed], examples: ExampleSet) -> Iterator[Finding]:
    """The findings in the order of `FINDINGS`, each with the first detail."""
    for name, (severity, text) in FINDINGS.items():
        mine = [(index, detail) for kind, index, detail in found if kind == name]
        indices = tuple(dict.fromkeys(index for index, _ in mine if index is not None))
        places = tuple(examples[index].place for index in indices if examples[index].place)
        if mine:
            yield Finding(name, severity, text, indices, next((each for _, each in mine if each), ""), places)


def _noticed(examples: ExampleSet, format: Format) -> Iterator[Noticed]:
    for index, example in enumerate(examples):
        for name, detail in problems(example):
            yield name, index, detail
        if format == "openai" and (reason := refused(example)) is not None:
            yield "refused", index, reason


def _repeated(examples: ExampleSet) -> Iterator[Noticed]:
    seen: set[bytes] = set()
    labels: dict[bytes, bool] = {}
    for index, example in enumerate(examples):
        digest = example_digest(example)
        if digest in seen:
            yield "duplicate", index, ""
        seen.add(digest)
        for answer, good in _labelled(example):
            if labels.setdefault(answer, good) is not good:
                yield "contradiction", index, ""


def _labelled(example: Example) -> Iterator[tuple[bytes, bool]]:
    """Digest of every labelled answer with its prompt, and its label."""
    if not isinstance(example, SftExample):
        labels = (example.label,) if isinstance(example, KtoExample) else (True, False)
        for conversation, label in zip(example.parts(), labels, strict=True):
            yield prompt_digest(conversation, example.tools), label


def _weighed(good: int, bad: int) -> Iterator[Noticed]:
    if not good or not bad:
        yield "one_label", None, ""
    elif max(good, bad) > 4 * min(good, bad):
        yield "imbalance", None, f"{good} desirable, {bad} undesirable"


def _rendered(examples: ExampleSet, chat: ChatFormat, max_tokens: int | None) -> tuple[Lengths, Lengths, list[Noticed]]:
    chat = format_to_train(examples, chat)
    parts = [(index, part) for index, example in enumerate(examples) for part in rendered(example, chat)]
    whole = [(index, part) for index, part in parts if not part.problem]
    lost = [] if chat.renders_reasoning else [index for index, example in enumerate(examples) if holds_field(example)]
    found: list[Noticed] = [("lost_reasoning", index, "") for index in lost]
    found += [("unreadable", index, part.problem) for index, part in parts if part.problem]
    if max_tokens is not None:
        said = f"the maximum is {max_tokens} tokens"
        found += [("too_long", index, said) for index, part in whole if part.tokens > max_tokens]
    return Lengths.of(part.tokens for _, part in whole), Lengths.of(part.learnt for _, part in whole), found
