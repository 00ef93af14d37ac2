-- Every guard template, over what it is about: silent below its threshold, fired above, while the run progresses, is paused, and waits for
-- approval. One run for each, all in one transaction, which the worker does not see.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
LOCK TABLE tandem.metric_reading, tandem.alert_watch IN SHARE ROW EXCLUSIVE MODE; -- the worker keeps out of it
CREATE SCHEMA gl; CREATE SCHEMA gn;

CREATE FUNCTION pg_temp.go(name text, phase text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN -- as after a retry: every guard armed
    UPDATE tandem.run SET phase = 'degraded' WHERE run.name = go.name;
    UPDATE tandem.run SET phase = 'progressing' WHERE run.name = go.name;
    UPDATE tandem.run SET stage = 'live', weight = 50, phase = go.phase WHERE run.name = go.name;
    UPDATE tandem.run_domain SET weight = 50 WHERE run_id = (SELECT id FROM tandem.run WHERE run.name = go.name);
    DELETE FROM tandem.guard_progress;
END $$;
-- A run of its own with that template, in shadow as yet; observe() tells operations of it.
CREATE FUNCTION pg_temp.make(template text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE gl.%I (id integer PRIMARY KEY); CREATE TABLE gn.%1$I (id integer PRIMARY KEY)', template);
    PERFORM tandem.create_run(template, 'gl', 'gn', steps => '{50,100}', hold => '1 hour'), tandem.map_table(template, format('gl.%I', template)::regclass, format('gn.%I', template)::regclass),
            tandem.add_operation(template, 'pay'), tandem.set_option(template, 'guard_every', '0'), tandem.set_option(template, 'validate_every', '1 hour'), tandem.start(template);
    FOR i IN 1..4 LOOP PERFORM tandem.tick(); END LOOP;
    RETURN (SELECT g.condition FROM tandem.add_guard_template(template, template) AS g);
END $$;
CREATE FUNCTION pg_temp.seen(run text, side text, n integer, took interval, errors integer DEFAULT 0) RETURNS void LANGUAGE sql AS $$
    SELECT count(tandem.observe(run, 'pay', side, took, i > errors)) FROM generate_series(1, n) AS i $$;
-- So many looks, the given time apart, in each of the phases in which it must be armed.
CREATE FUNCTION pg_temp.looks(name text, n integer DEFAULT 1, seconds double precision DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text[];
    was text;
BEGIN
    FOREACH was IN ARRAY '{progressing,paused,waiting_approval}'::text[] LOOP
        PERFORM pg_temp.go(name, was);
        FOR i IN 1..n LOOP
            UPDATE tandem.guard_view AS v SET looked_at = clock_timestamp() - make_interval(secs => seconds) FROM tandem.run AS r WHERE r.id = v.run_id AND r.name = looks.name;
            PERFORM tandem.guard_round(r) FROM tandem.run AS r WHERE r.name = looks.name;
        END LOOP;
        said := said || (SELECT format('%s %s', g.status, CASE WHEN r.phase <> was THEN r.phase ELSE 'as it was' END) FROM tandem.guards AS g JOIN tandem.run AS r ON r.name = g.run WHERE g.run = looks.name AND g.guard = looks.name);
    END LOOP;
    RETURN CASE WHEN said[1] = ALL (said) THEN said[1] ELSE said::text END;
END $$;

SELECT is((SELECT array_agg(t.template ORDER BY t.template) FROM tandem.guard_template AS t), '{any_difference,batch_failures,check_variance,error_rate,health_score,latency,new_is_worse,p95_degradation,sla_breaches,success_rate}',
          'the templates: each has its test here, any_difference in guard_rule.sql');

-- latency over a threshold
SELECT is(pg_temp.make('latency'), 'new_p95_ms > 1000', 'latency');
SELECT is(pg_temp.looks('latency'), 'inconclusive as it was', '... nothing observed is no failure');
SELECT pg_temp.seen('latency', 'new', 50, '2 seconds'), pg_temp.seen('latency', 'legacy', 500, '2 seconds') \g /dev/null
SELECT is(pg_temp.looks('latency'), 'inconclusive as it was', '... nor are fifty samples, nor a slow legacy side');
SELECT pg_temp.seen('latency', 'new', 2000, '900 ms') \g /dev/null
SELECT is(pg_temp.looks('latency'), 'armed as it was', '... nor what is below the threshold, but for some');
SELECT pg_temp.seen('latency', 'new', 200, '2 seconds') \g /dev/null
SELECT is(pg_temp.looks('latency'), 'fired degraded', '... but when the 95th percentile is above');
SELECT is((SELECT guard || ': ' || condition FROM tandem.add_guard_template('latency', 'latency', 5000, name => 'slower')), 'slower: new_p95_ms > 5000', 'a template takes another threshold, and another name');

-- success rate below 90 % for more than 10 minutes
SELECT is(pg_temp.make('success_rate'), 'success_rate < 90', 'success_rate');
SELECT is(pg_temp.looks('success_rate', 12, 60), 'inconclusive as it was', '... nothing observed');
SELECT pg_temp.seen('success_rate', 'new', 100, '1 ms', 10) \g /dev/null
SELECT is(pg_temp.looks('success_rate', 12, 60), 'armed as it was', '... 90 % are enough');
SELECT pg_temp.seen('success_rate', 'new', 1, '1 ms', 1) \g /dev/null
SELECT is(pg_temp.looks('success_rate', 10, 60), 'pending as it was', '... less for nine minutes is borne');
SELECT is(pg_temp.looks('success_rate', 12, 60), 'fired degraded', '... for more than ten it is not');

-- more than 2 SLA breaches in an hour
SELECT is(pg_temp.make('sla_breaches'), 'sla_breaches > 2', 'sla_breaches');
CREATE FUNCTION pg_temp.breach(ago interval) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tandem.sla_breach (task_id, which, due_at, detected_at, kind, severity, tenant) SELECT gen_random_uuid(), 'start', clock_timestamp() - ago, clock_timestamp() - ago, 'k', 'normal', '' $$;
SELECT is(pg_temp.looks('sla_breaches'), 'armed as it was', '... none');
SELECT pg_temp.breach('1 minute'), pg_temp.breach('59 minutes'), pg_temp.breach('61 minutes'), pg_temp.breach('2 hours') \g /dev/null
SELECT is(pg_temp.looks('sla_breaches'), 'armed as it was', '... two in the last hour, and others before');
SELECT pg_temp.breach('1 second') \g /dev/null
SELECT is(pg_temp.looks('sla_breaches'), 'fired degraded', '... three');

-- p95 more than 50 % above the baseline
SELECT is(pg_temp.make('p95_degradation'), 'p95_degradation > 50', 'p95_degradation');
SELECT pg_temp.seen('p95_degradation', 'legacy', 500, '10 ms') \g /dev/null
SELECT is(pg_temp.looks('p95_degradation'), 'inconclusive as it was', '... nothing was observed on the new side');
SELECT pg_temp.seen('p95_degradation', 'new', 500, '14 ms') \g /dev/null
SELECT is(pg_temp.looks('p95_degradation'), 'armed as it was', '... 40 % slower');
SELECT pg_temp.seen('p95_degradation', 'new', 5000, '16 ms') \g /dev/null
SELECT is(pg_temp.looks('p95_degradation'), 'fired degraded', '... 60 % slower');
SELECT pg_temp.seen('p95_degradation', 'legacy', 5000, '13 ms') \g /dev/null
SELECT is(pg_temp.looks('p95_degradation'), 'armed as it was', '... but not if legacy is slower than it was, as a slow machine makes both');
SELECT pg_temp.seen('p95_degradation', 'new', 50000, '25 ms') \g /dev/null
SELECT is(pg_temp.looks('p95_degradation'), 'fired degraded', '... unless the new side is slower by far');
SELECT pg_temp.seen('p95_degradation', 'legacy', 50000, '1 second') \g /dev/null
SELECT is(pg_temp.looks('p95_degradation'), 'armed as it was', '... and a legacy side that is slow is no reason to go back to it');

-- error rate above 5 %
SELECT is(pg_temp.make('error_rate'), 'new_error_rate > 5', 'error_rate');
SELECT pg_temp.seen('error_rate', 'legacy', 500, '1 ms', 400), pg_temp.seen('error_rate', 'new', 99, '1 ms', 50) \g /dev/null
SELECT is(pg_temp.looks('error_rate'), 'inconclusive as it was', '... errors of the legacy side are not its; 99 samples are too few');
SELECT pg_temp.seen('error_rate', 'new', 901, '1 ms') \g /dev/null
SELECT is(pg_temp.looks('error_rate'), 'armed as it was', '... 5 %');
SELECT pg_temp.seen('error_rate', 'new', 1, '1 ms', 1) \g /dev/null
SELECT is(pg_temp.looks('error_rate'), 'fired degraded', '... more');

-- health score below 70
SELECT is(pg_temp.make('health_score'), 'health_score < 70', 'health_score');
SELECT is(pg_temp.looks('health_score'), 'armed as it was', '... a run that is well');
UPDATE tandem.run_activity SET error = 'a round failed' WHERE run_id = (SELECT id FROM tandem.run WHERE name = 'health_score');
SELECT is(pg_temp.looks('health_score'), 'armed as it was', '... less well, at 80');
UPDATE tandem.run_activity SET differences = 1 WHERE run_id = (SELECT id FROM tandem.run WHERE name = 'health_score');
SELECT is(pg_temp.looks('health_score'), 'fired degraded', '... at 40');

-- more than 20 % of batches fail
SELECT is(pg_temp.make('batch_failures'), 'batch_failed_percent > 20', 'batch_failures');
SELECT is(pg_temp.looks('batch_failures'), 'inconclusive as it was', '... none has ended');
SELECT count(tandem.batch_end(tandem.batch_begin('batch_failures', 'nightly', 50), 50, 50, 0)) FROM generate_series(1, 4) \g /dev/null
SELECT FROM tandem.batch_end(tandem.batch_begin('batch_failures', 'nightly', 50), 50, 0, 50);
SELECT is(pg_temp.looks('batch_failures'), 'armed as it was', '... one of five');
SELECT FROM tandem.batch_end(tandem.batch_begin('batch_failures', 'nightly', 50), 50, 0, 50);
SELECT is(pg_temp.looks('batch_failures'), 'fired degraded', '... two of six');

-- a critical check varies by more than 5 %
SELECT is(pg_temp.make('check_variance'), 'check_variance > 5', 'check_variance');
SELECT is(pg_temp.looks('check_variance'), 'inconclusive as it was', '... no check');
CREATE TABLE gl.sums AS SELECT 100 AS v; CREATE TABLE gn.sums AS SELECT 150 AS v;
SELECT FROM tandem.add_check('check_variance', 'high', 'SELECT v FROM gl.sums', 'SELECT v FROM gn.sums', severity => 'high');
SELECT FROM tandem.reconcile('check_variance');
SELECT is(pg_temp.looks('check_variance'), 'inconclusive as it was', '... one that is not critical');
UPDATE gn.sums SET v = 105;
SELECT FROM tandem.add_check('check_variance', 'critical', 'SELECT v FROM gl.sums', 'SELECT v FROM gn.sums', severity => 'critical');
SELECT FROM tandem.reconcile('check_variance');
SELECT is(pg_temp.looks('check_variance'), 'armed as it was', '... 5 %');
UPDATE gn.sums SET v = 94;
SELECT FROM tandem.reconcile('check_variance');
SELECT is(pg_temp.looks('check_variance'), 'fired degraded', '... 6 %, which is less');
DROP TABLE gn.sums;
SELECT FROM tandem.reconcile('check_variance');
SELECT is(pg_temp.looks('check_variance'), 'inconclusive as it was', '... what cannot be checked');

-- new is worse than legacy in the same five minutes
SELECT is(pg_temp.make('new_is_worse'), 'greatest(errors_worse, p95_worse, p99_worse) > 0', 'new_is_worse');
SELECT pg_temp.seen('new_is_worse', 'legacy', 1000, '10 ms', 30), pg_temp.seen('new_is_worse', 'new', 50, '1 second', 40) \g /dev/null
SELECT is(pg_temp.looks('new_is_worse', 3, 60), 'inconclusive as it was', '... fifty samples are too few');
SELECT pg_temp.seen('new_is_worse', 'new', 20000, '10 ms', 560) \g /dev/null
SELECT is(pg_temp.looks('new_is_worse', 3, 60), 'armed as it was', '... as many errors, as fast');
SELECT tandem.metric_round() \g /dev/null
SELECT results_eq($$SELECT metric, value, verdict, samples, reason <> '' FROM tandem.metrics WHERE run = 'new_is_worse' AND metric LIKE '%\_worse' ORDER BY 1$$,
                  $$VALUES ('errors_worse', 0::float8, 'pass', 1000::bigint, true), ('p95_worse', 0, 'pass', 1000, true), ('p99_worse', NULL, 'inconclusive', 1000, true)$$,
                  'the verdicts are metrics, with reason and samples; a thousand are too few to be so sure of a p99');
SELECT pg_temp.seen('new_is_worse', 'new', 5000, '20 ms') \g /dev/null
SELECT is(pg_temp.looks('new_is_worse', 1), 'pending as it was', '... slower, for a moment');
SELECT is(pg_temp.looks('new_is_worse', 3, 60), 'fired degraded', '... and for more than a minute');
SELECT tandem.metric_round() \g /dev/null
SELECT results_eq($$SELECT metric, value, verdict FROM tandem.metrics WHERE run = 'new_is_worse' AND metric LIKE 'p95\_worse'$$, $$VALUES ('p95_worse', 1::float8, 'fail')$$, 'which the metric says');
-- both sides at the same weight: not before the step, and of what is kept by minutes only whole ones
SELECT is(tandem.comparable_span(s), j, 'at its step for ' || s || ': judged over ' || j)
  FROM (VALUES ('-1 hour'::interval, '1 second'::interval), ('0', '1 second'), ('17.5 seconds', '17.5 seconds'), ('1 minute', '1 minute'), ('119 seconds', '1 minute'), ('2 minutes', '1 minute'), ('179 seconds', '1 minute'),
               ('3 minutes', '2 minutes'), ('359 seconds', '4 minutes'), ('6 minutes', '5 minutes'), ('1 year', '5 minutes')) AS v (s, j);
UPDATE tandem.run SET moved_at = moved_at - interval '1 day' WHERE name = 'new_is_worse';
SELECT tandem.metric_round() \g /dev/null
SELECT results_eq($$SELECT metric, value, verdict FROM tandem.metrics WHERE run = 'new_is_worse' AND metric LIKE 'p95\_worse'$$, $$VALUES ('p95_worse', 1::float8, 'fail')$$, 'of a run that has been there for long, the last five minutes');

SELECT * FROM finish();
ROLLBACK;
