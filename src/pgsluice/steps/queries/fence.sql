-- Lock the row of a target until the transaction ends; then, which sessions hold its run lock? In a transaction that
-- may look names up as its role does. {targets}: the table of targets; %(target)s.
SELECT ARRAY(
         SELECT l.pid
           FROM pg_catalog.pg_locks l
          WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory'
            AND l.granted
            AND l.objsubid OPERATOR(pg_catalog.=) 1::pg_catalog.int2
            AND l.database OPERATOR(pg_catalog.=) (
                  SELECT d.oid FROM pg_catalog.pg_database d
                   WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
            AND (l.classid::pg_catalog.int8 OPERATOR(pg_catalog.<<) 32)
                  OPERATOR(pg_catalog.|) l.objid::pg_catalog.int8 OPERATOR(pg_catalog.=) t.lock_key)
  FROM (SELECT lock_key FROM {targets}
         WHERE target OPERATOR(pg_catalog.=) %(target)s::pg_catalog.text FOR UPDATE) t
