-- What became of a table in its last runs, newest first? %(wanted)s: its job's id, its target or its source; %(limit)s: how many.
SELECT source, target, status, run_id, recorded_at::timestamptz(0)::text, report
  FROM {run_table}
 WHERE %(wanted)s IN (job_id, source, target)
 ORDER BY recorded_at DESC
 LIMIT %(limit)s
