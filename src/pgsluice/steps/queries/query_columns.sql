-- What are these types called? %(types)s: oid[], %(modifiers)s: int[], of equal length.
SELECT format_type(t.oid, wanted.modifier),
       format_type(leaf.oid, NULL),
       leaf.typtype::text,
       leaf.oid::bigint
  FROM unnest(%(types)s::oid[], %(modifiers)s::int[]) WITH ORDINALITY AS wanted (type, modifier, position)
  JOIN pg_type t ON t.oid = wanted.type
  JOIN pg_type leaf ON leaf.oid = CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.typelem <> 0
                                       THEN t.typelem ELSE t.oid END
 ORDER BY wanted.position
