"""What the load server is told to do, and what it counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from statistics import NormalDist
from typing import Any, Literal, TypeAlias, cast

from simkit.errors import UsageError

Reply: TypeAlias = Callable[[Mapping[str, Any]], str | Mapping[str, Any]]
"""From the body of a request to the text of the answer, or to its whole `message`; must depend on nothing else."""

FaultName: TypeAlias = Literal[
    "rate_limited",
    "rate_limited_bare",
    "failed",
    "dropped",
    "half",
    "slow",
    "malformed",
    "wrong_type",
    "too_long",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How many requests, as shares from 0 to 1, meet which fault.

    Attributes:
        rate_limited: 429 with `Retry-After`; rate_limited_bare: without.
        failed: 500.
        dropped: the connection is closed without an answer.
        half: it is closed in the middle of the answer.
        slow: the second half of the answer comes `slow_seconds` later.
        malformed: the JSON is cut off, though the body is as long as it says.
        wrong_type: an HTML page with status 200.
        too_long: 400, the context length is exceeded.
    """

    rate_limited: float = 0.0
    rate_limited_bare: float = 0.0
    failed: float = 0.0
    dropped: float = 0.0
    half: float = 0.0
    slow: float = 0.0
    malformed: float = 0.0
    wrong_type: float = 0.0
    too_long: float = 0.0

    def __post_init__(self) -> None:
        shares = [getattr(self, each.name) for each in fields(self)]
        if min(shares) < 0 or sum(shares) > 1:
            raise UsageError(f"{self} cannot be: shares are at least 0, and all together at most 1")

    def at(self, chance: float) -> FaultName | None:
        """The fault of a request whose draw, from 0 to 1, is `chance`."""
        for each in fields(self):
            share = getattr(self, each.name)
            if chance < share:
                return cast("FaultName", each.name)
            chance -= share
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What the server does.

    Attributes:
        latency: seconds from a request to its answer, the median of them when there is a spread.
        spread: sigma of a log-normal distribution of latencies; 0 for always the same.
        faults: what goes wrong, how often.
        capacity: requests at once; more are answered with 429. None for any number.
        retry_after: seconds that a 429 asks to wait.
        slow_seconds: how much later a slow answer's second half comes.
        key: the only key that is accepted; None accepts all. A wrong one is echoed in the 401, as some servers do.
        seed: of everything that is drawn.
        reply: what is answered; a text that follows from the request when None.
    """

    latency: float = 0.0
    spread: float = 0.0
    faults: Faults = field(default_factory=Faults)
    capacity: int | None = None
    retry_after: float = 0.05
    slow_seconds: float = 0.2
    key: str | None = None
    seed: int = 0
    reply: Reply | None = None

    def draws(self, digest: bytes, seen: int) -> tuple[float, float]:
        """Two draws between 0 and 1 for a request that was seen so often before: of its fault and of its latency."""
        data = blake2b(b"%d/%d" % (self.seed, seen), key=digest, digest_size=16).digest()
        return int.from_bytes(data[:8], "big") / (1 << 64), int.from_bytes(data[8:], "big") / (1 << 64)

    def seconds(self, chance: float) -> float:
        """The latency of a request."""
        if not self.spread:
            return self.latency
        return self.latency * math.exp(self.spread * NormalDist().inv_cdf(min(max(chance, 1e-9), 1 - 1e-9)))


@dataclass(slots=True)
class Stats:
    """What the server saw.

    Attributes:
        requests: chat requests.
        answered: those it answered in full with a completion.
        repeated: answers given to a body that had been answered before.
        in_flight_max: requests under way at once, at most.
        connections: connections accepted.
        prompt_tokens, completion_tokens: of the answers.
        faults: how often each fault happened, `capacity` and `key` among them.
    """

    requests: int = 0
    answered: int = 0
    repeated: int = 0
    in_flight_max: int = 0
    connections: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    faults: dict[str, int] = field(default_factory=dict[str, int])
