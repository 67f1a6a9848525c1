-- hash (source)
SELECT bucket, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text
FROM (SELECT (pg_catalog.hashint8extended("id", 0::pg_catalog.int8) OPERATOR(pg_catalog.&) 15::pg_catalog.int8) AS bucket, pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, "note" COLLATE "C", pg_catalog.timestamptz_send("created_at")), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id", "note", "created_at" FROM ONLY "sales"."orders" WHERE (
created_at > '2024-01-01' -- from 2024
)) AS compared
UNION ALL SELECT 0::pg_catalog.int8, 0::pg_catalog.int8 FROM (SELECT "id", "note", "created_at" FROM ONLY "sales"."orders" WHERE (
created_at > '2024-01-01' -- from 2024
)) AS compared WHERE FALSE) AS hashed GROUP BY bucket;

-- hash (target)
SELECT bucket, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text
FROM (SELECT (pg_catalog.hashint8extended("id", 0::pg_catalog.int8) OPERATOR(pg_catalog.&) 15::pg_catalog.int8) AS bucket, pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, "note" COLLATE "C", pg_catalog.timestamptz_send("created_at")), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id", "note", "created_at" FROM ONLY "raw"."orders" AS "orders" WHERE (
created_at > '2024-01-01' -- from 2024
)) AS compared
UNION ALL SELECT 0::pg_catalog.int8, 0::pg_catalog.int8 FROM (SELECT "id", "note", "created_at" FROM ONLY "raw"."orders" AS "orders" WHERE (
created_at > '2024-01-01' -- from 2024
)) AS compared WHERE FALSE) AS hashed GROUP BY bucket;

-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "note" text, "created_at" timestamp with time zone) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note", "created_at" FROM ONLY "sales"."orders" WHERE (
created_at > '2024-01-01' -- from 2024
)) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note", "created_at") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "raw"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- delete guard (target)
CREATE TEMPORARY TABLE "pg_temp"."stg_<run>_1_gone" ON COMMIT DROP AS
SELECT "orders".ctid AS place FROM ONLY "raw"."orders" AS "orders" WHERE (
created_at > '2024-01-01' -- from 2024
)
AND NOT EXISTS (SELECT FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged" WHERE "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id");

-- delete (target)
DELETE FROM ONLY "raw"."orders" AS "orders" USING "pg_temp"."stg_<run>_1_gone" AS "pgsluice_staged" WHERE "orders".ctid = "pgsluice_staged".place;

-- compare (target)
CREATE TEMPORARY TABLE "pg_temp"."stg_<run>_1_delta" ON COMMIT DROP AS
SELECT "pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."created_at" FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged"
WHERE NOT EXISTS (SELECT FROM ONLY "raw"."orders" AS "orders" WHERE "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id" AND NOT (pg_catalog.record_image_ne(ROW("orders"."id", "orders"."note", "orders"."created_at"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."created_at"))));

-- merge (target)
MERGE INTO ONLY "raw"."orders" AS "orders" USING "pg_temp"."stg_<run>_1_delta" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("orders"."id", "orders"."note", "orders"."created_at"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."created_at")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "note" = "pgsluice_staged"."note", "created_at" = "pgsluice_staged"."created_at"
WHEN NOT MATCHED THEN INSERT ("id", "note", "created_at") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."created_at");
