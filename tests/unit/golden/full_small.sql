-- staging (target)
CREATE TEMPORARY TABLE "stg_<run>_1" ("id" bigint, "note" text) ON COMMIT DROP;

-- relay (source)
COPY (SELECT "id", "note" FROM ONLY "sales"."orders" WHERE TRUE) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pg_temp"."stg_<run>_1" ("id", "note") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- delete guard (target)
SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE "pgsluice_staged"."id" IS NOT DISTINCT FROM NULL)
FROM (SELECT * FROM ONLY "sales"."orders" AS "orders" WHERE TRUE) AS "orders"
LEFT JOIN "pg_temp"."stg_<run>_1" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id";

-- delete (target)
DELETE FROM ONLY "sales"."orders" AS "orders" WHERE TRUE
AND NOT EXISTS (SELECT FROM "pg_temp"."stg_<run>_1" AS "pgsluice_staged" WHERE "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id");

-- merge (target)
MERGE INTO ONLY "sales"."orders" AS "orders" USING "pg_temp"."stg_<run>_1" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("orders"."id", "orders"."note"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "note" = "pgsluice_staged"."note"
WHEN NOT MATCHED THEN INSERT ("id", "note") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."note");
