-- Who holds this session-level advisory lock? %(key)s: bigint.
SELECT coalesce(nullif(a.application_name, ''), 'a session'), l.pid, a.backend_start::timestamptz(0)::text
  FROM pg_locks l
  LEFT JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory'
   AND l.granted
   AND l.objsubid = 1
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND (l.classid::bigint << 32) | l.objid::bigint = %(key)s::bigint
