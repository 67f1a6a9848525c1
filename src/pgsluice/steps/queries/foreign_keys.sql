-- Which of these tables refer to which of them, by what equality, and does a row that is deleted take others along?
-- Columns are told where values can be compared: not in a PERIOD, nor in a domain, whose equality is another type's,
-- nor by an operator of somebody's own for two types.
-- A key of one of a table's partitions, or of what the table is a partition of, is its own as well; the partitions that
-- it binds are told where these are not all. What a key has made of itself for partitions says nothing new.
-- %(oids)s: oid[].
WITH wanted AS (SELECT oid FROM unnest(%(oids)s::oid[]) AS oid),
family AS (
  SELECT oid AS of, oid AS member, false AS is_part FROM wanted
   UNION ALL
  SELECT oid, p.relid, true FROM wanted, pg_partition_tree(oid) AS p WHERE p.level > 0
   UNION ALL
  SELECT oid, p.relid, false FROM wanted, pg_partition_ancestors(oid) AS p WHERE p.relid <> oid
)
SELECT child.nspname, c.relname, c.relkind::text, parent.nspname, p.relname, k.confdeltype IN ('c', 'n', 'd'),
       k.condeferrable,
       ARRAY(SELECT l.relid::oid::bigint FROM pg_partition_tree(k.conrelid) AS l WHERE own.is_part AND l.isleaf),
       ARRAY(SELECT l.relid::oid::bigint FROM pg_partition_tree(k.confrelid) AS l WHERE theirs.is_part AND l.isleaf),
       CASE WHEN NOT coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false) AND NOT matched.is_another
            THEN matched.pairs END
  FROM pg_constraint k
  JOIN family own ON own.member = k.conrelid
  JOIN family theirs ON theirs.member = k.confrelid
  JOIN pg_class c ON c.oid = own.of
  JOIN pg_namespace child ON child.oid = c.relnamespace
  JOIN pg_class p ON p.oid = theirs.of
  JOIN pg_namespace parent ON parent.oid = p.relnamespace
 CROSS JOIN LATERAL (
       SELECT jsonb_agg(DISTINCT jsonb_build_array(
                referred.attname,
                to_jsonb(ARRAY[schema.nspname, o.oprname]::text[] || operand.type),
                referring.attname)) AS pairs,
              bool_or(t.typtype = 'd' OR NOT (operand.is_plain OR o.oprleft = o.oprright)) AS is_another
         FROM unnest(k.confkey, k.conpfeqop, k.conkey) AS pair (parent, operator, child)
         JOIN pg_attribute referred ON referred.attrelid = k.confrelid AND referred.attnum = pair.parent
         JOIN pg_attribute referring ON referring.attrelid = k.conrelid AND referring.attnum = pair.child
         JOIN pg_type t ON t.oid IN (referred.atttypid, referring.atttypid)
         JOIN pg_operator o ON o.oid = pair.operator
         JOIN pg_namespace schema ON schema.oid = o.oprnamespace
         JOIN pg_type declared ON declared.oid = o.oprleft
         JOIN pg_namespace declaredn ON declaredn.oid = declared.typnamespace
        CROSS JOIN LATERAL (
              SELECT plain.is_plain,
                     CASE WHEN NOT plain.is_plain THEN ARRAY[declaredn.nspname, declared.typname]::text[] END AS type
                FROM (SELECT schema.nspname = 'pg_catalog'
                             OR (o.oprleft, o.oprright) = (referred.atttypid, referring.atttypid) AS is_plain) AS plain
             ) AS operand) AS matched
 WHERE k.contype = 'f'
   AND k.conparentid = 0
