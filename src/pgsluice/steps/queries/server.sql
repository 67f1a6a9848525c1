-- Which server is this, and what may the connected role do in this database?
SELECT current_setting('server_version_num')::int,
       d.datname,
       d.oid,
       pg_is_in_recovery(),
       pg_encoding_to_char(d.encoding),
       current_user::text,
       has_database_privilege(d.oid, 'CREATE'),
       has_database_privilege(d.oid, 'TEMPORARY'),
       pg_postmaster_start_time()::text,
       has_function_privilege('pg_control_system()', 'EXECUTE')
         AND has_function_privilege('pg_control_checkpoint()', 'EXECUTE')
         AND has_function_privilege('pg_control_recovery()', 'EXECUTE'),
       current_setting('max_identifier_length')::int
  FROM pg_database d
 WHERE d.datname = current_database()
