"""Diagnoses a run from its store: pending requests, slow calls, retries, faults, and recommended actions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

import simkit.monitoring.doctor_queries as queries
from simkit.models.adjustments import AGENT, Adjustment
from simkit.monitoring.reply_flags import are_local, reply_notes
from simkit.run.resume import journals
from simkit.run.worker_states import read_workers
from simkit.store import Reader, RunRow, Store
from simkit.store.files import exposure
from simkit.store.source import file_of

LAGGING = 0.5
"""Seconds of event-loop lag above which a component is suspected of blocking."""

LONG_WAIT = 1.0
"""Seconds of waiting for one component, summed over all requests, above which its limits are reported."""

SILENT = 15.0
"""Seconds without an answer after which a worker is reported; it answers ten times a second."""

CROWDED = 0.05
"""Share of attempts answered with 429 above which the limits are questioned."""

_DOUBTFUL = {
    "unknown_finish": "simkit does not know this finish reason; their text and complete calls were used",
    "logprobs": "the server sent no usable log probabilities, so these answers have none",
    "unparsed_call": "a tool call that the model wrote could not be read; it was not spoken, and the model was told",
    "missing_calls": "the server announced tool calls and sent none; look at its tool call parser (docs/models.md)",
    "no_choice": "the server billed them without an answer; they count as empty answers",
}
"""Meaning of doubts about answers, by kind."""

_REMEDIES = {
    "length": "raise --max-tokens",
    "refusal": "look at its prompt, or choose another model",
    "content_filter": "look at its prompt, or choose another endpoint",
    "empty": "choose another model, or for one without tool calling --agent react",
}
"""Remedies for unusable answers, by finish reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Findings about a run; each table is a list of rows by column name.

    Attributes:
        alive: True if a process was playing the run at the time of the diagnosis.
        silent: seconds since the last line of its journal.
        waiting: waiting branches by what they wait for (`opening`, `agent`, `user`), with the longest wait.
        calls: model calls by role and model: attempts, failures, seconds (median, 95%, longest), tokens, money.
        slowest: the slowest attempts; retries: why attempts failed; faults: ended branches by component.
        adjusted: how requests were adjusted to what each endpoint accepts, with the endpoint's reason.
        doubts: unusual answers by role, model and kind (`usage`, `unknown_finish`, ...), with an example.
        flags: flagged messages by author and flag, with their number and an example (its branch).
        odd: unusable answers by role and finish reason (`length`, `refusal`, `empty`, ...).
        tracebacks: where the most frequent faults were raised; `example` names a branch, an episode or the run.
        tools: the slowest tools.
        unplayed: planned episodes that were not finished, by reason.
        blocked: code that held up the event loop, with its stack.
        components: components with limits: requests being served and waiting, sessions open and episodes waiting for
            one, the greatest numbers so far, and total seconds of waiting. While the run is being played they are as
            last observed (every two seconds while something waits), afterwards from the end of its last part.
        workers: what each worker of a run that is being played does, or did when its driver was killed: episodes open
            and done, lag, seconds since its last answer, losses, and what it has leased.
        lost_workers: the last workers that were lost, with the reason.
        stats: resources used by the last part of the run, if that part has ended.
        advice: recommended actions.
        notes: the source of the diagnosis, and anything that could not be read.
    """

    run: RunRow
    error: str | None
    alive: bool
    silent: float
    episodes: Mapping[str, int]
    waiting: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    slowest: list[dict[str, Any]]
    retries: list[dict[str, Any]]
    doubts: list[dict[str, Any]]
    flags: list[dict[str, Any]]
    adjusted: list[dict[str, Any]]
    odd: list[dict[str, Any]]
    faults: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    tracebacks: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    unplayed: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    blocked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    components: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    workers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    lost_workers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    stats: Mapping[str, Any] = field(default_factory=dict[str, Any])
    advice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def diagnose(store: Store, name: str) -> Diagnosis:
    """Diagnose a run, even while it is running.

    Raises:
        UsageError: the run does not exist.
        StoreError: the store cannot be read.
    """
    with store.reading() as reader:
        run = reader.resolve(name)
        with reader.scoped([run.run_id], copy=False) as own:
            found = diagnosis_of(own, run)
    warning = exposure(store.path)
    return found if warning is None else replace(found, advice=(*found.advice, warning))


def diagnosis_of(reader: Reader, run: RunRow) -> Diagnosis:
    """Diagnose a run from an open reader; see `diagnose`.

    Raises:
        StoreError: the store cannot be read.
    """
    return _advised(_examined(reader, run))


def _examined(reader: Reader, run: RunRow) -> Diagnosis:
    def ask(query: str) -> list[dict[str, Any]]:
        return reader.rows(query, {"run": run.run_id})

    files = journals(reader.path, run.run_id)
    row = ask("SELECT error, stats FROM runs WHERE run_id = $run")[0]
    counts = ask(
        "SELECT count(*) AS started, count(finished_at) AS finished, count(*) FILTER (outcome LIKE '%_fault') AS "
        "faulted FROM episodes WHERE run_id = $run"
    )[0]
    state = reader.state.of([run.run_id])
    alive = any(each.alive for each in state.runs)
    stats: dict[str, Any] = orjson.loads(row["stats"]) if row["stats"] else {}
    loads = ask(queries.LOADS) if run.status == "running" else stats.get("components", ())
    return Diagnosis(
        run=run,
        error=row["error"],
        alive=alive,
        silent=max(0.0, time.time() - max(file_of(path).stat().st_mtime for path in files)),
        episodes={key: int(value) for key, value in counts.items()},
        waiting=ask(queries.WAITING),
        calls=ask(queries.CALLS),
        slowest=ask(queries.SLOWEST),
        retries=ask(queries.RETRIES),
        doubts=ask(queries.DOUBTS),
        flags=ask(queries.FLAGS),
        adjusted=ask(queries.ADJUSTED),
        odd=ask(queries.ODD),
        faults=ask(queries.FAULTS),
        tools=ask(queries.TOOLS),
        tracebacks=ask(queries.TRACEBACKS),
        unplayed=ask(queries.UNPLAYED),
        blocked=ask(queries.BLOCKED),
        components=[_limited(each) for each in loads],
        workers=_workers(files[0].parent, alive=alive) if run.status == "running" else [],
        lost_workers=ask(queries.LOST_WORKERS),
        stats=stats,
        notes=state.notes,
    )


def _workers(folder: Path, *, alive: bool) -> list[dict[str, Any]]:
    """The workers of a run as its driver has written them down last; they may be silent since then if it lives."""
    known = read_workers(folder)
    if known is None:
        return []
    silent = known.age if alive else 0.0
    return [
        {**asdict(each), "heard": round(each.heard + silent, 1), "cost": round(each.cost, 4)} for each in known.workers
    ]


def _advised(found: Diagnosis) -> Diagnosis:
    lines = [*_about_the_end(found), *_about_workers(found), *_about_models(found), *_about_components(found)]
    return replace(found, advice=tuple(lines))


def _about_the_end(found: Diagnosis) -> list[str]:
    resume = f"simkit resume {found.run.run_id}"
    match found.run.status:
        case "running" if found.alive:
            return []
        case "running":
            return [f"its process is gone: continue with `{resume}`"]
        case "interrupted":
            return [f"it was interrupted: continue with `{resume}`"]
        case "failed" if found.unplayed:
            return [f"not everything planned was played: continue with `{resume}`"]
        case "stopped":
            return [f"it was stopped ({found.error}): fix the cause or raise the limit, then `{resume}`"]
        case _:
            return []


def _about_workers(found: Diagnosis) -> Iterator[str]:
    for row in found.workers if found.alive else ():
        if row["heard"] > SILENT:
            yield (
                f"worker {row['worker']} ({row['place'] or 'starting'}) has not answered for {row['heard']:.0f} s: a "
                "component holds up its event loop, or its machine is gone; it counts as lost after 600 s"
            )
    if found.lost_workers:
        row = found.lost_workers[0]
        yield f"workers were lost, the last one ({row['place'] or 'starting'}) because {row['reason'].splitlines()[0]}"


def _about_models(found: Diagnosis) -> list[str]:
    attempts = sum(row["attempts"] for row in found.calls)
    limited = sum(row["attempts"] for row in found.retries if row["error"] == "RateLimited")
    timeouts = sum(row["attempts"] for row in found.retries if row["error"] == "ModelTimeout")
    outgrown = sum(row["calls"] for row in found.retries if row["error"] == "ContextTooLong")
    local, served = (Counter[str](), Counter[str]())
    for author, flags in _counted(found.flags).items():
        (local if _plays_locally(found, author) else served).update(flags)
    lines = [
        f"{count} {note}"
        for flags, here in ((served, False), (local, True))
        for count, note in reply_notes(flags, local=here)
    ]
    if outgrown:
        lines.append(
            f"{outgrown} calls did not fit into the model's context: take one that reads more, or fewer --max-turns; "
            "the agent's own end with `context_limit` and count as failed, those of users and judges count as faults"
        )
    if attempts and limited / attempts > CROWDED:
        lines.append(
            f"{limited} of {attempts} attempts met a rate limit: lower --api-concurrency, or give --rpm or --tpm"
        )
    if timeouts:
        lines.append(f"{timeouts} attempts had no answer in time: raise --request-timeout, or lower --api-concurrency")
    return [
        *lines,
        *map(_about_adjustment, found.adjusted),
        *map(_about_doubt, found.doubts),
        *map(_about_answers, found.odd),
    ]


def _about_adjustment(row: Mapping[str, Any]) -> str:
    adjustment = Adjustment(row["adjustment"], row["setting"], row["sent_as"])
    if adjustment.kind == AGENT:
        return f"`{row['model']}` cannot be given tools ({row['reason']}): {adjustment} (docs/local.md)"
    return f"`{row['model']}`: {adjustment}, because {row['endpoint']} refuses it otherwise (docs/models.md)"


def _counted(flags: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """The number of messages with each flag, by author."""
    counts: dict[str, Counter[str]] = {}
    for row in flags:
        if not row["flag"].startswith("unknown_finish"):  # among the doubts, which all roles have
            counts.setdefault(row["author"], Counter())[row["flag"]] += row["messages"]
    return counts


def _plays_locally(found: Diagnosis, role: str) -> bool:
    """Whether a role is played by models in this process only."""
    return are_local(row["model"] for row in found.calls if row["role"] == role)


def _about_doubt(row: Mapping[str, Any]) -> str:
    answers = f"{row['answers']} answers of `{row['model']}`"
    if row["kind"] == "usage":
        return (
            f"{answers} reported an implausible usage ({row['example']}): they count no tokens, so tokens and cost are "
            "too low; budgets were charged in full"
        )
    meaning = _DOUBTFUL.get(row["kind"], "look at them in `response -> 'doubts'` of model_calls")
    return f"{answers} were unusual (`{row['kind']}: {row['example']}`): {meaning}"


def _about_answers(row: Mapping[str, Any]) -> str:
    ending, share = row["finish"], f"{row['answers']} of the {row['role']}'s {row['of']} answers"
    return f"{share} ended with `{ending}`: {_REMEDIES[ending]}"


def _about_components(found: Diagnosis) -> list[str]:
    worst = float(found.stats.get("lag", {}).get("worst", 0.0))
    lines = [f"{row['branches']} branches ended by the {row['component']}: {row['example']}" for row in found.faults]
    lines += map(_about_block, found.blocked)
    lines += [line for row in found.components for line in _about_limits(row)]
    if worst > LAGGING and not found.blocked:
        lines.append(
            f"the event loop was up to {worst:.1f} s late: a component blocks it by computing or reading files "
            "(anyio.to_thread)"
        )
    return lines


def _limited(load: Mapping[str, Any]) -> dict[str, Any]:
    """The load of a component as a row."""
    return {
        "component": load["name"],
        "concurrency": load["concurrency"],
        "serving": load["serving"],
        "waiting": load["waiting"],
        "most_waiting": load["most_waiting"],
        "waited_seconds": round(load["waited"], 3),
        "sessions": load["sessions"],
        "open": load["open"],
        "queued": load["queued"],
        "most_queued": load["most_queued"],
        "queued_seconds": round(load["queued_seconds"], 3),
    }


def _about_limits(row: Mapping[str, Any]) -> Iterator[str]:
    name = row["component"]
    if row["waited_seconds"] > LONG_WAIT:
        yield (
            f"requests waited for `{name}` for {row['waited_seconds']:.1f} s in all, up to {row['most_waiting']} at "
            f"once: raise its `concurrency` ({row['concurrency']}) if it can serve more, or lower --concurrency"
        )
    if row["queued_seconds"] > LONG_WAIT:
        yield (
            f"episodes waited for a session of `{name}` for {row['queued_seconds']:.1f} s in all, up to "
            f"{row['most_queued']} at once: raise its `sessions` ({row['sessions']}) if it can hold more"
        )


def _about_block(row: Mapping[str, Any]) -> str:
    place = row["place"] or "an unknown place"
    return (
        f"the event loop was blocked for {row['seconds']:.1f} s in all, {row['times']} times, at {place}: nothing else "
        "ran meanwhile, and no deadline could end it; await there, or use anyio.to_thread.run_sync"
    )
