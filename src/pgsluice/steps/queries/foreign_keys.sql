-- Which of these tables refer to which of them, and does a row that is deleted take others along? %(oids)s: oid[].
SELECT child.nspname, c.relname, parent.nspname, p.relname, k.confdeltype IN ('c', 'n', 'd')
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace child ON child.oid = c.relnamespace
  JOIN pg_class p ON p.oid = k.confrelid
  JOIN pg_namespace parent ON parent.oid = p.relnamespace
 WHERE k.contype = 'f'
   AND k.conrelid = ANY (%(oids)s::oid[])
   AND k.confrelid = ANY (%(oids)s::oid[])
