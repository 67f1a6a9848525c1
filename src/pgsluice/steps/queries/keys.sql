-- Which unique indexes over plain columns and all rows do these tables have? %(oids)s: oid[].
-- With each column comes the equality of its operator class (btree strategy 3).
SELECT * FROM (
  SELECT i.indrelid,
         ic.relname,
         i.indisprimary,
         EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u')),
         bool_and(a.attnotnull),
         array_agg(a.attname::text ORDER BY part.position),
         array_agg(opn.nspname::text ORDER BY part.position),
         array_agg(op.oprname::text ORDER BY part.position),
         greatest(pg_relation_size(i.indexrelid),  -- a partitioned index has no bytes of its own
                  (SELECT sum(pg_relation_size(p.relid)) FROM pg_partition_tree(i.indexrelid) p WHERE p.isleaf))::bigint
    FROM pg_index i
    JOIN pg_class ic ON ic.oid = i.indexrelid
    JOIN pg_am am ON am.oid = ic.relam AND am.amname = 'btree'
   CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS part (attnum, opclass, position)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
    JOIN pg_opclass oc ON oc.oid = part.opclass
    JOIN pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3
                   AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
    JOIN pg_operator op ON op.oid = ao.amopopr
    JOIN pg_namespace opn ON opn.oid = op.oprnamespace
   WHERE i.indrelid = ANY (%(oids)s::oid[])
     AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
     AND part.position <= i.indnkeyatts
   GROUP BY i.indrelid, i.indexrelid, ic.relname, i.indisprimary, i.indnkeyatts
   UNION ALL
  -- WITHOUT OVERLAPS (18): what does not overlap is not equal
  SELECT i.indrelid,
         ic.relname,
         i.indisprimary,
         true,
         bool_and(a.attnotnull),
         array_agg(a.attname::text ORDER BY part.position),
         array_agg('pg_catalog'::text ORDER BY part.position),
         array_agg('='::text ORDER BY part.position),
         pg_relation_size(i.indexrelid)
    FROM pg_constraint k
    JOIN pg_index i ON i.indexrelid = k.conindid
    JOIN pg_class ic ON ic.oid = i.indexrelid
   CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS part (attnum, position)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
   WHERE i.indrelid = ANY (%(oids)s::oid[])
     AND (to_jsonb(k) ->> 'conperiod')::boolean  -- a column that older servers lack
     AND part.position <= i.indnkeyatts
   GROUP BY i.indrelid, i.indexrelid, ic.relname, i.indisprimary
) AS keys (oid, name, is_primary, is_constraint, not_null, columns, schemas, operators, bytes)
 ORDER BY oid, is_primary DESC, cardinality(columns), name
