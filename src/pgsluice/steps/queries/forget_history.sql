-- Forget runs that began longer ago than %(seconds)s, but of each table its last row and the last in which it was done, unless it was forgotten since.
WITH cutoff AS (
  SELECT clock_timestamp() - %(seconds)s::float8 * interval '1 second' AS at
),
forgotten AS (
  DELETE FROM {run_table} t USING cutoff
   WHERE t.recorded_at < cutoff.at
     AND EXISTS (SELECT FROM {run_table} later
                  WHERE (later.source, later.target) = (t.source, t.target)
                    AND later.recorded_at > t.recorded_at
                    AND (t.status <> 'done' OR later.status IN ('done', 'forgotten')))
)
DELETE FROM {run} r USING cutoff
 WHERE r.started_at < cutoff.at
   AND r.status <> 'running'
   AND NOT EXISTS (SELECT FROM {run_table} t WHERE t.run_id = r.run_id AND t.recorded_at >= cutoff.at)
