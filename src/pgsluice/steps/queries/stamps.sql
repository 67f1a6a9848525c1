-- How do these columns get their values? %(oids)s: oid[], %(names)s: text[], of equal length.
-- Triggers: BEFORE ROW ones (on insert, on update, body). One that can't be read, or not always fires, is told so that
-- it proves nothing: by the column's name alone, or behind an IF.
SELECT (SELECT coalesce(jsonb_agg(jsonb_build_array(
                 (t.tgtype & 4) <> 0,
                 (t.tgtype & 16) <> 0,
                 CASE WHEN l.lanname <> 'plpgsql' THEN a.attname::text
                      WHEN t.tgqual IS NOT NULL OR t.tgattr <> '' THEN 'IF ' || p.prosrc
                      ELSE p.prosrc END)), '[]')
          FROM pg_trigger t
          JOIN pg_proc p ON p.oid = t.tgfoid
          JOIN pg_language l ON l.oid = p.prolang
         WHERE t.tgrelid = a.attrelid
           AND NOT t.tgisinternal
           AND t.tgenabled IN ('O', 'A')
           AND (t.tgtype & 3) = 3),
       EXISTS (SELECT FROM pg_subscription_rel s
                WHERE s.srrelid = a.attrelid
                   OR s.srrelid IN (SELECT p.relid FROM pg_partition_tree(a.attrelid) p)),
       (SELECT ic.relname::text
          FROM pg_index i
          JOIN pg_class ic ON ic.oid = i.indexrelid
         WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL
         ORDER BY 1 LIMIT 1),
       sequence.name,
       coalesce(sequence.winding, false)
  FROM unnest(%(oids)s::oid[], %(names)s::text[]) WITH ORDINALITY AS wanted (oid, name, position)
  JOIN pg_attribute a ON a.attrelid = wanted.oid AND a.attname = wanted.name
  LEFT JOIN LATERAL (
       SELECT s.seqrelid::regclass::text AS name, s.seqcycle OR s.seqincrement < 0 AS winding
         FROM pg_sequence s
        WHERE s.seqrelid IN (
              SELECT d.objid FROM pg_depend d
               WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                 AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
               UNION
              SELECT d.refobjid FROM pg_depend d
                JOIN pg_attrdef ad ON ad.oid = d.objid
               WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
                 AND ad.adrelid = a.attrelid AND ad.adnum = a.attnum)
        LIMIT 1) sequence ON true
 ORDER BY wanted.position
