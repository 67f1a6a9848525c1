-- Do these schemas exist, and may the connected role use them? %(schemas)s: text[].
SELECT n.nspname, has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE')
  FROM pg_namespace n
 WHERE n.nspname = ANY (%(schemas)s::text[])
