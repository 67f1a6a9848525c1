-- A day in the sample shop, as one statement: it changes every table, no row twice, and returns what it did as
-- (table, inserted, updated, deleted). No table loses 10 % of its rows, so the delete guard lets all of it pass.

WITH
new_customers AS (
  INSERT INTO shop.customers (email, full_name, interests, joined_at)
  SELECT 'new' || customer_id || '@example.com', '새 고객', '{}', now()
  FROM shop.customers WHERE customer_id % 400 = 2 RETURNING 1),
changed_customers AS (
  UPDATE shop.customers SET interests = interests || '{tea,"{}"}', profile = profile || '{"points": null}'
  WHERE customer_id % 200 = 1 RETURNING 1),
new_products AS (
  INSERT INTO shop.products
  SELECT max(product_id) + i, 'New product ' || i, 9.90, NULL, '{}'
  FROM shop.products, generate_series(1, 3) AS i GROUP BY i RETURNING 1),
changed_products AS (
  UPDATE shop.products SET price = price + 0.50 WHERE product_id % 50 = 1 RETURNING 1),
new_orders AS (
  INSERT INTO shop.orders (customer_id, status, history, placed_at)
  SELECT customer_id, 'placed', '{placed}', now() FROM shop.orders WHERE order_id % 200 = 3 RETURNING order_id),
changed_orders AS (
  UPDATE shop.orders SET status = 'returned', history = history || status WHERE order_id % 100 = 1 RETURNING 1),
gone_orders AS (
  DELETE FROM shop.orders WHERE order_id % 200 = 0 RETURNING 1),
new_lines AS (
  INSERT INTO shop.order_lines SELECT order_id, 1, 1, 2, 12.34 FROM new_orders RETURNING 1),
changed_lines AS (
  UPDATE shop.order_lines SET quantity = quantity + 1 WHERE order_id % 100 = 2 AND line_no = 1 RETURNING 1),
gone_lines AS (
  DELETE FROM shop.order_lines WHERE order_id % 200 = 0 RETURNING 1),
new_payments AS (
  INSERT INTO shop."Payments" SELECT gen_random_uuid(), order_id, 24.680, now(), NULL FROM new_orders RETURNING 1),
-- 2.002 and 2.0020 are equal numbers and different values: they count as a change
changed_payments AS (
  UPDATE shop."Payments" SET "amount" = "amount"::numeric(20,4) WHERE "orderId" IN (2, 4) RETURNING 1),
gone_payments AS (
  DELETE FROM shop."Payments" WHERE "orderId" % 200 = 0 RETURNING 1),
new_branches AS (
  INSERT INTO "매장"."지점" VALUES (41, '새 지점', '{월}', current_date) RETURNING 1),
changed_branches AS (
  UPDATE "매장"."지점" SET "지점명" = '본점' WHERE "지점번호" = 1 RETURNING 1),
gone_branches AS (
  DELETE FROM "매장"."지점" WHERE "지점번호" = 40 RETURNING 1),
new_stock AS (
  INSERT INTO "매장"."재고" SELECT 41, i, 10, '개점', now() FROM generate_series(1, 20) AS i RETURNING 1),
changed_stock AS (
  UPDATE "매장"."재고" SET "수량" = "수량" + 5, "갱신시각" = now()
  WHERE "상품번호" % 100 = 1 AND "지점번호" <> 40 RETURNING 1),
gone_stock AS (
  DELETE FROM "매장"."재고" WHERE "지점번호" = 40 RETURNING 1)
SELECT 'shop.customers', (SELECT count(*) FROM new_customers), (SELECT count(*) FROM changed_customers), 0
UNION ALL
SELECT 'shop.products', (SELECT count(*) FROM new_products), (SELECT count(*) FROM changed_products), 0
UNION ALL
SELECT 'shop.orders', (SELECT count(*) FROM new_orders), (SELECT count(*) FROM changed_orders),
  (SELECT count(*) FROM gone_orders)
UNION ALL
SELECT 'shop.order_lines', (SELECT count(*) FROM new_lines), (SELECT count(*) FROM changed_lines),
  (SELECT count(*) FROM gone_lines)
UNION ALL
SELECT 'shop.Payments', (SELECT count(*) FROM new_payments), (SELECT count(*) FROM changed_payments),
  (SELECT count(*) FROM gone_payments)
UNION ALL
SELECT '매장.지점', (SELECT count(*) FROM new_branches), (SELECT count(*) FROM changed_branches),
  (SELECT count(*) FROM gone_branches)
UNION ALL
SELECT '매장.재고', (SELECT count(*) FROM new_stock), (SELECT count(*) FROM changed_stock),
  (SELECT count(*) FROM gone_stock)
ORDER BY 1
