-- staging (target)
CREATE TABLE "pgsluice"."stg_<run>_1" (
  "id" bigint NOT NULL,
  "note" text
) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note" FROM ONLY "sales"."orders" WHERE (NOT ((pg_catalog.age(xmin) OPERATOR(pg_catalog.>=) 0 AND pg_catalog.age(xmin) OPERATOR(pg_catalog.<=) pg_catalog.age('1000'::pg_catalog.xid8::pg_catalog.xid))))) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note") FROM STDIN (FORMAT binary);

-- merge (target)
ALTER TABLE "pgsluice"."stg_<run>_1" SET SCHEMA "sales";

-- merge (target)
ALTER TABLE "sales"."stg_<run>_1" RENAME TO "orders";

-- merge (target)
ALTER TABLE "sales"."orders" RESET (autovacuum_enabled);

-- merge (target)
COMMENT ON TABLE "sales"."orders" IS NULL;
