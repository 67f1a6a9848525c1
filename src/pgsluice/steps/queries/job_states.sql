-- Where do these jobs stand? %(jobs)s, %(same)s: text[]; the second finds the same job on another cluster.
SELECT same_job, columns, leaves, job_id, seq, run_id, watermark, held, snapshot_xmin::bigint, snapshot_lsn,
       source_system, source_timeline, repeats_at, source_oid, target_oid
  FROM {state}
 WHERE job_id = ANY (%(jobs)s::text[])
    OR same_job = ANY (%(same)s::text[])
 ORDER BY updated_at
