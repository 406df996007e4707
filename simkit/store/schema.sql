-- The tables of simkit.duckdb. They are made from the journals and can always be made again: nothing is written here
-- by hand. There are no keys and no indexes on purpose: the loader inserts each line of a journal exactly once.
-- Times are UTC.

CREATE TABLE runs (
    run_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    recipe VARCHAR NOT NULL,
    seed HUGEINT NOT NULL,
    config JSON,
    version VARCHAR,
    status VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP,
    summary JSON,
    error VARCHAR,
    stats JSON,
    number BIGINT,
    attempt INTEGER NOT NULL
);
COMMENT ON TABLE runs IS 'One row per run: a recipe with its configuration.';
COMMENT ON COLUMN runs.config IS 'What the run was asked to do.';
COMMENT ON COLUMN runs.status IS 'running, done, failed, interrupted (by a person) or stopped (by a budget or an endpoint); a killed run stays running.';
COMMENT ON COLUMN runs.summary IS 'What the recipe reported at its end.';
COMMENT ON COLUMN runs.error IS 'What stopped it or made it fail.';
COMMENT ON COLUMN runs.number IS 'Which start in this store it was: runs are ordered by it, not by a clock; NULL for runs older than these numbers.';
COMMENT ON COLUMN runs.attempt IS 'How often it was started again: 0 for a run that never was.';
COMMENT ON COLUMN runs.stats IS 'What its last part took: model calls, tokens, money, seconds, lag of the event loop.';

CREATE TABLE tasks (
    run_id VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    world VARCHAR NOT NULL,
    split VARCHAR,
    instructions VARCHAR,
    goals JSON
);
COMMENT ON TABLE tasks IS 'The tasks a run works on: one row per run and task.';
COMMENT ON COLUMN tasks.instructions IS 'The goal in the words a simulated user is given.';
COMMENT ON COLUMN tasks.goals IS 'The sparse goals as JSON: a list of {key, detail, weight}.';

CREATE TABLE planned_units (
    run_id VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    episode_id VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    trial INTEGER NOT NULL,
    kept BOOLEAN NOT NULL
);
COMMENT ON TABLE planned_units IS 'The units that each start of a run planned; the view units has the fate of each. Runs recorded before this table existed have no rows.';
COMMENT ON COLUMN planned_units.attempt IS 'Which start of the run: 0, then 1 for the first resume.';
COMMENT ON COLUMN planned_units.kept IS 'An earlier start of the run had finished it.';

CREATE TABLE unplayed_units (
    run_id VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    episode_id VARCHAR NOT NULL,
    reason VARCHAR NOT NULL
);
COMMENT ON TABLE unplayed_units IS 'Planned units that a start of a run did not play to their end, and why.';
COMMENT ON COLUMN unplayed_units.attempt IS 'Which start of the run: 0, then 1 for the first resume.';

CREATE TABLE shard_plans (
    run_id VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    play INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    shards INTEGER NOT NULL,
    trials INTEGER NOT NULL,
    digest VARCHAR NOT NULL,
    tasks VARCHAR[] NOT NULL,
    planned_at TIMESTAMP
);
COMMENT ON TABLE shard_plans IS 'The whole plan of which a shard (--shard I/N) plays its share; a long plan has several rows.';
COMMENT ON COLUMN shard_plans.attempt IS 'Which start of the shard: 0, then 1 for the first resume.';
COMMENT ON COLUMN shard_plans.play IS 'Number of the play within the run, from 0.';
COMMENT ON COLUMN shard_plans.trials IS 'How often each task is played.';
COMMENT ON COLUMN shard_plans.digest IS 'Digest of all tasks of the play with their contents; equal in all shards of a plan.';
COMMENT ON COLUMN shard_plans.tasks IS 'The tasks of all shards, in order: every shards-th task of a run is one shard''s.';
COMMENT ON COLUMN shard_plans.planned_at IS 'When it was planned.';

CREATE TABLE merged_shards (
    run_id VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    shards INTEGER NOT NULL,
    lines BIGINT NOT NULL,
    digest VARCHAR NOT NULL,
    plan VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    error VARCHAR,
    merged_at TIMESTAMP
);
COMMENT ON TABLE merged_shards IS 'The shards that a run was merged from (simkit store merge), one row for each time that lines of a shard were added.';
COMMENT ON COLUMN merged_shards.attempt IS 'Which merge, counted from 0 as starts of the run are.';
COMMENT ON COLUMN merged_shards.lines IS 'Lines of the shard''s journal that are merged so far.';
COMMENT ON COLUMN merged_shards.digest IS 'Digest of these lines.';
COMMENT ON COLUMN merged_shards.plan IS 'Trials and digest of the tasks of each play that the shard planned; equal in all shards of a plan.';
COMMENT ON COLUMN merged_shards.status IS 'How the shard had ended: done, failed, interrupted or stopped; running if it had not.';
COMMENT ON COLUMN merged_shards.error IS 'What stopped it or made it fail.';
COMMENT ON COLUMN merged_shards.merged_at IS 'When it was merged.';

CREATE TABLE blocked_loops (
    run_id VARCHAR NOT NULL,
    seconds DOUBLE NOT NULL,
    place VARCHAR,
    stack VARCHAR,
    blocked_at TIMESTAMP
);
COMMENT ON TABLE blocked_loops IS 'Each time that code without an await blocked the whole run for more than a second; of a great number, the first.';
COMMENT ON COLUMN blocked_loops.place IS 'file:line and function; empty where it could not be seen.';
COMMENT ON COLUMN blocked_loops.stack IS 'The frames around the place, the innermost last.';

CREATE TABLE lost_workers (
    run_id VARCHAR NOT NULL,
    worker INTEGER NOT NULL,
    place VARCHAR NOT NULL,
    episodes VARCHAR[] NOT NULL,
    reason VARCHAR NOT NULL,
    lost_at TIMESTAMP
);
COMMENT ON TABLE lost_workers IS 'Workers of a run (--workers, --engine) that ended or did not answer; others took their places.';
COMMENT ON COLUMN lost_workers.worker IS 'Number of the worker, from 0.';
COMMENT ON COLUMN lost_workers.place IS 'Its process and machine; empty where it had not answered yet.';
COMMENT ON COLUMN lost_workers.episodes IS 'Episodes that were open in it; they were played again, with the answers that were recorded.';
COMMENT ON COLUMN lost_workers.reason IS 'What is known of its end.';
COMMENT ON COLUMN lost_workers.lost_at IS 'When it was noticed.';

CREATE TABLE endpoint_adjustments (
    run_id VARCHAR NOT NULL,
    endpoint VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    adjustment VARCHAR NOT NULL,
    setting VARCHAR NOT NULL,
    sent_as VARCHAR NOT NULL,
    reason VARCHAR,
    learned_at TIMESTAMP
);
COMMENT ON TABLE endpoint_adjustments IS 'How requests were adjusted to what an endpoint accepts, learned from its refusals, and agents chosen for models without tools; resuming applies them from the first call.';
COMMENT ON COLUMN endpoint_adjustments.adjustment IS 'setting (another name, or left out), at_most, value, schema (a keyword is removed from tools), message_field, reasoning, message_rule, or agent (another one than the default plays the model).';
COMMENT ON COLUMN endpoint_adjustments.setting IS 'The setting, keyword, field or rule; the default agent.';
COMMENT ON COLUMN endpoint_adjustments.sent_as IS 'The name or value that is sent instead; empty if it is left out. The agent that plays instead.';
COMMENT ON COLUMN endpoint_adjustments.reason IS 'What the endpoint answered to the request that it refused, or why the model cannot be given tools.';

CREATE TABLE component_loads (
    run_id VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    concurrency INTEGER,
    serving INTEGER,
    waiting INTEGER,
    most_waiting INTEGER,
    waited DOUBLE,
    sessions INTEGER,
    open INTEGER,
    queued INTEGER,
    most_queued INTEGER,
    queued_seconds DOUBLE,
    observed_at TIMESTAMP
);
COMMENT ON TABLE component_loads IS 'Loads of components that declare concurrency or sessions, observed every few seconds while something waits for one of them.';
COMMENT ON COLUMN component_loads.attempt IS 'Start of the run, counted from 0.';
COMMENT ON COLUMN component_loads.concurrency IS 'Declared maximum of requests served at once; NULL without a limit.';
COMMENT ON COLUMN component_loads.serving IS 'Requests being served.';
COMMENT ON COLUMN component_loads.waiting IS 'Requests that wait to be served.';
COMMENT ON COLUMN component_loads.most_waiting IS 'Longest queue of requests so far.';
COMMENT ON COLUMN component_loads.waited IS 'Seconds that requests have waited so far, summed.';
COMMENT ON COLUMN component_loads.sessions IS 'Declared maximum of conversations open at once; NULL without a limit.';
COMMENT ON COLUMN component_loads.open IS 'Sessions in use.';
COMMENT ON COLUMN component_loads.queued IS 'Episodes that wait for sessions.';
COMMENT ON COLUMN component_loads.most_queued IS 'Longest queue of episodes so far.';
COMMENT ON COLUMN component_loads.queued_seconds IS 'Seconds that episodes have waited so far, summed.';

CREATE TABLE toolsets (
    toolset_id VARCHAR NOT NULL,
    tools JSON NOT NULL
);
COMMENT ON TABLE toolsets IS 'Tool definitions in the OpenAI form, stored once and named by their digest.';

CREATE TABLE episodes (
    episode_id VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    trial INTEGER NOT NULL,
    supervisor VARCHAR,
    toolset_id VARCHAR,
    user_toolset_id VARCHAR,
    goals VARCHAR[],
    reward DOUBLE,
    full_reward DOUBLE,
    outcome VARCHAR,
    achieved VARCHAR[],
    parts JSON,
    final_branch_id VARCHAR,
    turns INTEGER,
    branches INTEGER,
    faults INTEGER,
    calls INTEGER,
    error VARCHAR,
    started_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP,
    journal VARCHAR NOT NULL,
    attempt INTEGER NOT NULL
);
COMMENT ON TABLE episodes IS 'One conversation, or one tree of them: a task with its trial number. An episode that is started again replaces what was there.';
COMMENT ON COLUMN episodes.user_toolset_id IS 'Digest of the tools of the user: see toolsets; NULL if it has none, as in most worlds.';
COMMENT ON COLUMN episodes.goals IS 'Keys of the goals at the start.';
COMMENT ON COLUMN episodes.reward IS 'Reward of the episode, 0 to 1 unless its reward declares another range; NULL while it runs and when it is left out of averages (no goals, fault).';
COMMENT ON COLUMN episodes.full_reward IS 'The greatest reward there was to get, 1 as a rule: an episode with that reward is a success.';
COMMENT ON COLUMN episodes.outcome IS 'How it ended; NULL while it runs.';
COMMENT ON COLUMN episodes.achieved IS 'Keys of the goals that were reached.';
COMMENT ON COLUMN episodes.parts IS 'The parts a composed reward is made of.';
COMMENT ON COLUMN episodes.branches IS 'Agent turns played in all branches.';
COMMENT ON COLUMN episodes.faults IS 'Branches that ended in a fault.';
COMMENT ON COLUMN episodes.calls IS 'Tool calls made in all branches.';
COMMENT ON COLUMN episodes.journal IS 'The journal it was read from.';
COMMENT ON COLUMN episodes.attempt IS 'Which start of the episode these rows are of, counted from 0: the latest.';

CREATE TABLE branches (
    branch_id VARCHAR NOT NULL,
    episode_id VARCHAR NOT NULL,
    parent_id VARCHAR,
    path VARCHAR NOT NULL,
    turn INTEGER NOT NULL,
    outcome VARCHAR,
    error VARCHAR,
    successful BOOLEAN NOT NULL,
    golden BOOLEAN NOT NULL,
    winner BOOLEAN NOT NULL,
    finished_at TIMESTAMP
);
COMMENT ON TABLE branches IS 'One turn of one path of a tree; the root (turn 0) holds the system prompt and the opening.';
COMMENT ON COLUMN branches.parent_id IS 'The branch it goes on from; NULL for the root alone.';
COMMENT ON COLUMN branches.path IS 'The forks that lead to it: empty at the root, then L and R (0.3.1 for wider forks).';
COMMENT ON COLUMN branches.outcome IS 'How the conversation ended here; NULL where it was continued.';
COMMENT ON COLUMN branches.error IS 'What was raised, for faults.';
COMMENT ON COLUMN branches.successful IS 'It, or a branch that goes on from it, earned a reward when the tree was harvested.';
COMMENT ON COLUMN branches.golden IS 'It lies on the way to a winner.';
COMMENT ON COLUMN branches.winner IS 'Its reward was taken and it became the new root.';

CREATE TABLE faults (
    run_id VARCHAR NOT NULL,
    episode_id VARCHAR,
    branch_id VARCHAR,
    component VARCHAR NOT NULL,
    error VARCHAR NOT NULL,
    traceback VARCHAR NOT NULL,
    faulted_at TIMESTAMP
);
COMMENT ON TABLE faults IS 'Tracebacks of faults that the code of a component raised. Runs recorded before this table existed have no rows.';
COMMENT ON COLUMN faults.episode_id IS 'The episode that it ended, or one branch of it; NULL for an error that ended the run.';
COMMENT ON COLUMN faults.branch_id IS 'The branch that it ended; NULL before the first turn, and for an error that ended the run.';
COMMENT ON COLUMN faults.component IS 'agent, user, tool, model or reward; run for an error of a recipe, a search or a world.';
COMMENT ON COLUMN faults.error IS 'Message of the fault.';
COMMENT ON COLUMN faults.traceback IS 'Where it was raised: exceptions with their frames, those of the author''s own files first, the innermost last.';
COMMENT ON COLUMN faults.faulted_at IS 'When it was recorded.';

CREATE TABLE messages (
    branch_id VARCHAR NOT NULL,
    episode_id VARCHAR NOT NULL,
    seq INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    step INTEGER NOT NULL,
    author VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    content VARCHAR,
    tool_calls JSON,
    message JSON NOT NULL,
    heard VARCHAR,
    prompt VARCHAR NOT NULL,
    flags VARCHAR[] NOT NULL
);
COMMENT ON TABLE messages IS 'Every message once, with the branch that added it; conversation(branch_id) gives a whole conversation.';
COMMENT ON COLUMN messages.seq IS 'Index from the root, counted from 0.';
COMMENT ON COLUMN messages.turn IS 'Agent turn, counted from 1; the system prompt and the opening belong to turn 0.';
COMMENT ON COLUMN messages.step IS 'The decision within the turn, or of the user within the answer, counted from 0.';
COMMENT ON COLUMN messages.author IS 'Who wrote it: system, user, agent, tool, runtime, or user_tool (calls of the user''s own tools and their results, which the agent does not see).';
COMMENT ON COLUMN messages.content IS 'Its text; JSON for a content of several parts.';
COMMENT ON COLUMN messages.tool_calls IS 'Its tool calls in the OpenAI form.';
COMMENT ON COLUMN messages.message IS 'The whole message in the OpenAI chat form.';
COMMENT ON COLUMN messages.heard IS 'What the other party hears of it; NULL for what stays inside the agent.';
COMMENT ON COLUMN messages.prompt IS 'Digest of all that was before it: equal prompts, equal digests.';
COMMENT ON COLUMN messages.flags IS 'Doubts about it, as "kind: detail": of the user simulator about its own words, or of the agent about its model''s reply; empty when there are none.';

CREATE TABLE tool_calls (
    branch_id VARCHAR NOT NULL,
    episode_id VARCHAR NOT NULL,
    seq INTEGER NOT NULL,
    step INTEGER NOT NULL,
    call_id VARCHAR,
    name VARCHAR NOT NULL,
    arguments VARCHAR,
    result JSON,
    error BOOLEAN NOT NULL,
    writes JSON,
    seconds DOUBLE,
    side VARCHAR NOT NULL
);
COMMENT ON TABLE tool_calls IS 'Every tool call with its result.';
COMMENT ON COLUMN tool_calls.arguments IS 'The arguments as the model wrote them; they need not be valid JSON.';
COMMENT ON COLUMN tool_calls.error IS 'The result is an error for the caller to read.';
COMMENT ON COLUMN tool_calls.side IS 'Who made the call: agent, or user (a tool of the user''s own).';
COMMENT ON COLUMN tool_calls.writes IS 'The rows it changed in its branch of the world.';

CREATE TABLE rewards (
    branch_id VARCHAR NOT NULL,
    episode_id VARCHAR NOT NULL,
    goal VARCHAR NOT NULL,
    evidence VARCHAR,
    step INTEGER NOT NULL,
    credited BOOLEAN NOT NULL
);
COMMENT ON TABLE rewards IS 'Every goal reached in a branch, with its evidence.';
COMMENT ON COLUMN rewards.credited IS 'The search took it: it counts in the reward of the episode.';

CREATE TABLE goal_explanations (
    episode_id VARCHAR NOT NULL,
    goal VARCHAR NOT NULL,
    explanation VARCHAR NOT NULL
);
COMMENT ON TABLE goal_explanations IS 'A reward''s own explanations of missed goals (`explain_goals`); the shipped rewards give none, and simkit show explains theirs.';
COMMENT ON COLUMN goal_explanations.explanation IS 'Why the goal was missed.';

CREATE TABLE harvests (
    episode_id VARCHAR NOT NULL,
    harvest INTEGER NOT NULL,
    winner_id VARCHAR NOT NULL,
    goals VARCHAR[],
    successful VARCHAR[],
    golden VARCHAR[]
);
COMMENT ON TABLE harvests IS 'Each time a reward was taken: the winner, the goals taken, and the branches marked.';

CREATE TABLE model_calls (
    episode_id VARCHAR NOT NULL,
    branch_id VARCHAR,
    role VARCHAR NOT NULL,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    model VARCHAR,
    request_hash VARCHAR,
    request JSON,
    response JSON,
    error VARCHAR,
    prompt_tokens BIGINT,
    completion_tokens BIGINT,
    cost DOUBLE,
    seconds DOUBLE,
    called_at TIMESTAMP
);
COMMENT ON TABLE model_calls IS 'Every attempt of a model call; those of an episode that was started again stay, because they were paid for.';
COMMENT ON COLUMN model_calls.cost IS 'US dollars.';

CREATE TABLE metrics (
    run_id VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    step BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    value DOUBLE,
    measured_at TIMESTAMP,
    attempt INTEGER NOT NULL,
    journal VARCHAR NOT NULL
);
COMMENT ON TABLE metrics IS 'What training and its guards measured: one row per run, stage, step and number.';
COMMENT ON COLUMN metrics.value IS 'NULL for a number that JSON does not have (NaN, infinite).';
COMMENT ON COLUMN metrics.attempt IS 'Which start of the run measured it, counted from 0: the latest that did.';
COMMENT ON COLUMN metrics.journal IS 'The journal it was read from.';

CREATE TABLE item_scores (
    run_id VARCHAR NOT NULL,
    suite VARCHAR NOT NULL,
    item VARCHAR NOT NULL,
    trial INTEGER NOT NULL,
    metric VARCHAR NOT NULL,
    value DOUBLE,
    detail JSON,
    scored_at TIMESTAMP,
    attempt INTEGER NOT NULL,
    journal VARCHAR NOT NULL
);
COMMENT ON TABLE item_scores IS 'Scores of evaluations that are no conversations: one row per question of a suite and metric.';
COMMENT ON COLUMN item_scores.item IS 'The question; the same name in every run.';
COMMENT ON COLUMN item_scores.attempt IS 'Which start of the run scored it, counted from 0: the latest that did.';
COMMENT ON COLUMN item_scores.journal IS 'The journal it was read from.';

CREATE TABLE journals (
    journal VARCHAR NOT NULL,
    loaded BIGINT NOT NULL,
    lines BIGINT NOT NULL,
    number BIGINT NOT NULL,
    numbered BOOLEAN NOT NULL,
    attempt INTEGER NOT NULL,
    whole BOOLEAN NOT NULL,
    ending BIGINT NOT NULL
);
COMMENT ON TABLE journals IS 'Loading progress of each journal, in bytes and in lines; changed in the transaction that loads them.';
COMMENT ON COLUMN journals.number IS 'The number that its next line must have.';
COMMENT ON COLUMN journals.numbered IS 'Its lines have numbers and checksums by now; those of versions before them had none.';
COMMENT ON COLUMN journals.attempt IS 'Which start of its run the last loaded line belongs to, -1 before the first.';
COMMENT ON COLUMN journals.whole IS 'No line is missing among those that were loaded.';
COMMENT ON COLUMN journals.ending IS 'Checksum of its last loaded bytes: another one means that the file was changed.';

CREATE TABLE unreadable_lines (
    journal VARCHAR NOT NULL,
    byte BIGINT NOT NULL,
    line BIGINT NOT NULL,
    reason VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    sequence BIGINT,
    lines BIGINT NOT NULL,
    checksum BIGINT NOT NULL,
    acknowledged BOOLEAN NOT NULL
);
COMMENT ON TABLE unreadable_lines IS 'Places where a journal is damaged (docs: store.md); all intact lines have been loaded.';
COMMENT ON COLUMN unreadable_lines.kind IS 'altered, garbage, duplicate, late, lost, unreadable, shortened, changed, gone or file.';
COMMENT ON COLUMN unreadable_lines.sequence IS 'The number in the journal of the first line it is about, where it can be told.';
COMMENT ON COLUMN unreadable_lines.lines IS 'How many lines it is about.';
COMMENT ON COLUMN unreadable_lines.checksum IS 'Of the damaged bytes.';
COMMENT ON COLUMN unreadable_lines.acknowledged IS 'Somebody has read of it: simkit doctor --acknowledge RUN.';

CREATE TABLE packed_runs (
    run_id VARCHAR NOT NULL,
    tables VARCHAR[] NOT NULL
);
COMMENT ON TABLE packed_runs IS 'Runs whose conversations are in Parquet files, packed/RUN/TABLE.parquet in the store (simkit store pack). Commands of simkit read them with the tables; the tables in this file alone lack them.';
COMMENT ON COLUMN packed_runs.tables IS 'Tables for which the run has a file.';

CREATE TABLE notes (
    note_id VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    episode_id VARCHAR NOT NULL,
    branch_id VARCHAR NOT NULL,
    task_id VARCHAR NOT NULL,
    trial INTEGER NOT NULL,
    path VARCHAR NOT NULL,
    turn INTEGER NOT NULL,
    seq INTEGER,
    label VARCHAR NOT NULL,
    text VARCHAR NOT NULL,
    author VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    noted_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE notes IS 'Notes that people wrote about messages and conversations in the viewer (simkit view), from notes.jsonl in the store.';
COMMENT ON COLUMN notes.note_id IS 'The note.';
COMMENT ON COLUMN notes.noted_at IS 'When it was written.';
COMMENT ON COLUMN notes.branch_id IS 'The branch that added the message, or that ends the conversation: episode/path.turn.';
COMMENT ON COLUMN notes.seq IS 'Index of the message from the root of its conversation, from 0; NULL for a note about the whole conversation.';
COMMENT ON COLUMN notes.label IS 'A short mark, such as good or wrong; empty for a text alone.';
COMMENT ON COLUMN notes.text IS 'What was noted; empty for a label alone.';
COMMENT ON COLUMN notes.author IS 'Who wrote it.';
COMMENT ON COLUMN notes.digest IS 'Digest of the message when the note was written: another one means that an episode was played again since.';

CREATE TABLE loaded_notes (bytes BIGINT NOT NULL);
COMMENT ON TABLE loaded_notes IS 'Loading progress of notes.jsonl.';
COMMENT ON COLUMN loaded_notes.bytes IS 'Its size when it was loaded last.';

CREATE TABLE store_format (format VARCHAR NOT NULL);
COMMENT ON TABLE store_format IS 'Digest of the schema this file was made with; another digest makes simkit rebuild it from the journals.';
