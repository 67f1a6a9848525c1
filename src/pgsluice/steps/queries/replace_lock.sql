-- Give the run lock of a target another key, unless somebody has. {targets}: the table of targets; %(target)s,
-- %(old)s and %(new)s key.
INSERT INTO {targets} AS t (target, lock_key) VALUES (%(target)s, %(new)s)
ON CONFLICT (target) DO UPDATE SET lock_key = excluded.lock_key, updated_at = excluded.updated_at
 WHERE t.lock_key = %(old)s
