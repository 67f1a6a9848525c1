-- Which table does a name mean, and which columns does it have: number, name, type with modifier, NOT NULL?
-- %(table)s: SQL name. Asked under the role's own search_path: everything is qualified.
SELECT c.oid,
       (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                 a.attnum, a.attname, a.atttypid::pg_catalog.int8, a.atttypmod, a.attnotnull) ORDER BY a.attnum), '[]')
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid
           AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2
           AND NOT a.attisdropped)
  FROM (SELECT pg_catalog.to_regclass(%(table)s::pg_catalog.text)::pg_catalog.oid AS oid) c
