-- All that a table is but its rows, as (kind, name, definition). %(table)s: its name. What options a user sets comes from
-- settable, what is left of an index by that from index_text.
WITH t AS (SELECT * FROM pg_class WHERE oid = to_regclass(%(table)s)),
grants AS (
  SELECT g.classid, g.objid, g.objsubid,
         json_agg(json_build_array(pg_get_userbyid(nullif(a.grantee, 0)), a.privilege_type, a.is_grantable)
                  ORDER BY a.grantee, a.privilege_type, a.is_grantable) AS listed
    FROM (SELECT 'pg_class'::regclass AS classid, oid AS objid, 0 AS objsubid,
                 coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) AS acl
            FROM pg_class
          UNION ALL
          SELECT 'pg_class'::regclass, attrelid, attnum, attacl FROM pg_attribute WHERE attacl IS NOT NULL) AS g
   CROSS JOIN aclexplode(g.acl) AS a
   WHERE g.objid = (SELECT oid FROM t)
      OR g.objid IN (SELECT objid FROM pg_depend WHERE refobjid = (SELECT oid FROM t))
   GROUP BY 1, 2, 3
)
SELECT 'table', '',
       json_build_array(relpersistence, pg_get_userbyid(relowner), g.listed, relreplident, relrowsecurity,
                        relforcerowsecurity, (SELECT amname FROM pg_am WHERE oid = relam),
                        (SELECT spcname FROM pg_tablespace WHERE oid = reltablespace),
                        ARRAY(SELECT o FROM unnest(reloptions) o WHERE relam >= 16384 OR split_part(o, '=', 1) = ANY ({settable}) ORDER BY 1),
                        ARRAY(SELECT o FROM pg_class toast, unnest(toast.reloptions) o
                               WHERE toast.oid = t.reltoastrelid AND split_part(o, '=', 1) = ANY ({settable}) ORDER BY 1),
                        obj_description(t.oid, 'pg_class'))::text
  FROM t LEFT JOIN grants g ON g.objid = t.oid AND g.objsubid = 0
UNION ALL
SELECT 'column', a.attname::text,
       json_build_array(row_number() OVER (ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod),
                        (SELECT format('%%I.%%I', collnamespace::regnamespace, collname)
                           FROM pg_collation WHERE oid = a.attcollation),
                        a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attgenerated, a.attidentity, a.attstorage,
                        a.attcompression, nullif(a.attstattarget, -1),
                        ARRAY(SELECT o FROM unnest(a.attoptions) o WHERE split_part(o, '=', 1) = ANY ({settable}) ORDER BY 1), g.listed,
                        col_description(a.attrelid, a.attnum))::text
  FROM pg_attribute a
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN grants g ON g.objid = a.attrelid AND g.objsubid = a.attnum
 WHERE a.attrelid = (SELECT oid FROM t) AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT CASE WHEN conrelid = (SELECT oid FROM t) THEN 'constraint' ELSE concat('foreign key of ', conrelid::regclass) END,
       conname::text,
       json_build_array({constraintdef}, convalidated, obj_description(k.oid, 'pg_constraint'))::text
  FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = conindid
 WHERE contype <> 't' AND conparentid = 0
   AND (SELECT oid FROM t) IN (conrelid, confrelid)
UNION ALL
SELECT 'index', c.relname::text,
       json_build_array({indexdef}, i.indisvalid, i.indisclustered, i.indisreplident,
                        (SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace),
                        ARRAY(SELECT concat(attnum, ':', attstattarget) FROM pg_attribute
                               WHERE attrelid = c.oid AND attstattarget >= 0 ORDER BY attnum),
                        obj_description(c.oid, 'pg_class'))::text
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = (SELECT oid FROM t)
UNION ALL
SELECT 'trigger', tgname::text,
       json_build_array(pg_get_triggerdef(oid), tgenabled, obj_description(oid, 'pg_trigger'))::text
  FROM pg_trigger
 WHERE tgrelid = (SELECT oid FROM t) AND NOT tgisinternal
UNION ALL
SELECT 'rule', rulename::text,
       json_build_array(pg_get_ruledef(oid), ev_enabled, obj_description(oid, 'pg_rewrite'))::text
  FROM pg_rewrite
 WHERE ev_class = (SELECT oid FROM t)
UNION ALL
SELECT 'policy', polname::text,
       json_build_array(polcmd, polpermissive, ARRAY(SELECT role::regrole::text FROM unnest(polroles) role ORDER BY 1),
                        pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid),
                        obj_description(oid, 'pg_policy'))::text
  FROM pg_policy
 WHERE polrelid = (SELECT oid FROM t)
UNION ALL
SELECT 'statistics', stxname::text,
       json_build_array(pg_get_statisticsobjdef(oid), pg_get_userbyid(stxowner), nullif(stxstattarget, -1),
                        obj_description(oid, 'pg_statistic_ext'))::text
  FROM pg_statistic_ext
 WHERE stxrelid = (SELECT oid FROM t)
UNION ALL
SELECT 'sequence', format('%%I.%%I', c.relnamespace::regnamespace, c.relname),
       json_build_array(d.deptype, a.attname, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
                        s.seqcache, s.seqcycle, pg_get_userbyid(c.relowner), g.listed,
                        obj_description(c.oid, 'pg_class'))::text
  FROM pg_depend d
  JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
  JOIN pg_sequence s ON s.seqrelid = c.oid
  JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  LEFT JOIN grants g ON g.objid = c.oid AND g.objsubid = 0
 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = (SELECT oid FROM t)
   AND d.deptype IN ('a', 'i')
UNION ALL
SELECT 'publication', p.pubname::text,
       json_build_array(ARRAY(SELECT a.attname FROM pg_attribute a
                               WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs) ORDER BY 1),
                        pg_get_expr(r.prqual, r.prrelid))::text
  FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
 WHERE r.prrelid = (SELECT oid FROM t)
UNION ALL
SELECT DISTINCT 'view', format('%%I.%%I', v.relnamespace::regnamespace, v.relname),
       json_build_array(pg_get_viewdef(v.oid), ARRAY(SELECT o FROM unnest(v.reloptions) o WHERE split_part(o, '=', 1) = ANY ({settable}) ORDER BY 1))::text
  FROM pg_depend d
  JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
  JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
 WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = (SELECT oid FROM t)
