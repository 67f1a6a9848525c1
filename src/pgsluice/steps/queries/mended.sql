-- Which tables did run %(run_id)s do whose run before had failed?
SELECT now.target
  FROM {run_table} now
 WHERE now.run_id = %(run_id)s
   AND now.status = 'done'
   AND (SELECT before.status
          FROM {run_table} before
         WHERE (before.target, before.source) = (now.target, now.source)
           AND before.run_id <> now.run_id
           AND before.recorded_at < now.recorded_at
         ORDER BY before.recorded_at DESC
         LIMIT 1) = 'failed'
 ORDER BY now.target
