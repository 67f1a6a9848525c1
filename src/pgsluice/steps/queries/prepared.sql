-- How many prepared transactions of this database wait? When they began is not known.
SELECT count(*) FROM pg_prepared_xacts p WHERE p.database = current_database()
