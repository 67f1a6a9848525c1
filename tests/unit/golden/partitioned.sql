-- hash (source)
SELECT bucket, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text
FROM (SELECT (pg_catalog.hashint8extended("id", 0::pg_catalog.int8) OPERATOR(pg_catalog.&) 15::pg_catalog.int8) AS bucket, pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, "note" COLLATE "C"), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id", "note" FROM "sales"."orders" WHERE TRUE) AS compared
UNION ALL SELECT 0::pg_catalog.int8, 0::pg_catalog.int8 FROM (SELECT "id", "note" FROM "sales"."orders" WHERE TRUE) AS compared WHERE FALSE) AS hashed GROUP BY bucket;

-- hash (target)
SELECT bucket, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text
FROM (SELECT (pg_catalog.hashint8extended("id", 0::pg_catalog.int8) OPERATOR(pg_catalog.&) 15::pg_catalog.int8) AS bucket, pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, "note" COLLATE "C"), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id", "note" FROM "sales"."orders" AS "orders" WHERE TRUE) AS compared
UNION ALL SELECT 0::pg_catalog.int8, 0::pg_catalog.int8 FROM (SELECT "id", "note" FROM "sales"."orders" AS "orders" WHERE TRUE) AS compared WHERE FALSE) AS hashed GROUP BY bucket;

-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "note" text) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note" FROM "sales"."orders" WHERE TRUE) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- delete guard (target)
SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE "pgsluice_staged"."id" IS NOT DISTINCT FROM NULL)
FROM (SELECT * FROM "sales"."orders" AS "orders" WHERE TRUE) AS "orders"
LEFT JOIN "pgsluice"."stg_<run>_1" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id";

-- delete (target)
DELETE FROM "sales"."orders" AS "orders" WHERE TRUE
AND NOT EXISTS (SELECT FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged" WHERE "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id");

-- merge (target)
MERGE INTO "sales"."orders" AS "orders" USING "pgsluice"."stg_<run>_1" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("orders"."id", "orders"."note"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "note" = "pgsluice_staged"."note"
WHEN NOT MATCHED THEN INSERT ("id", "note") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."note");
