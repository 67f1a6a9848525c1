-- End the sessions of dead runs, as far as they may be ended. %(runs)s: their ids, text[]. A commit that waits for a
-- standby is left alone: ended, it would show rows that no standby has.
SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid, 5000))
  FROM pg_stat_activity a
 WHERE split_part(a.application_name, ' ', 1) = 'pgsluice'
   AND split_part(a.application_name, ' ', 2) = ANY (%(runs)s)
   AND a.pid <> pg_backend_pid()
   AND pg_has_role(current_user, a.usesysid, 'USAGE')
   AND a.wait_event IS DISTINCT FROM 'SyncRep'
