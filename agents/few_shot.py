"""Demonstrations that a model-backed agent sends before each conversation (few-shot prompting)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from simkit.core.messages import Message, SystemMessage
from simkit.errors import UsageError


def demonstrated_messages(path: Path) -> tuple[Message, ...]:
    """The messages of the demonstrations in a file, one conversation after the other, without system messages.

    The file may have any form of `simkit check` for SFT. A demonstration that another one continues, as in a file with
    a row for each answer, is left out.

    Raises:
        DataMissing, DataCorrupt: the file cannot be read.
        UsageError: it holds no demonstrations.
    """
    from simkit.data.reading import read_examples  # imports what start-up does not need

    found = [tuple(_spoken(example.messages)) for example in read_examples(path).demonstrations]
    if not any(found):
        raise UsageError(
            f"{path} holds no demonstrations, so an agent cannot be shown any; write them with `simkit export sft`"
        )
    whole = (one for one, after in zip(found, [*found[1:], ()], strict=True) if after[: len(one)] != one)
    return tuple(message for one in whole for message in one)


def _spoken(messages: tuple[Message, ...]) -> Iterator[Message]:
    return (message for message in messages if not isinstance(message, SystemMessage))
