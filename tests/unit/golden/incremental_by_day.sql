-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "note" text, "day" integer) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note", "day" FROM ONLY "sales"."orders" WHERE (("day" OPERATOR(pg_catalog.>=) pg_catalog.to_char(pg_catalog.to_date('20240301', 'YYYYMMDD') OPERATOR(pg_catalog.-) '1 day'::interval, 'YYYYMMDD')::integer
 OR "day" IS NULL
 OR "day"::text OPERATOR(pg_catalog.!~) '^([0-9]{4}((0[13578]|1[02])(0[1-9]|[12][0-9]|3[01])|(0[469]|11)(0[1-9]|[12][0-9]|30)|02(0[1-9]|1[0-9]|2[0-8]))|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)0229)$'))) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note", "day") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- merge (target)
MERGE INTO ONLY "sales"."orders" AS "orders" USING "pgsluice"."stg_<run>_1" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("orders"."id", "orders"."note", "orders"."day"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."day")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "note" = "pgsluice_staged"."note", "day" = "pgsluice_staged"."day"
WHEN NOT MATCHED THEN INSERT ("id", "note", "day") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."day");

-- watermark (target)
SELECT top.nulls, top.future, top.late, (GREATEST(top.value, '20240301'::integer))::text, FALSE
FROM (SELECT pg_catalog.count(*) FILTER (WHERE "day" IS NULL) AS nulls, pg_catalog.count(*) FILTER (WHERE ("day" OPERATOR(pg_catalog.>) '20240602'::integer)) AS future, pg_catalog.count(*) FILTER (WHERE "day" OPERATOR(pg_catalog.<) '20240301'::integer) AS late, pg_catalog.max("day") FILTER (WHERE NOT ("day" OPERATOR(pg_catalog.>) '20240602'::integer)) AS value FROM "pgsluice"."stg_<run>_1") AS top;
