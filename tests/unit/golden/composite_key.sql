-- hash (source)
SELECT bucket, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text
FROM (SELECT (pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, ROW("region")::pg_catalog.text COLLATE "C"), 0) OPERATOR(pg_catalog.&) 15::pg_catalog.int8) AS bucket, pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, ROW("region")::pg_catalog.text COLLATE "C", "note" COLLATE "C"), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id", "region", "note" FROM ONLY "sales"."orders" WHERE TRUE) AS compared
UNION ALL SELECT 0::pg_catalog.int8, 0::pg_catalog.int8 FROM (SELECT "id", "region", "note" FROM ONLY "sales"."orders" WHERE TRUE) AS compared WHERE FALSE) AS hashed GROUP BY bucket;

-- hash (target)
SELECT bucket, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text
FROM (SELECT (pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, ROW("region")::pg_catalog.text COLLATE "C"), 0) OPERATOR(pg_catalog.&) 15::pg_catalog.int8) AS bucket, pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, ROW("region")::pg_catalog.text COLLATE "C", "note" COLLATE "C"), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id", "region", "note" FROM ONLY "sales"."orders" AS "orders" WHERE TRUE) AS compared
UNION ALL SELECT 0::pg_catalog.int8, 0::pg_catalog.int8 FROM (SELECT "id", "region", "note" FROM ONLY "sales"."orders" AS "orders" WHERE TRUE) AS compared WHERE FALSE) AS hashed GROUP BY bucket;

-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "region" ext.citext, "note" text) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "region", "note" FROM ONLY "sales"."orders" WHERE TRUE) TO STDOUT (FORMAT text);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "region", "note") FROM STDIN (FORMAT text);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- delete guard (target)
CREATE TEMPORARY TABLE "pg_temp"."stg_<run>_1_gone" ON COMMIT DROP AS
SELECT "orders".ctid AS place FROM ONLY "sales"."orders" AS "orders" WHERE TRUE
AND NOT EXISTS (SELECT FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged" WHERE "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id" AND "orders"."region" OPERATOR("ext".=) "pgsluice_staged"."region");

-- delete (target)
DELETE FROM ONLY "sales"."orders" AS "orders" USING "pg_temp"."stg_<run>_1_gone" AS "pgsluice_staged" WHERE "orders".ctid = "pgsluice_staged".place;

-- compare (target)
CREATE TEMPORARY TABLE "pg_temp"."stg_<run>_1_delta" ON COMMIT DROP AS
SELECT "pgsluice_staged"."id", "pgsluice_staged"."region", "pgsluice_staged"."note" FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged"
WHERE NOT EXISTS (SELECT FROM ONLY "sales"."orders" AS "orders" WHERE "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id" AND "orders"."region" OPERATOR("ext".=) "pgsluice_staged"."region" AND NOT (pg_catalog.record_image_ne(ROW("orders"."id", "orders"."region", "orders"."note"), ROW("pgsluice_staged"."id", "pgsluice_staged"."region", "pgsluice_staged"."note"))));

-- merge (target)
MERGE INTO ONLY "sales"."orders" AS "orders" USING "pg_temp"."stg_<run>_1_delta" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id" AND "orders"."region" OPERATOR("ext".=) "pgsluice_staged"."region"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("orders"."id", "orders"."region", "orders"."note"), ROW("pgsluice_staged"."id", "pgsluice_staged"."region", "pgsluice_staged"."note")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "region" = "pgsluice_staged"."region", "note" = "pgsluice_staged"."note"
WHEN NOT MATCHED THEN INSERT ("id", "region", "note") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."region", "pgsluice_staged"."note");
