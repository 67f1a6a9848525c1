-- Compare and set: the row moves on only from the sequence number that the run saw.
INSERT INTO {state} AS s (job_id, seq, run_id, source, target, snapshot_xmin, source_system, source_timeline)
VALUES (%(job_id)s, %(seen)s + 1, %(run_id)s, %(source)s, %(target)s, %(xmin)s, %(system)s, %(timeline)s)
ON CONFLICT (job_id) DO UPDATE
   SET seq = s.seq + 1,
       run_id = excluded.run_id,
       snapshot_xmin = excluded.snapshot_xmin,
       source_system = excluded.source_system,
       source_timeline = excluded.source_timeline,
       updated_at = clock_timestamp()
 WHERE s.seq = %(seen)s
