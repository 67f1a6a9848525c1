-- Which unique indexes over plain columns and all rows do these tables have? %(oids)s: oid[].
-- With each column comes the equality of its operator class. Of WITHOUT OVERLAPS (18) that is the type's default one:
-- what does not overlap is not equal.
WITH indexes AS (
  SELECT i.*, c.relname, am.amname = 'btree' AS is_btree,
         EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u')) AS is_constraint
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am am ON am.oid = c.relam
   WHERE i.indrelid = ANY (%(oids)s::oid[])
     AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
     AND (am.amname = 'btree'
          OR EXISTS (SELECT FROM pg_constraint k
                      WHERE k.conindid = i.indexrelid
                        AND (to_jsonb(k) ->> 'conperiod')::boolean))  -- a column that older servers lack
),
parts AS (
  SELECT i.indexrelid, a.attname::text AS name, a.attnotnull, a.atttypid AS type, part.position,
         CASE WHEN i.is_btree THEN part.opclass END AS opclass
    FROM indexes i
   CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS part (attnum, opclass, position)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
   WHERE part.position <= i.indnkeyatts
),
wanted AS (SELECT DISTINCT type, opclass FROM parts),
equality AS MATERIALIZED (
{equality})
SELECT i.indrelid, i.relname, i.indisprimary, i.is_constraint, part.not_null, part.names, part.equalities,
       greatest(pg_relation_size(i.indexrelid),  -- a partitioned index has no bytes of its own
                (SELECT sum(pg_relation_size(p.relid)) FROM pg_partition_tree(i.indexrelid) p WHERE p.isleaf))::bigint
  FROM indexes i
 CROSS JOIN LATERAL (
       SELECT bool_and(p.attnotnull) AS not_null,
              array_agg(p.name ORDER BY p.position) AS names,
              jsonb_agg(e.equality ORDER BY p.position) AS equalities
         FROM parts p
         LEFT JOIN equality e ON e.type = p.type AND e.opclass IS NOT DISTINCT FROM p.opclass
        WHERE p.indexrelid = i.indexrelid) AS part
 ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.relname
