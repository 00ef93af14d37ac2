-- Observing: exact counts and percentiles against an oracle, thresholds, errors, what is refused, what is kept of the baseline, who may do what.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA a; CREATE SCHEMA b;
SELECT tandem.create_run('r', 'a', 'b'), tandem.create_run('s', 'a', 'b') \g /dev/null

-- --- operations
SELECT lives_ok($$SELECT tandem.add_operation('r', 'checkout', '200 ms')$$, 'an operation');
SELECT lives_ok($$SELECT tandem.add_operation('r', 'browse')$$, 'one without a threshold');
SELECT lives_ok($$SELECT tandem.add_operation('s', 'checkout', '1 second')$$, 'one of the same name in another run');
SELECT results_eq($$SELECT run, operation, threshold FROM tandem.operations ORDER BY 1, 2$$,
                  $$VALUES ('r', 'browse' COLLATE "C", NULL::interval), ('r', 'checkout', '200 ms'), ('s', 'checkout', '1 second')$$, 'operations shows them');
SELECT is((SELECT count(*) FROM tandem.event WHERE kind = 'add_operation'), 3::bigint, 'each is an event');

-- --- against an oracle: durations of any magnitude, as microseconds and as the sum of days, hours and the rest
SELECT setseed(coalesce(nullif(current_setting('tandem_test.seed', true), '')::float8, 0.42)) \g /dev/null
CREATE TEMP TABLE seen AS
SELECT x.*, CASE x.run WHEN 'r' THEN CASE x.operation WHEN 'checkout' THEN 200000 END ELSE 1000000 END AS threshold
  FROM (SELECT CASE WHEN random() < 0.8 THEN 'r' ELSE 's' END AS run, 'checkout' AS operation, CASE WHEN random() < 0.3 THEN 'legacy' ELSE 'new' END AS side,
               CASE WHEN i % 50 = 0 THEN 200000 WHEN random() < 0.01 THEN 0 ELSE floor(2 ^ (random() * 36))::bigint END AS us, random() > 0.1 AS ok
          FROM generate_series(1, 20000) AS i
         UNION ALL
        SELECT 'r', 'browse', 'new', 1000 + i, true FROM generate_series(1, 100) AS i) AS x;
SELECT count(tandem.observe(run, operation, side, us * interval '1 microsecond', ok)) FROM seen \g /dev/null
CREATE TEMP TABLE wanted AS
SELECT run, operation, side, count(*) AS n, count(*) FILTER (WHERE NOT ok) AS errors, percentile_disc('{0.5,0.95,0.99}'::float8[]) WITHIN GROUP (ORDER BY us) AS p,
       max(us) AS longest, count(*) FILTER (WHERE us > threshold) AS over, sum(us) AS sum, max(threshold) AS threshold
  FROM seen GROUP BY 1, 2, 3;
SELECT results_eq(format($$SELECT operation COLLATE "C", side COLLATE "C", n, errors, max_ms, over_threshold, compliance FROM tandem.latency(%L, span => %L) ORDER BY 1, 2$$, w.run, span),
                  format($$SELECT operation COLLATE "C", side COLLATE "C", n, errors, longest / 1000.0, CASE WHEN threshold IS NOT NULL THEN over END, CASE WHEN threshold IS NOT NULL THEN round(100.0 * (n - over) / n, 4) END
                             FROM wanted WHERE run = %L ORDER BY 1, 2$$, w.run),
                  format('%s: exact counts in a window of %s', w.run, span))
  FROM (SELECT DISTINCT run FROM wanted) AS w, unnest('{30 seconds,5 minutes,1 hour,20 hours,30 days}'::interval[]) AS span;
SELECT is((SELECT jsonb_agg(l) FROM wanted AS w CROSS JOIN LATERAL tandem.latency(w.run, w.operation, w.side) AS l
            WHERE abs(l.p50_ms * 1000 - w.p[1]) > w.p[1] / 62.5 OR abs(l.p95_ms * 1000 - w.p[2]) > w.p[2] / 62.5 OR abs(l.p99_ms * 1000 - w.p[3]) > w.p[3] / 62.5),
          NULL, 'every percentile is within 1.6 % of the exact one');
SELECT results_eq($$SELECT run COLLATE "C", operation COLLATE "C", side COLLATE "C", n, errors, round(sum_seconds::numeric, 3), over_threshold FROM tandem.latency_totals ORDER BY 1, 2, 3$$,
                  $$SELECT run COLLATE "C", operation COLLATE "C", side COLLATE "C", n, errors, round(sum / 1e6, 3), CASE WHEN threshold IS NOT NULL THEN over END FROM wanted ORDER BY 1, 2, 3$$, 'totals');
SELECT is((SELECT jsonb_agg(b) FROM tandem.latency_buckets() AS b
            WHERE b.cumulative <> (SELECT count(*) FROM seen AS s WHERE (s.run, s.operation, s.side) = (b.run, b.operation, b.side) AND s.us <= b.le * 1e6)), NULL, 'buckets for Prometheus are exact');
SELECT is((SELECT count(*) FROM tandem.latency_buckets('r') WHERE le = 'Infinity'), 3::bigint, '... and end in infinity');
SELECT is((SELECT sum(n) FROM tandem.latency_series('r', 'checkout')), (SELECT sum(n) FROM wanted WHERE (run, operation) = ('r', 'checkout')), 'the points of a series add up');
SELECT is((SELECT sum(n) FROM tandem.latency_series('r', 'checkout', 'new', '1 day', '1 day')), (SELECT n::numeric FROM wanted WHERE (run, operation, side) = ('r', 'checkout', 'new')), '... also in steps');
SELECT is((SELECT sum(n) FROM tandem.latency_series('r', span => '30 seconds')), (SELECT sum(n) FROM wanted WHERE run = 'r'), '... and of 5 seconds');
SELECT is((SELECT (legacy_n, new_n, p95_ratio = round(new_p95_ms / legacy_p95_ms, 4))::text FROM tandem.latency_comparison WHERE (run, operation) = ('r', 'checkout')),
          (SELECT (max(n) FILTER (WHERE side = 'legacy'), max(n) FILTER (WHERE side = 'new'), true)::text FROM wanted WHERE (run, operation) = ('r', 'checkout')), 'both sides in one row');
SELECT is((SELECT round(legacy_error_rate, 2) FROM tandem.latency_comparison WHERE (run, operation) = ('s', 'checkout')),
          (SELECT round(100.0 * errors / n, 2) FROM wanted WHERE (run, side) = ('s', 'legacy')), 'error rates in percent');
SELECT is((SELECT (last_minute, last_hour, last_day, errors_last_day)::text FROM tandem.operation_counts WHERE (run, side) = ('s', 'new')),
          (SELECT (n, n, n, errors)::text FROM wanted WHERE (run, side) = ('s', 'new')), 'counts');

-- --- history: saved as it is, again and again without counting twice; read where memory has nothing
SELECT ok(tandem.observe_round() > 0, 'a round saves');
SELECT is(tandem.observe_round(), 0::bigint, '... only what is new');
SELECT is((SELECT jsonb_agg(w) FROM wanted AS w JOIN tandem.run AS r ON r.name = w.run
            WHERE (w.n, w.errors, w.over, w.sum, w.longest)::text IS DISTINCT FROM
                  (SELECT (sum(h.n), sum(h.errors), sum(h.over_threshold), sum(h.sum_us), max(h.longest_us))::text FROM tandem.latency_hour AS h
                    WHERE (h.run_id, h.operation, h.side) = (r.id, w.operation, w.side))
              AND w.threshold IS NOT NULL), NULL, 'latency_hour has all of it');
SELECT is((SELECT sum(tandem.histogram_count(histogram)) FROM tandem.latency_hour), (SELECT count(*)::numeric FROM seen), '... and the histograms, too');
SELECT tandem.observe('r', 'browse', 'new', '3 ms') \g /dev/null
SELECT is(tandem.observe_round(), 1::bigint, 'one more is one row again');
INSERT INTO tandem.latency_hour (since, slot, run_id, operation, side, hour, n, errors, over_threshold, sum_us, longest_us, histogram)
SELECT since - interval '3 days', slot - 48, run_id, operation, side, hour - interval '2 days', 1000, 7, 3, 1, 5000000, '\x01ff07e807' FROM tandem.latency_hour WHERE operation = 'browse';
SELECT is((SELECT (n, errors, max_ms)::text FROM tandem.latency('r', 'browse', span => '7 days')), '(1101,7,5000)', 'older hours count in longer spans');
SELECT is((SELECT n FROM tandem.latency('r', 'browse', span => '1 day')), 101::bigint, '... and in no others');
SELECT is((SELECT count(*) FROM tandem.latency_series('r', 'browse', span => '7 days')), 2::bigint, '... and are points');
SELECT set_config('tandem.latency_retention', '1', true) \g /dev/null
SELECT tandem.observe_round() \g /dev/null
SELECT is((SELECT count(*) FROM tandem.latency_hour WHERE hour < now() - interval '1 day'), 0::bigint, 'what is past tandem.latency_retention goes');

-- --- thresholds that change
SELECT tandem.add_operation('r', 'search', '10 ms') \g /dev/null
SELECT tandem.observe('r', 'search', 'new', '10 ms'), tandem.observe('r', 'search', 'new', '10.001 ms') \g /dev/null
SELECT is((SELECT (n, over_threshold, compliance, threshold_ms)::text FROM tandem.latency('r', 'search')), '(2,1,50,10)', 'longer than the threshold, not as long');
SELECT tandem.add_operation('r', 'search', '5 ms') \g /dev/null
SELECT tandem.observe('r', 'search', 'new', '6 ms') \g /dev/null
SELECT is((SELECT (n, over_threshold, threshold_ms)::text FROM tandem.latency('r', 'search')), '(3,2,5)', 'another threshold holds from then on, in the same session at once');
SAVEPOINT gone;
SELECT tandem.drop_operation('r', 'search') \g /dev/null
SELECT throws_ok($$SELECT tandem.observe('r', 'search', 'new', '6 ms')$$, '42704', NULL, 'a dropped operation is unknown');
SELECT is((SELECT (n, over_threshold IS NOT NULL)::text FROM tandem.latency('r', 'search')), '(3,t)', '... and what was seen of it stays');
ROLLBACK TO gone;
SELECT lives_ok($$SELECT tandem.observe('r', 'search', 'new', '6 ms')$$, '... as if it had never been dropped');
SAVEPOINT undone;
SELECT tandem.observe('r', 'search', 'new', '6 ms') \g /dev/null
ROLLBACK TO undone;
SELECT is((SELECT n FROM tandem.latency('r', 'search')), 5::bigint, 'what was rolled back was observed all the same');

-- --- what is refused
SELECT throws_ok(format('SELECT tandem.observe(%s)', arguments), state, NULL, format('observe(%s)', arguments))
  FROM (VALUES ('NULL, ''checkout'', ''new'', ''1 ms''', '22004'), ('''r'', NULL, ''new'', ''1 ms''', '22004'), ('''r'', ''checkout'', NULL, ''1 ms''', '22004'),
               ('''r'', ''checkout'', ''new'', NULL', '22004'), ('''r'', ''checkout'', ''new'', ''1 ms'', NULL', '22004'),
               ('''r'', ''checkout'', ''new'', ''-1 microsecond''', '22023'), ('''r'', ''checkout'', ''new'', ''-1 day''', '22023'), ('''r'', ''checkout'', ''new'', ''1 month''', '22023'),
               ('''r'', ''checkout'', ''new'', ''1 month -30 days''', '22023'), ('''r'', ''checkout'', ''new'', ''178000000 years''', '22023'),
               ('''r'', ''checkout'', ''new'', ''100001 days''', '22023'), ('''r'', ''checkout'', ''old'', ''1 ms''', '22023'), ('''r'', ''checkout'', '''', ''1 ms''', '22023'),
               ('''r'', ''chekout'', ''new'', ''1 ms''', '42704'), ('''r'', '''', ''new'', ''1 ms''', '42704'), ('''nowhere'', ''checkout'', ''new'', ''1 ms''', '42704'),
               ('repeat(''ä'', 40), ''checkout'', ''new'', ''1 ms''', '42704'), ('''r'', repeat(''ä'', 40), ''new'', ''1 ms''', '42704'),
               ('''r'', ''checkout'', repeat(''ä'', 4000), ''1 ms''', '22023')) AS v (arguments, state);
SELECT throws_ok($$SELECT tandem.observe('r', 'checkout', 'new', 'infinity')$$, CASE WHEN current_setting('server_version_num')::integer < 170000 THEN '22007' ELSE '22023' END, NULL, 'an infinite duration');
SELECT lives_ok($$SELECT tandem.observe('s', 'checkout', 'legacy', v) FROM unnest('{0,100000 days,19 hours,1 day -1 hour}'::interval[]) AS v$$, 'none at all, and very long ones');
SELECT ok((SELECT max_ms > 4 * 365 * 86400000.0 FROM tandem.latency('s', 'checkout', 'legacy')), '... are counted, the longest as some years');
SELECT throws_ok(format('SELECT tandem.add_operation(%s)', arguments), state, NULL, format('add_operation(%s)', arguments))
  FROM (VALUES ('''r'', NULL, ''1 s''', '42602'), ('''r'', '''', ''1 s''', '42602'), ('''r'', repeat(''x'', 64), ''1 s''', '42602'), ('''r'', ''x'', ''0''', '22023'),
               ('''r'', ''x'', ''-1 s''', '22023'), ('''r'', ''x'', ''1 month''', '22023'), ('''nowhere'', ''x'', ''1 s''', '42704')) AS v (arguments, state);
SELECT throws_ok($$SELECT tandem.drop_operation('r', 'x')$$, '42704', NULL, 'nothing to drop');
SELECT throws_ok(format('SELECT * FROM tandem.latency(%s)', arguments), state, NULL, format('latency(%s)', arguments))
  FROM (VALUES ('''nowhere''', '42704'), ('''r'', ''nothing''', '42704'), ('''r'', NULL, ''old''', '22023'), ('''r'', span => ''0''', '22023'), ('''r'', span => ''-1 s''', '22023'), ('''r'', span => NULL', '22023')) AS v (arguments, state);
SELECT throws_ok($$SELECT * FROM tandem.latency_series('r', step => '0')$$, '22023', NULL, 'no step');
SELECT throws_ok($$SELECT * FROM tandem.latency_series('r', step => '1 month')$$, '22023', NULL, 'a step of no definite length');
SELECT throws_ok($$SELECT * FROM tandem.latency_buckets('nowhere')$$, '42704', NULL, 'buckets of no run');
SELECT throws_ok(format('SELECT tandem.histogram_count(%L)', value), '22P03', NULL, format('no histogram: %s', value)) FROM unnest('{\\x,\\x02,\\x0105,\\x010500}'::text[]) AS value;
SELECT is(tandem.histogram_percentiles('\x01', '{0.5}'), '{NULL}', 'nothing has no percentile');
SELECT is(tandem.histogram_percentiles('\x010a01', '{0,1,NULL,2}'), '{0.01,0.01,NULL,NULL}', 'one has itself');

-- --- the baseline: legacy, until keys are moved
SELECT is((SELECT (baseline_p95_ms = p95_ms, degradation_percent, baseline_kept)::text FROM tandem.latency_trend WHERE (run, operation, side) = ('r', 'checkout', 'legacy')), '(t,0,f)', 'until then it is all that was seen on legacy');
UPDATE tandem.run SET weight = 5 WHERE name = 'r';
SELECT is((SELECT count(*) FROM tandem.latency_baseline), 1::bigint, 'moving keys keeps it');
SELECT tandem.observe('r', 'checkout', side, '19 hours') FROM generate_series(1, 30000), (VALUES ('legacy'), ('new')) AS v (side) \g /dev/null
SELECT ok((SELECT min(degradation_percent) > 10 AND bool_and(baseline_kept) AND count(DISTINCT baseline_p95_ms) = 1 FROM tandem.latency_trend WHERE (run, operation) = ('r', 'checkout')), 'from then on both sides are told against it');
UPDATE tandem.run SET weight = 0 WHERE name = 'r'; UPDATE tandem.run SET weight = 5 WHERE name = 'r';
SELECT ok((SELECT max(n) < 20000 FROM tandem.latency_baseline), 'the first time counts');

-- --- who
CREATE ROLE worker_role; CREATE ROLE viewer_role; CREATE ROLE monitor_role IN ROLE pg_monitor; CREATE ROLE stranger;
SELECT tandem.grant_role('worker_role', 'worker'), tandem.grant_role('viewer_role', 'viewer') \g /dev/null
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
SET ROLE worker_role;
SELECT lives_ok($$SELECT tandem.observe('r', 'checkout', 'new', '1 ms')$$, 'a worker observes');
SELECT throws_ok($$SELECT tandem.add_operation('r', 'more')$$, '42501', NULL, '... and makes no operation');
SELECT throws_ok($$SELECT * FROM tandem.latency('r')$$, '42501', NULL, '... nor sees all');
SET ROLE stranger;
SELECT throws_ok($$SELECT tandem.observe('r', 'checkout', 'new', '1 ms')$$, '42501', NULL, 'a stranger does not');
SELECT lives_ok($$SELECT tandem.histogram_count('\x01')$$, 'but adds up histograms');
RESET ROLE;
CREATE FUNCTION pg_temp.sees(role name) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    RETURN QUERY SELECT lives_ok(format('SELECT * FROM tandem.%s', what), format('%s sees %s', role, what))
       FROM unnest('{latency,latency_totals,latency_comparison,operation_counts,latency_trend,operations,latency_hour,observe_memory,latency(''r''),latency_series(''r''),latency_buckets()}'::text[]) AS what;
    RESET ROLE;
END $$;
SELECT pg_temp.sees(role) FROM unnest('{viewer_role,monitor_role}'::name[]) AS role;

-- --- memory is bounded
SELECT ok((SELECT bytes_used BETWEEN 1 AND bytes_limit AND bytes_limit = 8 * 1024 * 1024 AND dropped = 0 AND series > 3 FROM tandem.observe_memory), 'how much is used');

SELECT * FROM finish();
ROLLBACK;
