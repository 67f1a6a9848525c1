-- A shop for music: quoted names in mixed case, varchar with lengths, numeric prices, a worker above each worker, lists of
-- tunes as a table of two keys.
CREATE SCHEMA "Music";
SET search_path = "Music";
CREATE TABLE "Performer" ("PerformerId" int PRIMARY KEY, "Name" varchar(120));
CREATE TABLE "Record" (
  "RecordId" int PRIMARY KEY, "Title" varchar(160) NOT NULL, "PerformerId" int NOT NULL REFERENCES "Performer");
CREATE INDEX ON "Record" ("PerformerId");
CREATE TABLE "Style" ("StyleId" int PRIMARY KEY, "Name" varchar(120));
CREATE TABLE "Carrier" ("CarrierId" int PRIMARY KEY, "Name" varchar(120));
CREATE TABLE "Tune" (
  "TuneId" int PRIMARY KEY, "Name" varchar(200) NOT NULL, "RecordId" int REFERENCES "Record",
  "CarrierId" int NOT NULL REFERENCES "Carrier", "StyleId" int REFERENCES "Style", "Writer" varchar(220),
  "Milliseconds" int NOT NULL, "Bytes" int, "UnitPrice" numeric(10,2) NOT NULL);
CREATE TABLE "List" ("ListId" int PRIMARY KEY, "Name" varchar(120));
CREATE TABLE "ListTune" (
  "ListId" int NOT NULL REFERENCES "List", "TuneId" int NOT NULL REFERENCES "Tune", PRIMARY KEY ("ListId", "TuneId"));
CREATE TABLE "Worker" (
  "WorkerId" int PRIMARY KEY, "LastName" varchar(20) NOT NULL, "Title" varchar(30), "ReportsTo" int REFERENCES "Worker",
  "BirthDate" timestamp, "HireDate" timestamp, "Email" varchar(60));
CREATE TABLE "Buyer" (
  "BuyerId" int PRIMARY KEY, "FirstName" varchar(40) NOT NULL, "Company" varchar(80), "PostalCode" varchar(10),
  "Email" varchar(60) NOT NULL, "SupportedBy" int REFERENCES "Worker");
CREATE TABLE "Bill" (
  "BillId" int PRIMARY KEY, "BuyerId" int NOT NULL REFERENCES "Buyer", "BillDate" timestamp NOT NULL,
  "City" varchar(40), "Total" numeric(10,2) NOT NULL);
CREATE TABLE "BillLine" (
  "BillLineId" int PRIMARY KEY, "BillId" int NOT NULL REFERENCES "Bill", "TuneId" int NOT NULL REFERENCES "Tune",
  "UnitPrice" numeric(10,2) NOT NULL, "Quantity" int NOT NULL);
