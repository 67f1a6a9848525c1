-- Which types and collations that are not PostgreSQL's own do these lean on? %(types)s, %(collations)s: oid[].
-- Objects from 16384 on were made after initdb. Arrays are looked through. `leans_on` holds the oids of the next ones.
WITH RECURSIVE part (whole, oid) AS (
  SELECT 0::oid, t.oid FROM pg_type t WHERE t.oid = ANY (%(types)s::oid[])
  UNION
  SELECT t.oid, inner_type.oid
    FROM part
    JOIN pg_type t ON t.oid = part.oid
   CROSS JOIN LATERAL (
         SELECT t.typbasetype WHERE t.typtype = 'd'
          UNION ALL
         SELECT a.atttypid FROM pg_attribute a
          WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
          UNION ALL
         SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
          UNION ALL
         SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid) AS direct (oid)
    JOIN pg_type d ON d.oid = direct.oid
    JOIN pg_type inner_type ON inner_type.oid = CASE WHEN d.typcategory = 'A' AND d.typlen = -1 AND d.typelem <> 0
                                                     THEN d.typelem ELSE d.oid END
), collated (whole, oid) AS (
  SELECT t.oid, t.typcollation FROM pg_type t
   WHERE t.typtype = 'd' AND t.oid IN (SELECT part.oid FROM part)
  UNION ALL
  SELECT t.oid, a.attcollation
    FROM pg_type t
    JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
   WHERE t.typtype = 'c' AND t.oid IN (SELECT part.oid FROM part)
  UNION ALL
  SELECT r.rngtypid, r.rngcollation FROM pg_range r WHERE r.rngtypid IN (SELECT part.oid FROM part)
)
SELECT t.oid::bigint,
       n.nspname,
       t.typname,
       t.typtype::text,
       format_type(t.oid, NULL),
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
       coalesce(CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)
                          || (SELECT coalesce(' COLLATE ' || k.oid::regcollation::text, '')
                                FROM pg_type b LEFT JOIN pg_collation k
                                  ON k.oid = t.typcollation AND t.typcollation <> b.typcollation
                               WHERE b.oid = t.typbasetype)
                     ELSE (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid) END, ''),
       CASE t.typtype
       WHEN 'c' THEN (SELECT coalesce(jsonb_agg(jsonb_build_array(a.attname,
                               format_type(a.atttypid, a.atttypmod)
                               || coalesce(' COLLATE ' || k.oid::regcollation::text, '')) ORDER BY a.attnum), '[]')
                        FROM pg_attribute a
                        JOIN pg_type b ON b.oid = a.atttypid
                        LEFT JOIN pg_collation k ON k.oid = a.attcollation AND a.attcollation <> b.typcollation
                       WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
       WHEN 'd' THEN (SELECT coalesce(jsonb_agg(jsonb_build_array(k.conname, pg_get_constraintdef(k.oid))
                               ORDER BY k.conname), '[]')
                        FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c')
       WHEN 'r' THEN (SELECT jsonb_build_array(
                               jsonb_build_array('SUBTYPE_OPCLASS', format('%%I.%%I', on_.nspname, oc.opcname)),
                               jsonb_build_array('MULTIRANGE_TYPE_NAME', format_type(r.rngmultitypid, NULL)))
                             || CASE WHEN r.rngcollation <> b.typcollation THEN jsonb_build_array(
                                  jsonb_build_array('COLLATION', r.rngcollation::regcollation::text)) ELSE '[]' END
                             || CASE WHEN r.rngsubdiff <> 0 THEN jsonb_build_array(
                                  jsonb_build_array('SUBTYPE_DIFF', r.rngsubdiff::text)) ELSE '[]' END
                        FROM pg_range r
                        JOIN pg_type b ON b.oid = r.rngsubtype
                        JOIN pg_opclass oc ON oc.oid = r.rngsubopc
                        JOIN pg_namespace on_ ON on_.oid = oc.opcnamespace
                       WHERE r.rngtypid = t.oid)
       ELSE '[]' END,
       t.typtype = 'd' AND t.typnotnull,
       CASE WHEN t.typtype = 'd' THEN t.typdefault END,
       (SELECT x.extname FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
         WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'),
       CASE WHEN t.typtype = 'b' THEN 'it is a base type'
            WHEN t.typtype = 'c' AND (SELECT c.relkind FROM pg_class c WHERE c.oid = t.typrelid) <> 'c'
            THEN 'it is the row type of a relation'
            WHEN t.typtype = 'r' AND EXISTS (SELECT FROM pg_range r WHERE r.rngtypid = t.oid AND
                   (r.rngcanonical <> 0 OR r.rngsubdiff >= 16384 OR r.rngsubopc >= 16384))
            THEN 'it calls functions of its own'
            WHEN EXISTS (SELECT FROM pg_depend x
                          WHERE (x.classid, x.objid) IN (SELECT 'pg_constraint'::regclass, k.oid
                                                           FROM pg_constraint k WHERE k.contypid = t.oid
                                                          UNION ALL SELECT 'pg_type'::regclass, t.oid)
                            AND x.refclassid = 'pg_proc'::regclass
                            AND x.refobjid NOT IN (t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin,
                                                   t.typmodout, t.typanalyze, t.typsubscript)
                            AND t.typtype = 'd')
            THEN 'its checks or its default call functions of their own'
            ELSE '' END,
       (SELECT i.prosrc = 'textin' AND o.prosrc = 'textout'
          FROM pg_proc i, pg_proc o WHERE i.oid = t.typinput AND o.oid = t.typoutput),
       ARRAY(SELECT p.oid::bigint FROM part p WHERE p.whole = t.oid
              UNION SELECT k.oid::bigint FROM collated k WHERE k.whole = t.oid AND k.oid <> 0)
  FROM pg_type t
  JOIN pg_namespace n ON n.oid = t.typnamespace
 WHERE t.oid IN (SELECT part.oid FROM part)
   AND t.oid >= 16384
 UNION ALL
SELECT k.oid::bigint,
       n.nspname,
       k.collname,
       'k',
       k.oid::regcollation::text,
       '{}',
       '',
       jsonb_build_array(
         jsonb_build_array('PROVIDER', CASE k.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END),
         jsonb_build_array('DETERMINISTIC', k.collisdeterministic::text))
       || CASE WHEN k.collprovider = 'c'
               THEN jsonb_build_array(jsonb_build_array('LC_COLLATE', k.collcollate),
                                      jsonb_build_array('LC_CTYPE', k.collctype))
               -- the column's name is another one in 17 and later, in 15 and 16, and in 14
               ELSE jsonb_build_array(jsonb_build_array('LOCALE', coalesce(
                      to_jsonb(k) ->> 'colllocale', to_jsonb(k) ->> 'colliculocale', k.collcollate))) END
       || CASE WHEN to_jsonb(k) ->> 'collicurules' <> ''
               THEN jsonb_build_array(jsonb_build_array('RULES', to_jsonb(k) ->> 'collicurules'))
               ELSE '[]' END,
       false,
       NULL,
       (SELECT x.extname FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
         WHERE d.classid = 'pg_collation'::regclass AND d.objid = k.oid AND d.deptype = 'e'),
       '',
       false,
       '{}'
  FROM pg_collation k
  JOIN pg_namespace n ON n.oid = k.collnamespace
 WHERE (k.oid = ANY (%(collations)s::oid[]) OR k.oid IN (SELECT collated.oid FROM collated))
   AND k.oid >= 16384
