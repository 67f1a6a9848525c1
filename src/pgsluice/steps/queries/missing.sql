-- Which of these types and collations are not on this server? %(names)s: SQL names, text[].
SELECT name
  FROM unnest(%(names)s::text[]) AS name
 WHERE to_regtype(name) IS NULL
   AND to_regcollation(name) IS NULL
