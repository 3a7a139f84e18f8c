-- What a delivery that succeeds at once writes, by table and index: :batches batches of a hundred messages to 200 endpoints of
-- twenty tenants, each accepted in one transaction and recorded in another, five batches later.
CREATE EXTENSION pg_walinspect;
CREATE FUNCTION new_id(millis bigint, place int) RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT (lpad(to_hex(millis), 12, '0') || '7' || lpad(to_hex(place), 3, '0') || '8' || substr(md5(random()::text), 1, 15))::uuid
$$;
CREATE TEMPORARY TABLE under_way (batch int, place int, id uuid, message uuid, endpoint bigint);

CREATE PROCEDURE deliver(batches int) LANGUAGE plpgsql AS $$
DECLARE done uuid[];
BEGIN
  FOR this IN 1..batches + 5 LOOP
    IF this <= batches THEN
      INSERT INTO under_way SELECT this, i, new_id(1764000000000 + 20 * this, 2 * i + 1), new_id(1764000000000 + 20 * this, 2 * i), 1 + floor(random() * 200)
        FROM generate_series(1, 100) i;
      INSERT INTO messages (id, tenant_id, event_type, channels, request_id, created_at)
        SELECT message, tenant(endpoint), 'order.created', '[]', 'req_01k8z3v5w0f8k9qj2m4n6p8r0t', clock_timestamp()
        FROM under_way WHERE batch = this ORDER BY place;
      INSERT INTO message_payloads (message_id, payload)
        SELECT message, convert_to(repeat('{"id":1}', 25), 'UTF8') FROM under_way WHERE batch = this ORDER BY place;
      INSERT INTO deliveries (id, tenant_id, kind, message_id, endpoint_id, status, attempt_count, created_at)
        SELECT id, tenant(endpoint), 'webhook', message, id(2, endpoint), 'pending', 0, clock_timestamp()
        FROM under_way WHERE batch = this ORDER BY place;
      COMMIT;
    END IF;
    SELECT array_agg(id ORDER BY place) INTO done FROM under_way WHERE batch = this - 5;
    IF done IS NOT NULL THEN
      WITH given(delivery_id, seen, attempts, new_status, next_at, why, class, finished) AS (SELECT id, 0, 1, 'delivered', NULL::timestamptz,
        NULL::text, NULL::text, clock_timestamp() FROM unnest(done) id)
        UPDATE deliveries SET status = new_status, attempt_count = attempts, next_attempt_at = next_at, dispatch_at = next_at, reason = why,
        error_class = class, finished_at = finished, parked_for = NULL, dead_at = CASE new_status WHEN 'dead' THEN finished END
        FROM given WHERE id = delivery_id AND attempt_count = seen AND status = 'pending';
      INSERT INTO attempts (delivery_id, number, id, tenant_id, started_at, duration_ms, outcome, http_status, response_snippet, request_id)
        SELECT id, 1, new_id(1764000000000 + 20 * this, place), tenant(endpoint), clock_timestamp(), 3, 'delivered', 200, 'ok',
        'req_01k8z3v5w0f8k9qj2m4n6p8r0t' FROM under_way WHERE batch = this - 5 ORDER BY place ON CONFLICT (delivery_id, number) DO NOTHING;
      COMMIT;
    END IF;
  END LOOP;
END $$;

-- Whole pages go into the WAL at their first change after a checkpoint; they are left out, for how many there are depends on
-- how much a checkpoint's time sees.
CREATE FUNCTION written(first pg_lsn, last pg_lsn, deliveries int) RETURNS TABLE (relation text, bytes numeric) LANGUAGE sql AS $$
  SELECT coalesce(pg_filenode_relation(0, changed.file)::text, 'others') AS relation,
    round(sum(record_length - fpi_length)::numeric / deliveries) AS bytes
  FROM pg_get_wal_records_info(first, last),
    regexp_match(block_ref, 'rel \d+/(\d+)/(\d+)') place,
    LATERAL (SELECT CASE place[1]::oid WHEN (SELECT oid FROM pg_database WHERE datname = current_database()) THEN place[2]::oid ELSE 0 END AS file) changed
  WHERE place IS NOT NULL GROUP BY 1 HAVING sum(record_length - fpi_length) >= deliveries ORDER BY 2 DESC
$$;

CALL deliver(10);
TRUNCATE under_way;
CHECKPOINT;
SELECT pg_stat_force_next_flush(), pg_stat_reset() \g /dev/null
SELECT pg_current_wal_insert_lsn() AS first \gset
CALL deliver(:batches);
SELECT pg_current_wal_flush_lsn() AS last, pg_stat_force_next_flush() \gset
CREATE TABLE grown AS SELECT * FROM written(:'first', :'last', :batches * 100);
INSERT INTO grown SELECT 'blocks', round(sum(coalesce(heap_blks_hit + heap_blks_read, 0) + coalesce(idx_blks_hit + idx_blks_read, 0)) / (:batches * 100), 1)
  FROM pg_statio_user_tables WHERE relname ~ '^(messages|message_payloads|deliveries|attempts)_';
INSERT INTO grown SELECT 'hot', round(100.0 * sum(n_tup_hot_upd) / sum(n_tup_upd)) FROM pg_stat_user_tables WHERE relname LIKE 'deliveries\_%';
