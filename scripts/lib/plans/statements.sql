-- Every statement of the hot paths as the product writes it, but with * for lists of all columns.

CREATE FUNCTION editions(of uuid[]) RETURNS bigint[] LANGUAGE sql AS $$
  SELECT array_agg(catalog_edition ORDER BY id) FROM tenants WHERE id = ANY(of)
$$;

-- The connections of shared/src/db/hot.rs.
SET enable_seqscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
-- shared/src/store/accept/columns.rs
CREATE FUNCTION accept_messages() RETURNS text LANGUAGE sql AS $accept$ SELECT $$
  WITH changed AS (SELECT known.tenant FROM UNNEST($9::uuid[], $10::int8[]) AS known(tenant, edition)
    LEFT JOIN tenants ON tenants.id = known.tenant WHERE tenants.catalog_edition IS DISTINCT FROM known.edition),
    stale AS (SELECT tenant FROM changed UNION SELECT tenant FROM UNNEST($9::uuid[]) AS known(tenant)
    WHERE '00000000-0000-7000-8000-000000000001' IN (SELECT tenant FROM changed)),
    keys AS MATERIALIZED (SELECT content, tenant, name, fingerprint, response, expiry, pg_try_advisory_xact_lock(lock) AS locked
    FROM UNNEST($2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::bytea[], $7::timestamptz[], $8::int8[])
    AS given(content, tenant, name, fingerprint, response, expiry, lock)),
    claimed AS (INSERT INTO idempotency_keys (tenant_id, key, fingerprint, sealed, response, created_at, expires_at)
    SELECT tenant, name, fingerprint, false, response, $1, expiry FROM keys WHERE locked AND tenant NOT IN (SELECT tenant FROM stale)
    ON CONFLICT (tenant_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, sealed = excluded.sealed, response = excluded.response,
    created_at = excluded.created_at, expires_at = excluded.expires_at WHERE idempotency_keys.expires_at <= $1 RETURNING tenant_id, key),
    refused AS (SELECT content FROM keys WHERE (tenant, name) NOT IN (SELECT tenant_id, key FROM claimed)),
    stored AS (INSERT INTO messages (id, tenant_id, event_type, channels, metadata, request_id, created_at, deliver_at, expires_at)
    SELECT id, tenant_id, event_type, channels::jsonb, metadata::jsonb, request_id, created_at, deliver_at, expires_at
    FROM UNNEST($18::uuid[], $19::uuid[], $20::text[], $21::text[], $22::text[], $23::text[], $24::timestamptz[], $25::timestamptz[],
    $26::timestamptz[])
    AS new(id, tenant_id, event_type, channels, metadata, request_id, created_at, deliver_at, expires_at)
    WHERE tenant_id NOT IN (SELECT tenant FROM stale) AND id NOT IN (SELECT content FROM refused)),
    kept AS (INSERT INTO message_payloads (message_id, payload) SELECT message_id, payload
    FROM UNNEST($27::uuid[], $28::uuid[], $29::bytea[]) AS new(message_id, tenant_id, payload)
    WHERE tenant_id NOT IN (SELECT tenant FROM stale) AND message_id NOT IN (SELECT content FROM refused)),
    sent AS (INSERT INTO deliveries (id, tenant_id, next_attempt_at, created_at, expires_at, status, attempt_count, dispatch_at, schedule_start,
    kind, message_id, endpoint_id) SELECT id, tenant_id, next_attempt_at, created_at, expires_at, 'pending', 0, next_attempt_at, 0, 'webhook',
    message_id, endpoint_id FROM UNNEST($11::uuid[], $12::uuid[], $13::timestamptz[], $14::timestamptz[], $15::timestamptz[], $16::uuid[],
    $17::uuid[]) AS new(id, tenant_id, next_attempt_at, created_at, expires_at, message_id, endpoint_id)
    WHERE tenant_id NOT IN (SELECT tenant FROM stale) AND message_id NOT IN (SELECT content FROM refused))
    SELECT tenant, true FROM stale UNION ALL SELECT content, false FROM refused $$
$accept$;
CREATE FUNCTION five_times(of uuid[]) RETURNS uuid[] LANGUAGE sql AS $$ SELECT of || of || of || of || of $$;
-- The arguments from $9 on.
CREATE FUNCTION accept_arguments() RETURNS text LANGUAGE sql AS $accept$ SELECT $$
    ids(1, 1, 20), editions(ids(1, 1, 20)), ids(6, n() + 100 * %r, 100), five_times(ids(1, 1, 20)), times(NULL::timestamptz, 100),
    times(now(), 100), times(NULL::timestamptz, 100), ids(4, n() + 100 * %r, 100), ids(2, 1 + %r, 100),
    ids(4, n() + 100 * %r, 100), five_times(ids(1, 1, 20)), times('order.created'::text, 100), times('[]'::text, 100),
    times(NULL::text, 100), times('req_01k8z3v5w0f8k9qj2m4n6p8r0t'::text, 100),
    times(now(), 100), times(NULL::timestamptz, 100), times(NULL::timestamptz, 100),
    ids(4, n() + 100 * %r, 100), five_times(ids(1, 1, 20)), times(convert_to(repeat('{"id":1}', 25), 'UTF8'), 100)) $$
$accept$;
CALL measure('accept: 100 messages with 100 deliveries', accept_messages(),
  $$(now(), '{}'::uuid[], '{}'::uuid[], '{}'::text[], '{}'::bytea[], '{}'::bytea[], '{}'::timestamptz[], '{}'::int8[], $$ || accept_arguments());
CALL measure('accept: 100 messages with 100 deliveries and 100 new keys', accept_messages(),
  $$(now(), ids(4, n() + 100 * %r, 100), times(id(1, 4), 100), new_keys(%r), times(sha256('x'), 100),
    times(convert_to(repeat('{"id":1}', 30), 'UTF8'), 100), times(now() + interval '1 day', 100), string_to_array(lock_numbers(%r), ',')::int8[],
    $$ || accept_arguments());
CALL measure('accept: look up 100 keys that are not free',
  $$WITH given(of_tenant, wanted) AS (SELECT * FROM UNNEST($2::uuid[], $3::text[])) SELECT known.* FROM given
    JOIN idempotency_keys known ON known.tenant_id = of_tenant AND known.key = wanted WHERE known.expires_at > $1$$,
  $$(now(), known_tenants(), known_keys())$$);
-- shared/src/store/load/joined.rs: a slice of 64
CALL measure('load: 64 webhooks with their messages',
  $$SELECT d.id, d.tenant_id, d.message_id, d.endpoint_id, d.attempt_count, d.next_attempt_at, d.dispatch_at, d.error_class, d.created_at, d.replayed_at,
    d.schedule_start, d.parked_for, d.expires_at, d.replay_id, m.event_type,
    CASE row_number() OVER (PARTITION BY d.message_id) WHEN 1 THEN p.payload END, m.request_id, e.xmin::text::int8,
    c.id IS NOT NULL
    FROM UNNEST($1::uuid[]) AS given(id) JOIN deliveries d ON d.id = given.id AND d.id BETWEEN $2 AND $3
    LEFT JOIN messages m ON m.id = d.message_id LEFT JOIN message_payloads p ON p.message_id = m.id
    LEFT JOIN endpoints e ON e.id = d.endpoint_id
    LEFT JOIN (SELECT id FROM circuits WHERE NOT (state = 'closed' AND failures = 0 AND failing_since IS NULL AND pace IS NULL)) c
    ON c.id = d.endpoint_id WHERE d.status = 'pending'$$,
  $$(ids(6, n() - 790, 64), id(6, n() - 790), id(6, n() - 727))$$);
-- shared/src/store/record/delivered.rs: a slice of 100
CALL measure('record: 100 that were delivered',
  $$WITH given AS (SELECT * FROM UNNEST($1::uuid[], $2::int4[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::int4[], $8::int4[],
    $9::text[], $10::text[], $11::uuid[])
    AS given(delivery_id, seen, finished, attempt, tenant, started, took, answer, snippet, request, circuit)),
    done AS (UPDATE deliveries SET status = 'delivered', attempt_count = seen + 1, next_attempt_at = NULL, dispatch_at = NULL, reason = NULL,
    error_class = NULL, finished_at = finished, dead_at = NULL, parked_for = NULL, sending_token = NULL, sending_at = NULL FROM given
    WHERE id = delivery_id AND attempt_count = seen AND status = 'pending' AND replay_id IS NULL AND circuit <> ALL (ARRAY(SELECT id FROM circuits WHERE id = ANY($12)
    AND NOT (state = 'closed' AND failures = 0 AND failing_since IS NULL AND pace IS NULL))) RETURNING given.*),
    kept AS (INSERT INTO attempts (delivery_id, number, id, tenant_id, started_at, duration_ms, outcome, http_status, response_snippet, request_id)
    SELECT delivery_id, seen + 1, attempt, tenant, started, took, 'delivered', answer, snippet, request FROM done)
    SELECT delivery_id FROM done$$,
  $$(ids(6, n() - 899 + 100 * %r, 100), times(0, 100), times(now(), 100), ids(7, n() - 899 + 100 * %r, 100), times(id(1, 4), 100), times(now(), 100),
    times(3, 100), times(200, 100), times('ok'::text, 100), times('req_01k8z3v5w0f8k9qj2m4n6p8r0t'::text, 100),
    ids(2, 301, 20) || ids(2, 301, 20) || ids(2, 301, 20) || ids(2, 301, 20) || ids(2, 301, 20), ids(2, 301, 20))$$);
RESET enable_seqscan;
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET jit;

-- api/src: what a request looks up
CALL measure('accept: API keys', $$SELECT * FROM api_keys WHERE id IN ($1)$$, $$(id(9, 4))$$);
CALL measure('accept: event types',
  $$SELECT id, tenant_id, name, schema_version, archived_at FROM event_types WHERE tenant_id IN ($1) AND name IN ($2)$$,
  $$(id(1, 4), 'order.3')$$);
CALL measure('accept: endpoints', $$SELECT * FROM endpoints WHERE tenant_id IN ($1) AND deleted_at IS NULL AND status <> $2$$,
  $$(id(1, 4), 'disabled')$$);

-- shared/src/store/load, worker/src/load: mails, and endpoints that have changed
CALL measure('load: 64 deliveries',
  $$WITH given(given_id) AS (SELECT * FROM UNNEST($1::uuid[])) SELECT deliveries.* FROM given JOIN deliveries ON id = given_id
    WHERE status = 'pending'$$,
  $$(ids(6, n() - 790, 64))$$);
CALL measure('load: their messages',
  $$WITH given(given_id) AS (SELECT * FROM UNNEST($1::uuid[])) SELECT messages.* FROM given JOIN messages ON id = given_id WHERE TRUE$$,
  $$(ids(4, (n() - 790) / 2, 32))$$);
CALL measure('load: their endpoints', $$SELECT * FROM endpoints WHERE id = ANY($1)$$, $$(ids(2, 1, 20))$$);
CALL measure('load: secrets', $$SELECT * FROM endpoint_secrets WHERE endpoint_id = ANY($1) AND (expires_at IS NULL OR expires_at > $2)$$,
  $$(ids(2, 1, 20), now())$$);
CALL measure('load: circuits',
  $$WITH given(given_id) AS (SELECT * FROM UNNEST($1::uuid[])) SELECT circuits.* FROM given JOIN circuits ON id = given_id WHERE TRUE$$,
  $$(ids(2, 1, 20))$$);

-- shared/src/store/record, worker/src/circuit: a slice of 100 of which something else follows
CALL measure('record: update 100 deliveries',
  $$WITH given(delivery_id, seen, attempts, new_status, next_at, why, class, finished, token) AS (SELECT * FROM UNNEST($1::uuid[], $2::int4[],
    $3::int4[], $4::text[], $5::text::timestamptz[], $6::text::text[], $7::text::text[], $8::text::timestamptz[], $9::text::uuid[]))
    UPDATE deliveries SET status = new_status, attempt_count = attempts, next_attempt_at = next_at, dispatch_at = next_at, reason = why,
    error_class = class, finished_at = finished, dead_at = CASE new_status WHEN 'dead' THEN finished END, parked_for = NULL,
    sending_token = NULL, sending_at = NULL FROM given WHERE id = delivery_id AND attempt_count = seen AND status = 'pending'
    AND (sending_token IS NULL OR sending_token = token) RETURNING id, replay_id$$,
  $$(ids(6, n() - 899 + 100 * %r, 100), times(0, 100), times(1, 100), times('delivered'::text, 100), times(NULL::timestamptz, 100)::text,
    times(NULL::text, 100)::text, times(NULL::text, 100)::text, times(now(), 100)::text, times(NULL::uuid, 100)::text)$$);
CALL measure('record: insert 100 attempts',
  $$INSERT INTO attempts (delivery_id, number, id, tenant_id, started_at, duration_ms, outcome, error_class, http_status, response_snippet, request_id)
    SELECT * FROM UNNEST($1::uuid[], $2::int4[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::int4[], $7::text[], $8::text::text[],
    $9::text::int4[], $10::text::text[], $11::text[]) ON CONFLICT (delivery_id, number) DO NOTHING$$,
  $$(ids(6, n() - 899 + 100 * %r, 100), times(1, 100), ids(7, n() - 899 + 100 * %r, 100), times(id(1, 4), 100), times(now(), 100), times(3, 100),
    times('delivered'::text, 100), times(NULL::text, 100)::text, times(200, 100)::text, times('ok'::text, 100)::text,
    times('req_01k8z3v5w0f8k9qj2m4n6p8r0t'::text, 100))$$);
CALL measure('record: circuits that a success changes',
  $$SELECT id FROM circuits WHERE id = ANY($1) AND (NOT (state = 'closed' AND failures = 0 AND failing_since IS NULL AND pace IS NULL))$$,
  $$(ids(2, 1, 20))$$);
CALL measure('record: lock circuits', $$SELECT * FROM circuits WHERE id = ANY($1) ORDER BY id FOR UPDATE$$, $$(ids(2, 1, 20))$$);
CALL measure('record: save a circuit', $$UPDATE circuits SET failures = $2, failed_at = $3, updated_at = $3 WHERE id = $1$$,
  $$(id(2, 10 + %r), 1, now())$$);

-- shared/src/store/mark.rs
CALL measure('mark: 100 mails',
  $$WITH given(delivery_id, seen, token) AS (SELECT * FROM UNNEST($1::uuid[], $2::int4[], $3::uuid[])) UPDATE deliveries SET sending_token = token,
    sending_at = now() FROM given WHERE id = delivery_id AND attempt_count = seen AND status = 'pending'
    AND (sending_token IS NULL OR sending_token = token) RETURNING id$$,
  $$(ids(6, n() - 899 + 100 * %r, 100), times(0, 100), ids(7, n() - 899 + 100 * %r, 100))$$);

-- shared/src/store/claim.rs
CALL measure('dispatcher: claim webhooks',
  $$WITH due AS MATERIALIZED (SELECT id AS due_id FROM deliveries WHERE dispatch_at > $2 AND dispatch_at <= $3 AND kind = 'webhook' AND replayed_at IS NULL
    ORDER BY dispatch_at LIMIT $4 FOR UPDATE SKIP LOCKED)
    UPDATE deliveries SET dispatch_at = $1 FROM due WHERE id = due_id RETURNING id, tenant_id, endpoint_id$$,
  $$(now() + interval '10 minutes', '1970-01-01', now(), 500)$$);
CALL measure('dispatcher: claim emails',
  $$WITH due AS MATERIALIZED (SELECT id AS due_id FROM deliveries WHERE dispatch_at > $2 AND dispatch_at <= $3 AND kind = 'email' AND replayed_at IS NULL
    ORDER BY dispatch_at LIMIT $4 FOR UPDATE SKIP LOCKED)
    UPDATE deliveries SET dispatch_at = $1 FROM due WHERE id = due_id RETURNING id, tenant_id, endpoint_id$$,
  $$(now() + interval '10 minutes', '1970-01-01', now(), 500)$$);
CALL measure('dispatcher: claim replays',
  $$WITH due AS MATERIALIZED (SELECT id AS due_id FROM deliveries WHERE dispatch_at > $2 AND dispatch_at <= $3 AND replayed_at IS NOT NULL
    ORDER BY dispatch_at LIMIT $4 FOR UPDATE SKIP LOCKED)
    UPDATE deliveries SET dispatch_at = $1 FROM due WHERE id = due_id RETURNING id, tenant_id, endpoint_id$$,
  $$(now() + interval '10 minutes', '1970-01-01', now(), 500)$$);

CALL measure('dispatcher: give 500 back',
  $$WITH given(given_id) AS (SELECT * FROM UNNEST($3::uuid[])) UPDATE deliveries SET dispatch_at = $1 FROM given
    WHERE id = given_id AND dispatch_at = $2$$,
  $$(now(), now() + interval '10 minutes', ids(6, n() - 6000, 500))$$);

-- shared/src/store/find_lost.rs
CALL measure('sweep: the newest 6,000',
  $$SELECT id, tenant_id, endpoint_id, kind, replayed_at FROM deliveries WHERE status = 'pending' AND parked_for IS NULL
    AND dispatch_at IS NULL AND id > $1 AND id < $2 ORDER BY id LIMIT $3$$, $$(id(6, n() - 6000), id(6, n() + 1), 2000)$$);
CALL measure('sweep: 2,000 that were left',
  $$WITH given(given_id) AS (SELECT * FROM UNNEST($1::uuid[])) SELECT id, tenant_id, endpoint_id, kind, replayed_at FROM given
    JOIN deliveries ON id = given_id WHERE status = 'pending' AND parked_for IS NULL AND dispatch_at IS NULL ORDER BY id$$,
  $$(ids(6, n() - 6000, 2000))$$);
CALL measure('sweep: the end of a step of the walk over everything',
  $$SELECT id FROM deliveries WHERE id < $1 ORDER BY id DESC LIMIT 1 OFFSET $2$$, $$(id(6, n() - 1000), 4999)$$);
CALL measure('sweep: that step',
  $$SELECT id, tenant_id, endpoint_id, kind, replayed_at FROM deliveries WHERE status = 'pending' AND parked_for IS NULL
    AND (dispatch_at IS NULL OR (dispatch_at > $1 AND (next_attempt_at IS NULL OR next_attempt_at <= $1))) AND id < $2 AND id >= $3$$,
  $$(now(), id(6, n() - 1000), id(6, n() - 6000))$$);

-- worker/src/circuit
CALL measure('conductor: the circuit that is due',
  $$SELECT * FROM circuits WHERE release_at <= $1 ORDER BY release_at LIMIT 1 FOR UPDATE SKIP LOCKED$$, $$(now())$$);
CALL measure('conductor: release the oldest 250',
  $$UPDATE deliveries SET parked_for = NULL, dispatch_at = CASE status WHEN 'pending' THEN $1::timestamptz END WHERE id IN (SELECT id FROM deliveries
    WHERE parked_for = $2 ORDER BY id LIMIT $3) AND CASE WHEN parked_for IS NULL THEN 0 ELSE 1 END = 1
    RETURNING id, tenant_id, endpoint_id, kind, replayed_at$$,
  $$(now() + interval '10 minutes', id(2, 5), 250)$$);
CALL measure('conductor: release probes',
  $$UPDATE deliveries SET parked_for = NULL, dispatch_at = CASE status WHEN 'pending' THEN $1::timestamptz END WHERE id IN (SELECT id FROM
    (SELECT id, attempt_count FROM deliveries WHERE parked_for = $2 ORDER BY id LIMIT $3) AS oldest ORDER BY attempt_count, id LIMIT $4)
    AND CASE WHEN parked_for IS NULL THEN 0 ELSE 1 END = 1 RETURNING id, tenant_id, endpoint_id, kind, replayed_at$$,
  $$(now() + interval '10 minutes', id(2, 5), 500, 3)$$);
CALL measure('conductor: what has expired',
  $$UPDATE deliveries SET parked_for = NULL, dispatch_at = CASE status WHEN 'pending' THEN $1::timestamptz END WHERE id IN (SELECT id FROM deliveries
    WHERE expires_at <= $2 AND parked_for IS NOT NULL ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED)
    AND CASE WHEN parked_for IS NULL THEN 0 ELSE 1 END = 1 RETURNING id, tenant_id, endpoint_id, kind, replayed_at$$,
  $$(now() + interval '10 minutes', now(), 500)$$);
CALL measure('conductor: forgotten circuits',
  $$WITH RECURSIVE held(id) AS (SELECT (SELECT parked_for FROM deliveries WHERE parked_for IS NOT NULL ORDER BY parked_for LIMIT 1) UNION ALL
    SELECT (SELECT parked_for FROM deliveries WHERE parked_for > held.id ORDER BY parked_for LIMIT 1) FROM held WHERE held.id IS NOT NULL)
    UPDATE circuits SET release_at = $1 WHERE release_at IS NULL AND id IN (SELECT id FROM held WHERE id IS NOT NULL)$$, $$(now())$$);
CALL measure('order: the oldest under way',
  $$SELECT id FROM deliveries WHERE endpoint_id = $1 AND status = $2 AND (attempt_count > $3 OR next_attempt_at IS NULL OR next_attempt_at <= $4)
    AND id > $5 ORDER BY id ASC LIMIT $6$$, $$(id(2, 9), 'pending', 0, now(), id(6, n() - 2000), 1)$$);

-- worker/src/replay, worker/src/threshold.rs, worker/src/prune.rs
CALL measure('replay: jobs that are due', $$SELECT id, kind, rate_per_s FROM replays WHERE next_at <= $1 ORDER BY next_at ASC LIMIT $2$$, $$(now(), 100)$$);
CALL measure('replay: the next dead letters',
  $$SELECT id FROM deliveries WHERE tenant_id = $1 AND dead_at IS NOT NULL AND dead_at <= $2 AND id > $3 ORDER BY id ASC LIMIT $4 FOR UPDATE$$,
  $$(id(1, 9), now(), id(6, 1), 500)$$);
CALL measure('recover: the next messages',
  $$SELECT id, event_type, channels, deliver_at, expires_at FROM messages WHERE tenant_id = $1 AND cancelled_at IS NULL
    AND (expires_at IS NULL OR expires_at > $2) AND id > $3 AND id >= $4 AND id < $5 ORDER BY id ASC LIMIT $6 FOR SHARE$$,
  $$(id(1, 5), now(), id(4, n() / 4), id(4, 1), id(4, n()), 500)$$);
CALL measure('recover: which have a delivery', $$SELECT message_id FROM deliveries WHERE tenant_id = $1 AND message_id = ANY($2) AND endpoint_id = $3$$,
  $$(id(1, 4), ids(4, n() / 4, 100), id(2, 3))$$);
CALL measure('threshold: dead letters of each tenant',
  $$SELECT id, dead FROM (SELECT t.id AS id, t.dlq_warned_at AS warned_at, (SELECT COUNT(*) FROM (SELECT 1 FROM deliveries d
    WHERE d.tenant_id = t.id AND d.dead_at IS NOT NULL LIMIT $1) few) AS dead FROM tenants t) counted
    WHERE (warned_at IS NULL AND dead >= $1) OR (warned_at IS NOT NULL AND dead * 2 < $1)$$, $$(50)$$);
CALL measure('prune: 1,000 idempotency keys',
  $$DELETE FROM idempotency_keys WHERE (tenant_id, key) IN (SELECT tenant_id, key FROM idempotency_keys WHERE expires_at <= $1 LIMIT $2)$$,
  $$(now(), 1000)$$);

-- api: lists, a page of twenty; one thing; figures
CALL measure('messages of a busy tenant', $$SELECT * FROM messages WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3$$,
  $$(id(1, 5), id(4, n() / 2), 21)$$);
CALL measure('messages of a small tenant', $$SELECT * FROM messages WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2$$, $$(id(1, 21), 21)$$);
CALL measure('messages of a tenant that is silent', $$SELECT * FROM messages WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2$$, $$(id(1, 22), 21)$$);
CALL measure('the deliveries of a page of messages', $$SELECT * FROM deliveries WHERE tenant_id = $1 AND message_id = ANY($2) ORDER BY id ASC$$,
  $$(id(1, 2), ids(4, n() / 2 - 400, 20, 20))$$);
CALL measure('deliveries of a busy tenant', $$SELECT * FROM deliveries WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3$$,
  $$(id(1, 4), id(6, n() - 500), 21)$$);
CALL measure('deliveries of a small tenant', $$SELECT * FROM deliveries WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2$$, $$(id(1, 21), 21)$$);
CALL measure('deliveries of a tenant that is silent', $$SELECT * FROM deliveries WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2$$, $$(id(1, 22), 21)$$);
CALL measure('deliveries to an endpoint', $$SELECT * FROM deliveries WHERE tenant_id = $1 AND endpoint_id = $2 ORDER BY id DESC LIMIT $3$$,
  $$(id(1, 4), id(2, 3), 21)$$);
CALL measure('deliveries to an endpoint that is silent', $$SELECT * FROM deliveries WHERE tenant_id = $1 AND endpoint_id = $2 ORDER BY id DESC LIMIT $3$$,
  $$(id(1, 22), id(2, 202), 21)$$);
CALL measure('deliveries that are dead', $$SELECT * FROM deliveries WHERE tenant_id = $1 AND dead_at IS NOT NULL ORDER BY id DESC LIMIT $2$$,
  $$(id(1, 9), 21)$$);
CALL measure('deliveries that are pending', $$SELECT * FROM deliveries WHERE tenant_id = $1 AND status = $2 ORDER BY id DESC LIMIT $3$$,
  $$(id(1, 4), 'pending', 21)$$);
CALL measure('a page of dead letters',
  $$SELECT * FROM deliveries WHERE tenant_id = $1 AND dead_at IS NOT NULL AND kind = $2 AND id < $3 ORDER BY id DESC LIMIT $4$$,
  $$(id(1, 9), 'webhook', id(6, n()), 21)$$);
CALL measure('a delivery', $$SELECT * FROM deliveries WHERE tenant_id = $1 AND id = $2$$, $$(id(1, 5), id(6, n() / 2 + 3))$$);
CALL measure('its attempts', $$SELECT * FROM attempts WHERE tenant_id = $1 AND delivery_id = $2 ORDER BY id DESC LIMIT $3$$,
  $$(id(1, 5), id(6, n() / 2 + 3), 21)$$);
CALL measure('stats: the last minutes',
  $$SELECT status, COUNT(id) AS count FROM deliveries WHERE tenant_id = $1 AND id >= $2 GROUP BY status$$, $$(id(1, 4), id(6, n() - 6000))$$);
CALL measure('stats: parked',
  $$SELECT COUNT(*) AS count FROM (SELECT d.id FROM circuits c JOIN deliveries d ON d.parked_for = c.id WHERE c.tenant_id = $1 LIMIT $2) parked$$,
  $$(id(1, 6), 10000)$$);
CALL measure('stats: dead letters',
  $$SELECT COUNT(*) AS count FROM (SELECT id FROM deliveries WHERE tenant_id = $1 AND dead_at IS NOT NULL AND kind = $2 LIMIT $3) dead$$,
  $$(id(1, 9), 'webhook', 10000)$$);
CALL measure('stats: circuits',
  $$SELECT * FROM circuits WHERE tenant_id = $1 AND state <> $2 AND id IN (SELECT id FROM endpoints WHERE tenant_id = $1 AND status <> $3)
    ORDER BY opened_at DESC LIMIT $4$$, $$(id(1, 6), 'closed', 'disabled', 100)$$);
