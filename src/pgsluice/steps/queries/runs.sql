-- The last runs, newest first. %(run_id)s: the one that is meant, 'last' for the newest, or NULL; %(seconds)s: since then, or
-- NULL; %(limit)s: how many, or NULL for all; %(targets)s: with one of these, or with nothing yet, or NULL; %(reports)s: with what became of their tables. From view_runs.
SELECT run_id, status, started_at::timestamptz(0)::text, finished_at::timestamptz(0)::text,
       extract(epoch FROM started_at)::float8, seconds, exit_code, tables, done, failed, rows, bytes,
       CASE WHEN %(reports)s THEN
         (SELECT array_agg(ARRAY[source, target, status, extract(epoch FROM recorded_at)::text,
                                 CASE WHEN octet_length(said) <= 1048576 THEN said END] ORDER BY recorded_at)
            FROM (SELECT DISTINCT ON (job_id) source, target, status, recorded_at, report::text AS said FROM {run_table}
                 WHERE run_id = r.run_id ORDER BY job_id, attempt DESC) ended) END,
       source_server, target_server
  FROM ({runs}) r
 WHERE (%(run_id)s::text IS NULL OR run_id = %(run_id)s OR %(run_id)s = 'last')
   AND (%(targets)s::text[] IS NULL
        OR EXISTS (SELECT FROM {run_table} t WHERE t.run_id = r.run_id AND t.target = ANY (%(targets)s))
        OR NOT EXISTS (SELECT FROM {run_table} t WHERE t.run_id = r.run_id))
   AND (%(seconds)s::float8 IS NULL OR started_at > clock_timestamp() - %(seconds)s::float8 * interval '1 second')
 ORDER BY r.started_at DESC, r.run_id DESC  -- bare, the first would be the text above
 LIMIT CASE WHEN %(run_id)s = 'last' THEN 1 ELSE %(limit)s::bigint END
