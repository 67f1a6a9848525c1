-- Take and export the transaction's snapshot, and say where the source stands. %(zone)s: the role's own time zone.
SELECT pg_export_snapshot(),
       pg_snapshot_xmin(s)::text::bigint,
       pg_snapshot_xmax(s)::text::bigint,
       (SELECT count(*) FROM pg_snapshot_xip(s)),
       (coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END,
                 '0/0') - '0/0')::bigint,
       clock_timestamp()::text,
       greatest(clock_timestamp() AT TIME ZONE 'UTC', clock_timestamp() AT TIME ZONE %(zone)s)::text,
       (clock_timestamp() AT TIME ZONE 'UTC' + interval '14 hours')::date::text
  FROM pg_current_snapshot() s
