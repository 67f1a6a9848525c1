-- Which table does a name mean, and which columns does it have: number, name, type with modifier, NOT NULL? Which
-- triggers fire for its rows, those of its partitions too: name, pg_trigger.tgtype? In which files are they: oid, file
-- node? And what `along` asks of it, as `found`. %(table)s: SQL name. Asked under the role's own search_path: everything
-- is qualified.
WITH found AS MATERIALIZED (SELECT pg_catalog.to_regclass(%(table)s::pg_catalog.text)::pg_catalog.oid AS oid),
parts AS MATERIALIZED (
  SELECT found.oid FROM found
   UNION
  SELECT p.relid::pg_catalog.oid FROM found, pg_catalog.pg_partition_tree(found.oid::pg_catalog.regclass) p)
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
           AND t.tgrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT parts.oid FROM parts))
           AND t.tgenabled OPERATOR(pg_catalog.=) ANY (CASE
                 WHEN pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.=) 'replica'::pg_catalog.text
                 THEN '{{R,A}}' ELSE '{{O,A}}' END::pg_catalog."char"[])),
       (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                 parts.oid::pg_catalog.int8, pg_catalog.pg_relation_filenode(parts.oid)::pg_catalog.int8)), '[]')
          FROM parts),
       {along}
  FROM found
