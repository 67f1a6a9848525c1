-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id" FROM ONLY "sales"."orders" WHERE TRUE) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id") FROM STDIN (FORMAT binary);

-- create (target)
CREATE TABLE "sales"."orders" (
  "id" bigint NOT NULL,
  "twice" bigint GENERATED ALWAYS AS ((id * 2)) STORED
);

-- merge (target)
INSERT INTO "sales"."orders" ("id") OVERRIDING SYSTEM VALUE SELECT "id" FROM "pgsluice"."stg_<run>_1";

-- create (target)
ALTER TABLE "sales"."orders" ADD PRIMARY KEY ("id");
