-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "note" text, "updated_at" timestamp with time zone) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note", "updated_at" FROM ONLY "sales"."orders" WHERE (
created_at > '2024-01-01' -- from 2024
) AND (("updated_at" OPERATOR(pg_catalog.>=) '2024-01-01 00:00:00+00'::timestamp with time zone
 OR "updated_at" IS NULL
 OR "updated_at" OPERATOR(pg_catalog.>=) (CASE WHEN '2024-01-01 00:00:00+00'::timestamp with time zone OPERATOR(pg_catalog.<) '4000-01-01 BC' THEN '-infinity' ELSE '2024-01-01 00:00:00+00'::timestamp with time zone OPERATOR(pg_catalog.-) '7 days'::interval END)::timestamp with time zone AND (pg_catalog.age(xmin) OPERATOR(pg_catalog.>=) 0 AND pg_catalog.age(xmin) OPERATOR(pg_catalog.<=) pg_catalog.age('500'::pg_catalog.xid8::pg_catalog.xid))))) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note", "updated_at") FROM STDIN (FORMAT binary);

-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1_keys" ("id" bigint) WITH (autovacuum_enabled = false);

-- sweep (source)
COPY (SELECT "id" FROM ONLY "sales"."orders" WHERE (
created_at > '2024-01-01' -- from 2024
)) TO STDOUT (FORMAT binary);

-- sweep (target)
COPY "pgsluice"."stg_<run>_1_keys" ("id") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- delete guard (target)
SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE "pgsluice_staged"."id" IS NOT DISTINCT FROM NULL)
FROM (SELECT * FROM ONLY "sales"."orders" AS "orders" WHERE (
created_at > '2024-01-01' -- from 2024
)) AS "orders"
LEFT JOIN "pgsluice"."stg_<run>_1_keys" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id";

-- delete (target)
DELETE FROM ONLY "sales"."orders" AS "orders" WHERE (
created_at > '2024-01-01' -- from 2024
)
AND NOT EXISTS (SELECT FROM "pgsluice"."stg_<run>_1_keys" AS "pgsluice_staged" WHERE "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id");

-- merge (target)
MERGE INTO ONLY "sales"."orders" AS "orders" USING "pgsluice"."stg_<run>_1" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("orders"."id", "orders"."note", "orders"."updated_at"), ROW("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."updated_at")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "note" = "pgsluice_staged"."note", "updated_at" = "pgsluice_staged"."updated_at"
WHEN NOT MATCHED THEN INSERT ("id", "note", "updated_at") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."note", "pgsluice_staged"."updated_at");

-- watermark (target)
SELECT top.nulls, top.future, top.late, (GREATEST(top.value, '2024-01-01 00:00:00+00'::timestamp with time zone))::text, FALSE
FROM (SELECT pg_catalog.count(*) FILTER (WHERE "updated_at" IS NULL) AS nulls, pg_catalog.count(*) FILTER (WHERE ("updated_at" OPERATOR(pg_catalog.>) '2024-06-01 12:00:00+00'::timestamp with time zone)) AS future, pg_catalog.count(*) FILTER (WHERE "updated_at" OPERATOR(pg_catalog.<) '2024-01-01 00:00:00+00'::timestamp with time zone) AS late, pg_catalog.max("updated_at") FILTER (WHERE NOT ("updated_at" OPERATOR(pg_catalog.>) '2024-06-01 12:00:00+00'::timestamp with time zone)) AS value FROM "pgsluice"."stg_<run>_1") AS top;
