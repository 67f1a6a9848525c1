-- Lets the open transaction build keys and indexes in 256 MiB of memory, or in more where the server gives it anyway.
SELECT set_config(name, greatest(setting::bigint, 256 << 10)::text || 'kB', true)
  FROM pg_settings
 WHERE name = 'maintenance_work_mem'
