-- Which of these names are those of functions of PostgreSQL's own? %(names)s: text[].
SELECT name
  FROM unnest(%(names)s::text[]) AS name
 WHERE EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = name)
