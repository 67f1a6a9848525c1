-- Who holds this session-level advisory lock, and can that be a run? %(key)s: bigint; %(history)s: the name of the
-- table that every run writes. A session's role can't be forged, its application_name can. A prepared transaction has
-- neither session nor pid.
SELECT coalesce(nullif(a.application_name, ''), 'a session'),
       l.pid,
       a.usename::text,
       a.backend_start::timestamptz(0)::text,
       a.usename = session_user
         OR pg_has_role(a.usesysid, current_user, 'MEMBER')
         OR coalesce(has_table_privilege(a.usesysid, to_regclass(%(history)s), 'INSERT'), false)
  FROM pg_locks l
  LEFT JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory'
   AND l.granted
   AND l.objsubid = 1
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND (l.classid::bigint << 32) | l.objid::bigint = %(key)s::bigint
