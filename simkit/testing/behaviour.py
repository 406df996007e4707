"""Configuration of the load server, and its counts."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from statistics import NormalDist
from typing import Any, Literal, TypeAlias, cast

from simkit.errors import UsageError
from simkit.plugins.loading import find_object

Reply: TypeAlias = Callable[[Mapping[str, Any]], str | Mapping[str, Any]]
"""Maps the body of a request to the text of the answer, or to its whole `message`; a pure function."""

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
    """Share of requests, from 0 to 1, for each fault.

    Attributes:
        rate_limited: 429 with `Retry-After`; rate_limited_bare: without.
        failed: 500.
        dropped: the connection is closed without an answer.
        half: the connection is closed in the middle of the answer.
        slow: the second half of the answer comes `slow_seconds` later.
        malformed: the JSON is cut off, although the body has the declared length.
        wrong_type: an HTML page with status 200.
        too_long: 400, because the context length is exceeded.
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
    """Behaviour of the load server.

    Attributes:
        latency: seconds from a request to its answer; the median if there is a spread.
        spread: sigma of a log-normal distribution of latencies; 0 for a constant latency.
        faults: the share of each fault.
        capacity: requests served at once; further ones are answered with 429. None for no limit.
        retry_after: seconds that a 429 asks to wait.
        slow_seconds: delay of the second half of a slow answer.
        key: the only key that is accepted; None accepts all. A wrong one is echoed in the 401, as some servers do.
        seed: seed of all random draws.
        reply: makes the answers; None for a text derived from the request.
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
        """Two draws between 0 and 1, for fault and latency, of a request with this number of earlier copies."""
        data = blake2b(b"%d/%d" % (self.seed, seen), key=digest, digest_size=16).digest()
        return int.from_bytes(data[:8], "big") / (1 << 64), int.from_bytes(data[8:], "big") / (1 << 64)

    def seconds(self, chance: float) -> float:
        """The latency of a request."""
        if not self.spread:
            return self.latency
        return self.latency * math.exp(self.spread * NormalDist().inv_cdf(min(max(chance, 1e-9), 1 - 1e-9)))


@dataclass(slots=True)
class Stats:
    """Counts of the server.

    Attributes:
        requests: chat requests.
        answered: chat requests answered with a complete completion.
        repeated: answers to a body that had been answered before.
        in_flight_max: greatest number of requests in progress at once.
        connections: accepted connections.
        prompt_tokens, completion_tokens: tokens of the answers.
        faults: count of each fault, including `capacity` and `key`.
    """

    requests: int = 0
    answered: int = 0
    repeated: int = 0
    in_flight_max: int = 0
    connections: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    faults: dict[str, int] = field(default_factory=dict[str, int])


def behaviour_flags(program: str, description: str) -> argparse.ArgumentParser:
    """Flags of a program that serves: its port, and a behaviour for `behaviour_of`."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one; the first line printed names it")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds from a request to its answer")
    parser.add_argument("--spread", type=float, default=0.0, help="sigma of log-normal latencies")
    parser.add_argument("--capacity", type=int, default=None, help="requests at once; more are answered with 429")
    parser.add_argument("--retry-after", type=float, default=0.05, help="seconds a 429 asks to wait")
    parser.add_argument("--slow-seconds", type=float, default=0.2, help="how late a slow answer's second half comes")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--reply", help="path/to/file.py:function that gives the answer to a request's body")
    for each in fields(Faults):
        flag = "--" + each.name.replace("_", "-")
        parser.add_argument(flag, type=float, default=0.0, metavar="SHARE", help=f"requests that meet `{each.name}`")
    return parser


def _no_choice(_: object) -> None:
    return None  # a file name does not identify the function


def behaviour_of(given: argparse.Namespace) -> Behaviour:
    """The behaviour that flags describe; the key comes from LOAD_SERVER_KEY."""
    reply = None if given.reply is None else find_object("reply", "simkit.replies", given.reply, _no_choice)
    faults = Faults(**{each.name: getattr(given, each.name) for each in fields(Faults)})
    named = ("latency", "spread", "capacity", "retry_after", "slow_seconds", "seed")
    chosen = {name: getattr(given, name) for name in named}
    return Behaviour(**chosen, faults=faults, key=os.environ.get("LOAD_SERVER_KEY"), reply=cast("Reply | None", reply))
