-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "note" text) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note" FROM (
SELECT id, note FROM orders -- all
) AS query WHERE TRUE) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note") FROM STDIN (FORMAT binary);

-- gate (target)
SELECT ARRAY["id"::pg_catalog.text], pg_catalog.bool_or("id" IS NOT DISTINCT FROM NULL), pg_catalog.count(*) FROM "pgsluice"."stg_<run>_1" GROUP BY "id" HAVING pg_catalog.count(*) > 1 OR pg_catalog.bool_or("id" IS NOT DISTINCT FROM NULL) LIMIT 5;

-- lock (target)
LOCK TABLE "raw"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- compare (target)
CREATE TEMPORARY TABLE "pg_temp"."stg_<run>_1_delta" ON COMMIT DROP AS
SELECT "pgsluice_staged"."id", "pgsluice_staged"."note" FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged"
WHERE NOT EXISTS (SELECT FROM ONLY "raw"."orders" AS "query" WHERE "query"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id" AND NOT (pg_catalog.record_image_ne(ROW("query"."id", "query"."note"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note"))));

-- merge (target)
MERGE INTO ONLY "raw"."orders" AS "query" USING "pg_temp"."stg_<run>_1_delta" AS "pgsluice_staged" ON "query"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("query"."id", "query"."note"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "note" = "pgsluice_staged"."note"
WHEN NOT MATCHED THEN INSERT ("id", "note") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."note");
