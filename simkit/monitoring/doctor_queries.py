"""Queries of `simkit doctor` about the run `$run`, each one table of its page."""

from __future__ import annotations

from simkit.monitoring.reply_flags import REPLY_FLAGS

WAITING = """
WITH leaves AS (
    SELECT b.branch_id, b.finished_at
    FROM branches b JOIN episodes e USING (episode_id)
    WHERE e.run_id = $run AND e.finished_at IS NULL AND b.outcome IS NULL
    AND NOT EXISTS (FROM branches c WHERE c.parent_id = b.branch_id)
),
latest AS (SELECT branch_id, arg_max(author, seq) AS author FROM messages GROUP BY ALL)
SELECT
    CASE WHEN author = 'user' THEN 'agent' ELSE 'user' END AS waits_for, count(*) AS branches,
    round(epoch(CAST(now() AT TIME ZONE 'UTC' AS TIMESTAMP) - min(l.finished_at)), 1) AS longest_seconds,
    arg_min(branch_id, l.finished_at) AS example
FROM leaves l LEFT JOIN latest USING (branch_id)
GROUP BY ALL
UNION ALL
SELECT
    'opening', count(*), round(epoch(CAST(now() AT TIME ZONE 'UTC' AS TIMESTAMP) - min(started_at)), 1),
    any_value(episode_id)
FROM episodes e
WHERE run_id = $run AND finished_at IS NULL AND NOT EXISTS (FROM branches b WHERE b.episode_id = e.episode_id)
HAVING count(*) > 0
ORDER BY branches DESC
"""

OF_RUN = "FROM model_calls m JOIN episodes e USING (episode_id) WHERE e.run_id = $run"

CALLS = f"""
SELECT
    role, model, count(*) AS attempts, count(*) FILTER (m.error IS NOT NULL) AS failed,
    round(median(seconds), 3) AS median_seconds, round(quantile_cont(seconds, 0.95), 3) AS p95_seconds,
    round(max(seconds), 3) AS longest_seconds, sum(prompt_tokens) AS prompt_tokens,
    sum(completion_tokens) AS completion_tokens, round(sum(cost), 6) AS cost
{OF_RUN}
GROUP BY ALL ORDER BY attempts DESC
"""

SLOWEST = f"""
SELECT
    round(seconds, 3) AS seconds, role, model, m.attempt, completion_tokens, split_part(m.error, ':', 1) AS error,
    branch_id
{OF_RUN}
ORDER BY m.seconds DESC, branch_id LIMIT 5
"""

RETRIES = f"""
SELECT split_part(m.error, ':', 1) AS error, count(*) AS attempts, count(DISTINCT (branch_id, role, step)) AS calls,
    any_value(m.error) AS example
{OF_RUN} AND m.error IS NOT NULL
GROUP BY ALL ORDER BY attempts DESC
"""

ADJUSTED = """
SELECT model, adjustment, setting, sent_as, reason, endpoint
FROM endpoint_adjustments WHERE run_id = $run
ORDER BY endpoint, model, learned_at
"""

DOUBTS = f"""
SELECT role, model, split_part(doubt, ':', 1) AS kind, count(*) AS answers,
    any_value(substr(doubt, strpos(doubt, ':') + 2)) AS example
FROM (
    SELECT role, model, unnest(list_append(
        CAST((response -> 'doubts') AS VARCHAR[]),
        'usage: ' || (response ->> 'usage_doubt') -- in recordings made before there were other doubts
    )) AS doubt
    {OF_RUN} AND ((response -> 'doubts') IS NOT NULL OR (response ->> 'usage_doubt') IS NOT NULL)
)
WHERE doubt IS NOT NULL
GROUP BY role, model, kind ORDER BY answers DESC, kind
"""


FLAGS = f"""
SELECT author, flag, count(*) AS messages, any_value(branch_id) AS example
FROM (
    SELECT author, branch_id, unnest(flags) AS flag FROM messages m JOIN episodes e USING (episode_id)
    WHERE e.run_id = $run AND len(flags) > 0
)
WHERE split_part(flag, ':', 1) IN ({", ".join(f"'{kind}'" for kind in REPLY_FLAGS)})
GROUP BY ALL ORDER BY messages DESC, author, flag
"""


ODD = f"""
SELECT role, finish, answers, "of"
FROM (
    SELECT role, response ->> 'finish' AS finish, count(*) AS answers, sum(count(*)) OVER (PARTITION BY role) AS "of"
    {OF_RUN} AND response IS NOT NULL
    GROUP BY role, finish
)
WHERE finish IN ('length', 'refusal', 'content_filter', 'empty')
ORDER BY answers DESC
"""

FAULTS = """
SELECT replace(b.outcome, '_fault', '') AS component, count(*) AS branches, count(DISTINCT episode_id) AS episodes,
    any_value(b.error) AS example
FROM branches b JOIN episodes e USING (episode_id)
WHERE e.run_id = $run AND b.outcome LIKE '%_fault'
GROUP BY ALL ORDER BY branches DESC
"""

TRACEBACKS = """
SELECT
    component, count(*) AS times, any_value(error) AS error,
    any_value(coalesce(branch_id, episode_id, run_id)) AS example, traceback
FROM faults WHERE run_id = $run
GROUP BY component, traceback ORDER BY times DESC, error LIMIT 3
"""

UNPLAYED = """
SELECT
    coalesce(u.reason, CASE WHEN r.status = 'running' THEN 'still to be played' ELSE 'open' END) AS reason,
    count(*) AS episodes, any_value(u.episode_id) AS example
FROM units u JOIN runs r USING (run_id)
WHERE u.run_id = $run AND (u.fate = 'not_played' OR u.fate IS NULL)
AND u.attempt = (SELECT max(attempt) FROM planned_units WHERE run_id = $run)
GROUP BY ALL ORDER BY episodes DESC, reason
"""

LOADS = """
SELECT * FROM component_loads
WHERE run_id = $run AND attempt = (SELECT max(attempt) FROM planned_units WHERE run_id = $run)
QUALIFY observed_at = max(observed_at) OVER ()
"""

LOST_WORKERS = """
SELECT worker, place, len(episodes) AS open_episodes, reason, lost_at
FROM lost_workers WHERE run_id = $run ORDER BY lost_at DESC LIMIT 10
"""

BLOCKED = """
SELECT
    place, count(*) AS times, round(sum(seconds), 3) AS seconds, round(max(seconds), 3) AS longest_seconds,
    arg_max(stack, seconds) AS stack
FROM blocked_loops WHERE run_id = $run
GROUP BY place ORDER BY sum(seconds) DESC LIMIT 5
"""

TOOLS = """
SELECT
    name, count(*) AS calls, count(*) FILTER (t.error) AS errors,
    round(quantile_cont(seconds, 0.95), 4) AS p95_seconds, round(max(seconds), 4) AS longest_seconds
FROM tool_calls t JOIN episodes e USING (episode_id)
WHERE e.run_id = $run
GROUP BY ALL ORDER BY max(seconds) DESC LIMIT 5
"""
