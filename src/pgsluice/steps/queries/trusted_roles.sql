-- Whose relations can the connected role use without lending its rights to others? A superuser has everybody's rights, so
-- that these say nothing of whom it trusts, and the owner of a database is trusted by those alone who are less.
SELECT r.oid
  FROM pg_roles r
 WHERE r.rolname = current_user
    OR r.rolsuper
    OR (NOT (SELECT me.rolsuper FROM pg_roles me WHERE me.rolname = current_user)
        AND (pg_has_role(r.oid, 'USAGE')
             OR r.oid = (SELECT d.datdba FROM pg_database d WHERE d.datname = current_database())))
