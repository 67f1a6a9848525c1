-- A text that defines the index with the pg_class row c, without the storage parameters that no user sets. Those of access
-- methods that extensions bring are not known here, and stay.
(SELECT replace({text}, concat(' WITH (', string_agg(text, ', '), ')'),
                coalesce(' WITH (' || string_agg(text, ', ') FILTER (WHERE c.relam >= 16384 OR name = ANY ({settable})) || ')', ''))
   FROM (SELECT split_part(o, '=', 1) AS name,
                concat(quote_ident(split_part(o, '=', 1)), '=',
                       CASE quote_ident(value) WHEN value THEN value ELSE quote_literal(value) END) AS text
           FROM unnest(c.reloptions) AS o CROSS JOIN substr(o, strpos(o, '=') + 1) AS value) AS options)
