-- Turns pieces of journals, read into the temporary table `staged`, into rows. Runs inside one transaction.
-- In braces: the columns of an event, of a row within it (`{{Row:m}}`), and what is set when an episode has ended, as
-- simkit/store/columns.py writes them.

-- An unknown kind of event stops the load here; the loader then finds the line.
SELECT CASE WHEN count(*) > 0 THEN error('unknown event ' || coalesce(any_value(e), 'without a name')) END
FROM staged
WHERE e IS NULL OR e NOT IN ({kinds});

-- What came last is told by the numbers of the attempts, and within one by the order of the lines: never by a clock.
-- Starts of versions that did not number them are counted.

-- An episode that starts again (a resumed run) replaces what there is of it, also when journals of several workers are
-- loaded in another order than they were written.
CREATE TEMP TABLE starts AS
SELECT
    s.episode_id, s.journal, s.line, s.attempt,
    o.attempt IS NULL OR s.attempt > o.attempt OR s.attempt = o.attempt AND s.journal >= o.journal AS wins
FROM (
    SELECT episode_id, journal, line, coalesce(attempt, 0) AS attempt
    FROM staged WHERE e = 'EpisodeStarted'
    QUALIFY row_number() OVER (PARTITION BY episode_id ORDER BY coalesce(attempt, 0) DESC, journal DESC, line DESC) = 1
) s
LEFT JOIN episodes o USING (episode_id);

CREATE TEMP TABLE superseded AS
SELECT r.line
FROM staged r
LEFT JOIN starts s USING (episode_id)
LEFT JOIN episodes o USING (episode_id)
WHERE r.e IN ('EpisodeStarted', 'BranchAdded', 'BranchExtended', 'BranchEnded', 'FaultTraced', 'GoalsExplained', 'TreeHarvested', 'EpisodeFinished')
AND CASE
    WHEN s.line IS NOT NULL THEN NOT s.wins OR r.journal <> s.journal OR r.line < s.line
    ELSE o.journal <> r.journal
END;

DELETE FROM staged WHERE line IN (SELECT line FROM superseded);

CREATE TEMP TABLE replaced AS
SELECT episode_id FROM starts JOIN episodes USING (episode_id) WHERE wins;

DELETE FROM episodes WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM branches WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM goal_explanations WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM faults WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM messages WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM tool_calls WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM rewards WHERE episode_id IN (SELECT episode_id FROM replaced);
DELETE FROM harvests WHERE episode_id IN (SELECT episode_id FROM replaced);

-- Lines about a run with its attempt: they belong to the last start before them in their journal.
CREATE TEMP TABLE run_lines AS
SELECT
    line, run_id, e,
    coalesce(
        last_value(started IGNORE NULLS) OVER (PARTITION BY run_id, journal ORDER BY line), greatest(journal_attempt, 0)
    ) AS attempt
FROM (
    SELECT
        line, run_id, e, journal, journal_attempt,
        CASE WHEN e = 'RunStarted' THEN coalesce(
            attempt,
            journal_attempt + count(*) FILTER (e = 'RunStarted' AND attempt IS NULL)
                OVER (PARTITION BY run_id, journal ORDER BY line)
        ) END AS started
    FROM staged WHERE e IN ('RunStarted', 'RunFinished', 'Measured', 'ItemScored')
);

INSERT INTO runs BY NAME
SELECT
    s.run_id, s.name, s.recipe, s.seed, s.config, s.version, 'running' AS status, s.moment AS started_at, s.number,
    l.attempt
FROM staged s
JOIN run_lines l USING (line)
WHERE l.e = 'RunStarted' AND NOT EXISTS (FROM runs r WHERE r.run_id = s.run_id)
QUALIFY row_number() OVER (PARTITION BY s.run_id ORDER BY l.attempt, s.line) = 1;

-- The first start, read after a later one (journals of several workers), says when the run began.
UPDATE runs SET started_at = s.moment, number = s.number
FROM staged s
JOIN run_lines l USING (line)
WHERE l.e = 'RunStarted' AND l.attempt = 0 AND runs.attempt > 0 AND runs.run_id = s.run_id;

-- A run that was started again has the configuration it goes on with, and is running again.
UPDATE runs SET config = s.config
FROM (
    SELECT s.run_id, arg_max(s.config, (l.attempt, line)) AS config, max(l.attempt) AS attempt
    FROM staged s JOIN run_lines l USING (line) WHERE l.e = 'RunStarted' GROUP BY ALL
) s
WHERE runs.run_id = s.run_id AND s.attempt >= runs.attempt;

-- The last start or end of the latest attempt says how the run is doing.
CREATE TEMP TABLE last_lines AS
SELECT l.*
FROM run_lines l
JOIN runs r USING (run_id)
WHERE l.e = 'RunFinished' AND l.attempt >= r.attempt OR l.e = 'RunStarted' AND l.attempt > r.attempt
QUALIFY row_number() OVER (PARTITION BY l.run_id ORDER BY l.attempt DESC, l.line DESC) = 1;

UPDATE runs SET
    attempt = l.attempt, status = 'running', finished_at = NULL, summary = NULL, error = NULL, stats = NULL
FROM last_lines l
WHERE runs.run_id = l.run_id AND l.e = 'RunStarted';

UPDATE runs SET
    attempt = s.attempt, status = s.status, finished_at = s.moment, summary = s.summary, error = s.error,
    stats = s.stats
FROM (
    SELECT f.run_id, l.attempt, f.status, f.moment, f.summary, f.error, f.stats
    FROM staged f JOIN last_lines l USING (line) WHERE l.e = 'RunFinished'
) s
WHERE runs.run_id = s.run_id;

INSERT INTO tasks BY NAME
SELECT {TaskSeen}
FROM staged s
WHERE e = 'TaskSeen' AND NOT EXISTS (FROM tasks t WHERE t.run_id = s.run_id AND t.task_id = s.task_id)
QUALIFY row_number() OVER (PARTITION BY run_id, task_id ORDER BY line) = 1;

INSERT INTO toolsets BY NAME
SELECT {ToolsetSeen}
FROM staged s
WHERE e = 'ToolsetSeen' AND NOT EXISTS (FROM toolsets t WHERE t.toolset_id = s.toolset_id)
QUALIFY row_number() OVER (PARTITION BY toolset_id ORDER BY line) = 1;

INSERT INTO episodes BY NAME
SELECT * REPLACE (coalesce(attempt, 0) AS attempt)
FROM (SELECT {EpisodeStarted}, moment AS started_at, journal FROM staged WHERE e = 'EpisodeStarted');

UPDATE episodes SET {ended}, finished_at = f.moment
FROM staged f
WHERE f.e = 'EpisodeFinished' AND episodes.episode_id = f.episode_id;

INSERT INTO branches BY NAME
SELECT {BranchAdded}, false AS successful, false AS golden, false AS winner, moment AS finished_at
FROM staged WHERE e = 'BranchAdded';

UPDATE branches SET outcome = f.outcome, error = coalesce(f.error, branches.error)
FROM staged f
WHERE f.e = 'BranchEnded' AND branches.branch_id = f.branch_id;

INSERT INTO faults BY NAME
SELECT {FaultTraced}, moment AS faulted_at
FROM staged WHERE e = 'FaultTraced';

INSERT INTO goal_explanations
SELECT episode_id, unnest(missed), unnest(explanations)
FROM staged WHERE e = 'GoalsExplained';

INSERT INTO harvests BY NAME
SELECT {TreeHarvested}
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

INSERT INTO messages BY NAME
SELECT
    branch_id, episode_id, {MessageRow:m},
    m.message ->> 'role' AS role, m.message ->> 'content' AS content, m.message -> 'tool_calls' AS tool_calls
FROM (SELECT branch_id, episode_id, unnest(messages) AS m FROM staged WHERE e IN ('BranchAdded', 'BranchExtended'));

INSERT INTO tool_calls BY NAME
SELECT branch_id, episode_id, {CallRecord:c}
FROM (SELECT branch_id, episode_id, unnest(tool_calls) AS c FROM staged WHERE e IN ('BranchAdded', 'BranchExtended'));

INSERT INTO rewards BY NAME
SELECT branch_id, episode_id, {RewardRow:r}
FROM (SELECT branch_id, episode_id, unnest(rewards) AS r FROM staged WHERE e IN ('BranchAdded', 'BranchExtended'));

INSERT INTO model_calls BY NAME
SELECT {ModelCall}, moment AS called_at
FROM staged WHERE e = 'ModelCall';

INSERT INTO planned_units BY NAME
SELECT
    run_id, coalesce(attempt, 0) AS attempt, run_id || '/' || u.task_id || '/' || u.trial AS episode_id, {PlannedUnit:u}
FROM (SELECT run_id, attempt, unnest(units) AS u FROM staged WHERE e = 'UnitsPlanned');

INSERT INTO unplayed_units
SELECT run_id, coalesce(attempt, 0), run_id || '/' || u.task_id || '/' || u.trial, u.reason
FROM (SELECT run_id, attempt, unnest(units) AS u FROM staged WHERE e = 'UnitsNotPlayed');

INSERT INTO shard_plans BY NAME
SELECT {ShardPlanned}, moment AS planned_at
FROM staged WHERE e = 'ShardPlanned';

INSERT INTO merged_shards BY NAME
SELECT {ShardMerged}, moment AS merged_at
FROM staged WHERE e = 'ShardMerged';

INSERT INTO blocked_loops BY NAME
SELECT {LoopBlocked}, moment AS blocked_at
FROM staged WHERE e = 'LoopBlocked';

INSERT INTO lost_workers BY NAME
SELECT {WorkerGone}, moment AS lost_at
FROM staged WHERE e = 'WorkerGone';

INSERT INTO endpoint_adjustments BY NAME
SELECT {EndpointAdjusted}, moment AS learned_at
FROM staged WHERE e = 'EndpointAdjusted';

INSERT INTO component_loads BY NAME
SELECT run_id, attempt, {ComponentLoad:c}, moment AS observed_at
FROM (SELECT run_id, attempt, moment, unnest(components) AS c FROM staged WHERE e = 'ComponentsWaitedFor');

-- A number or score that is recorded again replaces the earlier one, whichever journal is loaded first.
CREATE TEMP TABLE measured AS
SELECT run_id, stage, step, v.key AS name, CAST(v.value AS DOUBLE) AS value, moment, of_attempt AS attempt, journal
FROM (SELECT s.*, l.attempt AS of_attempt FROM staged s JOIN run_lines l USING (line) WHERE s.e = 'Measured') s,
    json_each(s."values") v
QUALIFY row_number() OVER (
    PARTITION BY run_id, stage, step, v.key ORDER BY of_attempt DESC, journal DESC, line DESC
) = 1;

DELETE FROM measured n
USING metrics m
WHERE m.run_id = n.run_id AND m.stage = n.stage AND m.step = n.step AND m.name = n.name
    AND (m.attempt, m.journal) > (n.attempt, n.journal);

DELETE FROM metrics m
USING measured n
WHERE m.run_id = n.run_id AND m.stage = n.stage AND m.step = n.step AND m.name = n.name;

INSERT INTO metrics FROM measured;

CREATE TEMP TABLE scored AS
SELECT {ItemScored}, moment AS scored_at, of_attempt AS attempt, journal
FROM (SELECT s.*, l.attempt AS of_attempt FROM staged s JOIN run_lines l USING (line) WHERE s.e = 'ItemScored')
QUALIFY row_number() OVER (
    PARTITION BY run_id, suite, item, trial, metric ORDER BY of_attempt DESC, journal DESC, line DESC
) = 1;

DELETE FROM scored s
USING item_scores i
WHERE i.run_id = s.run_id AND i.suite = s.suite AND i.item = s.item AND i.trial = s.trial AND i.metric = s.metric
    AND (i.attempt, i.journal) > (s.attempt, s.journal);

DELETE FROM item_scores i
USING scored s
WHERE i.run_id = s.run_id AND i.suite = s.suite AND i.item = s.item AND i.trial = s.trial AND i.metric = s.metric;

INSERT INTO item_scores BY NAME FROM scored;

DROP TABLE measured;
DROP TABLE scored;
DROP TABLE starts;
DROP TABLE superseded;
DROP TABLE replaced;
DROP TABLE run_lines;
DROP TABLE last_lines;
DROP TABLE staged;
