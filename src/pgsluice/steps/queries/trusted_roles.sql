-- Whose relations can the connected role use without lending its rights to others? A superuser has everybody's rights, so
-- that these say nothing of whom it trusts, and the owner of a database is trusted by those alone who are less.
SELECT r.oid
  FROM pg_catalog.pg_roles r
 WHERE r.rolname OPERATOR(pg_catalog.=) current_user
    OR r.rolsuper
    OR (NOT (SELECT me.rolsuper FROM pg_catalog.pg_roles me WHERE me.rolname OPERATOR(pg_catalog.=) current_user)
        AND (pg_catalog.pg_has_role(r.oid, 'USAGE')
             OR r.oid OPERATOR(pg_catalog.=) (
                  SELECT d.datdba FROM pg_catalog.pg_database d
                   WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())))
