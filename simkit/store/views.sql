-- What people ask of a store. Faults and tasks without goals have no reward: they are left out of averages and counted.

CREATE MACRO conversation(branch) AS TABLE
WITH RECURSIVE tree AS MATERIALIZED (
    SELECT branch_id, parent_id FROM branches WHERE episode_id = regexp_extract(branch, '^(.*)/', 1, 's')
),
walk AS (
    FROM tree WHERE branch_id = branch
    UNION ALL
    SELECT t.branch_id, t.parent_id FROM tree t JOIN walk w ON t.branch_id = w.parent_id
)
SELECT m.*
FROM messages m SEMI JOIN walk w ON m.branch_id = w.branch_id
WHERE m.episode_id = regexp_extract(branch, '^(.*)/', 1, 's')
ORDER BY m.seq;
COMMENT ON MACRO TABLE conversation IS 'All messages of a branch from the root on, in order: FROM conversation(''a branch_id'').';

CREATE MACRO is_success(reward, full_reward) AS reward >= full_reward - 1e-9 * greatest(1, abs(full_reward));
COMMENT ON MACRO is_success IS 'Whether a reward is the full one; NULL without a reward.';
CREATE MACRO elapsed(begun, ended) AS CASE WHEN ended >= begun THEN epoch(ended - begun) END;
COMMENT ON MACRO elapsed IS 'Seconds between two times; NULL when the clock was set back between them.';

CREATE VIEW episode_scores AS
SELECT
    e.run_id, r.name AS run, e.task_id, e.trial, e.reward, is_success(e.reward, e.full_reward) AS success, e.outcome,
    len(e.goals) AS goals, len(e.achieved) AS achieved, e.turns, e.branches, e.faults,
    elapsed(e.started_at, e.finished_at) AS seconds, e.error, e.episode_id
FROM episodes e
LEFT JOIN runs r USING (run_id)
ORDER BY e.run_id, e.task_id, e.trial;
COMMENT ON VIEW episode_scores IS 'One row per episode: reward (0 to 1 unless its reward declares another range, NULL when it does not count), success (the full reward) and how it went.';

CREATE VIEW episode_goals AS
WITH wanted AS (
    SELECT episode_id, goal, row_number() OVER (PARTITION BY episode_id, goal) AS copy
    FROM (SELECT episode_id, unnest(goals) AS goal FROM episodes WHERE reward IS NOT NULL)
),
taken AS (
    SELECT episode_id, goal, count(*) AS times
    FROM (SELECT episode_id, unnest(achieved) AS goal FROM episodes)
    GROUP BY ALL
)
SELECT
    e.run_id, r.name AS run, t.world, e.supervisor, e.task_id, e.trial, goal, w.copy,
    w.copy <= coalesce(g.times, 0) AS reached, episode_id
FROM wanted w
JOIN episodes e USING (episode_id)
LEFT JOIN taken g USING (episode_id, goal)
LEFT JOIN runs r USING (run_id)
LEFT JOIN tasks t USING (run_id, task_id)
ORDER BY e.run_id, e.task_id, e.trial, goal, w.copy;
COMMENT ON VIEW episode_goals IS 'One row per goal of a scored episode, and whether it was reached. A task may have a goal several times, such as two equal bookings; each is credited once.';

CREATE VIEW pass_hat_k AS
WITH tried AS (
    SELECT run_id, task_id, count(*) AS n, count(*) FILTER (is_success(reward, full_reward)) AS c
    FROM episodes WHERE reward IS NOT NULL GROUP BY ALL
),
ks AS (SELECT run_id, unnest(range(1, max(n) + 1)) AS k FROM tried GROUP BY run_id)
SELECT
    t.run_id, ks.k,
    avg(list_product([(t.c - i) / (t.n - i) FOR i IN range(ks.k)])) AS pass_hat_k,
    count(*) AS tasks
FROM tried t
JOIN ks ON ks.run_id = t.run_id AND t.n >= ks.k
GROUP BY ALL
ORDER BY t.run_id, ks.k;
COMMENT ON VIEW pass_hat_k IS 'pass^k: the chance that k trials of a task all succeed, C(c,k)/C(n,k) averaged over tasks with at least k trials (tau-bench).';

CREATE VIEW units AS
SELECT
    p.run_id, p.attempt, p.episode_id, p.task_id, p.trial,
    CASE
        WHEN p.kept THEN 'kept'
        WHEN n.reason IS NOT NULL THEN 'not_played'
        WHEN e.finished_at IS NOT NULL
        AND p.attempt = max(p.attempt) FILTER (NOT p.kept) OVER (PARTITION BY p.run_id, p.episode_id) THEN 'done'
    END AS fate,
    n.reason
FROM planned_units p
LEFT JOIN unplayed_units n USING (run_id, attempt, episode_id)
LEFT JOIN episodes e USING (episode_id)
ORDER BY p.run_id, p.attempt, p.task_id, p.trial;
COMMENT ON VIEW units IS 'The units that each start of a run planned, and the fate of each: done in that start, kept from an earlier one, not_played for a reason, NULL while it is open (and where the process was killed).';

CREATE VIEW run_summary AS
WITH scored AS (
    SELECT
        run_id, count(*) AS episodes, count(finished_at) AS finished, count(reward) AS scored,
        avg(reward) AS average_reward,
        avg(CAST(is_success(reward, full_reward) AS INTEGER)) AS success_rate,
        count(*) FILTER (outcome = 'no_goals') AS no_goals,
        count(*) FILTER (finished_at IS NOT NULL AND reward IS NULL AND outcome <> 'no_goals') AS unscored,
        coalesce(sum(faults), 0) AS faults, coalesce(sum(branches), 0) AS branches, coalesce(sum(turns), 0) AS turns,
        string_agg(DISTINCT supervisor, ', ' ORDER BY supervisor) AS supervisor
    FROM episodes GROUP BY run_id
),
tasks_scored AS (
    SELECT run_id, count(reward) AS trials, sum(reward) AS rewards
    FROM episodes WHERE reward IS NOT NULL GROUP BY run_id, task_id
),
clustered AS (
    SELECT
        s.run_id,
        CASE WHEN count(*) > 1
        THEN sqrt(count(*) / (count(*) - 1) * sum((t.rewards - t.trials * s.average_reward) ** 2)) / sum(t.trials)
        END AS reward_stderr
    FROM tasks_scored t JOIN scored s USING (run_id) GROUP BY s.run_id
),
passes AS (SELECT run_id, list(pass_hat_k ORDER BY k) AS pass_hat_k FROM pass_hat_k GROUP BY run_id),
accounts AS (
    SELECT run_id, count(*) AS planned, count(*) FILTER (fate = 'not_played') AS not_played
    FROM (FROM units QUALIFY attempt = max(attempt) OVER (PARTITION BY run_id))
    GROUP BY run_id
)
SELECT
    r.run_id, r.name, r.recipe, r.status, coalesce(s.episodes, 0) AS episodes, coalesce(s.finished, 0) AS finished,
    coalesce(s.scored, 0) AS scored, s.average_reward, c.reward_stderr, s.success_rate, p.pass_hat_k,
    coalesce(s.no_goals, 0) AS no_goals, coalesce(s.unscored, 0) AS unscored,
    CAST(coalesce(s.faults, 0) AS BIGINT) AS faults, CAST(coalesce(s.branches, 0) AS BIGINT) AS branches,
    CAST(coalesce(s.turns, 0) AS BIGINT) AS turns, r.started_at, elapsed(r.started_at, r.finished_at) AS seconds,
    r.config ->> 'part_of' AS part_of, r.config ->> 'stage' AS stage, a.planned, a.not_played, r.number, s.supervisor
FROM runs r
LEFT JOIN scored s USING (run_id)
LEFT JOIN clustered c USING (run_id)
LEFT JOIN passes p USING (run_id)
LEFT JOIN accounts a USING (run_id)
ORDER BY r.number NULLS FIRST, r.started_at, r.run_id;
COMMENT ON VIEW run_summary IS 'One row per run; part_of names the run whose stage it is; pass_hat_k lists pass^1, pass^2, ...; unscored counts finished episodes left out of averages (besides no_goals); planned and not_played are of its last start, NULL for runs recorded before there were plans; reward_stderr takes tasks as the unit, since trials of one task resemble each other; supervisor says who played: rollout (single conversations), josh (trees).';

CREATE VIEW outcome_counts AS
SELECT
    e.run_id, r.name AS run, e.outcome, count(*) AS episodes,
    count(*) / sum(count(*)) OVER (PARTITION BY e.run_id) AS share, avg(e.reward) AS average_reward
FROM episodes e
LEFT JOIN runs r USING (run_id)
WHERE e.finished_at IS NOT NULL
GROUP BY e.run_id, r.name, e.outcome
ORDER BY e.run_id, episodes DESC, e.outcome;
COMMENT ON VIEW outcome_counts IS 'How the episodes of each run ended: number and share of each outcome, and the average reward of its episodes.';

CREATE VIEW end_measures AS
WITH parts AS (
    SELECT e.run_id, e.task_id, e.trial, e.episode_id, unnest(CAST(e.parts AS JSON[])) AS part
    FROM episodes e WHERE e.parts IS NOT NULL
),
named AS (
    SELECT run_id, task_id, trial, episode_id, part ->> 'name' AS name, CAST(part ->> 'value' AS DOUBLE) AS value
    FROM parts WHERE CAST(part ->> 'weight' AS DOUBLE) = 0
)
SELECT
    n.run_id, any_value(r.name) AS run, n.task_id, n.trial,
    max(value) FILTER (n.name = 'floor') AS floor,
    max(value) FILTER (n.name = 'reads_made') AS reads_made,
    max(value) FILTER (n.name = 'writes_made') AS writes_made,
    n.episode_id
FROM named n
LEFT JOIN runs r USING (run_id)
WHERE n.name IN ('floor', 'reads_made', 'writes_made')
GROUP BY n.run_id, n.task_id, n.trial, n.episode_id
ORDER BY n.run_id, n.task_id, n.trial;
COMMENT ON VIEW end_measures IS 'What a reward of the end measures beside its value, one row per episode: floor (the reward for doing nothing), reads_made and writes_made (shares of the calls of the task''s solution that were made, of those that change nothing and of those that do; NULL if it has none). Average them by run_id; an agent is better than none only above the floor.';

CREATE VIEW reward_parts AS
WITH parts AS (
    SELECT e.run_id, e.task_id, e.trial, e.episode_id, unnest(CAST(e.parts AS JSON[])) AS part
    FROM episodes e WHERE e.parts IS NOT NULL
)
SELECT
    p.run_id, r.name AS run, p.task_id, p.trial, part ->> 'name' AS part, CAST(part ->> 'value' AS DOUBLE) AS value,
    CAST(part ->> 'weight' AS DOUBLE) AS weight, part ->> 'evidence' AS evidence, p.episode_id
FROM parts p
LEFT JOIN runs r USING (run_id)
ORDER BY p.run_id, p.task_id, p.trial;
COMMENT ON VIEW reward_parts IS 'The parts of the reward of each episode, one row per part: its value, its weight (0 for parts that decide nothing) and its evidence, such as the reason of a judge.';

CREATE VIEW reviews AS
SELECT
    i.run_id, r.name AS run, i.detail ->> 'run' AS reviewed_run, i.item AS task_id, i.trial,
    i.detail ->> 'at_fault' AS at_fault, i.detail ->> 'reason' AS reason, i.detail ->> 'quote' AS quote,
    CAST(i.detail ->> 'line' AS INTEGER) AS line, i.detail ->> 'judge' AS judge, i.detail ->> 'problem' AS problem,
    i.detail ->> 'answer' AS answer, i.detail ->> 'episode' AS episode_id
FROM item_scores i
LEFT JOIN runs r USING (run_id)
WHERE i.suite = 'review' AND i.metric = 'reviewed'
ORDER BY i.run_id, i.item, i.trial;
COMMENT ON VIEW reviews IS 'Whose fault each failure was (simkit review), one row per failed episode: agent, user, tool or reward, with the reason, the quoted line of the conversation and its number from 1; at_fault is NULL without a verdict; problem then says why, and answer is what the judge said last.';

CREATE VIEW user_flags AS
WITH flagged AS (
    SELECT m.episode_id, m.branch_id, split_part(flag, ':', 1) AS flag
    FROM (SELECT episode_id, branch_id, unnest(flags) AS flag FROM messages WHERE author IN ('user', 'user_tool')) m
),
spoken AS (
    SELECT e.run_id, count(*) AS turns FROM messages m JOIN episodes e USING (episode_id) WHERE m.author = 'user' GROUP BY ALL
)
SELECT
    e.run_id, r.name AS run, f.flag, count(DISTINCT f.branch_id) AS turns,
    count(DISTINCT f.branch_id) / any_value(s.turns) AS share_of_turns,
    count(DISTINCT f.episode_id) AS episodes,
    avg(e.reward) AS average_reward
FROM flagged f
JOIN episodes e USING (episode_id)
JOIN spoken s USING (run_id)
LEFT JOIN runs r USING (run_id)
GROUP BY ALL
ORDER BY e.run_id, turns DESC, f.flag;
COMMENT ON VIEW user_flags IS 'How often the user simulator doubted its own turns, by kind of doubt; average_reward is that of the flagged turns'' episodes.';

-- The harvest (docs: josh.md). Helpers first, then one view per kind of example.

CREATE VIEW golden_ends AS
SELECT h.episode_id, h.winner_id AS end_branch
FROM harvests h
WHERE NOT EXISTS (
    FROM harvests later
    WHERE later.episode_id = h.episode_id AND later.harvest > h.harvest AND list_contains(later.golden, h.winner_id)
);
COMMENT ON VIEW golden_ends IS 'The branches that end golden paths: the last winner of a tree, and every rollout that best_of_n kept.';

CREATE VIEW golden_messages AS
WITH RECURSIVE walk AS (
    SELECT g.end_branch, b.branch_id, b.parent_id
    FROM golden_ends g
    JOIN episodes e USING (episode_id)
    JOIN branches b ON b.branch_id = g.end_branch
    WHERE is_success(e.reward, e.full_reward)
    UNION ALL
    SELECT w.end_branch, b.branch_id, b.parent_id
    FROM walk w JOIN branches b ON b.branch_id = w.parent_id
),
path AS (SELECT m.*, w.end_branch FROM messages m JOIN walk w ON m.branch_id = w.branch_id),
judged AS (
    SELECT
        end_branch,
        bool_or(
            author IN ('agent', 'tool') AND (contains(content, 'ERROR:') OR contains(content, 'Error:') OR contains(content, 'FAILURE'))
            OR author = 'agent' AND contains(content, 'APIRETURN')
        ) AS erroneous,
        max(seq) FILTER (role <> 'user' AND author NOT IN ('runtime', 'user_tool')) AS last_seq
    FROM path GROUP BY end_branch
)
SELECT
    e.run_id, e.task_id, e.trial, e.toolset_id, p.episode_id, p.branch_id, p.seq, p.turn,
    p.author, p.role, p.message, p.prompt, p.end_branch
FROM path p
JOIN judged j USING (end_branch)
JOIN episodes e USING (episode_id)
WHERE NOT coalesce(j.erroneous, false) AND p.seq <= j.last_seq AND p.author NOT IN ('runtime', 'user_tool');
COMMENT ON VIEW golden_messages IS 'The golden conversations (root to end_branch) of every episode with the full reward, without those with an error marker of the agent''s own making; trailing user messages, text of the runtime and the user''s own tool calls are left out.';

CREATE VIEW golden_conversations AS
SELECT
    run_id, task_id, trial, episode_id, toolset_id, end_branch, list(message ORDER BY seq) AS messages,
    list({
        'author': author, 'seq': seq, 'turn': turn, 'message': message,
        'point': concat_ws('/', run_id, coalesce(toolset_id, ''), prompt)
    } ORDER BY seq) AS steps
FROM golden_messages
GROUP BY ALL
HAVING bool_or(author = 'agent' AND turn > 0);
COMMENT ON VIEW golden_conversations IS 'The same, one row per conversation, with the messages as a list; the point of a step names its run, tools and prompt.';

CREATE VIEW sft_candidates AS
SELECT
    c.run_id, c.task_id, c.trial, c.episode_id, c.end_branch, to_json(c.messages) AS messages, t.tools,
    row_number() OVER (
        PARTITION BY c.run_id, c.toolset_id, to_json(c.messages) ORDER BY c.task_id, c.trial, c.episode_id, c.end_branch
    ) AS copy
FROM golden_conversations c
LEFT JOIN toolsets t USING (toolset_id);
COMMENT ON VIEW sft_candidates IS 'SFT examples before duplicates are removed; copy counts equal ones from 1.';

CREATE VIEW sft_examples AS
SELECT run_id, task_id, trial, episode_id, messages, tools
FROM sft_candidates
WHERE copy = 1
ORDER BY run_id, task_id, trial, episode_id, end_branch;
COMMENT ON VIEW sft_examples IS 'One golden conversation per row, in the columns of TRL''s SFTTrainer: messages, tools.';

CREATE VIEW desirable_candidates AS
WITH numbered AS (
    SELECT * EXCLUDE (steps), unnest(steps) AS step, unnest(range(len(steps))) AS before FROM golden_conversations
)
SELECT
    run_id, task_id, trial, episode_id, step.seq AS seq, toolset_id, step.point AS point,
    list_slice(messages, 1, before) AS prompt, step.message AS message,
    row_number() OVER (
        PARTITION BY run_id, step.point, step.message ORDER BY task_id, trial, episode_id, step.seq
    ) AS copy
FROM numbered
WHERE step.author = 'agent' AND step.turn > 0; -- what the agent says in the opening was written by the world
COMMENT ON VIEW desirable_candidates IS 'Every agent message on a golden path, with everything before it; copy counts equal ones from 1.';

CREATE VIEW undesirable_candidates AS
WITH desirable AS MATERIALIZED (FROM desirable_candidates),
divergences AS (
    SELECT point, first(prompt ORDER BY task_id, trial, episode_id) AS prompt, list(message) AS chosen
    FROM desirable GROUP BY point
),
eligible AS (SELECT DISTINCT run_id, task_id, trial, toolset_id, episode_id FROM desirable),
lost AS (
    SELECT
        e.run_id, e.task_id, e.trial, e.episode_id, m.seq, b.path, e.toolset_id, m.message,
        concat_ws('/', e.run_id, coalesce(e.toolset_id, ''), m.prompt) AS point
    FROM eligible e
    JOIN branches b ON b.episode_id = e.episode_id
    JOIN messages m ON m.branch_id = b.branch_id
    WHERE NOT b.successful AND NOT b.golden AND m.author = 'agent'
AND (coalesce(trim(m.content), '') <> '' OR m.tool_calls IS NOT NULL) -- an empty answer shows nothing to a trainer
    AND NOT (m.tool_calls IS NOT NULL AND list_contains(list_transform(m.flags, lambda f: split_part(f, ':', 1)), 'unparsed_call'))
    AND coalesce(b.outcome, '') NOT IN (
        'agent_fault', 'user_fault', 'tool_fault', 'model_fault', 'reward_fault', 'cancelled'
    )
)
SELECT
    l.run_id, l.task_id, l.trial, l.episode_id, l.seq, l.path, l.toolset_id, l.point, d.prompt, l.message,
    list_contains(d.chosen, l.message) AS contradicts,
    row_number() OVER (
        PARTITION BY l.run_id, l.point, l.message ORDER BY l.task_id, l.trial, l.episode_id, l.seq, l.path
    ) AS copy
FROM lost l
JOIN divergences d ON d.point = l.point;
COMMENT ON VIEW undesirable_candidates IS 'Agent messages of branches neither successful nor golden, where they diverge from a golden path; contradicts: the same message is desirable too.';

CREATE VIEW kto_rows AS
SELECT
    run_id, task_id, trial, episode_id, seq, '' AS path, true AS label, toolset_id, point, prompt, message
FROM desirable_candidates WHERE copy = 1
UNION ALL
SELECT run_id, task_id, trial, episode_id, seq, path, false, toolset_id, point, prompt, message
FROM undesirable_candidates WHERE copy = 1 AND NOT contradicts;
COMMENT ON VIEW kto_rows IS 'KTO examples with their prompts as lists and named by their point.';

CREATE VIEW kto_examples AS
SELECT
    k.run_id, k.task_id, k.trial, k.episode_id, k.seq, k.path,
    to_json(k.prompt) AS prompt, to_json([k.message]) AS completion, k.label, t.tools
FROM kto_rows k
LEFT JOIN toolsets t USING (toolset_id)
ORDER BY k.run_id, k.task_id, k.trial, k.episode_id, k.seq, k.label DESC, k.path, CAST(k.message AS VARCHAR);
COMMENT ON VIEW kto_examples IS 'One agent message per row, in the columns of TRL''s KTOTrainer: prompt, completion, label (and tools).';

CREATE VIEW dpo_pairs AS
WITH rows AS MATERIALIZED (FROM kto_rows)
SELECT
    d.run_id, d.task_id, d.trial, d.episode_id, d.seq, u.path,
    to_json(d.prompt) AS prompt, to_json([d.message]) AS chosen, to_json([u.message]) AS rejected, t.tools
FROM rows d
JOIN rows u ON u.point = d.point
LEFT JOIN toolsets t ON t.toolset_id = d.toolset_id
WHERE d.label AND NOT u.label
ORDER BY
    d.run_id, d.task_id, d.trial, d.episode_id, d.seq, u.path,
    CAST(d.message AS VARCHAR), CAST(u.message AS VARCHAR);
COMMENT ON VIEW dpo_pairs IS 'A golden and an undesirable message with the same prompt, in the columns of TRL''s DPOTrainer: prompt, chosen, rejected (and tools).';

CREATE VIEW harvest_counts AS
WITH negatives AS (
    SELECT
        run_id, count(*) FILTER (contradicts) AS contradictions, count(*) FILTER (copy > 1 AND NOT contradicts) AS copies,
        count(*) FILTER (copy = 1 AND NOT contradicts) AS kept
    FROM undesirable_candidates GROUP BY run_id
),
positives AS (
    SELECT run_id, count(*) FILTER (copy = 1) AS kept, count(*) FILTER (copy > 1) AS copies
    FROM desirable_candidates GROUP BY run_id
),
conversations AS (
    SELECT run_id, count(*) FILTER (copy = 1) AS kept, count(*) FILTER (copy > 1) AS copies
    FROM sft_candidates GROUP BY run_id
),
pairs AS (SELECT run_id, count(*) AS kept FROM dpo_pairs GROUP BY run_id)
SELECT
    r.run_id, r.name,
    coalesce(c.kept, 0) AS sft_examples, coalesce(c.copies, 0) AS sft_duplicates,
    coalesce(p.kept, 0) AS kto_desirable, coalesce(n.kept, 0) AS kto_undesirable,
    coalesce(p.copies, 0) + coalesce(n.copies, 0) AS kto_duplicates,
    coalesce(n.contradictions, 0) AS kto_contradictions,
    coalesce(d.kept, 0) AS dpo_pairs
FROM runs r
LEFT JOIN conversations c USING (run_id)
LEFT JOIN positives p USING (run_id)
LEFT JOIN negatives n USING (run_id)
LEFT JOIN pairs d USING (run_id)
ORDER BY r.number NULLS FIRST, r.started_at, r.run_id;
COMMENT ON VIEW harvest_counts IS 'Examples of each kind per run, and what was removed: duplicates, and negatives whose message is desirable too.';

-- What selections of training data are made of (simkit.training).

CREATE VIEW episode_facts AS
SELECT
    e.run_id, r.name, r.recipe, r.config ->> 'part_of' AS part_of, r.config ->> 'stage' AS stage,
    e.task_id, e.trial, t.world, t.split, e.supervisor,
    coalesce(
        r.config ->> 'agent', a.agent, CASE WHEN r.config ->> 'model' IS NOT NULL THEN 'function_calling' END
    ) AS agent,
    r.config ->> 'user' AS user, r.config ->> 'model' AS model, r.seed,
    e.reward, is_success(e.reward, e.full_reward) AS success, e.outcome, e.turns, e.branches, e.faults,
    len(e.goals) AS goals, len(e.achieved) AS achieved, elapsed(e.started_at, e.finished_at) AS seconds,
    e.episode_id, e.final_branch_id, e.toolset_id
FROM episodes e
LEFT JOIN runs r USING (run_id)
LEFT JOIN (
    SELECT run_id, any_value(sent_as) AS agent FROM endpoint_adjustments WHERE adjustment = 'agent' GROUP BY run_id
) a USING (run_id)
LEFT JOIN tasks t USING (run_id, task_id);
COMMENT ON VIEW episode_facts IS 'One row per episode with what it can be chosen by: run, world, agent, reward, outcome and counts; agent is what the run named, or the default for its model; NULL for the world''s own.';

CREATE VIEW last_winners AS
SELECT h.episode_id, arg_max(h.winner_id, h.harvest) AS branch_id
FROM harvests h GROUP BY h.episode_id;
COMMENT ON VIEW last_winners IS 'The branch that ends the golden path of each episode with a harvest.';

-- What models did while they were trained (simkit.training).

CREATE VIEW training_conversations AS
SELECT
    r.config ->> 'part_of' AS run_id, 'guard' AS role, CAST(r.config ->> 'step' AS BIGINT) AS step,
    e.task_id, e.trial, e.reward, e.episode_id, e.final_branch_id AS branch_id
FROM episodes e JOIN runs r USING (run_id)
WHERE r.recipe = 'guard' AND r.config ->> 'role' = 'guard'
UNION ALL
SELECT
    r.config ->> 'part_of', 'practice', CAST(i.detail ->> 'step' AS BIGINT),
    e.task_id, e.trial, i.value, e.episode_id, b.branch_id
FROM item_scores i JOIN runs r USING (run_id) JOIN branches b ON b.branch_id = i.item JOIN episodes e USING (episode_id)
WHERE r.recipe = 'practice' AND i.suite = 'practice' AND i.metric = 'reward';
COMMENT ON VIEW training_conversations IS 'One row per conversation of a model in training: run_id is the training, branch_id its last turn. The guard plays dev goals, practice are the conversations that GRPO learns from.';
