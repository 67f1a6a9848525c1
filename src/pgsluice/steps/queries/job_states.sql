-- Where do these jobs stand? %(jobs)s, %(same)s: text[]; the second finds the same job on another cluster.
-- The rows that its last run changed are known where that run found the table there, and did not replace it.
SELECT same_job, columns, leaves, job_id, seq, run_id, watermark, held, snapshot_xmin::bigint, snapshot_lsn,
       source_system, source_timeline, repeats_at, source_oid, target_oid,
       (SELECT jsonb_path_query_first(report, '$.inserted ? (@ >= 0 && @ < 1e15)')::bigint
               + jsonb_path_query_first(report, '$.updated ? (@ >= 0 && @ < 1e15)')::bigint
               + jsonb_path_query_first(report, '$.deleted ? (@ >= 0 && @ < 1e15)')::bigint
          FROM {run_table} r
         WHERE r.run_id = s.run_id
           AND r.job_id = s.job_id
           AND r.status = 'done'
           AND report -> 'created' = 'false'
           AND report ->> 'strategy' IS DISTINCT FROM 'swap'
         ORDER BY attempt DESC
         LIMIT 1),
       target_files
  FROM {state} s
 WHERE job_id = ANY (%(jobs)s::text[])
    OR same_job = ANY (%(same)s::text[])
 ORDER BY updated_at
