-- What became of each table last, and when was it done? One row a source and target.
WITH meant AS ( -- what was forgotten stays in the history, and is nothing to wait for
  SELECT *
    FROM {run_table} t
   WHERE status <> 'forgotten'
     AND NOT EXISTS (SELECT FROM {run_table} later
                      WHERE (later.source, later.target) = (t.source, t.target)
                        AND later.status = 'forgotten'
                        AND later.recorded_at >= t.recorded_at)
),
last AS (
  SELECT DISTINCT ON (source, target) source, target, status, run_id, recorded_at, report
    FROM meant
   ORDER BY source, target, recorded_at DESC
),
done AS (
  SELECT source, target, max(recorded_at) AS done_at
    FROM meant
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
