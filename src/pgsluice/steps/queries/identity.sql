-- What tells this cluster apart from every other, and from itself before a failover?
SELECT s.system_identifier::text, c.timeline_id
  FROM pg_control_system() s, pg_control_checkpoint() c
