"""pgsluice copies tables between PostgreSQL servers: staged, counted, checked, passed on in one transaction."""
