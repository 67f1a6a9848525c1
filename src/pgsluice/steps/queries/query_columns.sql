-- What are these types called? %(types)s: oid[], %(modifiers)s: int[], of equal length.
WITH wanted AS (SELECT DISTINCT type, NULL::oid AS opclass FROM unnest(%(types)s::oid[]) AS type),
equality AS MATERIALIZED (
{equality})
SELECT format_type(t.oid, asked.modifier),
       format_type(leaf.oid, NULL),
       leaf.typtype::text,
       equality.equality,
       leaf.oid::bigint
  FROM unnest(%(types)s::oid[], %(modifiers)s::int[]) WITH ORDINALITY AS asked (type, modifier, position)
  JOIN pg_type t ON t.oid = asked.type
  LEFT JOIN equality ON equality.type = asked.type
  JOIN pg_type leaf ON leaf.oid = CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.typelem <> 0
                                       THEN t.typelem ELSE t.oid END
 ORDER BY asked.position
