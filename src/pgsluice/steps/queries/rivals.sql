-- Which columns do unique and exclusion constraints cover that are checked row by row, and what hangs on a row so that
-- it can't be deleted and inserted again? Can the constraint that was violated be deferrable? No foreign key may refer to
-- one that is. %(oid)s: the table; %(key)s: text[], columns of the key; %(violated)s: name of the constraint, or its index.
-- NULL stands for an index over expressions, which may mean any column.
SELECT (SELECT CASE WHEN count(*) = count(a.attname) THEN coalesce(array_agg(DISTINCT a.attname::text), '{}') END
          FROM pg_index i
         CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS part (number, position)
          LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.number AND part.number > 0
         WHERE (i.indrelid = %(oid)s OR i.indrelid IN (SELECT relid FROM pg_partition_tree(%(oid)s)))
           AND i.indimmediate
           AND (i.indisunique OR i.indisexclusion)
           AND part.position <= i.indnkeyatts
           AND (a.attname IS NULL OR a.attname::text <> ALL (%(key)s::text[]))),
       ARRAY(SELECT format('%%s of %%s', k.conname, k.conrelid::regclass)
               FROM pg_constraint k
              WHERE (k.confrelid = %(oid)s
                     OR k.confrelid IN (SELECT relid FROM pg_partition_tree(%(oid)s)) AND k.conparentid = 0)
                AND k.contype = 'f'
                AND k.confdeltype <> 'a'
              ORDER BY 1),
       EXISTS (SELECT FROM pg_constraint k
                WHERE k.conrelid = %(oid)s AND k.contype IN ('u', 'x') AND k.conname = %(violated)s
                  AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = k.conindid))
