-- What of a server decides whether a run will go well: its clock, its room for sessions and locks, and some settings.
SELECT extract(epoch FROM clock_timestamp())::float8,
       current_setting('max_connections')::int,
       (SELECT coalesce(sum(setting::int), 0) FROM pg_settings
         WHERE name IN ('superuser_reserved_connections', 'reserved_connections')
           AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))::int,
       (SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database)::int,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
       (SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database WHERE datname = current_database())::int,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)::int,
       current_setting('max_locks_per_transaction')::int
         * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int),
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
       (SELECT json_object_agg(name, reset_val) FROM pg_settings
         WHERE name IN ('hot_standby_feedback', 'fsync', 'full_page_writes', 'synchronous_standby_names', 'wal_level',
                        'default_transaction_read_only', 'max_parallel_workers_per_gather'))
