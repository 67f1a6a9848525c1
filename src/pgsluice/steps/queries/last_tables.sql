-- What became of each table last, and how long ago was it done? One row a source and target.
WITH last AS (
  SELECT DISTINCT ON (source, target) source, target, status, report, recorded_at
    FROM {run_table}
   ORDER BY source, target, recorded_at DESC
),
done AS (
  SELECT source, target, max(recorded_at) AS at
    FROM {run_table}
   WHERE status = 'done'
   GROUP BY source, target
)
SELECT source, target, status, report, recorded_at::timestamptz(0)::text, done.at::timestamptz(0)::text,
       extract(epoch FROM clock_timestamp() - done.at)::float8
  FROM last LEFT JOIN done USING (source, target)
 ORDER BY target, source
