-- What did the last runs do? %(limit)s: how many. A run that nobody finished and whose session is gone has died.
SELECT r.run_id,
       CASE WHEN r.status = 'running'
             AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = r.backend_pid AND l.locktype = 'advisory')
            THEN 'died' ELSE r.status END,
       r.started_at::timestamptz(0)::text,
       r.finished_at::timestamptz(0)::text,
       (SELECT jsonb_agg(t.report ORDER BY t.recorded_at) FROM {run_table} t WHERE t.run_id = r.run_id)
  FROM {run} r
 ORDER BY r.started_at DESC, r.run_id DESC
 LIMIT %(limit)s
