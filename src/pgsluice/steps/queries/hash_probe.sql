-- Hashes of known values, by the functions that hash rows: one number for each kind of value.
SELECT hash_record_extended(ROW(true), 0),
       hash_record_extended(ROW(12345::smallint, -1234567890::integer), 0),
       hash_record_extended(ROW(int8send(1234567890123456789)), 0),
       hash_record_extended(ROW(numeric_send(-12345678901234567890.1230), numeric_send('NaN')), 0),
       hash_record_extended(ROW(float4send(-1.5::real), float8send('-0'::float8)), 0),
       hash_record_extended(ROW('some text'::text COLLATE "C", 'x'::character(3) COLLATE "C"), 0),
       hash_record_extended(ROW('\x00ff'::bytea, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid), 0),
       hash_record_extended(ROW('2024-02-29'::date, timestamptz_send('2024-02-29 12:34:56.789+00')), 0),
       hash_record_extended(ROW(time_send('12:34:56.7'), timetz_send('12:34:56.7+09'), interval_send('1 mon 2 days')), 0),
       hash_record_extended(ROW('10.1.2.3/8'::inet, '10.0.0.0/8'::cidr, '08:00:2b:01:02:03'::macaddr), 0),
       hash_record_extended(ROW('08:00:2b:01:02:03:04:05'::macaddr8, 'c'::"char"), 0),
       hash_record_extended(ROW(NULL::text COLLATE "C", 1), 0),
       hashtextextended('-1234567890123456789'::text COLLATE "C", 1)
