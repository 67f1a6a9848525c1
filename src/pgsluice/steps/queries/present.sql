-- Which of these types and collations are on this server, and under which oid of a type? %(names)s: SQL names, text[].
SELECT name,
       to_regtype(name) IS NOT NULL OR to_regcollation(name) IS NOT NULL,
       coalesce(to_regtype(name)::oid, 0)::bigint
  FROM unnest(%(names)s::text[]) AS name
