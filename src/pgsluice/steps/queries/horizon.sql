-- How far back do open transactions of this database reach? A stamp that is still to be committed is no older than the
-- start of its transaction. Sessions that begin while this looks are later than five seconds ago; the second less is
-- for columns that round their stamps.
SELECT least(min(a.xact_start) - interval '1 second', clock_timestamp() - interval '5 seconds')::text,
       count(*) FILTER (WHERE a.state = 'disabled'),
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
  FROM pg_stat_activity a
 WHERE a.pid <> pg_backend_pid()
   AND (a.datname = current_database() OR a.datname IS NULL)
