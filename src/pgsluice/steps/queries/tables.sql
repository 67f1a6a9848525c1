-- What are these relations, how large, and what may the connected role do with them?
-- %(schemas)s and %(names)s: text[] of equal length.
-- Some who may write pg_class leave NaN or 1e38 there as a number of rows: it counts as none where no table holds as many.
SELECT c.oid,
       n.nspname,
       c.relname,
       c.relkind::text,
       (SELECT coalesce(sum(l.reltuples::float8) FILTER (WHERE l.reltuples BETWEEN 0 AND 1e13), -1)::bigint
          FROM pg_class l WHERE l.oid = ANY (leaf.oids)),
       (SELECT coalesce(sum(pg_table_size(l.oid)), 0)::bigint
          FROM pg_class l WHERE l.oid = ANY (leaf.oids) AND l.relkind IN ('r', 'm')),
       (SELECT coalesce(sum(pg_relation_size(l.oid)), 0)::bigint
          FROM pg_class l WHERE l.oid = ANY (leaf.oids) AND l.relkind IN ('r', 'm')),
       (SELECT coalesce(sum(pg_indexes_size(l.oid)), 0)::bigint
          FROM pg_class l WHERE l.oid = ANY (leaf.oids) AND l.relkind IN ('r', 'm')),
       has_schema_privilege(n.oid, 'USAGE'),
       has_any_column_privilege(c.oid, 'SELECT')
         AND (SELECT coalesce(bool_and(has_column_privilege(a.attrelid, a.attnum, 'SELECT')), true)
                FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       has_table_privilege(c.oid, 'INSERT'),
       has_table_privilege(c.oid, 'UPDATE'),
       has_table_privilege(c.oid, 'DELETE'),
       row_security_active(c.oid),
       ARRAY(SELECT DISTINCT t.tgname::text FROM pg_trigger t
              WHERE t.tgrelid = ANY (c.oid || leaf.oids) AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') ORDER BY 1),
       (SELECT coalesce(jsonb_agg(jsonb_build_array(
                 l.oid::bigint,
                 coalesce(pg_relation_filenode(l.oid), 0)::bigint,
                 coalesce(pg_get_expr(l.relpartbound, l.oid), ''),
                 l.relkind IN ('r', 'm') AND l.relam = (SELECT oid FROM pg_am WHERE amname = 'heap'),
                 m.nspname,
                 l.relname,
                 CASE WHEN l.relkind IN ('r', 'm') THEN pg_table_size(l.oid) ELSE 0 END,
                 CASE WHEN l.relkind IN ('r', 'm') THEN pg_relation_size(l.oid) ELSE 0 END,
                 has_schema_privilege(m.oid, 'USAGE') AND has_table_privilege(l.oid, 'SELECT')
                   AND NOT row_security_active(l.oid))
                 ORDER BY l.oid), '[]')
          FROM pg_class l JOIN pg_namespace m ON m.oid = l.relnamespace WHERE l.oid = ANY (leaf.oids)),
       pg_get_userbyid(c.relowner)::text,
       obj_description(c.oid, 'pg_class'),
       pg_has_role(c.relowner, 'USAGE'),
       (SELECT count(*) > 1 FROM pg_index i
         WHERE (i.indrelid = c.oid
                OR i.indrelid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE level > 0)
                   AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid))
           AND i.indimmediate
           AND (i.indisunique OR i.indisexclusion)),
       ARRAY(SELECT h.inhrelid::regclass::text FROM pg_inherits h WHERE h.inhparent = c.oid AND c.relkind = 'r' ORDER BY 1)
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) WITH ORDINALITY AS wanted (schema, name, position)
  JOIN pg_namespace n ON n.nspname = wanted.schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
 CROSS JOIN LATERAL (
       SELECT CASE WHEN c.relkind = 'p'
                   THEN ARRAY(SELECT p.relid::oid FROM pg_partition_tree(c.oid) p WHERE p.isleaf)
                   ELSE ARRAY[c.oid] END AS oids) leaf
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
 ORDER BY wanted.position
