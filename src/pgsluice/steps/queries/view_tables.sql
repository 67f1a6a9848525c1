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
       jsonb_path_query_first(report, '$.target_count ? (@ >= 0 && @ < 1e15)')::bigint AS rows,
       report ->> 'watermark' AS watermark,
       jsonb_path_query_first(report, '$.seconds ? (@ >= 0 && @ < 1e12)')::float8 AS seconds,
       report ->> 'error' AS error,
       report ->> 'hint' AS hint,
       report
  FROM last LEFT JOIN done USING (source, target)
