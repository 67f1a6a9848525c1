-- What makes a staging table the equal of a table in all but its rows, and puts it in that table's place: (phase, SQL),
-- in order. After "create" and "prepare" it is filled; "build" and "analyze" have what is done while nobody needs the new
-- table, "lock" is taken for what comes then, and "swap" needs it.
-- %(table)s: the old table's name; %(staging)s: the new one's; %(schema)s, %(bare)s: the two parts of that.
-- Texts are what the server itself prints of the old table, whose name stands in them: the new one will have it.
-- Of "note" is what stays behind: options that no user sets. Which these are comes from settable and index_text.
WITH t AS (
  SELECT c.*, n.nspname, format('%%I.%%I', n.nspname, c.relname) AS name,
         format('%%I.%%I', n.nspname, %(bare)s::text) AS moved,
         to_regclass(%(staging)s) AS new, -- and what its owner may do, where that is not everything
         (SELECT nullif(array_agg(a.privilege_type ORDER BY 1),
                        ARRAY(SELECT d.privilege_type FROM aclexplode(acldefault('r', c.relowner)) d ORDER BY 1))
            FROM aclexplode(c.relacl) a WHERE a.grantee = c.relowner) AS own_rights
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.oid = to_regclass(%(table)s)
),
indexes AS (
  SELECT i.indexrelid, i.indisunique, i.indisclustered, i.indisreplident, c.relname, c.relam, c.reloptions,
         c.reltablespace, k.oid AS constraint, {indexdef} AS definition, {constraintdef} AS constraintdef,
         length(concat('CREATE ', CASE WHEN indisunique THEN 'UNIQUE ' END, 'INDEX ', quote_ident(c.relname), ' ON ',
                       indrelid::regclass, ' ')) AS head,
         %(bare)s::text || '_i' || row_number() OVER (ORDER BY i.indexrelid) AS temporary
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
   WHERE i.indrelid = (SELECT oid FROM t) AND i.indisvalid
),
statistics AS (
  SELECT s.*, s.stxnamespace::regnamespace::text AS nspname,
         %(bare)s::text || '_s' || row_number() OVER (ORDER BY s.oid) AS temporary,
         pg_get_statisticsobjdef(s.oid) AS definition,
         format('CREATE STATISTICS %%I.%%I ', n.nspname, s.stxname) AS head
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
   WHERE s.stxrelid = (SELECT oid FROM t)
),
leaning AS ( -- whose functions look up names by the role's search_path: text of ours is never parsed under that
  SELECT DISTINCT d.classid, d.objid
    FROM pg_depend d
    LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
    JOIN pg_proc p ON p.oid = CASE WHEN d.refclassid = 'pg_proc'::regclass THEN d.refobjid ELSE o.oprcode END
    JOIN pg_language l ON l.oid = p.prolang
   WHERE ((d.classid = 'pg_class'::regclass AND d.objid IN (SELECT indexrelid FROM indexes))
          OR (d.classid = 'pg_statistic_ext'::regclass AND d.objid IN (SELECT oid FROM statistics)))
     AND p.oid >= 16384
     AND l.lanname NOT IN ('internal', 'c')
     AND p.prosqlbody IS NULL
     AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE starts_with(setting, 'search_path='))
),
likened AS ( -- by LIKE, which copies what was parsed: before 17, a function in SQL is looked into at CREATE INDEX
  SELECT objid AS oid FROM leaning
   WHERE classid = 'pg_class'::regclass AND current_setting('server_version_num')::int < 170000
),
made AS ( -- by that, of which the others go
  SELECT n.number, n.relname, n.conname, o.temporary
    FROM (SELECT *, row_number() OVER (PARTITION BY tail, conname IS NULL ORDER BY number) AS place
            FROM (SELECT c.oid AS number, c.relname, k.conname, substr(pg_get_indexdef(c.oid), length(concat(
                           'CREATE ', CASE WHEN indisunique THEN 'UNIQUE ' END, 'INDEX ', quote_ident(c.relname), ' ON ',
                           indrelid::regclass, ' ')) + 1) AS tail
                    FROM pg_index JOIN pg_class c ON c.oid = indexrelid
                    LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
                   WHERE indrelid = (SELECT new FROM t) AND EXISTS (SELECT FROM likened)) AS new) AS n
    LEFT JOIN (SELECT *, row_number() OVER (PARTITION BY tail, "constraint" IS NULL ORDER BY indexrelid) AS place
                 FROM (SELECT *, substr(definition, head + 1) AS tail FROM indexes) AS old
                WHERE indexrelid IN (SELECT oid FROM likened)) AS o
      ON (o.tail, o."constraint" IS NULL, o.place) = (n.tail, n.conname IS NULL, n.place)
),
referring AS (
  SELECT k.*, k.conrelid::regclass::text AS child, pg_get_constraintdef(k.oid) AS definition
    FROM pg_constraint k
   WHERE k.confrelid = (SELECT oid FROM t) AND k.contype = 'f' AND k.conparentid = 0
),
foreign_keys AS ( -- before 18, VALIDATE does not reach the constraints for the partitions of a table referred to
  SELECT k.*, k.convalidated AND (c.relkind = 'r' OR current_setting('server_version_num')::int >= 180000)
                AS is_validated_later
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
   WHERE k.conrelid = (SELECT oid FROM t) AND k.confrelid <> k.conrelid AND k.contype = 'f' AND k.conparentid = 0
),
sequences AS (
  SELECT c.oid, c.relname, c.relacl, c.relowner, d.deptype, a.attname,
         format('%%I.%%I', c.relnamespace::regnamespace::text, c.relname) AS name,
         (SELECT n.relname FROM pg_depend nd
            JOIN pg_class n ON n.oid = nd.objid AND n.relkind = 'S'
            JOIN pg_attribute na ON na.attrelid = nd.refobjid AND na.attnum = nd.refobjsubid
           WHERE nd.refobjid = (SELECT new FROM t) AND nd.deptype = 'i' AND na.attname = a.attname) AS found,
         left(%(bare)s::text || '_' || a.attname, 59) || '_seq' AS expected
    FROM pg_depend d
    JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid = (SELECT oid FROM t) AND d.deptype IN ('a', 'i')
),
renewed AS (SELECT *, coalesce(found, expected) AS new FROM sequences),
columns AS (
  SELECT * FROM pg_attribute WHERE attrelid = (SELECT oid FROM t) AND attnum > 0 AND NOT attisdropped
),
views AS (
  SELECT DISTINCT v.oid, v.reloptions
    FROM pg_depend d
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
   WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = (SELECT oid FROM t)
),
options AS (
  SELECT oid, number, whose, name, format('%%s%%I = %%L', prefix, name, substr(o, strpos(o, '=') + 1)) AS text,
         relam >= 16384 OR name = ANY ({settable}) AS is_settable
    FROM (SELECT oid, 0 AS number, 'the table' AS whose, relam, '' AS prefix, unnest(reloptions) AS o FROM t
          UNION ALL
          SELECT t.oid, 0, 'its TOAST table', 0, 'toast.', unnest(toast.reloptions)
            FROM t JOIN pg_class toast ON toast.oid = t.reltoastrelid
          UNION ALL
          SELECT attrelid, attnum, concat('column ', quote_ident(attname)), 0, '', unnest(attoptions) FROM columns
          UNION ALL
          SELECT indexrelid, 0, concat('index ', quote_ident(relname)), relam, '', unnest(reloptions) FROM indexes
          UNION ALL
          SELECT oid, 0, concat('view ', oid::regclass), 0, '', unnest(reloptions) FROM views) AS held
   CROSS JOIN split_part(o, '=', 1) AS name
),
settings AS ( -- that users made
  SELECT oid, number, string_agg(text, ', ') AS listed FROM options WHERE is_settable GROUP BY oid, number
),
unanalyzed AS (
  SELECT pg_describe_object(classid, objid, 0) AS what
    FROM leaning
   WHERE current_setting('server_version_num')::int >= 170000
),
statements (place, number, text) AS (
  SELECT 0, 0::bigint, format('the new table does not get option %%s of %%s, which is not one that users set', name, whose)
    FROM options WHERE NOT is_settable AND NOT starts_with(name, 'pg_') -- a prefix that is PostgreSQL's own
  UNION ALL
  SELECT 0, 1, format('ANALYZE is left out: functions that %%s calls look up names by the search_path, which ANALYZE and'
                      ' VACUUM of PostgreSQL 17 and later replace: ALTER FUNCTION .. SET search_path mends that', what)
    FROM unanalyzed
  UNION ALL
  SELECT 1, 0, format('CREATE %%sTABLE %%s (LIKE %%s INCLUDING ALL%%s EXCLUDING STATISTICS)%%s'
                      ' WITH (autovacuum_enabled = false)%%s', CASE relpersistence WHEN 'u' THEN 'UNLOGGED ' END,
                      %(staging)s::text, name, CASE WHEN NOT EXISTS (SELECT FROM likened) THEN ' EXCLUDING INDEXES' END,
                      (SELECT format(' USING %%I', amname) FROM pg_am WHERE pg_am.oid = relam),
                      (SELECT format(' TABLESPACE %%I', spcname) FROM pg_tablespace s WHERE s.oid = reltablespace))
    FROM t
  UNION ALL -- on the empty table, whose rows then have the functions called under the role's search_path
  SELECT CASE WHEN indexrelid IN (SELECT objid FROM leaning) THEN 2 ELSE 10 END, row_number() OVER (ORDER BY indexrelid),
         CASE WHEN i.constraint IS NOT NULL
              THEN format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', %(staging)s::text, temporary, constraintdef)
              ELSE format('CREATE %%sINDEX %%I ON %%s %%s', CASE WHEN indisunique THEN 'UNIQUE ' END, temporary, %(staging)s::text,
                          substr(definition, head + 1)) END
    FROM indexes i
   WHERE NOT EXISTS (SELECT FROM likened WHERE likened.oid = i.indexrelid)
  UNION ALL
  SELECT 2, number, format(CASE WHEN temporary IS NULL AND conname IS NOT NULL THEN 'ALTER TABLE %%1$s DROP CONSTRAINT %%2$I'
                                WHEN temporary IS NULL THEN 'DROP INDEX %%3$I.%%4$I'
                                ELSE 'ALTER INDEX %%3$I.%%4$I RENAME TO %%5$I' END,
                           %(staging)s::text, conname, %(schema)s::text, relname, temporary)
    FROM made
  UNION ALL
  SELECT 11, 0, format('ALTER INDEX %%I.%%I SET (%%s)', %(schema)s::text, temporary, s.listed)
    FROM indexes i JOIN settings s ON s.oid = i.indexrelid
   WHERE i.constraint IS NOT NULL
  UNION ALL
  SELECT 12, 0, format('ALTER INDEX %%I.%%I SET TABLESPACE %%I', %(schema)s::text, temporary, spcname)
    FROM indexes i JOIN pg_tablespace s ON s.oid = i.reltablespace
  UNION ALL
  SELECT 13, 0, format('ALTER INDEX %%I.%%I ALTER COLUMN %%s SET STATISTICS %%s', %(schema)s::text, i.temporary, a.attnum,
                       a.attstattarget)
    FROM indexes i JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attstattarget >= 0
  UNION ALL
  SELECT 14, 0, format('ALTER TABLE %%s ALTER COLUMN %%I SET STATISTICS %%s', %(staging)s::text, attname, attstattarget)
    FROM columns, t WHERE attstattarget >= 0
  UNION ALL
  SELECT 14, 1, format('ALTER TABLE %%s ALTER COLUMN %%I SET (%%s)', %(staging)s::text, attname, s.listed)
    FROM columns JOIN settings s ON (s.oid, s.number) = (attrelid, attnum)
  UNION ALL
  SELECT 15, 0, format('CREATE STATISTICS %%I.%%I %%s FROM %%s', %(schema)s::text, temporary,
                       substr(definition, length(head) + 1,
                              length(definition) - length(head) - length(format(' FROM %%s', t.name))), %(staging)s::text)
    FROM statistics, t
  UNION ALL
  SELECT 15, 1, format('ALTER STATISTICS %%I.%%I SET STATISTICS %%s', %(schema)s::text, temporary, stxstattarget)
    FROM statistics WHERE stxstattarget >= 0
  UNION ALL -- mostly not valid at first: the table referred to is locked for a moment then, and not for a scan
  SELECT 16, 0, format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s%%s', %(staging)s::text, k.conname, pg_get_constraintdef(k.oid),
                       CASE WHEN k.is_validated_later THEN ' NOT VALID' END)
    FROM foreign_keys k
  UNION ALL
  SELECT 17, 0, format('ALTER TABLE %%s VALIDATE CONSTRAINT %%I', %(staging)s::text, k.conname)
    FROM foreign_keys k WHERE k.is_validated_later
  UNION ALL
  SELECT 18, 0, format('ANALYZE %%s', %(staging)s::text) WHERE NOT EXISTS (SELECT FROM unanalyzed)
  UNION ALL
  SELECT 18, 1, format('ALTER TABLE %%s RESET (autovacuum_enabled)', %(staging)s::text)
  UNION ALL
  SELECT 19, 0, format('LOCK TABLE %%s IN ACCESS EXCLUSIVE MODE', string_agg(name, ', ' ORDER BY is_child, name))
    FROM (SELECT name, false FROM t UNION SELECT child, true FROM referring, t WHERE conrelid <> t.oid)
      AS locked (name, is_child)
  UNION ALL
  SELECT 20, 0, format('ALTER TABLE %%s DROP CONSTRAINT %%I', child, conname)
    FROM referring, t WHERE conrelid <> t.oid
  UNION ALL
  SELECT 21, 0, format('ALTER TABLE %%s RENAME TO %%I', t.name, %(bare)s::text || '_old') FROM t
  UNION ALL
  SELECT 22, 0, format('ALTER TABLE %%s SET SCHEMA %%I', %(staging)s::text, t.nspname) FROM t
  UNION ALL
  SELECT 22, 1, format('ALTER TABLE %%s RENAME TO %%I', t.moved, t.relname) FROM t
  UNION ALL
  SELECT 22, 3, format('COMMENT ON TABLE %%s IS %%L', t.name, obj_description(t.oid, 'pg_class')) FROM t
  UNION ALL
  SELECT 22, 4, format('ALTER TABLE %%s SET (%%s)', t.name, s.listed)
    FROM t JOIN settings s ON (s.oid, s.number) = (t.oid, 0)
  UNION ALL
  SELECT 23, 0, format('REVOKE ALL ON %%s FROM %%s', t.name,
                       coalesce(quote_ident(pg_get_userbyid(nullif(a.grantee, 0))), 'PUBLIC'))
    FROM t JOIN pg_class n ON n.oid = t.new CROSS JOIN aclexplode(n.relacl) a
   WHERE a.grantee <> n.relowner
   GROUP BY t.name, a.grantee
  UNION ALL
  SELECT 23, 1, format('ALTER TABLE %%s OWNER TO %%I', t.name, pg_get_userbyid(t.relowner)) FROM t
  UNION ALL
  SELECT 24, 0, format('ALTER SEQUENCE %%s OWNED BY %%s.%%I', s.name, t.name, s.attname) FROM renewed s, t
   WHERE s.deptype = 'a'
  UNION ALL
  SELECT 25, 0, format('ALTER SEQUENCE %%I.%%I AS %%s', t.nspname, s.new, q.seqtypid::regtype) -- LIKE makes it a bigint
    FROM renewed s JOIN pg_sequence q ON q.seqrelid = s.oid, t WHERE s.deptype = 'i'
  UNION ALL
  SELECT 25, 1, format('SELECT pg_catalog.setval(%%L, last_value, is_called) FROM %%s',
                       format('%%I.%%I', t.nspname, s.new), s.name)
    FROM renewed s, t WHERE s.deptype = 'i'
  UNION ALL
  SELECT 26, row_number() OVER (ORDER BY v.oid),
         format('CREATE OR REPLACE VIEW %%s%%s AS %%s', v.oid::regclass, ' WITH (' || s.listed || ')',
                pg_get_viewdef(v.oid))
    FROM views v LEFT JOIN settings s ON s.oid = v.oid
  UNION ALL
  SELECT 27, 0, pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_class = (SELECT oid FROM t)
  UNION ALL
  SELECT 27, 1, format('ALTER TABLE %%s %%s RULE %%I', t.name,
                       CASE ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END,
                       rulename)
    FROM pg_rewrite, t WHERE ev_class = t.oid AND ev_enabled <> 'O'
  UNION ALL
  SELECT 28, row_number() OVER (ORDER BY oid), pg_get_triggerdef(oid)
    FROM pg_trigger WHERE tgrelid = (SELECT oid FROM t) AND NOT tgisinternal
  UNION ALL
  SELECT 29, 0, format('ALTER TABLE %%s %%s TRIGGER %%I', t.name,
                       CASE tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END, tgname)
    FROM pg_trigger, t WHERE tgrelid = t.oid AND NOT tgisinternal AND tgenabled <> 'O'
  UNION ALL
  SELECT 30, 0, format('CREATE POLICY %%I ON %%s AS %%s FOR %%s TO %%s%%s%%s', polname, t.name,
                       CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                       CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                                   WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                       (SELECT string_agg(coalesce(quote_ident(pg_get_userbyid(nullif(role, 0))), 'PUBLIC'), ', ')
                          FROM unnest(polroles) role),
                       ' USING (' || pg_get_expr(polqual, polrelid) || ')',
                       ' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')')
    FROM pg_policy, t WHERE polrelid = t.oid
  UNION ALL
  SELECT 31, 0, format('ALTER TABLE %%s ENABLE ROW LEVEL SECURITY', name) FROM t WHERE relrowsecurity
  UNION ALL
  SELECT 31, 1, format('ALTER TABLE %%s FORCE ROW LEVEL SECURITY', name) FROM t WHERE relforcerowsecurity
  UNION ALL
  SELECT 32, 0, format('ALTER PUBLICATION %%I ADD TABLE ONLY %%s%%s%%s', p.pubname, t.name,
                       (SELECT format(' (%%s)', string_agg(quote_ident(attname), ', ')) FROM columns
                         WHERE attnum = ANY (r.prattrs) HAVING count(*) > 0),
                       ' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')')
    FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid, t
   WHERE r.prrelid = t.oid
  UNION ALL
  SELECT 33, 0, format('GRANT %%s ON %%s TO %%s%%s', a.privilege_type, t.name,
                       coalesce(quote_ident(pg_get_userbyid(nullif(a.grantee, 0))), 'PUBLIC'),
                       CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
    FROM t CROSS JOIN aclexplode(t.relacl) a WHERE a.grantee <> t.relowner
  UNION ALL
  SELECT 33, 1, format('GRANT %%s (%%I) ON %%s TO %%s%%s', a.privilege_type, c.attname, t.name,
                       coalesce(quote_ident(pg_get_userbyid(nullif(a.grantee, 0))), 'PUBLIC'),
                       CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
    FROM t, columns c CROSS JOIN aclexplode(c.attacl) a
  UNION ALL
  SELECT 34, 0, format('GRANT %%s ON SEQUENCE %%I.%%I TO %%s%%s', a.privilege_type, t.nspname, s.new,
                       coalesce(quote_ident(pg_get_userbyid(nullif(a.grantee, 0))), 'PUBLIC'),
                       CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
    FROM t, renewed s CROSS JOIN aclexplode(s.relacl) a WHERE s.deptype = 'i' AND a.grantee <> s.relowner
  UNION ALL
  SELECT 40, 0, format('DROP TABLE %%I.%%I', t.nspname, %(bare)s::text || '_old') FROM t
  UNION ALL -- with an index, the constraint that it belongs to is renamed
  SELECT 41, 0, format('ALTER INDEX %%I.%%I RENAME TO %%I', t.nspname, i.temporary, i.relname) FROM indexes i, t
  UNION ALL
  SELECT 41, 1, format('ALTER SEQUENCE %%I.%%I RENAME TO %%I', t.nspname, s.new, s.relname) FROM renewed s, t
   WHERE s.deptype = 'i' AND s.new <> s.relname
  UNION ALL
  SELECT 41, 2, format('ALTER STATISTICS %%I.%%I SET SCHEMA %%s', %(schema)s::text, temporary, nspname) FROM statistics
  UNION ALL
  SELECT 41, 3, format('ALTER STATISTICS %%s.%%I RENAME TO %%I', nspname, temporary, stxname) FROM statistics
  UNION ALL
  SELECT 41, 4, format('ALTER STATISTICS %%s.%%I OWNER TO %%I', nspname, stxname, pg_get_userbyid(stxowner))
    FROM statistics
  UNION ALL
  SELECT 42, 0, format('ALTER TABLE %%s REPLICA IDENTITY %%s', t.name,
                       CASE relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING'
                                         ELSE format('USING INDEX %%I', i.relname) END)
    FROM t LEFT JOIN indexes i ON i.indisreplident
   WHERE relreplident <> 'd'
  UNION ALL
  SELECT 42, 1, format('ALTER TABLE %%s CLUSTER ON %%I', t.name, i.relname) FROM indexes i, t WHERE i.indisclustered
  UNION ALL
  SELECT 43, 0, format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', child, conname, definition) FROM referring
  UNION ALL
  SELECT 50, 0, format('COMMENT ON CONSTRAINT %%I ON %%s IS %%L', conname, conrelid::regclass,
                       obj_description(oid, 'pg_constraint'))
    FROM pg_constraint
   WHERE (SELECT oid FROM t) IN (conrelid, confrelid) AND obj_description(oid, 'pg_constraint') IS NOT NULL
  UNION ALL
  SELECT 50, 1, format('COMMENT ON INDEX %%I.%%I IS %%L', t.nspname, i.relname, obj_description(indexrelid, 'pg_class'))
    FROM indexes i, t WHERE obj_description(indexrelid, 'pg_class') IS NOT NULL
  UNION ALL
  SELECT 50, 2, format('COMMENT ON TRIGGER %%I ON %%s IS %%L', g.tgname, t.name, obj_description(g.oid, 'pg_trigger'))
    FROM pg_trigger g, t
   WHERE tgrelid = t.oid AND NOT tgisinternal AND obj_description(g.oid, 'pg_trigger') IS NOT NULL
  UNION ALL
  SELECT 50, 3, format('COMMENT ON RULE %%I ON %%s IS %%L', r.rulename, t.name, obj_description(r.oid, 'pg_rewrite'))
    FROM pg_rewrite r, t WHERE ev_class = t.oid AND obj_description(r.oid, 'pg_rewrite') IS NOT NULL
  UNION ALL
  SELECT 50, 4, format('COMMENT ON POLICY %%I ON %%s IS %%L', p.polname, t.name, obj_description(p.oid, 'pg_policy'))
    FROM pg_policy p, t WHERE polrelid = t.oid AND obj_description(p.oid, 'pg_policy') IS NOT NULL
  UNION ALL
  SELECT 50, 5, format('COMMENT ON STATISTICS %%s.%%I IS %%L', nspname, stxname, obj_description(oid, 'pg_statistic_ext'))
    FROM statistics WHERE obj_description(oid, 'pg_statistic_ext') IS NOT NULL
  UNION ALL
  SELECT 50, 6, format('COMMENT ON SEQUENCE %%s IS %%L', name, obj_description(oid, 'pg_class'))
    FROM sequences WHERE deptype = 'i' AND obj_description(oid, 'pg_class') IS NOT NULL
  UNION ALL -- last, for what comes before leans on the owner's own rights
  SELECT 60, 0, format('REVOKE ALL ON %%s FROM %%I', t.name, pg_get_userbyid(t.relowner)) FROM t WHERE own_rights IS NOT NULL
  UNION ALL
  SELECT 60, 1, format('GRANT %%s ON %%s TO %%I', own_right, t.name, pg_get_userbyid(t.relowner))
    FROM t, unnest(own_rights) AS own_right
)
SELECT CASE WHEN place = 0 THEN 'note' WHEN place = 1 THEN 'create' WHEN place = 2 THEN 'prepare'
            WHEN (place, number) = (18, 0) THEN 'analyze' WHEN place < 19 THEN 'build' WHEN place = 19 THEN 'lock'
            ELSE 'swap' END, text
  FROM statements
 ORDER BY place, number, text
