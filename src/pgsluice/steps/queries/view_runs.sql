-- What did each run come to? Numbers that a report has otherwise than as such are passed over. A run that nobody finished and whose session is gone has died.
SELECT r.run_id,
       CASE WHEN r.status = 'running'
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = r.backend_pid AND l.locktype = 'advisory')
            THEN 'died' ELSE r.status END AS status,
       r.started_at,
       r.finished_at,
       extract(epoch FROM r.finished_at - r.started_at)::float8 AS seconds,
       r.exit_code,
       r.tables,
       t.done,
       t.failed,
       t.rows,
       t.bytes,
       r.resumes,
       r.version,
       to_jsonb(r) ->> 'source_server' AS source_server,  -- not there before the first run of a release that knows it
       to_jsonb(r) ->> 'target_server' AS target_server
  FROM {run} r
 CROSS JOIN LATERAL (
   SELECT count(*) FILTER (WHERE status = 'done') AS done,
          count(*) FILTER (WHERE status = 'failed') AS failed,
          coalesce(sum(jsonb_path_query_first(report, '$.staging_count ? (@ >= 0 && @ < 1e15)')::bigint)
                   FILTER (WHERE status = 'done'), 0)::bigint AS rows,
          coalesce(sum(jsonb_path_query_first(report, '$.bytes ? (@ >= 0 && @ < 1e15)')::bigint), 0)::bigint AS bytes
     FROM (SELECT DISTINCT ON (job_id) status, report
             FROM {run_table}
            WHERE run_id = r.run_id
            ORDER BY job_id, attempt DESC) ended) t
