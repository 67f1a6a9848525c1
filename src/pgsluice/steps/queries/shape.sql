-- Which table does a name mean, and which columns does it have: number, name, type with modifier, NOT NULL? And, where
-- %(lends)s: whose rows change along with its own, although neither we nor the owner of it trust their owner?
-- %(table)s: SQL name. trusted_roles: whom we trust. Asked under the role's own search_path: everything is qualified.
WITH RECURSIVE found AS MATERIALIZED (
  SELECT pg_catalog.to_regclass(%(table)s::pg_catalog.text)::pg_catalog.oid AS oid
),
trusted AS MATERIALIZED (
  {trusted}
  UNION ALL
  SELECT unnested.owner
    FROM found
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) found.oid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
   CROSS JOIN LATERAL (VALUES (c.relowner), (n.nspowner)) AS unnested (owner)
),
along AS (
  SELECT c.oid
    FROM found JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) found.oid
   WHERE %(lends)s AND c.relhastriggers
  UNION
  SELECT k.conrelid
    FROM along
    JOIN pg_catalog.pg_constraint k ON k.confrelid OPERATOR(pg_catalog.=) along.oid
   WHERE k.contype OPERATOR(pg_catalog.=) 'f'::pg_catalog."char"
     AND (k.confdeltype OPERATOR(pg_catalog.=) ANY ('{{c,n,d}}'::pg_catalog."char"[])
          OR k.confupdtype OPERATOR(pg_catalog.=) ANY ('{{c,n,d}}'::pg_catalog."char"[]))
)
SELECT found.oid,
       (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                 a.attnum, a.attname, a.atttypid::pg_catalog.int8, a.atttypmod, a.attnotnull) ORDER BY a.attnum), '[]')
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid OPERATOR(pg_catalog.=) found.oid
           AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2
           AND NOT a.attisdropped),
       ARRAY(SELECT pg_catalog.format('%%s of %%s', c.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(c.relowner))
               FROM along JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) along.oid
              WHERE NOT EXISTS (SELECT FROM trusted WHERE trusted.oid OPERATOR(pg_catalog.=) c.relowner)
              ORDER BY 1)
  FROM found
