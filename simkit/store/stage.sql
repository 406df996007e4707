-- Reads a piece of a journal ($piece, a file of whole lines) into `staged`: one column for every field of every
-- event ($columns, which follow from simkit/core/events.py).
-- Branch ids are `episode/path.turn` (simkit/core/ids.py), so an event that names only its branch names its episode too.
CREATE OR REPLACE TEMP TABLE staged AS
SELECT
    row_number() OVER () AS line,
    $journal AS journal,
    $attempt AS journal_attempt,
    make_timestamp(CAST("at" * 1e6 AS BIGINT)) AS moment,
    * EXCLUDE ("at") REPLACE (coalesce(episode_id, regexp_extract(branch_id, '^(.*)/', 1, 's')) AS episode_id)
FROM read_json($piece, format = 'newline_delimited', maximum_object_size = $largest, columns = {$columns});
