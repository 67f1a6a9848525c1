-- The tables of the control schema: where jobs stand, what runs did, and who may merge. {schema} is its name.
CREATE TABLE IF NOT EXISTS {schema}.job_state (
  job_id text PRIMARY KEY,
  seq bigint NOT NULL,
  run_id text NOT NULL,
  source text NOT NULL,
  target text NOT NULL,
  watermark text,
  snapshot_xmin text NOT NULL,
  source_system text,
  source_timeline integer,
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE {schema}.job_state
  ADD COLUMN IF NOT EXISTS mode text NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS same_job text NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS cursor text,
  ADD COLUMN IF NOT EXISTS held boolean NOT NULL DEFAULT false,
  ADD COLUMN IF NOT EXISTS snapshot_lsn bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS repeats_at bigint,
  ADD COLUMN IF NOT EXISTS source_oid oid NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS target_oid oid NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS columns jsonb NOT NULL DEFAULT '{{}}',
  ADD COLUMN IF NOT EXISTS leaves jsonb NOT NULL DEFAULT '{{}}',
  ADD COLUMN IF NOT EXISTS target_files jsonb NOT NULL DEFAULT '{{}}';
COMMENT ON TABLE {schema}.job_state IS 'One row a job, written in the transaction that merged its rows';

CREATE TABLE IF NOT EXISTS {schema}.run (
  run_id text PRIMARY KEY,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz,
  status text NOT NULL DEFAULT 'running',
  exit_code integer,
  tables integer NOT NULL,
  backend_pid integer NOT NULL DEFAULT pg_backend_pid(),
  version text NOT NULL
);
ALTER TABLE {schema}.run ADD COLUMN IF NOT EXISTS resumes text,
  ADD COLUMN IF NOT EXISTS source_server text,
  ADD COLUMN IF NOT EXISTS target_server text;
COMMENT ON TABLE {schema}.run IS 'One row a run';

CREATE TABLE IF NOT EXISTS {schema}.run_table (
  run_id text NOT NULL,
  job_id text NOT NULL,
  attempt integer NOT NULL DEFAULT 1,
  source text NOT NULL,
  target text NOT NULL,
  status text NOT NULL,
  report jsonb NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (run_id, job_id, attempt)
);
CREATE INDEX IF NOT EXISTS run_table_recorded_at ON {schema}.run_table (recorded_at);
CREATE INDEX IF NOT EXISTS run_table_target ON {schema}.run_table (target, source, recorded_at);
COMMENT ON TABLE {schema}.run_table IS 'One row a job of a run, never overwritten; a done one was written by the commit it reports';

CREATE TABLE IF NOT EXISTS {schema}.target (
  target text PRIMARY KEY,
  lock_key bigint NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE {schema}.target IS 'One row a target: a merge locks it, and a run takes the advisory lock it names';
