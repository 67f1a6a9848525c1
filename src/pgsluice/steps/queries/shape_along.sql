-- Of whose tables do rows change along with those of the table `found`, although neither we nor the owner of it trust
-- their owner? As a text[]. trusted_roles: whom we trust. Everything is qualified.
ARRAY(
  WITH RECURSIVE trusted AS MATERIALIZED (
    {trusted}
    UNION ALL
    SELECT unnested.owner
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
     CROSS JOIN LATERAL (VALUES (c.relowner), (n.nspowner)) AS unnested (owner)
     WHERE c.oid OPERATOR(pg_catalog.=) found.oid
  ),
  along AS (
    SELECT c.oid
      FROM pg_catalog.pg_class c
     WHERE c.relhastriggers
       AND (c.oid OPERATOR(pg_catalog.=) found.oid
            OR c.oid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT p.relid::pg_catalog.oid
                                                        FROM pg_catalog.pg_partition_tree(found.oid) AS p)))
    UNION
    SELECT member.oid
      FROM along
      JOIN pg_catalog.pg_constraint k ON k.confrelid OPERATOR(pg_catalog.=) along.oid
     CROSS JOIN LATERAL (
           SELECT k.conrelid
            UNION ALL
           SELECT p.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree(k.conrelid) AS p) AS member (oid)
     WHERE k.contype OPERATOR(pg_catalog.=) 'f'::pg_catalog."char"
       AND (k.confdeltype OPERATOR(pg_catalog.=) ANY ('{{c,n,d}}'::pg_catalog."char"[])
            OR k.confupdtype OPERATOR(pg_catalog.=) ANY ('{{c,n,d}}'::pg_catalog."char"[]))
  )
  SELECT pg_catalog.format('%%s of %%s', c.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(c.relowner))
    FROM along JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) along.oid
   WHERE NOT EXISTS (SELECT FROM trusted WHERE trusted.oid OPERATOR(pg_catalog.=) c.relowner)
   ORDER BY 1)
