-- Which staging tables are there, what is said on them, what time is it, and why is one not to be used, if so?
-- %(schema)s: the control schema; trusted_roles: the roles whose relations are used. Tables of slices belong to their parents.
WITH trusted AS MATERIALIZED ({trusted})
SELECT c.relname, CASE WHEN octet_length(d.said) <= 16777216 THEN d.said END,
       extract(epoch FROM clock_timestamp())::bigint,
       ARRAY(SELECT attname::text FROM pg_attribute
              WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum),
       CASE WHEN c.relowner NOT IN (SELECT oid FROM trusted) THEN pg_get_userbyid(c.relowner) END,
       {fault}
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL obj_description(c.oid, 'pg_class') AS d (said)
 WHERE n.nspname = %(schema)s
   AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND c.relname LIKE 'stg\_%%'
   AND d.said IS NOT NULL
   AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
 ORDER BY 1
