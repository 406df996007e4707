-- Reads pieces of journals ($pieces, files of whole lines named 0.jsonl, 1.jsonl, ...) into `staged`: one column for every
-- field of every event ($columns, which follow from simkit/core/events.py). $journals and $attempts belong to the pieces.
-- Branch ids are `episode/path.turn` (simkit/core/ids.py), so an event that names only its branch names its episode too.
CREATE OR REPLACE TEMP TABLE staged AS
SELECT
    row_number() OVER () AS line,
    list_extract($journals, piece) AS journal,
    list_extract($attempts, piece) AS journal_attempt,
    make_timestamp(CAST("at" * 1e6 AS BIGINT)) AS moment,
    * EXCLUDE ("at", piece) REPLACE (coalesce(episode_id, regexp_extract(branch_id, '^(.*)/', 1, 's')) AS episode_id)
FROM (
    SELECT * EXCLUDE (piece), CAST(regexp_extract(piece, '(\d+)\.jsonl$', 1) AS INTEGER) + 1 AS piece
    FROM read_json(
        $pieces, format = 'newline_delimited', maximum_object_size = $largest, filename = 'piece', columns = {$columns}
    )
);
