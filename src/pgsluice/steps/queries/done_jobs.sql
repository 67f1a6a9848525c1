-- A run, and the jobs that it and the runs it resumed have done. %(run_id)s: its id, or 'last'.
WITH RECURSIVE chain AS (
  (SELECT run_id, resumes
     FROM {run}
    WHERE run_id = %(run_id)s OR %(run_id)s = 'last'
    ORDER BY started_at DESC
    LIMIT 1)
  UNION
  SELECT r.run_id, r.resumes FROM {run} r JOIN chain c ON r.run_id = c.resumes
)
SELECT (SELECT run_id FROM chain LIMIT 1),
       ARRAY (SELECT t.job_id
                FROM {run_table} t
                JOIN chain USING (run_id)
               WHERE t.status = 'done'
                 AND NOT EXISTS (SELECT FROM {run_table} later  -- what shall follow it failed
                                  WHERE (later.run_id, later.job_id) = (t.run_id, t.job_id)
                                    AND later.attempt > t.attempt))
 WHERE EXISTS (SELECT FROM chain)
