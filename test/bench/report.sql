-- A run of 24 hours as its tables would show it, made in a second: moved in steps, rolled back once, on again. For report()'s figure, its test
-- and its picture in docs/. Everything is drawn from one seed.
--
-- It writes the extension's tables, as a superuser can. Nothing of it is measured; what is made from it is.
CREATE SCHEMA legacy;
CREATE SCHEMA shop;
DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY '{customer,invoice,order,order_line,payment,product}'::text[] LOOP
        EXECUTE format('CREATE TABLE legacy.%1$I (id bigint PRIMARY KEY, amount numeric, state text); CREATE TABLE shop.%1$I (id bigint PRIMARY KEY, amount numeric, state text)', t);
        EXECUTE format('INSERT INTO legacy.%1$I SELECT i, i, ''new'' FROM generate_series(1, 2000) AS i; INSERT INTO shop.%1$I TABLE legacy.%1$I', t);
    END LOOP;
END
$$;
SELECT setseed(0.4711) \g /dev/null
SELECT date_trunc('minute', now()) - interval '24 hours' AS day \gset
SELECT run FROM tandem.create_run('checkout', 'legacy', 'shop', hold => '2 hours') \g /dev/null
SELECT FROM tandem.set_option('checkout', 'validate_every', '1 day') \g /dev/null
SELECT tandem.map_table('checkout', format('legacy.%I', c.relname)::regclass, format('shop.%I', c.relname)::regclass, domain => CASE c.relname WHEN 'payment' THEN 'payment' ELSE 'default' END)
  FROM pg_class AS c WHERE c.relnamespace = 'shop'::regnamespace AND c.relkind = 'r' ORDER BY c.relname \g /dev/null

-- --- its moves
CREATE TEMP TABLE move AS
SELECT m.*, row_number() OVER (ORDER BY m.after) AS epoch
  FROM (VALUES (interval '0', 'start', 'dualwrite', 'progressing', 0, NULL, 'ines'), ('01:10', 'synced', 'shadow', 'progressing', 0, NULL, 'worker'), ('03:10', 'promote', 'live', 'progressing', 5, NULL, 'worker'),
               ('05:10', 'promote', 'live', 'progressing', 25, NULL, 'worker'), ('07:10', 'promote', 'live', 'progressing', 50, NULL, 'worker'),
               ('08:26:31', 'rollback', 'shadow', 'degraded', 0, 'guard any_difference: 2 differences', 'worker'), ('10:02', 'retry', 'shadow', 'progressing', 0, 'the rounding of discounts is mended', 'ines'),
               ('12:02', 'promote', 'live', 'progressing', 5, NULL, 'worker'), ('14:02', 'promote', 'live', 'progressing', 25, NULL, 'worker'),
               ('15:05', 'pause', 'live', 'paused', 25, 'the evening peak', 'ines'), ('17:40', 'resume', 'live', 'progressing', 25, 'the peak is over', 'omar'),
               ('19:40', 'promote', 'live', 'progressing', 50, NULL, 'worker'), ('22:31', 'promote', 'live', 'progressing', 75, NULL, 'worker')) AS m (after, kind, stage, phase, weight, reason, who);
SELECT tandem.append_event(m.kind, m.reason, '{}', 'checkout', m.stage, m.phase, m.weight, m.epoch, at => :'day'::timestamptz + m.after) FROM move AS m ORDER BY m.epoch \g /dev/null
UPDATE tandem.run SET stage = 'live', phase = 'progressing', weight = 75, epoch = 13, created_at = :'day'::timestamptz - interval '20 minutes', moved_at = :'day'::timestamptz + interval '22:31' WHERE name = 'checkout';
UPDATE tandem.run_domain SET weight = 75;

SET session_replication_role = replica; -- a run that is live has its mirrors, or DDL on its tables is refused
SELECT tandem.install_mirrors(r.id) FROM tandem.run AS r \g /dev/null
RESET session_replication_role;

-- --- backfill, and a validation of what changed every half minute, of everything every hour
INSERT INTO tandem.backfill (mapping_id, rows_seen, rows_copied, rows_estimated, batches, started_at, batch_at, finished_at)
SELECT m.id, x.rows, x.rows, x.rows, x.rows / 1000 + 1, :'day'::timestamptz + x.n * interval '11 minutes', :'day'::timestamptz + (x.n + 1) * interval '11 minutes', :'day'::timestamptz + (x.n + 1) * interval '11 minutes'
  FROM tandem.mapping AS m JOIN (VALUES ('customer', 0, 412880), ('product', 1, 18231), ('order', 2, 2204118), ('order_line', 3, 7718022), ('invoice', 4, 2101775), ('payment', 5, 2098004)) AS x (name, n, rows) ON x.name = m.new_table;
INSERT INTO tandem.comparison (run_id, mapping_id, purpose, epoch, snapshot, started_at, elapsed, equal, legacy_rows, new_rows, missing, extra, changed, duplicates, method, scope)
SELECT m.run_id, m.id, 'validate', v.epoch, '1:1:', v.at, CASE WHEN v.full_one THEN interval '1.4 s' ELSE interval '6 ms' END * (0.7 + 0.6 * random()), NOT v.wrong OR m.new_table <> 'invoice', v.rows, v.rows,
       0, 0, CASE WHEN v.wrong AND m.new_table = 'invoice' THEN 2 ELSE 0 END, 0, CASE WHEN v.full_one THEN 'sketch' ELSE 'keys' END, CASE WHEN v.full_one THEN 'full' ELSE 'changes' END
  FROM tandem.mapping AS m
 CROSS JOIN LATERAL (SELECT at, (extract(epoch FROM at)::bigint % 3600) < 30 AS full_one, at BETWEEN :'day'::timestamptz + interval '08:26:30' AND :'day'::timestamptz + interval '09:50' AS wrong,
                            (SELECT max(x.epoch) FROM move AS x WHERE :'day'::timestamptz + x.after <= at) AS epoch,
                            CASE WHEN (extract(epoch FROM at)::bigint % 3600) < 30 THEN 2000000 ELSE 40 + floor(random() * 60) END AS rows
                       FROM generate_series(:'day'::timestamptz + interval '01:10:30', now(), interval '30 seconds') AS at) AS v;
INSERT INTO tandem.difference (comparison_id, kind, severity, key, columns, legacy, new)
SELECT c.id, 'changed', 'high', jsonb_build_object('id', k), '{amount}', jsonb_build_object('amount', 19.99 + k), jsonb_build_object('amount', 20.00 + k)
  FROM tandem.comparison AS c, unnest('{440817,440822}'::integer[]) AS k WHERE c.changed > 0;
INSERT INTO tandem.rollback (run_id, strategy, automatic, reason, from_weight, epoch, evidence, at, elapsed, proof_at, differences, unexplained)
SELECT r.id, 'emergency', true, 'guard any_difference: 2 differences', 50, 6, '{}', :'day'::timestamptz + interval '08:26:31', '0.9 ms', :'day'::timestamptz + interval '08:26:52', 2, 0 FROM tandem.run AS r;
INSERT INTO tandem.comparison (run_id, mapping_id, purpose, rollback_id, epoch, snapshot, started_at, elapsed, equal, legacy_rows, new_rows, missing, extra, changed, duplicates, method, scope)
SELECT m.run_id, m.id, 'proof', b.id, 6, '1:1:', b.at + interval '1 second', '3 s', m.new_table <> 'invoice', f.rows_seen, f.rows_seen, 0, 0, CASE m.new_table WHEN 'invoice' THEN 2 ELSE 0 END, 0, 'sketch', 'full'
  FROM tandem.rollback AS b JOIN tandem.mapping AS m ON m.run_id = b.run_id JOIN tandem.backfill AS f ON f.mapping_id = m.id;
UPDATE tandem.run_activity AS a SET round_at = clock_timestamp(), validated_at = now(), differences = 0, elapsed = '38 ms', successes = 179, counted_from = r.moved_at
  FROM tandem.run AS r WHERE r.id = a.run_id;

-- --- tasks with deadlines
SELECT tandem.sla_policy('refund', '*', '30 seconds', '5 minutes'), tandem.sla_policy('mail', '*', NULL, '1 hour'), tandem.sla_policy('payout', '*', '1 minute', '10 minutes') \g /dev/null
SELECT tandem.task_create(k, jsonb_build_object('n', n)) FROM (VALUES ('refund', 180), ('mail', 420), ('payout', 60)) AS x (k, count), generate_series(1, x.count) AS n \g /dev/null
UPDATE tandem.task AS t SET created_at = x.at, run_at = x.at, start_due = x.at + (t.start_due - t.created_at), finish_due = x.at + (t.finish_due - t.created_at), started_at = x.at + interval '1 s' * x.took,
       finished_at = CASE WHEN x.at < now() - interval '4 minutes' THEN x.at + interval '8 s' * x.took END, state = CASE WHEN x.at < now() - interval '4 minutes' THEN 'done' ELSE 'running' END
  FROM (SELECT id, :'day'::timestamptz + interval '24 hours' * random() AS at, 2 + 3 * -ln(1 - random()) * CASE kind WHEN 'payout' THEN 5 ELSE 1 END AS took FROM tandem.task WHERE kind IN ('refund', 'mail', 'payout')) AS x WHERE x.id = t.id;
DELETE FROM tandem.task_deadline;
INSERT INTO tandem.sla_breach (task_id, which, due_at, detected_at, kind, severity, tenant)
SELECT t.id, w.which, w.due, w.due + interval '1 ms', t.kind, t.severity, t.tenant
  FROM tandem.task AS t CROSS JOIN LATERAL (VALUES ('start', t.start_due, t.started_at), ('finish', t.finish_due, t.finished_at)) AS w (which, due, ended)
 WHERE w.due < least(w.ended, now());

-- --- latencies: an hour's row is what observe() counted for a run that is gone again
SELECT FROM tandem.create_run('seed', 'legacy', 'shop') \g /dev/null
SELECT tandem.add_operation('seed', format('%s %s', h, o)) FROM generate_series(0, 23) AS h, unnest('{browse,add to cart,place order,pay}'::text[]) AS o \g /dev/null
SELECT tandem.observe('seed', format('%s %s', h, o.name), s.side, make_interval(secs => o.ms / 1000 * s.factor * (1 + 0.35 * sin((h - 6) / 24.0 * 2 * pi())) * exp(0.45 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()))), random() > 0.0004)
  FROM generate_series(0, 23) AS h, (VALUES ('browse', 4.2), ('add to cart', 7.5), ('place order', 21.0), ('pay', 48.0)) AS o (name, ms), (VALUES ('legacy', 1.0), ('new', 0.82)) AS s (side, factor), generate_series(1, 150) AS n
 WHERE s.side = 'legacy' OR h IN (3, 4, 5, 6, 7, 8) OR h >= 12 \g /dev/null
SELECT tandem.add_operation('checkout', 'place order', '50 ms'), tandem.add_operation('checkout', 'pay', '120 ms') \g /dev/null
INSERT INTO tandem.latency_hour (since, slot, run_id, operation, side, hour, n, errors, over_threshold, sum_us, longest_us, histogram)
SELECT :'day', extract(epoch FROM h.hour)::bigint / 3600, (SELECT id FROM tandem.run WHERE name = 'checkout'), h.operation, o.side, h.hour, o.n, o.errors, CASE h.operation WHEN 'pay' THEN o.n / 40 ELSE 0 END, o.us, o.longest_us, o.histogram
  FROM tandem.observed(2, 25, false) AS o CROSS JOIN LATERAL (SELECT date_trunc('hour', :'day'::timestamptz) + split_part(o.operation, ' ', 1)::integer * interval '1 hour' AS hour, substr(o.operation, strpos(o.operation, ' ') + 1) AS operation) AS h
 WHERE o.run_id = (SELECT id FROM tandem.run WHERE name = 'seed');
DELETE FROM tandem.run WHERE name = 'seed';

-- --- a batch job, one batch of which lost rows
CREATE TABLE batch AS SELECT n, tandem.batch_begin('checkout', CASE WHEN n % 2 = 0 THEN 'recompute discounts' ELSE 'archive carts' END, 50) AS batch FROM generate_series(1, 80) AS n;
SELECT tandem.batch_end(b.batch, checked => 50, updated => 20 + (b.n * 7 % 25), failed => CASE b.n WHEN 60 THEN 9 ELSE 0 END) FROM batch AS b ORDER BY b.n \g /dev/null
UPDATE tandem.batch AS b SET started_at = :'day'::timestamptz + x.n * interval '17 minutes', ended_at = :'day'::timestamptz + x.n * interval '17 minutes' + interval '1 s' * (3 + x.n % 5), verdict = CASE b.verdict WHEN 'fail' THEN 'fail' ELSE 'pass' END
  FROM batch AS x WHERE x.batch = b.id;
DROP TABLE batch;

-- --- metrics: 10,080 measurements; one of them failed during the rollback's hour
SELECT tandem.add_metric('checkout', m.name, format('SELECT %s', m.base), m.condition, every => '1 minute', critical => m.name = 'payment error rate')
  FROM (VALUES ('payment error rate', 0.004, 'result < 0.02'), ('checkout success rate', 0.973, 'result > 0.95'), ('orders a minute', 118, 'result > 40'), ('basket value', 61.4, 'result > 20'),
               ('stock drift', 0, 'result <= 0'), ('refund queue', 7, 'result < 60'), ('search p95', 0.118, 'result < 0.3')) AS m (name, base, condition) \g /dev/null
DELETE FROM tandem.measurement;
INSERT INTO tandem.measurement (run_id, metric, at, value, samples, verdict, reason)
SELECT r.id, m.name, v.at, x.value, 100, CASE WHEN m.name = 'payment error rate' AND x.value >= 0.02 THEN 'fail' ELSE 'pass' END, NULL
  FROM tandem.run AS r CROSS JOIN (VALUES ('payment error rate', 0.004, 0.0012), ('checkout success rate', 0.973, 0.004), ('orders a minute', 118, 14), ('basket value', 61.4, 3.2), ('stock drift', 0, 0),
                                          ('refund queue', 7, 2.4), ('search p95', 0.118, 0.012)) AS m (name, base, noise)
 CROSS JOIN LATERAL (SELECT n, :'day'::timestamptz + n * interval '1 minute' AS at FROM generate_series(0, 1439) AS n) AS v
 CROSS JOIN LATERAL (SELECT greatest(0, m.base * CASE WHEN m.name IN ('orders a minute', 'refund queue', 'search p95') THEN 1 + 0.45 * sin((v.n - 480) / 1440.0 * 2 * pi()) ELSE 1 END
                            + m.noise * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) + CASE WHEN m.name = 'payment error rate' AND v.n BETWEEN 506 AND 524 THEN 0.03 ELSE 0 END) AS value) AS x
 WHERE r.name = 'checkout';
UPDATE tandem.metric AS m SET value = l.value, verdict = l.verdict, measured_at = l.at, samples = 100, failures = 0, inconclusive = 0
  FROM (SELECT DISTINCT ON (x.metric) x.* FROM tandem.measurement AS x ORDER BY x.metric, x.at DESC) AS l WHERE l.metric = m.name;

INSERT INTO tandem.alert (rule_id, run_id, rule, metric, severity, value, threshold, message, fired_at, resolved_at, acknowledged_by, acknowledged_at, resolution)
SELECT 1000 + a.n, r.id, a.rule, a.metric, a.severity, a.value, a.threshold, a.message, :'day'::timestamptz + a.fired, :'day'::timestamptz + a.ended, a.who, :'day'::timestamptz + a.fired + interval '4 minutes', 'the condition no longer holds'
  FROM tandem.run AS r, (VALUES (1, 'payments fail', 'payment error rate', 'critical', 0.034, 0.02, 'payment error rate is 0.034, above 0.02', interval '08:28', interval '08:46', 'ines'),
                                (2, 'orders fall', 'orders a minute', 'warning', 61, 65, 'orders a minute is 61, below 65', '01:02', '02:40', NULL)) AS a (n, rule, metric, severity, value, threshold, message, fired, ended, who)
 WHERE r.name = 'checkout';

ANALYZE;
