-- Turns one piece of a journal, read into the temporary table `staged`, into rows. Runs inside one transaction.

-- An unknown kind of event stops the load here; the loader then finds the line.
SELECT CASE WHEN count(*) > 0 THEN error('unknown event ' || coalesce(any_value(e), 'without a name')) END
FROM staged
WHERE e IS NULL OR e NOT IN (
    'RunStarted', 'TaskSeen', 'ToolsetSeen', 'EpisodeStarted', 'BranchAdded', 'BranchExtended', 'BranchEnded',
    'TreeHarvested', 'ModelCall', 'EpisodeFinished', 'Measured', 'ItemScored', 'RunFinished', 'UnitsPlanned',
    'UnitsNotPlayed', 'LoopBlocked'
);

-- An episode that starts again (a resumed run) replaces what there is of it; the latest start wins, also when journals
-- of several workers are loaded in another order than they were written.
CREATE TEMP TABLE starts AS
SELECT s.episode_id, s.line, (o.started_at IS NULL OR o.started_at <= s.moment) AS wins
FROM (
    SELECT episode_id, max(line) AS line, arg_max(moment, line) AS moment
    FROM staged WHERE e = 'EpisodeStarted' GROUP BY ALL
) s
LEFT JOIN episodes o USING (episode_id);

CREATE TEMP TABLE superseded AS
SELECT r.line
FROM staged r
LEFT JOIN starts s USING (episode_id)
LEFT JOIN episodes o USING (episode_id)
WHERE r.e IN ('EpisodeStarted', 'BranchAdded', 'BranchExtended', 'BranchEnded', 'TreeHarvested', 'EpisodeFinished')
AND CASE WHEN s.line IS NOT NULL THEN NOT s.wins OR r.line < s.line ELSE o.journal <> r.journal END;

DELETE FROM staged WHERE line IN (SELECT line FROM superseded);

CREATE TEMP TABLE replaced AS
SELECT episode_id FROM starts JOIN episodes USING (episode_id) WHERE wins;

DELETE FROM episodes WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM branches WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM messages WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM tool_calls WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM rewards WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM harvests WHERE episode_id IN (SELECT episode_id FROM replaced);

INSERT INTO runs
SELECT run_id, name, recipe, seed, config, version, 'running', moment, NULL, NULL, NULL, NULL
FROM staged s
WHERE e = 'RunStarted' AND NOT EXISTS (FROM runs r WHERE r.run_id = s.run_id)
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY line) = 1;

-- A run that was started again has the configuration it goes on with, and is running again.
UPDATE runs SET config = s.config
FROM (SELECT run_id, arg_max(config, line) AS config FROM staged WHERE e = 'RunStarted' GROUP BY ALL) s
WHERE runs.run_id = s.run_id;

UPDATE runs SET status = 'running', finished_at = NULL, summary = NULL, error = NULL, stats = NULL
FROM (SELECT run_id, max(moment) AS moment FROM staged WHERE e = 'RunStarted' GROUP BY ALL) s
WHERE runs.run_id = s.run_id AND s.moment > runs.finished_at;

UPDATE runs SET
    status = s.status, finished_at = s.moment, summary = s.summary, error = s.error, stats = s.stats
FROM (
    SELECT
        run_id, arg_max(status, line) AS status, max(moment) AS moment, arg_max(summary, line) AS summary,
        arg_max_null(error, line) AS error, arg_max(stats, line) AS stats
    FROM staged f
    WHERE e = 'RunFinished'
    AND NOT EXISTS (
        FROM staged a WHERE a.e = 'RunStarted' AND a.run_id = f.run_id AND a.line > f.line AND a.moment > f.moment
    )
    GROUP BY ALL
) s
WHERE runs.run_id = s.run_id;

INSERT INTO tasks
SELECT run_id, task_id, world, split, instructions, goals
FROM staged s
WHERE e = 'TaskSeen' AND NOT EXISTS (FROM tasks t WHERE t.run_id = s.run_id AND t.task_id = s.task_id)
QUALIFY row_number() OVER (PARTITION BY run_id, task_id ORDER BY line) = 1;

INSERT INTO toolsets
SELECT toolset_id, tools
FROM staged s
WHERE e = 'ToolsetSeen' AND NOT EXISTS (FROM toolsets t WHERE t.toolset_id = s.toolset_id)
QUALIFY row_number() OVER (PARTITION BY toolset_id ORDER BY line) = 1;

INSERT INTO episodes BY NAME
SELECT
    episode_id, run_id, task_id, trial, supervisor, toolset_id,
    CAST(goals AS VARCHAR[]) AS goals, moment AS started_at, journal
FROM staged WHERE e = 'EpisodeStarted';

UPDATE episodes SET
    reward = f.reward, full_reward = coalesce(f.full_reward, 1), outcome = f.outcome, achieved = f.achieved, parts = f.parts, turns = f.turns,
    final_branch_id = f.final_branch_id, branches = f.branches, faults = f.faults, error = f.error,
    finished_at = f.moment
FROM staged f
WHERE f.e = 'EpisodeFinished' AND episodes.episode_id = f.episode_id;

INSERT INTO branches
SELECT branch_id, episode_id, parent_id, path, turn, outcome, error, false, false, false, moment
FROM staged WHERE e = 'BranchAdded';

UPDATE branches SET outcome = f.outcome, error = coalesce(f.error, branches.error)
FROM staged f
WHERE f.e = 'BranchEnded' AND branches.branch_id = f.branch_id;

INSERT INTO harvests
SELECT episode_id, harvest, winner_id, CAST(goals AS VARCHAR[]), successful, golden
FROM staged WHERE e = 'TreeHarvested';

UPDATE branches SET
    successful = branches.successful OR m.successful,
    golden = branches.golden OR m.golden,
    winner = branches.winner OR m.winner
FROM (
    SELECT branch_id, bool_or(mark = 's') AS successful, bool_or(mark = 'g') AS golden, bool_or(mark = 'w') AS winner
    FROM (
        SELECT unnest(successful) AS branch_id, 's' AS mark FROM staged WHERE e = 'TreeHarvested'
        UNION ALL SELECT unnest(golden), 'g' FROM staged WHERE e = 'TreeHarvested'
        UNION ALL SELECT winner_id, 'w' FROM staged WHERE e = 'TreeHarvested'
    )
    GROUP BY ALL
) m
WHERE branches.branch_id = m.branch_id;

INSERT INTO messages
SELECT
    branch_id, episode_id, m.seq, m.turn, m.step, m.author, m.message ->> 'role', m.message ->> 'content',
    m.message -> 'tool_calls', m.message, m.heard, m.prompt, coalesce(m.flags, [])
FROM (SELECT branch_id, episode_id, unnest(messages) AS m FROM staged WHERE e IN ('BranchAdded', 'BranchExtended'));

INSERT INTO tool_calls
SELECT
    branch_id, episode_id, c.seq, c.step, c.call_id, c.name, c.arguments, c.result, c.error, c.writes, c.seconds
FROM (SELECT branch_id, episode_id, unnest(tool_calls) AS c FROM staged WHERE e = 'BranchAdded');

INSERT INTO rewards
SELECT branch_id, episode_id, r.goal, r.evidence, r.step, r.credited
FROM (SELECT branch_id, episode_id, unnest(rewards) AS r FROM staged WHERE e = 'BranchAdded');

INSERT INTO model_calls
SELECT
    episode_id, branch_id, role, step, attempt, model, request_hash, request, response, error, prompt_tokens,
    completion_tokens, cost, seconds, moment
FROM staged WHERE e = 'ModelCall';

INSERT INTO planned_units
SELECT run_id, coalesce(attempt, 0), run_id || '/' || u.task_id || '/' || u.trial, u.task_id, u.trial, u.kept
FROM (SELECT run_id, attempt, unnest(units) AS u FROM staged WHERE e = 'UnitsPlanned');

INSERT INTO unplayed_units
SELECT run_id, coalesce(attempt, 0), run_id || '/' || u.task_id || '/' || u.trial, u.reason
FROM (SELECT run_id, attempt, unnest(units) AS u FROM staged WHERE e = 'UnitsNotPlayed');

INSERT INTO blocked_loops
SELECT run_id, seconds, place, stack, moment
FROM staged WHERE e = 'LoopBlocked';

CREATE TEMP TABLE measured AS
SELECT run_id, stage, step, v.key AS name, CAST(v.value AS DOUBLE) AS value, moment
FROM (SELECT * FROM staged WHERE e = 'Measured') s, json_each(s."values") v
QUALIFY row_number() OVER (PARTITION BY run_id, stage, step, v.key ORDER BY line DESC) = 1;

DELETE FROM metrics m
USING measured n
WHERE m.run_id = n.run_id AND m.stage = n.stage AND m.step = n.step AND m.name = n.name;

INSERT INTO metrics FROM measured;

CREATE TEMP TABLE scored AS
SELECT run_id, suite, item, coalesce(trial, 0) AS trial, metric, value, detail, moment
FROM staged WHERE e = 'ItemScored'
QUALIFY row_number() OVER (PARTITION BY run_id, suite, item, trial, metric ORDER BY line DESC) = 1;

DELETE FROM item_scores i
USING scored s
WHERE i.run_id = s.run_id AND i.suite = s.suite AND i.item = s.item AND i.trial = s.trial AND i.metric = s.metric;

INSERT INTO item_scores FROM scored;

DROP TABLE measured;
DROP TABLE scored;
DROP TABLE starts;
DROP TABLE superseded;
DROP TABLE replaced;
DROP TABLE staged;
