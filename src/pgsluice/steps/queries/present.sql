-- Which of these types and collations are on this server, and under which oid of a type? %(names)s: SQL names, text[].
-- And what of %(schemas)s.%(calls)s, text[] of equal length, does nothing but compute a value? A function is harmless
-- where all that bear its name came with PostgreSQL itself and are immutable; an operator of another schema where its
-- function is immutable and written in C, which takes a superuser. A field, which has no schema, can mean a function.
SELECT NULL::text AS schema,
       name,
       to_regtype(name) IS NOT NULL OR to_regcollation(name) IS NOT NULL,
       coalesce(to_regtype(name)::oid, 0)::bigint
  FROM unnest(%(names)s::text[]) AS name
UNION ALL
SELECT schema,
       name,
       coalesce(CASE WHEN schema IN ('', 'pg_catalog')
                     THEN (SELECT bool_and(p.provolatile = 'i' AND p.prokind = 'f' AND NOT p.prosecdef AND p.oid < 16384)
                             FROM pg_proc p
                            WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = name)
                     ELSE (SELECT bool_and(p.provolatile = 'i' AND NOT p.prosecdef AND l.lanname IN ('internal', 'c'))
                             FROM pg_operator o
                             JOIN pg_namespace n ON n.oid = o.oprnamespace AND n.nspname = schema
                             JOIN pg_proc p ON p.oid = o.oprcode
                             JOIN pg_language l ON l.oid = p.prolang
                            WHERE o.oprname = name) END,
                schema = ''),
       0
  FROM unnest(%(schemas)s::text[], %(calls)s::text[]) AS called (schema, name)
