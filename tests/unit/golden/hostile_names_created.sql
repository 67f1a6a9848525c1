-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("k""%{}
" text) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "k""%{}
" FROM ONLY "sales"."orders" WHERE TRUE) TO STDOUT (FORMAT text);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("k""%{}
") FROM STDIN (FORMAT text);

-- gate (target)
SELECT ARRAY["k""%{}
"::pg_catalog.text], pg_catalog.bool_or("k""%{}
" IS NOT DISTINCT FROM NULL), pg_catalog.count(*) FROM "pgsluice"."stg_<run>_1" GROUP BY "k""%{}
" HAVING pg_catalog.count(*) > 1 OR pg_catalog.bool_or("k""%{}
" IS NOT DISTINCT FROM NULL) LIMIT 5;

-- create (target)
CREATE SCHEMA IF NOT EXISTS "%{schema}";

-- create (target)
CREATE SCHEMA IF NOT EXISTS "s x";

-- create (target)
CREATE TYPE "s x"."m%{}" AS ENUM ('{}', '%s');

-- create (target)
CREATE TABLE "%{schema}"."주문내역이천이십사년십이월의모든것과끝넷다" (
  "k""%{}
" "s x"."m%{}" NOT NULL
);

-- merge (target)
INSERT INTO "%{schema}"."주문내역이천이십사년십이월의모든것과끝넷다" ("k""%{}
") OVERRIDING SYSTEM VALUE SELECT "k""%{}
"::"s x"."m%{}" FROM "pgsluice"."stg_<run>_1";

-- create (target)
ALTER TABLE "%{schema}"."주문내역이천이십사년십이월의모든것과끝넷다" ADD PRIMARY KEY ("k""%{}
");
