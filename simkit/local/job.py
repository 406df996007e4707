"""One reply, while it is generated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from simkit.errors import ModelFault
from simkit.local.chat import ChatFormat
from simkit.local.constraints import Constraint
from simkit.local.incremental import GrowingText
from simkit.local.sampling import uniforms
from simkit.models.sampling import Sampling

_FIRST = 128


@dataclass(slots=True, eq=False)
class Job:
    """One reply, while it is generated.

    Attributes:
        prompt: token ids before the reply.
        sampling: sampling options.
        seed: seed of the random numbers that pick its tokens.
        room: maximum tokens of the reply.
        constraint: the form that the reply must have; None for a free one.
        ids, logprobs: tokens generated so far, and their log probabilities.
        finish: the reason why it ended; None while it is generated.
        text: the reply up to the stop text that ended it; None without one.
        cached: tokens of the prompt that were not computed again.
        dropped: whether its caller has stopped waiting.
        error: why it cannot be generated; the rest of the batch is unaffected.
        matcher: state of the constraint after the tokens so far; None before the first token and without a constraint.
    """

    prompt: list[int]
    sampling: Sampling
    seed: int
    room: int
    constraint: Constraint | None = None
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    finish: Literal["stop", "length"] | None = None
    text: str | None = None
    cached: int = 0
    dropped: bool = False
    error: Exception | None = None
    matcher: Any = None
    _chances: list[float] = field(default_factory=list[float])
    _growing: GrowingText | None = None
    _said: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more is generated."""
        return self.finish is not None or self.error is not None

    @property
    def stored(self) -> int:
        """Number of tokens whose keys and values are in memory once it runs: all but the last."""
        return len(self.prompt) + len(self.ids) - 1

    @property
    def last(self) -> int:
        """The newest token."""
        return self.ids[-1] if self.ids else self.prompt[-1]

    @property
    def longest(self) -> int:
        """Maximum tokens of prompt and reply together."""
        return len(self.prompt) + self.room

    def chance(self) -> float:
        """The random number in [0, 1) that picks the next token."""
        index = len(self.ids)
        if index >= len(self._chances):
            self._chances = uniforms(self.seed, self.room if index else min(self.room, _FIRST))
        return self._chances[index]

    def take(self, token: int, logprob: float, chat: ChatFormat) -> None:
        """Add a token, and end the reply if it ends with it.

        Raises:
            ModelFault: the model computed no number for this row, or the token violates the constraint.
        """
        if math.isnan(logprob):
            raise ModelFault("the local model computed NaN for this conversation; try another dtype or model")
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in chat.ends:
            self.finish = "stop"
            return
        if self.matcher is not None and not self.matcher.consume_token(token):
            raise ModelFault(f"the token {token} violates the form of the reply: {self.matcher.get_error():.200}")
        if self.sampling.stop:
            self._stop(chat)
        if len(self.ids) >= self.room:
            self.finish = self.finish or "length"

    def _stop(self, chat: ChatFormat) -> None:
        """End the reply if the newest token completes a stop text."""
        growing = self._growing = self._growing or GrowingText(chat.text)
        new = growing.add(self.ids[-1:])
        if not new:
            return
        stops = self.sampling.stop
        self._said += new
        start = max(0, len(self._said) - len(new) - max(map(len, stops)) + 1)
        places = [place for text in stops if (place := self._said.find(text, start)) >= 0]
        if places:
            self.text, self.finish = self._said[: min(places)], "stop"
