-- What keeps this table from being replaced by another one, as sentences' ends? %(table)s: its name. The roles whose code
-- may run as ours come from trusted_roles.
WITH t AS (
  SELECT c.*, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = to_regclass(%(table)s)
),
own AS ( -- what goes with the table
  SELECT d.classid, d.objid, d.objsubid
    FROM pg_depend d
   WHERE d.refclassid = 'pg_class'::regclass
     AND d.refobjid = (SELECT oid FROM t)
     AND d.deptype <> 'n'
),
views AS (
  SELECT DISTINCT v.oid, v.relkind, v.relowner
    FROM pg_depend d
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
   WHERE d.refclassid = 'pg_class'::regclass
     AND d.refobjid = (SELECT oid FROM t)
),
others (what, owner, is_altered) AS ( -- what a swap makes anew, or asks: code of its owner runs by that
  SELECT concat('the view ', oid::regclass, ', which shows it,'), relowner, true FROM views
  UNION
  SELECT concat(c.oid::regclass, ', which refers to it,'), c.relowner, true
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
   WHERE k.confrelid = (SELECT oid FROM t) AND k.contype = 'f'
  UNION
  SELECT concat(c.oid::regclass, ', which it refers to,'), c.relowner, false
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
   WHERE k.conrelid = (SELECT oid FROM t) AND k.contype = 'f'
  UNION
  SELECT format('the publication %%I, which sends it,', p.pubname), p.pubowner, true
    FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
   WHERE r.prrelid = (SELECT oid FROM t)
  UNION
  SELECT format('the statistics object %%I.%%I, which is kept of it,', n.nspname, s.stxname), s.stxowner, true
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
   WHERE s.stxrelid = (SELECT oid FROM t)
)
SELECT 'it is partitioned, or a partition' FROM t WHERE relkind <> 'r' OR relispartition
UNION ALL
SELECT concat('it inherits from or to ', CASE inhrelid WHEN t.oid THEN inhparent ELSE inhrelid END::regclass)
  FROM t JOIN pg_inherits ON t.oid IN (inhrelid, inhparent)
 WHERE NOT relispartition AND relkind = 'r'
UNION ALL
SELECT concat('it is a table of type ', reloftype::regtype) FROM t WHERE reloftype <> 0
UNION ALL
SELECT concat('role ', current_user, ' does not own it') FROM t WHERE NOT pg_has_role(relowner, 'USAGE')
UNION ALL
SELECT format('its owner, %%I, may not create tables in schema %%I', pg_get_userbyid(relowner), nspname)
  FROM t WHERE NOT has_schema_privilege(relowner, relnamespace, 'CREATE')
UNION ALL
SELECT concat('role ', current_user, ' may not create tables in schema ', quote_ident(nspname))
  FROM t WHERE NOT has_schema_privilege(relnamespace, 'CREATE')
UNION ALL
SELECT concat('role ', current_user, ' does not own ', rtrim(what, ','))
  FROM others WHERE is_altered AND NOT pg_has_role(owner, 'USAGE')
UNION ALL
SELECT format('%%s belongs to %%I, whose code would run as role %%I', what, pg_get_userbyid(owner), current_user)
  FROM others
 WHERE (pg_has_role(owner, 'USAGE') OR NOT is_altered)
   AND owner NOT IN (SELECT relowner FROM t)
   AND owner NOT IN ({trusted})
UNION ALL
SELECT concat(pg_describe_object(classid, objid, objsubid), ' leans on it')
  FROM (SELECT DISTINCT d.classid, d.objid, d.objsubid
          FROM pg_depend d
         WHERE d.deptype = 'n'
           AND ((d.refclassid = 'pg_class'::regclass AND d.refobjid = (SELECT oid FROM t))
                OR (d.refclassid = 'pg_type'::regclass
                    AND d.refobjid IN (SELECT p.oid FROM pg_type p JOIN t ON t.reltype IN (p.oid, p.typelem))))
           AND (d.classid, d.objid) NOT IN (SELECT classid, objid FROM own)
           AND NOT (d.classid = 'pg_constraint'::regclass
                    AND EXISTS (SELECT FROM pg_constraint k
                                 WHERE k.oid = d.objid AND k.contype = 'f' AND k.confrelid = (SELECT oid FROM t)))
           AND NOT (d.classid = 'pg_rewrite'::regclass
                    AND EXISTS (SELECT FROM pg_rewrite r JOIN views ON views.oid = r.ev_class WHERE r.oid = d.objid))
       ) AS leaning
UNION ALL
SELECT concat(pg_describe_object(classid, objid, objsubid), ' belongs to it')
  FROM own
 WHERE classid NOT IN ('pg_class'::regclass, 'pg_constraint'::regclass, 'pg_attrdef'::regclass, 'pg_trigger'::regclass,
                       'pg_policy'::regclass, 'pg_rewrite'::regclass, 'pg_publication_rel'::regclass,
                       'pg_statistic_ext'::regclass, 'pg_type'::regclass)
UNION ALL
SELECT concat('index ', indexrelid::regclass, ' is invalid: REINDEX or DROP it')
  FROM pg_index WHERE indrelid = (SELECT oid FROM t) AND NOT indisvalid
UNION ALL
SELECT format('constraint %%I is not validated', conname)
  FROM pg_constraint WHERE conrelid = (SELECT oid FROM t) AND contype NOT IN ('f', 't') AND NOT convalidated
UNION ALL
SELECT concat('it has a security label of ', provider)
  FROM pg_seclabel WHERE classoid = 'pg_class'::regclass AND objoid = (SELECT oid FROM t)
UNION ALL
SELECT concat('a subscription fills it') FROM pg_subscription_rel WHERE srrelid = (SELECT oid FROM t)
UNION ALL
SELECT concat('it belongs to extension ', e.extname)
  FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
 WHERE d.classid = 'pg_class'::regclass AND d.objid = (SELECT oid FROM t) AND d.deptype = 'e'
 ORDER BY 1
