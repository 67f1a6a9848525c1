-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "note" text, "updated_at" timestamp with time zone) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note", "updated_at" FROM ONLY "sales"."orders" WHERE (("updated_at" OPERATOR(pg_catalog.>=) '2024-01-01 00:00:00+00'::timestamp with time zone
 OR "updated_at" IS NULL))) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note", "updated_at") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- merge (target)
MERGE INTO ONLY "sales"."orders" AS "orders" USING "pgsluice"."stg_<run>_1" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("orders"."id", "orders"."note", "orders"."updated_at"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."updated_at")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "note" = "pgsluice_staged"."note", "updated_at" = "pgsluice_staged"."updated_at"
WHEN NOT MATCHED THEN INSERT ("id", "note", "updated_at") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."updated_at");

-- watermark (target)
SELECT top.nulls, top.future, top.late, (GREATEST(CASE WHEN top.value OPERATOR(pg_catalog.>) '2024-06-01 11:59:00+00'::timestamp with time zone THEN '2024-06-01 11:59:00+00'::timestamp with time zone ELSE top.value END, '2024-01-01 00:00:00+00'::timestamp with time zone))::text, (GREATEST(CASE WHEN top.value OPERATOR(pg_catalog.>) '2024-06-01 11:59:00+00'::timestamp with time zone THEN '2024-06-01 11:59:00+00'::timestamp with time zone ELSE top.value END, '2024-01-01 00:00:00+00'::timestamp with time zone) OPERATOR(pg_catalog.<=) '2024-06-01 11:59:00+00'::timestamp with time zone) IS TRUE
FROM (SELECT pg_catalog.count(*) FILTER (WHERE "updated_at" IS NULL) AS nulls, pg_catalog.count(*) FILTER (WHERE ("updated_at" OPERATOR(pg_catalog.>) '2024-06-01 12:00:00+00'::timestamp with time zone)) AS future, pg_catalog.count(*) FILTER (WHERE "updated_at" OPERATOR(pg_catalog.<) '2024-01-01 00:00:00+00'::timestamp with time zone) AS late, pg_catalog.max("updated_at") FILTER (WHERE NOT ("updated_at" OPERATOR(pg_catalog.>) '2024-06-01 12:00:00+00'::timestamp with time zone)) AS value FROM "pgsluice"."stg_<run>_1") AS top;
