-- Fills an empty database with :n deliveries, and what belongs to them.
--
-- Twenty busy tenants with ten endpoints each; tenant 21 has one row in ten thousand; tenant 22 sent one row in twenty until
-- a tenth of all was there, and nothing since.
SET synchronous_commit = off;
SELECT format('CREATE FUNCTION n() RETURNS bigint LANGUAGE sql IMMUTABLE AS %L', 'SELECT ' || :n || '::bigint') \gexec
-- Ids that grow with the row's number, as those of the product grow with time: version 7, one a millisecond.
CREATE FUNCTION id(kind int, i bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex(1700000000000 + i), 12, '0') || '7' || lpad(to_hex(kind), 3, '0') || '8000' || lpad(to_hex(i), 12, '0'))::uuid
$$;
CREATE FUNCTION ids(kind int, first bigint, count int, step int DEFAULT 1) RETURNS uuid[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg(id(kind, i) ORDER BY i) FROM generate_series(first, first + (count - 1) * step, step) i
$$;
CREATE FUNCTION endpoint(i bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN i % 10000 = 7 THEN 201 WHEN i % 20 = 3 AND i <= n() / 10 THEN 202 ELSE i % 200 + 1 END
$$;
CREATE FUNCTION tenant(endpoint bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT id(1, CASE WHEN endpoint > 200 THEN endpoint - 180 ELSE endpoint % 20 + 1 END)
$$;
-- So many of a thing.
CREATE FUNCTION times(value anyelement, count int) RETURNS anyarray LANGUAGE sql IMMUTABLE AS 'SELECT array_fill(value, ARRAY[count])';
-- The last hundred idempotency keys with their tenants, a hundred that nobody has used, and the numbers of locks.
CREATE FUNCTION known_tenants() RETURNS uuid[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg(tenant(endpoint(i)) ORDER BY i) FROM generate_series(n() / 2 - 99, n() / 2) i
$$;
CREATE FUNCTION known_keys() RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg('POST /v1/messages ' || md5(i::text) ORDER BY i) FROM generate_series(n() / 2 - 99, n() / 2) i
$$;
CREATE FUNCTION new_keys(run int) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg('POST /v1/messages ' || md5(run || 'new' || i)) FROM generate_series(1, 100) i
$$;
CREATE FUNCTION lock_numbers(run int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT string_agg((run * 1000 + i)::text, ',') FROM generate_series(1, 100) i
$$;

INSERT INTO tenants (id, name, created_at) SELECT id(1, i), 'tenant ' || i, now() FROM generate_series(1, 22) i;
INSERT INTO api_keys (id, tenant_id, name, prefix, secret_hash, scopes, created_at)
  SELECT id(9, i), id(1, i), 'key', 'rp_', '\x00', '["send"]', now() FROM generate_series(1, 22) i;
INSERT INTO event_types (id, tenant_id, name, created_at)
  SELECT id(10, i), id(1, i % 22 + 1), 'order.' || i / 22, now() FROM generate_series(0, 439) i;
INSERT INTO endpoints (id, tenant_id, url, event_types, channels, headers, status, created_at, updated_at)
  SELECT id(2, i), tenant(i), 'https://example.test/' || i, '[]', '[]', '[]', 'active', now(), now() FROM generate_series(1, 202) i;
INSERT INTO endpoint_secrets (id, tenant_id, endpoint_id, secret, created_at)
  SELECT id(3, i), tenant(i), id(2, i), 'whsec_x', now() FROM generate_series(1, 202) i;
-- The ids are of 2023, for which the product makes no partitions.
SELECT format('CREATE TABLE %1$s_past (LIKE %1$s INCLUDING ALL)%2$s; ALTER TABLE %1$s ATTACH PARTITION %1$s_past FOR VALUES '
    'FROM (MINVALUE) TO (%3$L)', relname, CASE relname WHEN 'deliveries' THEN ' WITH (fillfactor = 48)' END, '019b0000-0000-0000-0000-000000000000')
  FROM pg_class WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace \gexec
INSERT INTO messages (id, tenant_id, event_type, channels, request_id, created_at)
  SELECT id(4, i), tenant(endpoint(2 * i - 1)), 'order.' || i % 20, '[]', id(8, i)::text, now()
  FROM generate_series(1, :n / 2) i;
INSERT INTO message_payloads (message_id, payload)
  SELECT id(4, i), convert_to(repeat('{"id":1}', 25), 'UTF8') FROM generate_series(1, :n / 2) i;
INSERT INTO emails (id, tenant_id, sender, to_recipients, cc_recipients, bcc_recipients, subject, headers, tags, request_id, created_at)
  SELECT id(5, i), tenant(endpoint(100 * i)), 'a@example.test', '[]', '[]', '[]', 's', '[]', '[]', id(8, i)::text, now()
  FROM generate_series(1, :n / 100) i;
INSERT INTO email_bodies (email_id, sealed, text) SELECT id(5, i), false, 't' FROM generate_series(1, :n / 100) i;
-- One in a hundred is an email. One in a thousand waits for a retry, one in a thousand is dead, one in two hundred is a replay
-- that waits. The last eight hundred were just accepted. Endpoint 5's circuit is open since a tenth of all was there, and with
-- it waits what it was sent before; endpoint 6 holds back little.
INSERT INTO deliveries (id, tenant_id, kind, message_id, endpoint_id, email_id, recipient, status, attempt_count, dispatch_at,
    reason, error_class, created_at, finished_at, dead_at, replayed_at, parked_for)
  SELECT id(6, i), tenant(endpoint(i)), CASE WHEN mail THEN 'email' ELSE 'webhook' END,
    CASE WHEN NOT mail THEN id(4, (i + 1) / 2) END, CASE WHEN NOT mail THEN id(2, endpoint(i)) END,
    CASE WHEN mail THEN id(5, i / 100) END, CASE WHEN mail THEN 'ann@example.test' END,
    CASE WHEN dead THEN 'dead' WHEN retry OR replay OR new OR parked THEN 'pending' ELSE 'delivered' END,
    CASE WHEN new OR parked THEN 0 ELSE 1 END,
    CASE WHEN retry THEN now() - interval '1 minute' + i * interval '1 ms' WHEN replay THEN now() - interval '2 minutes' END,
    CASE WHEN dead THEN 'rejected' END, CASE WHEN dead THEN 'http_4xx' END, now(),
    CASE WHEN NOT (retry OR replay OR new OR parked) THEN now() END, CASE WHEN dead THEN now() END,
    CASE WHEN replay THEN now() END, CASE WHEN parked THEN id(2, endpoint(i)) END
  FROM (SELECT i, i % 100 = 0 AS mail, i % 1000 = 7 AS dead, i % 1000 = 1 AS retry, i % 200 = 9 AS replay, i > :n - 800 AS new,
    i % 100 > 0 AND (endpoint(i) = 5 AND i < :n / 10 OR endpoint(i) = 6 AND i < :n / 100) AS parked
    FROM generate_series(1, :n) i) rows;
INSERT INTO attempts (delivery_id, number, id, tenant_id, started_at, duration_ms, outcome, http_status, response_snippet, request_id)
  SELECT id(6, i), 1, id(7, i), tenant(endpoint(i)), now(), 5, 'delivered', 200, 'ok', id(8, i)::text FROM generate_series(1, :n - 800) i;
INSERT INTO circuits (id, tenant_id, state, failures, epoch, open_seconds, probes, successes, warned, history, updated_at, release_at)
  SELECT id(2, i), tenant(i), 'open', 10, 1, 30, 0, 0, 0, '[]', now(), now() FROM generate_series(1, 200) i;
-- A day's keys, of which an hour's have expired.
INSERT INTO idempotency_keys (tenant_id, key, fingerprint, response, created_at, expires_at)
  SELECT tenant(endpoint(i)), 'POST /v1/messages ' || md5(i::text), sha256('x'), convert_to(repeat('{"id":1}', 30), 'UTF8'), now(),
    now() - interval '1 hour' + i * interval '1 day' / (:n / 2) FROM generate_series(1, :n / 2) i;
VACUUM ANALYZE;
