CASE WHEN c.relkind <> 'r' THEN 'it is no ordinary table'
            WHEN EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal) THEN 'it has a trigger'
            WHEN EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid) THEN 'it has a rule'
            WHEN c.relrowsecurity THEN 'it has row-level security' END
