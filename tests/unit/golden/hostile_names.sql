-- hash (source)
SELECT bucket, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text
FROM (SELECT (pg_catalog.hashint8extended("id", 0::pg_catalog.int8) OPERATOR(pg_catalog.&) 15::pg_catalog.int8) AS bucket, pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, "a""b" COLLATE "C", "it's" COLLATE "C", "100%s" COLLATE "C", "{}" COLLATE "C", "{0}{table}" COLLATE "C", "two
lines" COLLATE "C", "<script>alert(1)</script>" COLLATE "C", "주문내역이천이십사년십이월의모든것과끝넷다" COLLATE "C", "-- x" COLLATE "C", "\" COLLATE "C"), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id", "a""b", "it's", "100%s", "{}", "{0}{table}", "two
lines", "<script>alert(1)</script>", "주문내역이천이십사년십이월의모든것과끝넷다", "-- x", "\" FROM ONLY "s"".%s{}"."<script>
" WHERE (
"{}" LIKE '100%'
)) AS compared
UNION ALL SELECT 0::pg_catalog.int8, 0::pg_catalog.int8 FROM (SELECT "id", "a""b", "it's", "100%s", "{}", "{0}{table}", "two
lines", "<script>alert(1)</script>", "주문내역이천이십사년십이월의모든것과끝넷다", "-- x", "\" FROM ONLY "s"".%s{}"."<script>
" WHERE (
"{}" LIKE '100%'
)) AS compared WHERE FALSE) AS hashed GROUP BY bucket;

-- hash (target)
SELECT bucket, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text
FROM (SELECT (pg_catalog.hashint8extended("id", 0::pg_catalog.int8) OPERATOR(pg_catalog.&) 15::pg_catalog.int8) AS bucket, pg_catalog.hashtextextended(pg_catalog.hash_record_extended(ROW("id", "id" OPERATOR(pg_catalog.>>) 32, "a""b" COLLATE "C", "it's" COLLATE "C", "100%s" COLLATE "C", "{}" COLLATE "C", "{0}{table}" COLLATE "C", "two
lines" COLLATE "C", "<script>alert(1)</script>" COLLATE "C", "주문내역이천이십사년십이월의모든것과끝넷다" COLLATE "C", "-- x" COLLATE "C", "\" COLLATE "C"), 0)::pg_catalog.text COLLATE "C", 1) AS hash FROM (SELECT "id", "a""b", "it's", "100%s", "{}", "{0}{table}", "two
lines", "<script>alert(1)</script>", "주문내역이천이십사년십이월의모든것과끝넷다", "-- x", "\" FROM ONLY "주문내역이천이십사년십이월의모든것"."주문내역이천이십사년십이월의모든것과끝넷다" AS "<script>
" WHERE (
"{}" LIKE '100%'
)) AS compared
UNION ALL SELECT 0::pg_catalog.int8, 0::pg_catalog.int8 FROM (SELECT "id", "a""b", "it's", "100%s", "{}", "{0}{table}", "two
lines", "<script>alert(1)</script>", "주문내역이천이십사년십이월의모든것과끝넷다", "-- x", "\" FROM ONLY "주문내역이천이십사년십이월의모든것"."주문내역이천이십사년십이월의모든것과끝넷다" AS "<script>
" WHERE (
"{}" LIKE '100%'
)) AS compared WHERE FALSE) AS hashed GROUP BY bucket;

-- staging (target)
CREATE UNLOGGED TABLE "pgsluice"."stg_<run>_1" ("id" bigint, "a""b" text, "it's" text, "100%s" text, "{}" text, "{0}{table}" text, "two
lines" text, "<script>alert(1)</script>" text, "주문내역이천이십사년십이월의모든것과끝넷다" text, "-- x" text, "\" text) WITH (autovacuum_enabled = false);

-- relay (source)
COPY (SELECT "id", "a""b", "it's", "100%s", "{}", "{0}{table}", "two
lines", "<script>alert(1)</script>", "주문내역이천이십사년십이월의모든것과끝넷다", "-- x", "\" FROM ONLY "s"".%s{}"."<script>
" WHERE (
"{}" LIKE '100%'
)) TO STDOUT (FORMAT binary);

-- relay (target)
COPY "pgsluice"."stg_<run>_1" ("id", "a""b", "it's", "100%s", "{}", "{0}{table}", "two
lines", "<script>alert(1)</script>", "주문내역이천이십사년십이월의모든것과끝넷다", "-- x", "\") FROM STDIN (FORMAT binary);

-- lock (target)
LOCK TABLE "주문내역이천이십사년십이월의모든것"."주문내역이천이십사년십이월의모든것과끝넷다" IN SHARE ROW EXCLUSIVE MODE;

-- delete guard (target)
CREATE TEMPORARY TABLE "pg_temp"."stg_<run>_1_gone" ON COMMIT DROP AS
SELECT "<script>
".ctid AS place FROM ONLY "주문내역이천이십사년십이월의모든것"."주문내역이천이십사년십이월의모든것과끝넷다" AS "<script>
" WHERE (
"{}" LIKE '100%'
)
AND NOT EXISTS (SELECT FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged" WHERE "<script>
"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id");

-- delete (target)
DELETE FROM ONLY "주문내역이천이십사년십이월의모든것"."주문내역이천이십사년십이월의모든것과끝넷다" AS "<script>
" USING "pg_temp"."stg_<run>_1_gone" AS "pgsluice_staged" WHERE "<script>
".ctid = "pgsluice_staged".place;

-- compare (target)
CREATE TEMPORARY TABLE "pg_temp"."stg_<run>_1_delta" ON COMMIT DROP AS
SELECT "pgsluice_staged"."id", "pgsluice_staged"."a""b", "pgsluice_staged"."it's", "pgsluice_staged"."100%s", "pgsluice_staged"."{}", "pgsluice_staged"."{0}{table}", "pgsluice_staged"."two
lines", "pgsluice_staged"."<script>alert(1)</script>", "pgsluice_staged"."주문내역이천이십사년십이월의모든것과끝넷다", "pgsluice_staged"."-- x", "pgsluice_staged"."\" FROM "pgsluice"."stg_<run>_1" AS "pgsluice_staged"
WHERE NOT EXISTS (SELECT FROM ONLY "주문내역이천이십사년십이월의모든것"."주문내역이천이십사년십이월의모든것과끝넷다" AS "<script>
" WHERE "<script>
"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id" AND NOT (pg_catalog.record_image_ne(ROW("<script>
"."id", "<script>
"."a""b", "<script>
"."it's", "<script>
"."100%s", "<script>
"."{}", "<script>
"."{0}{table}", "<script>
"."two
lines", "<script>
"."<script>alert(1)</script>", "<script>
"."주문내역이천이십사년십이월의모든것과끝넷다", "<script>
"."-- x", "<script>
"."\"), ROW("pgsluice_staged"."id", "pgsluice_staged"."a""b", "pgsluice_staged"."it's", "pgsluice_staged"."100%s", "pgsluice_staged"."{}", "pgsluice_staged"."{0}{table}", "pgsluice_staged"."two
lines", "pgsluice_staged"."<script>alert(1)</script>", "pgsluice_staged"."주문내역이천이십사년십이월의모든것과끝넷다", "pgsluice_staged"."-- x", "pgsluice_staged"."\"))));

-- merge (target)
MERGE INTO ONLY "주문내역이천이십사년십이월의모든것"."주문내역이천이십사년십이월의모든것과끝넷다" AS "<script>
" USING "pg_temp"."stg_<run>_1_delta" AS "pgsluice_staged" ON "<script>
"."id" OPERATOR("pg_catalog".=) "pgsluice_staged"."id"
WHEN MATCHED AND pg_catalog.record_image_ne(ROW("<script>
"."id", "<script>
"."a""b", "<script>
"."it's", "<script>
"."100%s", "<script>
"."{}", "<script>
"."{0}{table}", "<script>
"."two
lines", "<script>
"."<script>alert(1)</script>", "<script>
"."주문내역이천이십사년십이월의모든것과끝넷다", "<script>
"."-- x", "<script>
"."\"), ROW("pgsluice_staged"."id", "pgsluice_staged"."a""b", "pgsluice_staged"."it's", "pgsluice_staged"."100%s", "pgsluice_staged"."{}", "pgsluice_staged"."{0}{table}", "pgsluice_staged"."two
lines", "pgsluice_staged"."<script>alert(1)</script>", "pgsluice_staged"."주문내역이천이십사년십이월의모든것과끝넷다", "pgsluice_staged"."-- x", "pgsluice_staged"."\")) THEN UPDATE SET "id" = "pgsluice_staged"."id", "a""b" = "pgsluice_staged"."a""b", "it's" = "pgsluice_staged"."it's", "100%s" = "pgsluice_staged"."100%s", "{}" = "pgsluice_staged"."{}", "{0}{table}" = "pgsluice_staged"."{0}{table}", "two
lines" = "pgsluice_staged"."two
lines", "<script>alert(1)</script>" = "pgsluice_staged"."<script>alert(1)</script>", "주문내역이천이십사년십이월의모든것과끝넷다" = "pgsluice_staged"."주문내역이천이십사년십이월의모든것과끝넷다", "-- x" = "pgsluice_staged"."-- x", "\" = "pgsluice_staged"."\"
WHEN NOT MATCHED THEN INSERT ("id", "a""b", "it's", "100%s", "{}", "{0}{table}", "two
lines", "<script>alert(1)</script>", "주문내역이천이십사년십이월의모든것과끝넷다", "-- x", "\") OVERRIDING SYSTEM VALUE VALUES ("pgsluice_staged"."id", "pgsluice_staged"."a""b", "pgsluice_staged"."it's", "pgsluice_staged"."100%s", "pgsluice_staged"."{}", "pgsluice_staged"."{0}{table}", "pgsluice_staged"."two
lines", "pgsluice_staged"."<script>alert(1)</script>", "pgsluice_staged"."주문내역이천이십사년십이월의모든것과끝넷다", "pgsluice_staged"."-- x", "pgsluice_staged"."\");
