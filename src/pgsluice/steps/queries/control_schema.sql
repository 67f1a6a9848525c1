-- Our schema on the target, closed to everybody else. {schema} is its name.
CREATE SCHEMA {schema};
REVOKE ALL ON SCHEMA {schema} FROM PUBLIC;
COMMENT ON SCHEMA {schema} IS 'pgsluice control schema, version 2';
