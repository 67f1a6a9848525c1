-- What do the tables of a staging table's slices hold, and why is one not to be used, if so? %(table)s: its name.
-- trusted_roles: the roles whose relations are used.
WITH trusted AS MATERIALIZED ({trusted})
SELECT c.relname, obj_description(c.oid, 'pg_class'), CASE WHEN c.relowner NOT IN (SELECT oid FROM trusted) THEN pg_get_userbyid(c.relowner) END, {fault}
  FROM pg_inherits
  JOIN pg_class c ON c.oid = inhrelid
 WHERE inhparent = to_regclass(%(table)s)
 ORDER BY 1
