-- Which table does a name mean, and which columns does it have: number, name, type with modifier, NOT NULL?
-- %(table)s: SQL name.
SELECT c.oid,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(
                 a.attnum, a.attname, a.atttypid::bigint, a.atttypmod, a.attnotnull) ORDER BY a.attnum), '[]')
          FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM (SELECT to_regclass(%(table)s)::oid AS oid) c
