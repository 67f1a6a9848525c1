-- What became of a table in its last runs, newest first? %(wanted)s: its job's id, its target or its source; %(limit)s: how many.
SELECT run_id, source, target, status, CASE WHEN octet_length(report::text) <= 1048576 THEN report::text END,
       recorded_at::timestamptz(0)::text
  FROM {run_table} t
 WHERE %(wanted)s IN (job_id, source, target)
 ORDER BY t.recorded_at DESC  -- bare, it would be the text above
 LIMIT %(limit)s
