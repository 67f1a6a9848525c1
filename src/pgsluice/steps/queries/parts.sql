-- A table, its constraints and its columns' sequences: what they are called, and who may do what. %(table)s: its name.
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
  SELECT 'CONSTRAINT', concat(contype, conkey), conname, 0, NULL
    FROM pg_constraint
   WHERE conrelid = to_regclass(%(table)s)
)
SELECT kind, place, name::text,
       ARRAY(SELECT json_build_array(CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END,
                                     privilege_type, is_grantable)::text
               FROM aclexplode(grants)
              WHERE grantee <> owner)
  FROM parts
 ORDER BY kind, place
