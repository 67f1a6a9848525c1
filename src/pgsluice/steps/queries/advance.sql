-- Compare and set: the row moves on only from the sequence number that the run saw.
-- Written under the role's own search_path: everything is qualified.
INSERT INTO {state} AS s
  (job_id, seq, run_id, source, target, mode, same_job, cursor, watermark, held, snapshot_xmin, snapshot_lsn,
   source_system, source_timeline, repeats_at, source_oid, target_oid, columns, leaves, target_files)
VALUES
  (%(job_id)s, %(seen)s::pg_catalog.int8 OPERATOR(pg_catalog.+) 1::pg_catalog.int8, %(run_id)s, %(source)s, %(target)s, %(mode)s, %(same_job)s, %(cursor)s, %(watermark)s,
   %(held)s, %(xmin)s, %(lsn)s, %(system)s, %(timeline)s, %(repeats_at)s, %(source_oid)s,
   pg_catalog.to_regclass(%(name)s::pg_catalog.text)::pg_catalog.oid, %(columns)s, %(leaves)s,
   (SELECT coalesce(pg_catalog.jsonb_object_agg(c.oid, pg_catalog.pg_relation_filenode(c.oid)::pg_catalog.int8), '{{}}')
      FROM pg_catalog.pg_class c
     WHERE pg_catalog.pg_relation_filenode(c.oid) IS NOT NULL -- NULL of what holds no rows itself
       AND c.oid OPERATOR(pg_catalog.=) ANY (pg_catalog.array_append(
             ARRAY(SELECT p.relid::pg_catalog.oid
                     FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass(%(name)s::pg_catalog.text)) p),
             pg_catalog.to_regclass(%(name)s::pg_catalog.text)::pg_catalog.oid))))
ON CONFLICT (job_id) DO UPDATE
   SET seq = s.seq OPERATOR(pg_catalog.+) 1::pg_catalog.int8,
       run_id = excluded.run_id,
       watermark = excluded.watermark,
       held = excluded.held,
       snapshot_xmin = excluded.snapshot_xmin,
       snapshot_lsn = excluded.snapshot_lsn,
       source_system = excluded.source_system,
       source_timeline = excluded.source_timeline,
       repeats_at = excluded.repeats_at,
       source_oid = excluded.source_oid,
       target_oid = excluded.target_oid,
       columns = excluded.columns,
       leaves = excluded.leaves,
       target_files = excluded.target_files,
       updated_at = pg_catalog.clock_timestamp()
 WHERE s.seq OPERATOR(pg_catalog.=) %(seen)s::pg_catalog.int8
