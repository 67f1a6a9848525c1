-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "note" text) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "note" FROM ONLY "sales"."orders" WHERE (((pg_catalog.age(xmin) OPERATOR(pg_catalog.>=) 0 AND pg_catalog.age(xmin) OPERATOR(pg_catalog.<=) pg_catalog.age('500'::pg_catalog.xid8::pg_catalog.xid)))
 AND NOT ((pg_catalog.age(xmin) OPERATOR(pg_catalog.>=) 0 AND pg_catalog.age(xmin) OPERATOR(pg_catalog.<=) pg_catalog.age('1000'::pg_catalog.xid8::pg_catalog.xid))))) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "note") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "sales"."orders" IN ROW EXCLUSIVE MODE;

-- merge (target)
INSERT INTO "sales"."orders" ("id", "note") OVERRIDING SYSTEM VALUE SELECT "id", "note" FROM "pgsluice"."stg_<run>_1";
