-- hash (source)
SELECT bucket, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text
FROM (SELECT (pg_catalog.hashint8extended("id", 0::pg_catalog.int8) OPERATOR(pg_catalog.&) 15::pg_catalog.int8) AS bucket, pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id" FROM ONLY "sales"."orders" WHERE TRUE) AS compared
UNION ALL SELECT 0::pg_catalog.int8, 0::pg_catalog.int8 FROM (SELECT "id" FROM ONLY "sales"."orders" WHERE TRUE) AS compared WHERE FALSE) AS hashed GROUP BY bucket;

-- hash (target)
SELECT bucket, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text
FROM (SELECT (pg_catalog.hashint8extended("id", 0::pg_catalog.int8) OPERATOR(pg_catalog.&) 15::pg_catalog.int8) AS bucket, pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id" FROM ONLY "sales"."orders" AS "orders" WHERE TRUE) AS compared
UNION ALL SELECT 0::pg_catalog.int8, 0::pg_catalog.int8 FROM (SELECT "id" FROM ONLY "sales"."orders" AS "orders" WHERE TRUE) AS compared WHERE FALSE) AS hashed GROUP BY bucket;

-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id" FROM ONLY "sales"."orders" WHERE TRUE) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- compare (target)
CREATE TEMPORARY TABLE "pg_temp"."stg_<run>_1_delta" ON COMMIT DROP AS
SELECT "pgsluice_staged"."id" FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged"
WHERE NOT EXISTS (SELECT FROM ONLY "sales"."orders" AS "orders" WHERE "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id");

-- merge (target)
MERGE INTO ONLY "sales"."orders" AS "orders" USING "pg_temp"."stg_<run>_1_delta" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN NOT MATCHED THEN INSERT ("id") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id");
