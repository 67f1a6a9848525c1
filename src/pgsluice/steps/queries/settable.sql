-- The storage parameters and column options that users set, in all supported versions. What else a catalog holds is the
-- server's own (Debian's 15.20 keeps pg_attver of each column): ALTER refuses or ignores it, and it differs by table.
ARRAY['n_distinct', 'n_distinct_inherited', 'fillfactor', 'toast_tuple_target', 'parallel_workers', 'user_catalog_table',
      'autovacuum_enabled', 'autovacuum_vacuum_threshold', 'autovacuum_vacuum_max_threshold',
      'autovacuum_vacuum_scale_factor', 'autovacuum_vacuum_insert_threshold',
      'autovacuum_vacuum_insert_scale_factor', 'autovacuum_analyze_threshold', 'autovacuum_analyze_scale_factor',
      'autovacuum_vacuum_cost_delay', 'autovacuum_vacuum_cost_limit', 'autovacuum_freeze_min_age',
      'autovacuum_freeze_max_age', 'autovacuum_freeze_table_age', 'autovacuum_multixact_freeze_min_age',
      'autovacuum_multixact_freeze_max_age', 'autovacuum_multixact_freeze_table_age', 'log_autovacuum_min_duration',
      'vacuum_index_cleanup', 'vacuum_truncate', 'vacuum_max_eager_freeze_failure_rate',
      'vacuum_cleanup_index_scale_factor', 'deduplicate_items', 'buffering', 'fastupdate', 'gin_pending_list_limit', 'pages_per_range', 'autosummarize', 'security_barrier',
      'security_invoker', 'check_option']
