-- A trading company: character keys of fixed length, smallint and real, pictures, workers below workers, tables of two
-- keys, and two without any key, of which one refers to others.
CREATE SCHEMA trading;
SET search_path = trading;
CREATE TABLE kinds (kind_id smallint PRIMARY KEY, name varchar(15) NOT NULL, description text, picture bytea);
CREATE TABLE segments (segment_id bpchar NOT NULL PRIMARY KEY, description text);
CREATE TABLE buyers (
  buyer_id character(5) NOT NULL PRIMARY KEY, company varchar(40) NOT NULL, contact varchar(30), city varchar(15),
  region varchar(15), phone varchar(24));
CREATE TABLE buyer_segments (
  buyer_id character(5) NOT NULL REFERENCES buyers, segment_id bpchar NOT NULL REFERENCES segments,
  PRIMARY KEY (buyer_id, segment_id));
CREATE TABLE workers (
  worker_id smallint PRIMARY KEY, last_name varchar(20) NOT NULL, birth_date date, hire_date date, photo bytea, notes text,
  reports_to smallint REFERENCES workers, photo_path varchar(255));
CREATE TABLE suppliers (supplier_id smallint PRIMARY KEY, company varchar(40) NOT NULL, homepage text);
CREATE TABLE goods (
  good_id smallint PRIMARY KEY, name varchar(40) NOT NULL, supplier_id smallint REFERENCES suppliers,
  kind_id smallint REFERENCES kinds, unit_price real, in_stock smallint, discontinued int NOT NULL);
CREATE TABLE regions (region_id smallint PRIMARY KEY, description varchar(60) NOT NULL);
CREATE TABLE territories (
  territory_id varchar(20) NOT NULL PRIMARY KEY, description varchar(60) NOT NULL,
  region_id smallint NOT NULL REFERENCES regions);
CREATE TABLE worker_territories (
  worker_id smallint NOT NULL REFERENCES workers, territory_id varchar(20) NOT NULL REFERENCES territories,
  PRIMARY KEY (worker_id, territory_id));
CREATE TABLE carriers (carrier_id smallint PRIMARY KEY, company varchar(40) NOT NULL, phone varchar(24));
CREATE TABLE orders (
  order_id smallint PRIMARY KEY, buyer_id character(5) REFERENCES buyers, worker_id smallint REFERENCES workers,
  order_date date, shipped date, via smallint REFERENCES carriers, freight real, ship_name varchar(40));
CREATE TABLE order_lines (
  order_id smallint NOT NULL REFERENCES orders, good_id smallint NOT NULL REFERENCES goods, unit_price real NOT NULL,
  quantity smallint NOT NULL, discount real NOT NULL, PRIMARY KEY (order_id, good_id));
CREATE TABLE states (state_id smallint, name varchar(100), abbreviation varchar(2));
CREATE TABLE remarks (order_id smallint REFERENCES orders, said_at timestamp, remark text);
