-- A table, its constraints, indexes and columns' sequences: what they are called, and who may do what. %(table)s: its name.
WITH parts (kind, place, name, owner, grants) AS (
  SELECT 'TABLE', '', relname, relowner, coalesce(relacl, acldefault('r', relowner))
    FROM pg_class
   WHERE oid = to_regclass(%(table)s)
  UNION ALL
  SELECT 'SEQUENCE', d.refobjsubid::text, c.relname, c.relowner, coalesce(c.relacl, acldefault('s', c.relowner))
    FROM pg_depend d
    JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
   WHERE d.classid = 'pg_class'::regclass
     AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid = to_regclass(%(table)s)
     AND d.refobjsubid > 0
  UNION ALL
  SELECT 'CONSTRAINT', concat(contype, conkey, pg_get_constraintdef(oid)), conname, 0, NULL
    FROM pg_constraint
   WHERE conrelid = to_regclass(%(table)s)
  UNION ALL
  SELECT 'INDEX', regexp_replace(pg_get_indexdef(i.indexrelid), '^.*? USING ', ''), c.relname, 0, NULL
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
   WHERE i.indrelid = to_regclass(%(table)s)
     AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
)
SELECT kind, place, name::text,
       ARRAY(SELECT json_build_array(CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END,
                                     privilege_type, is_grantable)::text
               FROM aclexplode(grants)
              WHERE grantee <> owner)
  FROM parts
 ORDER BY kind, place
