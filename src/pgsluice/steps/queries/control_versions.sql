-- Which relations is the control schema, in which versions of their rows in the catalog, and has one a trigger? As text.
-- Whoever does not own them can only add triggers; whatever else is added to one by its owner, who was found to be trusted.
-- %(schema)s: its name; %(relations)s: text[] of ours.
SELECT concat_ws(' ', n.oid, n.xmin, string_agg(concat_ws(':', c.oid, c.xmin, EXISTS (
         SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid)), ' ' ORDER BY c.oid))
  FROM pg_namespace n
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ANY (%(relations)s::name[])
 WHERE n.nspname = %(schema)s
 GROUP BY n.oid, n.xmin
