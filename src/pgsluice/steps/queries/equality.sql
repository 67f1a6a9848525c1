-- What is the equality of these types, each in an index's operator class, or, for 0, in the type's default one: btree
-- before hash, as the server finds it (GetDefaultOpClass), and never what is merely called "="? An operand is cast to the
-- operator's own type where the operator's schema may hold another that fits the column better.
-- %(types)s, %(opclasses)s: oid[] of equal length.
SELECT wanted.type::bigint, wanted.opclass::bigint, found.equality
  FROM unnest(%(types)s::oid[], %(opclasses)s::oid[]) AS wanted (type, opclass)
  JOIN pg_type t ON t.oid = wanted.type
 CROSS JOIN LATERAL (
       WITH RECURSIVE domain AS (
              SELECT t.oid, t.typbasetype AS base
               UNION ALL
              SELECT inner_type.oid, inner_type.typbasetype
                FROM domain JOIN pg_type inner_type ON inner_type.oid = domain.base)
       SELECT b.*, CASE WHEN b.typcategory = 'A' AND b.typlen = -1 AND b.typelem <> 0 THEN 'anyarray'
                        WHEN b.typtype = 'e' THEN 'anyenum'
                        WHEN b.typtype = 'r' THEN 'anyrange'
                        WHEN b.typtype = 'm' THEN 'anymultirange'
                        WHEN b.typtype = 'c' THEN 'record' END::regtype::oid AS family
         FROM domain JOIN pg_type b ON b.oid = domain.oid WHERE domain.base = 0) AS base
 CROSS JOIN LATERAL (
       SELECT ARRAY[opn.nspname, o.oprname]::text[]
              || CASE WHEN o.oprleft = t.oid THEN NULL
                      WHEN operand.typtype = 'p' AND t.typtype <> 'd' THEN NULL
                      WHEN operand.typtype = 'p' THEN ARRAY[bn.nspname, base.typname]::text[]
                      WHEN opn.nspname = 'pg_catalog' AND t.typnamespace = opn.oid THEN NULL
                      ELSE ARRAY[operandn.nspname, operand.typname]::text[] END AS equality
         FROM pg_opclass oc
         JOIN pg_am am ON am.oid = oc.opcmethod
         JOIN pg_amop ao ON ao.amopfamily = oc.opcfamily
                        AND ao.amopstrategy = CASE am.amname WHEN 'btree' THEN 3 ELSE 1 END
                        AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
         JOIN pg_operator o ON o.oid = ao.amopopr
         JOIN pg_namespace opn ON opn.oid = o.oprnamespace
         JOIN pg_type operand ON operand.oid = o.oprleft
         JOIN pg_namespace operandn ON operandn.oid = operand.typnamespace
         JOIN pg_namespace bn ON bn.oid = base.typnamespace
         LEFT JOIN pg_cast c ON c.castsource = base.oid AND c.casttarget = oc.opcintype
                            AND c.castmethod = 'b' AND c.castcontext = 'i'
        WHERE am.amname IN ('btree', 'hash')
          AND CASE WHEN wanted.opclass <> 0 THEN oc.oid = wanted.opclass
                   ELSE oc.opcdefault AND (oc.opcintype IN (base.oid, base.family) OR c.oid IS NOT NULL) END
        ORDER BY am.amname = 'btree' DESC,
                 oc.opcintype = base.oid DESC,
                 (operand.typispreferred AND operand.typcategory = base.typcategory) DESC
        LIMIT 1) AS found
