-- Which table does a name mean, and which columns does it have: number, name, type with modifier, NOT NULL? Which
-- triggers fire for its rows, those of its partitions too: name, pg_trigger.tgtype? And what `along` asks of it, as
-- `found`. %(table)s: SQL name. Asked under the role's own search_path: everything is qualified.
WITH found AS MATERIALIZED (SELECT pg_catalog.to_regclass(%(table)s::pg_catalog.text)::pg_catalog.oid AS oid)
SELECT found.oid,
       (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                 a.attnum, a.attname, a.atttypid::pg_catalog.int8, a.atttypmod, a.attnotnull) ORDER BY a.attnum), '[]')
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid OPERATOR(pg_catalog.=) found.oid
           AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2
           AND NOT a.attisdropped),
       (SELECT coalesce(pg_catalog.jsonb_agg(DISTINCT pg_catalog.jsonb_build_array(t.tgname, t.tgtype)), '[]')
          FROM pg_catalog.pg_trigger t
         WHERE NOT t.tgisinternal
           AND t.tgrelid OPERATOR(pg_catalog.=) ANY (pg_catalog.array_append(ARRAY(
                 SELECT p.relid::pg_catalog.oid
                   FROM pg_catalog.pg_partition_tree(found.oid::pg_catalog.regclass) p), found.oid))
           AND t.tgenabled OPERATOR(pg_catalog.=) ANY (CASE
                 WHEN pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.=) 'replica'::pg_catalog.text
                 THEN '{{R,A}}' ELSE '{{O,A}}' END::pg_catalog."char"[])),
       {along}
  FROM found
