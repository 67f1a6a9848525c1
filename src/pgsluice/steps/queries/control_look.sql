-- What of the control schema is missing, what in it could be another's code or rows, and what may our role not do with
-- it? (kind, relation, detail, more) of each; names in details can be typed into SQL. Of 'role', who might own it all; of
-- 'versions', what control_versions says. %(schema)s: its name; side by side, of each column of our tables: %(tables)s,
-- %(columns)s, %(types)s; %(views)s and %(relations)s, which holds both: text[]; %(defaults)s: those of ours that are no
-- literals. The roles that are trusted come from trusted_roles.
WITH trusted AS MATERIALIZED ({trusted}),
wanted AS (
  SELECT * FROM unnest(%(tables)s::name[], %(columns)s::name[], %(types)s::text[]) AS w (relname, attname, type)
),
schema AS (SELECT * FROM pg_namespace WHERE nspname = %(schema)s),
named AS (SELECT name FROM unnest(%(relations)s::name[]) AS n (name)),
ours AS (
  SELECT c.*
    FROM pg_class c JOIN schema n ON n.oid = c.relnamespace
   WHERE c.relname = ANY (%(relations)s::name[])
),
kept AS (SELECT * FROM ours WHERE relkind = 'r' AND relname <> ALL (%(views)s::name[])),
held AS (
  SELECT k.relname, a.*, t.typnamespace, t.typtype, t.typcollation, w.type
    FROM kept k
    JOIN pg_attribute a ON a.attrelid = k.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN wanted w ON w.relname = k.relname AND w.attname = a.attname
),
filled AS MATERIALIZED ( -- first which they are: the expression of somebody else's damaged table can't be printed
  SELECT relname, attname, adbin, adrelid
    FROM held JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
   WHERE attgenerated = ''
)
SELECT 'versions', '', coalesce(({versions}), ''), ''
UNION ALL
SELECT 'missing', '', '', '' WHERE NOT EXISTS (SELECT FROM schema)
UNION ALL
SELECT 'missing', name, '', '' FROM named WHERE name NOT IN (SELECT relname FROM ours)
UNION ALL
SELECT 'missing', concat(w.relname, '.', w.attname), '', ''
  FROM wanted w JOIN kept USING (relname)
 WHERE NOT EXISTS (SELECT FROM held h WHERE (h.relname, h.attname) = (w.relname, w.attname))
UNION ALL
SELECT 'owner', '', pg_get_userbyid(nspowner), '' FROM schema WHERE nspowner NOT IN (SELECT oid FROM trusted)
UNION ALL
SELECT 'owner', relname, pg_get_userbyid(relowner), '' FROM ours WHERE relowner NOT IN (SELECT oid FROM trusted)
UNION ALL
SELECT 'kind', relname, concat(relkind, relpersistence), ''
  FROM ours
 WHERE concat(relkind, relpersistence) <> CASE WHEN relname = ANY (%(views)s::name[]) THEN 'vp' ELSE 'rp' END
UNION ALL
SELECT 'trigger', relname, quote_ident(tgname), '' FROM kept JOIN pg_trigger ON tgrelid = kept.oid
UNION ALL
SELECT 'rule', relname, quote_ident(rulename), '' FROM kept JOIN pg_rewrite ON ev_class = kept.oid
UNION ALL
SELECT 'security', relname, '', '' FROM kept WHERE relrowsecurity
UNION ALL
SELECT 'policy', relname, quote_ident(polname), '' FROM kept JOIN pg_policy ON polrelid = kept.oid
UNION ALL
SELECT CASE WHEN kept.relispartition THEN 'partition' ELSE 'inherits' END, relname, inhparent::regclass::text, ''
  FROM kept JOIN pg_inherits ON inhrelid = kept.oid
UNION ALL
SELECT 'inherited', relname, inhrelid::regclass::text, '' FROM kept JOIN pg_inherits ON inhparent = kept.oid
UNION ALL
SELECT CASE WHEN type IS NULL THEN 'more' ELSE 'column' END, relname, quote_ident(attname), format_type(atttypid, atttypmod)
  FROM held
 WHERE atttypid <> coalesce(to_regtype(type)::oid, atttypid)
    OR typnamespace <> 'pg_catalog'::regnamespace
    OR typtype <> 'b'
    OR attcollation <> typcollation
UNION ALL
SELECT CASE WHEN attidentity <> '' THEN 'identity' WHEN attgenerated = 's' THEN 'stored' ELSE 'virtual' END,
       relname, quote_ident(attname), ''
  FROM held
 WHERE (attgenerated, attidentity) <> ('', '')
UNION ALL
SELECT 'default', relname, quote_ident(attname), pg_get_expr(adbin, adrelid)
  FROM filled
 WHERE pg_get_expr(adbin, adrelid) <> ALL (%(defaults)s::text[])
   AND pg_get_expr(adbin, adrelid) !~ '^(-?[0-9.]+|true|false|NULL|''([^'']|'''')*'')(::[a-z0-9_ "]+(\([0-9,]+\))?)?$'
UNION ALL
SELECT 'constraint', relname, quote_ident(conname), ''
  FROM kept JOIN pg_constraint ON conrelid = kept.oid
 WHERE contype NOT IN ('p', 'u', 'n')
UNION ALL
SELECT DISTINCT 'index', relname, indexrelid::regclass::text, ''
  FROM kept
  JOIN pg_index ON indrelid = kept.oid
  JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = indexrelid
 WHERE refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass, 'pg_opfamily'::regclass,
                      'pg_type'::regclass, 'pg_collation'::regclass)
UNION ALL
SELECT 'privilege', relname, string_agg(privilege, ', ' ORDER BY at), ''
  FROM kept, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) WITH ORDINALITY AS p (privilege, at)
 WHERE NOT has_table_privilege(kept.oid, privilege)
   AND (relname, privilege) <> ('run_table', 'UPDATE') -- never overwritten
 GROUP BY relname
UNION ALL
SELECT 'role', '', current_user, CASE WHEN rolsuper THEN current_user ELSE pg_get_userbyid(datdba) END
  FROM pg_roles, pg_database
 WHERE rolname = current_user AND datname = current_database()
 ORDER BY 2, 1, 3
