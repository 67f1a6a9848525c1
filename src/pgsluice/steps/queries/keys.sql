-- Which unique indexes over plain columns and all rows do these tables have? %(oids)s: oid[].
-- With each column come its type and its operator class: 0, the type's default, for WITHOUT OVERLAPS (18), where what does
-- not overlap is not equal.
SELECT i.indrelid,
       ic.relname,
       i.indisprimary,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u')),
       bool_and(a.attnotnull),
       array_agg(a.attname::text ORDER BY part.position),
       array_agg(a.atttypid::bigint ORDER BY part.position),
       array_agg(CASE WHEN am.amname = 'btree' THEN part.opclass ELSE 0 END::bigint ORDER BY part.position),
       greatest(pg_relation_size(i.indexrelid),  -- a partitioned index has no bytes of its own
                (SELECT sum(pg_relation_size(p.relid)) FROM pg_partition_tree(i.indexrelid) p WHERE p.isleaf))::bigint
  FROM pg_index i
  JOIN pg_class ic ON ic.oid = i.indexrelid
  JOIN pg_am am ON am.oid = ic.relam
 CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS part (attnum, opclass, position)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
 WHERE i.indrelid = ANY (%(oids)s::oid[])
   AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
   AND part.position <= i.indnkeyatts
   AND (am.amname = 'btree'
        OR EXISTS (SELECT FROM pg_constraint k
                    WHERE k.conindid = i.indexrelid
                      AND (to_jsonb(k) ->> 'conperiod')::boolean))  -- a column that older servers lack
 GROUP BY i.indrelid, i.indexrelid, ic.relname, i.indisprimary, i.indnkeyatts
 ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, ic.relname
