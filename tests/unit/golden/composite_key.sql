-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "region" ext.citext, "note" text) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "region", "note" FROM ONLY "sales"."orders" WHERE TRUE) TO STDOUT (FORMAT text);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "region", "note") FROM STDIN (FORMAT text);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- delete guard (target)
SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE "pgsluice_staged"."id" IS NULL)
FROM (SELECT * FROM ONLY "sales"."orders" AS "orders" WHERE TRUE) AS "orders"
LEFT JOIN "pgsluice"."stg_<run>_1" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id" AND "orders"."region" OPERATOR("ext".=) "pgsluice_staged"."region";

-- delete (target)
DELETE FROM ONLY "sales"."orders" AS "orders" WHERE TRUE
AND NOT EXISTS (SELECT FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged" WHERE "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id" AND "orders"."region" OPERATOR("ext".=) "pgsluice_staged"."region");

-- merge (target)
MERGE INTO ONLY "sales"."orders" AS "orders" USING "pgsluice"."stg_<run>_1" AS "pgsluice_staged" ON "orders"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id" AND "orders"."region" OPERATOR("ext".=) "pgsluice_staged"."region"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("orders"."id", "orders"."region", "orders"."note"), ROW("pgsluice_staged"."id", "pgsluice_staged"."region", "pgsluice_staged"."note")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "region" = "pgsluice_staged"."region", "note" = "pgsluice_staged"."note"
WHEN NOT MATCHED THEN INSERT ("id", "region", "note") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."region", "pgsluice_staged"."note");
