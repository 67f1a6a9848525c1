-- What tells this cluster apart from every other, and from itself before a failover? A primary knows its timeline from
-- its log at once; pg_control follows at the next checkpoint. A standby knows it from whom it receives, where the role
-- may see that, else from what pg_control has noted last.
SELECT s.system_identifier::text,
       CASE WHEN pg_is_in_recovery()
            THEN greatest(c.timeline_id, r.min_recovery_end_timeline, (SELECT received_tli FROM pg_stat_wal_receiver))
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END
  FROM pg_control_system() s, pg_control_checkpoint() c, pg_control_recovery() r
