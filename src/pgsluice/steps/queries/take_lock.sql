-- Take the run lock of a target, if it is free. {targets}: the table of targets; %(target)s, and the key that
-- its lock has before it is given another: %(first)s.
SELECT k.key, pg_catalog.pg_try_advisory_lock(k.key)
  FROM (SELECT coalesce((SELECT t.lock_key FROM {targets} t WHERE t.target = %(target)s), %(first)s)::bigint AS key) k
