-- What are the columns of these relations? %(oids)s: oid[].
-- A default is local where it leans on nothing but its own table, types and what PostgreSQL brings along
-- (most of which is pinned and leaves no row in pg_depend).
SELECT a.attrelid,
       a.attname,
       format_type(a.atttypid, a.atttypmod),
       format_type(leaf.oid, NULL),
       leaf.typtype::text,
       a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid),
       NOT EXISTS (SELECT FROM pg_depend x
                    WHERE x.classid = 'pg_attrdef'::regclass
                      AND x.objid = d.oid
                      AND x.refobjid >= 16384 -- what initdb made, text search configurations for one, is everywhere
                      AND x.refclassid NOT IN ('pg_type'::regclass, 'pg_collation'::regclass)
                      AND NOT (x.refclassid = 'pg_class'::regclass AND x.refobjid = a.attrelid)),
       a.attgenerated::text,
       a.attidentity::text,
       cn.nspname,
       c.collname,
       a.attnum,
       (WITH RECURSIVE domain AS (
              SELECT leaf.oid, leaf.typbasetype AS base
               UNION ALL
              SELECT inner_type.oid, inner_type.typbasetype
                FROM domain JOIN pg_type inner_type ON inner_type.oid = domain.base)
        SELECT format_type(domain.oid, NULL) FROM domain WHERE domain.base = 0),
       leaf.oid::bigint,
       coalesce(c.oid, 0)::bigint,
       (SELECT jsonb_build_array(format_type(s.seqtypid, NULL),
                 jsonb_build_array(s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache), s.seqcycle,
                 CASE WHEN has_sequence_privilege(s.seqrelid, 'SELECT, USAGE')
                      THEN pg_sequence_last_value(s.seqrelid) END,
                 has_sequence_privilege(s.seqrelid, 'UPDATE') AND has_sequence_privilege(s.seqrelid, 'SELECT, USAGE'))
          FROM pg_depend o
          JOIN pg_sequence s ON s.seqrelid = o.objid
         WHERE o.classid = 'pg_class'::regclass
           AND o.refclassid = 'pg_class'::regclass
           AND o.refobjid = a.attrelid
           AND o.refobjsubid = a.attnum
           AND (o.deptype = 'i'
                OR pg_get_expr(d.adbin, d.adrelid) = format('nextval(%%L::regclass)', s.seqrelid::regclass::text))),
       col_description(a.attrelid, a.attnum),
       a.atttypid::bigint,
       a.atttypmod,
       -- what keeps its type from being altered
       ARRAY(SELECT CASE WHEN v.relkind IN ('v', 'm')
                         THEN concat(CASE v.relkind WHEN 'm' THEN 'materialized ' END, 'view ', v.oid::regclass)
                         ELSE pg_describe_object(x.classid, x.objid, 0) END
               FROM pg_depend x
               LEFT JOIN pg_rewrite r ON x.classid = 'pg_rewrite'::regclass AND r.oid = x.objid
               LEFT JOIN pg_class v ON v.oid = r.ev_class
               LEFT JOIN pg_attrdef other ON x.classid = 'pg_attrdef'::regclass AND other.oid = x.objid
              WHERE x.refclassid = 'pg_class'::regclass
                AND x.refobjid = a.attrelid
                AND x.refobjsubid = a.attnum
                AND (x.classid IN ('pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass,
                                   'pg_publication_rel'::regclass, 'pg_proc'::regclass)
                     OR other.adnum <> a.attnum)
             UNION
             SELECT 'the partition key'
               FROM pg_partitioned_table p
              WHERE p.partrelid = a.attrelid AND a.attnum = ANY (p.partattrs)
             UNION
             SELECT 'the table that it is inherited from' WHERE a.attinhcount > 0
              ORDER BY 1)
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type leaf ON leaf.oid = CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.typelem <> 0
                                       THEN t.typelem ELSE t.oid END
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN pg_collation c ON c.oid = a.attcollation AND a.attcollation <> t.typcollation
  LEFT JOIN pg_namespace cn ON cn.oid = c.collnamespace
 WHERE a.attrelid = ANY (%(oids)s::oid[])
   AND a.attnum > 0
   AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
