-- Does a name still mean this relation, or a partition of it? %(name)s: as SQL; %(oid)s. Names are looked up as they are
-- now, whatever the transaction's snapshot shows. Asked under the role's own search_path: everything is qualified.
SELECT coalesce(%(oid)s::pg_catalog.oid OPERATOR(pg_catalog.=)
                  ANY (ARRAY[found.oid, pg_catalog.pg_partition_root(found.oid)::pg_catalog.oid]), false)
  FROM (SELECT pg_catalog.to_regclass(%(name)s)::pg_catalog.oid AS oid) AS found
