-- What a backend waits for, and the sessions that keep it from it, those that queue before it included.
SELECT coalesce((SELECT relation::regclass::text FROM pg_catalog.pg_locks WHERE pid = {pid} AND NOT granted LIMIT 1), ''),
       pid, coalesce(usename, ''), coalesce(application_name, ''),
       coalesce(state, '') || coalesce(' since ' || date_trunc('second', xact_start), '')
FROM pg_catalog.pg_stat_activity
WHERE pid = ANY (pg_catalog.pg_blocking_pids({pid}))
ORDER BY xact_start
LIMIT 5
