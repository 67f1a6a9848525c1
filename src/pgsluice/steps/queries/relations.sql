-- Which relations could a user mean? Partitions stand behind their parents.
-- A database in SQL_ASCII takes any bytes for a name, so names come as bytes.
SELECT convert_to(n.nspname::text, named.encoding), convert_to(c.relname::text, named.encoding), c.relkind::text
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN (SELECT CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END) AS named (encoding)
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND NOT c.relispartition
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
   AND n.nspname !~ '^pg_(temp|toast_temp)_'
 ORDER BY n.nspname, c.relname
