-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "note" text) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note" FROM ONLY "sales"."orders" WHERE (
created_at > '2024-01-01' -- from 2024
) AND (NOT ((pg_catalog.age(xmin) OPERATOR(pg_catalog.>=) 0 AND pg_catalog.age(xmin) OPERATOR(pg_catalog.<=) pg_catalog.age('1000'::pg_catalog.xid8::pg_catalog.xid))))) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "sales"."orders" IN SHARE ROW EXCLUSIVE MODE;

-- delete guard (target)
SELECT pg_catalog.count(*) FROM ONLY "sales"."orders" AS "orders" WHERE (
created_at > '2024-01-01' -- from 2024
);

-- delete (target)
DELETE FROM ONLY "sales"."orders" AS "orders" WHERE (
created_at > '2024-01-01' -- from 2024
);

-- merge (target)
INSERT INTO "sales"."orders" ("id", "note") OVERRIDING SYSTEM VALUE SELECT "id", "note" FROM "pgsluice"."stg_<run>_1";
