-- Which relations do these names mean, and by which version of its schema's row? %(schemas)s, %(names)s: text[] of equal
-- length. A schema that is renamed has another version, also when its name comes back.
-- Asked under the role's own search_path: everything is qualified.
SELECT pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', wanted.schema, wanted.name))::pg_catalog.oid::pg_catalog.int8,
       n.oid::pg_catalog.int8,
       n.xmin::pg_catalog.text
  FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::pg_catalog.text[]), pg_catalog.unnest(%(names)s::pg_catalog.text[]))
       WITH ORDINALITY AS wanted (schema, name, position)
  LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname OPERATOR(pg_catalog.=) wanted.schema::pg_catalog.name
 ORDER BY wanted.position
