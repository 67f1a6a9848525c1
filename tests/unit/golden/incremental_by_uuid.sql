-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "note" text, "u" uuid) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note", "u" FROM ONLY "sales"."orders" WHERE (("u" OPERATOR(pg_catalog.>=) 'ff000000-0000-0000-0000-000000000000'::uuid
 OR "u" IS NULL
 OR (pg_catalog.age(xmin) OPERATOR(pg_catalog.>=) 0 AND pg_catalog.age(xmin) OPERATOR(pg_catalog.<=) pg_catalog.age('500'::pg_catalog.xid8::pg_catalog.xid))))) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note", "u") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- merge (target)
MERGE INTO ONLY "sales"."orders" AS "orders" USING "pgsluice"."stg_<run>_1" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("orders"."id", "orders"."note", "orders"."u"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."u")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "note" = "pgsluice_staged"."note", "u" = "pgsluice_staged"."u"
WHEN NOT MATCHED THEN INSERT ("id", "note", "u") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."u");

-- watermark (target)
SELECT top.nulls, top.future, top.late, (GREATEST(top.value, 'ff000000-0000-0000-0000-000000000000'::uuid))::text, FALSE
FROM (SELECT pg_catalog.count(*) FILTER (WHERE "u" IS NULL) AS nulls, pg_catalog.count(*) FILTER (WHERE FALSE) AS future, pg_catalog.count(*) FILTER (WHERE "u" OPERATOR(pg_catalog.<) 'ff000000-0000-0000-0000-000000000000'::uuid) AS late, (pg_catalog.max("u"::text COLLATE pg_catalog."C") FILTER (WHERE NOT FALSE))::uuid AS value FROM "pgsluice"."stg_<run>_1") AS top;
