-- Which of these tables refer to which of them, by what equality, and does a row that is deleted take others along?
-- Columns are told where values can be compared: not in a PERIOD, nor in a domain, whose equality is another type's,
-- nor by an operator of somebody's own for two types.
-- %(oids)s: oid[].
SELECT child.nspname, c.relname, c.relkind::text, parent.nspname, p.relname, k.confdeltype IN ('c', 'n', 'd'),
       k.condeferrable,
       CASE WHEN NOT coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false) AND NOT matched.is_another
            THEN matched.pairs END
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace child ON child.oid = c.relnamespace
  JOIN pg_class p ON p.oid = k.confrelid
  JOIN pg_namespace parent ON parent.oid = p.relnamespace
 CROSS JOIN LATERAL (
       SELECT jsonb_agg(DISTINCT jsonb_build_array(
                theirs.attname, to_jsonb(ARRAY[schema.nspname, o.oprname]::text[] || operand.type), own.attname)) AS pairs,
              bool_or(t.typtype = 'd' OR NOT (operand.is_plain OR o.oprleft = o.oprright)) AS is_another
         FROM unnest(k.confkey, k.conpfeqop, k.conkey) AS pair (parent, operator, child)
         JOIN pg_attribute theirs ON theirs.attrelid = k.confrelid AND theirs.attnum = pair.parent
         JOIN pg_attribute own ON own.attrelid = k.conrelid AND own.attnum = pair.child
         JOIN pg_type t ON t.oid IN (theirs.atttypid, own.atttypid)
         JOIN pg_operator o ON o.oid = pair.operator
         JOIN pg_namespace schema ON schema.oid = o.oprnamespace
         JOIN pg_type declared ON declared.oid = o.oprleft
         JOIN pg_namespace declaredn ON declaredn.oid = declared.typnamespace
        CROSS JOIN LATERAL (
              SELECT plain.is_plain,
                     CASE WHEN NOT plain.is_plain THEN ARRAY[declaredn.nspname, declared.typname]::text[] END AS type
                FROM (SELECT schema.nspname = 'pg_catalog'
                             OR (o.oprleft, o.oprright) = (theirs.atttypid, own.atttypid) AS is_plain) AS plain
             ) AS operand) AS matched
 WHERE k.contype = 'f'
   AND k.conrelid = ANY (%(oids)s::oid[])
   AND k.confrelid = ANY (%(oids)s::oid[])
