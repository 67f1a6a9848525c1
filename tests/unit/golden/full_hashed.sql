-- hash (source)
SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(hash), 0)::pg_catalog.text
FROM (SELECT pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, "note" COLLATE "C"), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id", "note" FROM ONLY "sales"."orders" WHERE TRUE) AS compared) AS hashed;

-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "note" text) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note" FROM ONLY "sales"."orders" WHERE TRUE) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- delete guard (target)
CREATE TEMPORARY TABLE "pg_temp"."stg_<run>_1_gone" ON COMMIT DROP AS
SELECT "orders".ctid AS place FROM ONLY "sales"."orders" AS "orders" WHERE TRUE
AND NOT EXISTS (SELECT FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged" WHERE "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id");

-- delete (target)
DELETE FROM ONLY "sales"."orders" AS "orders" USING "pg_temp"."stg_<run>_1_gone" AS "pgsluice_staged" WHERE "orders".ctid = "pgsluice_staged".place;

-- compare (target)
CREATE TEMPORARY TABLE "pg_temp"."stg_<run>_1_delta" ON COMMIT DROP AS
SELECT "pgsluice_staged"."id", "pgsluice_staged"."note" FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged"
WHERE NOT EXISTS (SELECT FROM ONLY "sales"."orders" AS "orders" WHERE "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id" AND NOT (pg_catalog.record_image_ne(ROW("orders"."id", "orders"."note"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note"))));

-- merge (target)
MERGE INTO ONLY "sales"."orders" AS "orders" USING "pg_temp"."stg_<run>_1_delta" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("orders"."id", "orders"."note"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "note" = "pgsluice_staged"."note"
WHEN NOT MATCHED THEN INSERT ("id", "note") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."note");

-- verify (target)
SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(hash), 0)::pg_catalog.text
FROM (SELECT pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, "note" COLLATE "C"), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id", "note" FROM ONLY "sales"."orders" AS "orders" WHERE TRUE) AS compared) AS hashed;
