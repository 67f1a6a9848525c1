-- What hangs on these tables beside their columns and primary keys? %(oids)s: oid[].
-- Definitions are what the server prints, without the parts that name the table itself. One is local where it leans
-- on nothing but the table, types, collations and what PostgreSQL brings along. Expressions are what an index is over,
-- with the collation, and its condition. What options users set comes from settable.
WITH wanted AS (SELECT oid FROM unnest(%(oids)s::oid[]) AS oid),
spanned (index, expressions) AS (
  SELECT i.indexrelid,
         ARRAY(SELECT concat('(', pg_get_indexdef(i.indexrelid, key.position::int, false), ')',
                             ' COLLATE ' || nullif(key.collid, 0)::regcollation)
                 FROM unnest(i.indcollation::oid[]) WITH ORDINALITY AS key (collid, position)
                ORDER BY key.position)
         || array_remove(ARRAY[pg_get_expr(i.indpred, i.indrelid)], NULL)
    FROM pg_index i
   WHERE i.indrelid IN (SELECT oid FROM wanted)
),
leaning AS (
  SELECT x.classid, x.objid
    FROM pg_depend x
   WHERE x.deptype IN ('n', 'a')
     AND x.refobjid >= 16384
     AND x.refclassid NOT IN ('pg_type'::regclass, 'pg_collation'::regclass, 'pg_constraint'::regclass)
     AND NOT (x.refclassid = 'pg_class'::regclass AND x.refobjid IN (SELECT oid FROM wanted))
)
SELECT k.conrelid,
       CASE k.contype WHEN 'u' THEN 'unique constraint' WHEN 'x' THEN 'exclusion constraint'
                      WHEN 'c' THEN 'check' ELSE 'foreign key' END,
       k.conname::text,
       {constraintdef},
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS part (number, position)
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = part.number ORDER BY part.position),
       NOT EXISTS (SELECT FROM leaning
                    WHERE (classid, objid) IN (('pg_constraint'::regclass, k.oid), ('pg_class'::regclass, k.conindid))),
       k.contype = 'u',
       coalesce(spanned.expressions, '{{}}')
  FROM pg_constraint k
  LEFT JOIN pg_class c ON c.oid = k.conindid
  LEFT JOIN spanned ON spanned.index = k.conindid AND k.contype <> 'f'
 WHERE k.conrelid IN (SELECT oid FROM wanted)
   AND k.contype IN ('u', 'x', 'c', 'f')
UNION ALL
SELECT i.indrelid,
       'index',
       c.relname::text,
       -- CREATE [UNIQUE] INDEX name ON [ONLY] schema.table USING ..
       substr({indexdef},
              length(concat('CREATE ', CASE WHEN i.indisunique THEN 'UNIQUE ' END, 'INDEX ', quote_ident(c.relname),
                            ' ON ', CASE WHEN c.relkind = 'I' THEN 'ONLY ' END, i.indrelid::regclass, ' ')) + 1),
       CASE WHEN i.indexprs IS NULL AND i.indpred IS NULL
            THEN ARRAY(SELECT a.attname::text
                         FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS part (number, position)
                         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.number
                        ORDER BY part.position)
            ELSE '{{}}' END,
       NOT EXISTS (SELECT FROM leaning WHERE (classid, objid) = ('pg_class'::regclass, i.indexrelid)),
       i.indisunique,
       spanned.expressions
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN spanned ON spanned.index = i.indexrelid
 WHERE i.indrelid IN (SELECT oid FROM wanted)
   AND i.indisvalid
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
UNION ALL -- what index_text leaves out
SELECT i.indrelid, 'option', concat(name, ' of ', i.indexrelid::regclass), '', '{{}}', false, false, '{{}}'
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
 CROSS JOIN unnest(c.reloptions) AS o
 CROSS JOIN split_part(o, '=', 1) AS name
 WHERE i.indrelid IN (SELECT oid FROM wanted)
   AND i.indisvalid
   AND c.relam < 16384
   AND name <> ALL ({settable})
   AND NOT starts_with(name, 'pg_') -- a prefix that is PostgreSQL's own
UNION ALL
SELECT t.tgrelid, 'trigger', t.tgname::text, '', '{{}}', false, false, '{{}}'
  FROM pg_trigger t
 WHERE t.tgrelid IN (SELECT oid FROM wanted) AND NOT t.tgisinternal
UNION ALL
SELECT r.ev_class, 'rule', r.rulename::text, '', '{{}}', false, false, '{{}}'
  FROM pg_rewrite r
 WHERE r.ev_class IN (SELECT oid FROM wanted) AND r.rulename <> '_RETURN'
UNION ALL
SELECT DISTINCT c.oid, 'grants to', coalesce(pg_get_userbyid(nullif(g.grantee, 0))::text, 'PUBLIC'), '', '{{}}'::text[],
       false, false, '{{}}'::text[]
  FROM pg_class c
 CROSS JOIN aclexplode(c.relacl) g
 WHERE c.oid IN (SELECT oid FROM wanted) AND g.grantee <> c.relowner
UNION ALL
SELECT p.polrelid, 'policy', p.polname::text, '', '{{}}', false, false, '{{}}'
  FROM pg_policy p
 WHERE p.polrelid IN (SELECT oid FROM wanted)
 ORDER BY 1, 2, 3
