-- What became of each table last, and when was it done? One row a source and target.
WITH last AS (
  SELECT DISTINCT ON (source, target) source, target, status, run_id, recorded_at, report
    FROM {run_table}
   ORDER BY source, target, recorded_at DESC
),
done AS (
  SELECT source, target, max(recorded_at) AS done_at
    FROM {run_table}
   WHERE status = 'done'
   GROUP BY source, target
)
SELECT source,
       target,
       status,
       run_id,
       recorded_at,
       done_at,
       report ->> 'mode' AS mode,
       nullif((report ->> 'target_count')::bigint, -1) AS rows,
       report ->> 'watermark' AS watermark,
       (report ->> 'seconds')::float8 AS seconds,
       report ->> 'error' AS error,
       report ->> 'hint' AS hint,
       report
  FROM last LEFT JOIN done USING (source, target)
