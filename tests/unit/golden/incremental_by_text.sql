-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "note" text, "code" character(9)) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note", "code" FROM ONLY "sales"."orders" WHERE (("code" COLLATE pg_catalog."C" OPERATOR(pg_catalog.>=) 'it''s'::text
 OR "code" IS NULL))) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note", "code") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- merge (target)
MERGE INTO ONLY "sales"."orders" AS "orders" USING "pgsluice"."stg_<run>_1" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("orders"."id", "orders"."note", "orders"."code"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."code")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "note" = "pgsluice_staged"."note", "code" = "pgsluice_staged"."code"
WHEN NOT MATCHED THEN INSERT ("id", "note", "code") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."code");

-- watermark (target)
SELECT top.nulls, top.future, top.late, (GREATEST(top.value, 'it''s'::text COLLATE pg_catalog."C"))::text, FALSE
FROM (SELECT pg_catalog.count(*) FILTER (WHERE pg_catalog.rtrim("code"::text) COLLATE pg_catalog."C" IS NULL) AS nulls, pg_catalog.count(*) FILTER (WHERE FALSE) AS future, pg_catalog.count(*) FILTER (WHERE pg_catalog.rtrim("code"::text) COLLATE pg_catalog."C" OPERATOR(pg_catalog.<) 'it''s'::text) AS late, pg_catalog.max(pg_catalog.rtrim("code"::text) COLLATE pg_catalog."C") FILTER (WHERE NOT FALSE) AS value FROM "pgsluice"."stg_<run>_1") AS top;
