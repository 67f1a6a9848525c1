-- Which staging tables are there, whose are they, and what time is it? %(schema)s: the control schema.
SELECT c.relname, obj_description(c.oid, 'pg_class'), extract(epoch FROM clock_timestamp())::bigint
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s
   AND c.relkind = 'r'
   AND c.relname LIKE 'stg\_%%'
 ORDER BY 1
