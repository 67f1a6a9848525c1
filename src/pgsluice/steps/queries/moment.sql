-- Take and export the transaction's snapshot, and say where the source stands. %(zone)s: the role's own time zone.
SELECT pg_export_snapshot(),
       pg_snapshot_xmin(s)::text::bigint,
       pg_snapshot_xmax(s)::text::bigint,
       -- a standby does not count them, but knows whether there are any
       greatest((SELECT count(*) FROM pg_snapshot_xip(s)), (pg_snapshot_xmin(s) < pg_snapshot_xmax(s))::int),
       -- behind the header of a fresh page (24 bytes, 40 at the start of a segment) nothing has been written yet
       (log.position - CASE WHEN log.in_page IN (24, 40) THEN log.in_page ELSE 0 END)::bigint,
       clock_timestamp()::text,
       greatest(clock_timestamp() AT TIME ZONE 'UTC', clock_timestamp() AT TIME ZONE %(zone)s)::text,
       (clock_timestamp() AT TIME ZONE 'UTC' + interval '14 hours')::date::text
  FROM pg_current_snapshot() s,
       LATERAL (SELECT coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                                     ELSE pg_current_wal_insert_lsn() END, '0/0') - '0/0') lsn (position),
       LATERAL (SELECT lsn.position, mod(lsn.position, current_setting('wal_block_size')::int) AS in_page) log
