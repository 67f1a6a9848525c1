-- staging (target)
CREATE TABLE "pgsluice"."stg_<run>_1" (
  "id" bigint NOT NULL,
  "twice" bigint GENERATED ALWAYS AS ((id * 2)) STORED
) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id" FROM ONLY "sales"."orders" WHERE TRUE) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id") FROM STDIN (FORMAT binary);

-- keys (target)
ALTER TABLE "pgsluice"."stg_<run>_1" ADD PRIMARY KEY ("id");

-- merge (target)
ALTER TABLE "pgsluice"."stg_<run>_1" SET SCHEMA "sales";

-- merge (target)
ALTER TABLE "sales"."stg_<run>_1" RENAME TO "orders";

-- merge (target)
ALTER TABLE "sales"."orders" RESET (autovacuum_enabled);

-- merge (target)
COMMENT ON TABLE "sales"."orders" IS NULL;
